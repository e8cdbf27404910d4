"""Zernike polynomials and moments.

The convention, everywhere in this package (a picture is in docs/decisions/0010-zernike-convention.md):

- The disk is inscribed in a square window of `size` pixels; its radius is size / 2 pixels. Its centre is the window's
  centre, or lies a given fraction of a pixel from it.
- theta is counter-clockwise on the displayed image (rows point down), from the direction of the columns.
- Z_n^m = sqrt(2 (n + 1) / (1 + [m = 0])) R_n^|m|(r) times cos(m theta) for m >= 0, sin(|m| theta) for m < 0; the mean
  of each square over the disk is 1 (Noll, 1976).
- Moments are integrals of image times polynomial over the disk's area, in the image's units, in OSA/ANSI order:
  j = (n (n + 2) + m) / 2.
- Complex moments are A_nm = cosine + i sine moment, m >= 0; turning the image by alpha counter-clockwise multiplies them
  with exp(i m alpha), mirroring it at an axis phi gives conj(A_nm) exp(2 i m phi).
"""

from torchmotif.zernike.basis import zernike_basis
from torchmotif.zernike.indices import (
    fringe_index,
    from_fringe,
    from_noll,
    from_osa,
    n_modes,
    noll_index,
    orders,
    osa_index,
)
from torchmotif.zernike.invariants import RotationMatch, invariants, rotation_distance
from torchmotif.zernike.moments import complex_orders, reflect, rotate, to_complex, to_real
from torchmotif.zernike.polynomials import radial_polynomials, zernike_polynomials
from torchmotif.zernike.symmetry import (
    MirrorSymmetry,
    mirror_symmetry,
    mirror_symmetry_map,
    rotational_symmetry,
    rotational_symmetry_map,
)
from torchmotif.zernike.transform import ZernikeBasis

__all__ = [
    "MirrorSymmetry",
    "RotationMatch",
    "ZernikeBasis",
    "complex_orders",
    "fringe_index",
    "from_fringe",
    "from_noll",
    "from_osa",
    "invariants",
    "mirror_symmetry",
    "mirror_symmetry_map",
    "n_modes",
    "noll_index",
    "orders",
    "osa_index",
    "radial_polynomials",
    "reflect",
    "rotate",
    "rotation_distance",
    "rotational_symmetry",
    "rotational_symmetry_map",
    "to_complex",
    "to_real",
    "zernike_basis",
    "zernike_polynomials",
]
