"""Zernike polynomials: indices, sampled basis, moments."""

from torchmotif.zernike.basis import ZernikeBasis, radial_polynomials, zernike_basis
from torchmotif.zernike.indices import n_modes, orders, osa_index

__all__ = ["ZernikeBasis", "n_modes", "orders", "osa_index", "radial_polynomials", "zernike_basis"]
