"""Symmetry maps of the image, made small enough to cost seconds at most."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.report.figures import inline_svg
from torchmotif.report.pixels import finite, shrunk
from torchmotif.zernike import ZernikeBasis, rotational_symmetry_map

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["symmetry_section"]

_FOLDS = (2, 3, 4, 6)
_N_MAX = 8  # enough for the folds
_WINDOW = 19  # pixels of the window, to which the image is shrunk; finer ones show nothing more
_LARGEST = 320  # pixels of the map's sides


def symmetry_section(result: "Shown") -> dict[str, Any] | None:
    """Maps of 2-, 3-, 4- and 6-fold symmetry of the middle of the image, and what part of it they show.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    dict or None
        `picture` and `text`; None where the image is too small.
    """
    size = result.templates.shape[-1]
    factor = max(1, size // _WINDOW)
    window = max(size // factor // 2 * 2 + 1, _N_MAX + 1)
    image = finite(result.image)
    cut = [min(side, _LARGEST * factor) for side in image.shape]
    first = [(side - part) // 2 for side, part in zip(image.shape, cut, strict=True)]
    image = image[first[0] : first[0] + cut[0], first[1] : first[1] + cut[1]]
    image = shrunk(image, factor)
    if min(image.shape) < 2 * window:
        return None
    maps = np.asarray(rotational_symmetry_map(image, ZernikeBasis(_N_MAX, window), _FOLDS))
    sizes = result.image.pixel_size_nm
    picture = inline_svg(
        "symmetry",
        "Maps of two-, three-, four- and sixfold rotational symmetry",
        maps=maps,
        folds=_FOLDS,
        pixel_size_nm=None if sizes is None else (sizes[0] * factor, sizes[1] * factor),
    )
    part = "the whole image"
    if cut != list(result.image.shape):
        part = f"the middle {cut[0]:,} × {cut[1]:,} pixels"
    binned = f", binned {factor} × {factor}" if factor > 1 else ""
    length = f"{window * factor} pixels"
    if sizes is not None:
        length += f" ({window * factor * math.sqrt(sizes[0] * sizes[1]):.2g} nm)"
    return {
        "picture": picture,
        "text": f"Of {part}{binned}, in a window of {length}.",
    }
