"""find_columns: from an image to its atomic columns."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from torchmotif._arrays import DeviceLike, like, pixels_of
from torchmotif.columns.neighbours import pairs_within
from torchmotif.columns.prepare import Prepared, pixel_nm, prepare
from torchmotif.columns.result import Columns
from torchmotif.columns.scale import measure
from torchmotif.columns.search import WIDTH, Found, fitted, seen
from torchmotif.errors import InputError

__all__ = ["find_columns"]


def find_columns(
    image: Any,
    *,
    spacing: float | None = None,
    threshold: float | None = None,
    polarity: Literal["bright", "dark"] = "bright",
    mask: Any = None,
    refine: bool = True,
    device: DeviceLike = None,
) -> Columns:
    """Find the atomic columns of an image.

    Maxima of the matched-filtered image that stand out of its noise are fitted with Gaussians of one width on a
    smooth background, all together, by maximum likelihood; what the fit leaves over is searched once more.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        Pixels that are not finite are left out. Where a micrograph's pixels are not square, columns are sought
        that are round in the specimen.
    spacing : float, optional
        Distance between neighbouring columns in pixels; by default see `characteristic_spacing`.
    threshold : float, optional
        Least height of a column above its background, in the image's units; by default a column must be three
        standard deviations above nothing, and a tenth of the upper decile of all.
    polarity : {"bright", "dark"}
        Whether columns are brighter (dark field) or darker (bright field) than what surrounds them.
    mask : boolean array of shape (h, w), optional
        True where pixels are to be left out, in the way of `numpy.ma`.
    refine : bool
        False gives the maxima as they are: their position to some tenths of a pixel, and for intensity their
        height in the filtered image times the area of a column.
    device : str or torch.device, optional

    Returns
    -------
    Columns
        Arrays are numpy or torch as `image` came. None found gives arrays of length 0.

    Raises
    ------
    InputError
        If the image is smaller than 16 pixels a side, constant, or has no finite pixel; or if no spacing can be
        seen in it and none is given.

    Examples
    --------
    >>> import torchmotif as tm
    >>> specimen = tm.datasets.mose2((128, 128), vacancy_rate=0.0)
    >>> tm.find_columns(specimen.image).spacing_nm > 0.17
    True
    """
    if polarity not in {"bright", "dark"}:
        raise InputError(f"polarity must be 'bright' or 'dark', got {polarity!r}")
    prepared = prepare(image, mask, dark=polarity == "dark", device=device)
    if spacing is None:
        spacing = measure(prepared.data, prepared.axes, None).pixels
    elif not 2 <= spacing < math.inf:
        raise InputError(f"spacing must be at least 2 pixels, got {spacing}")
    positions, height = seen(prepared, spacing)
    width = prepared.data.new_tensor(prepared.axes) * (WIDTH * spacing)
    nm = pixel_nm(image)
    spacing_nm = None if nm is None else spacing * nm
    if not refine or len(positions) == 0:
        intensity = height * (2 * math.pi * width.prod())
        return _plain(positions, intensity)
    found, shape = fitted(prepared, positions, spacing)
    if threshold is not None:
        found = found.where(found.intensity * prepared.scale >= threshold * 2 * math.pi * shape.width.prod())
    order = torch.argsort(found.positions[:, 1], stable=True)
    order = order[torch.argsort(found.positions[order, 0], stable=True)]
    found = found.where(order)
    sd = found.covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    i, _ = pairs_within(found.positions / shape.width.double(), 3.03)
    over = torch.zeros(len(found), dtype=torch.bool); over[i]=True
    original = pixels_of(image)
    g = lambda x: like(x, original)
    return Columns(g(found.positions), g(found.intensity*prepared.scale), float(spacing), g(sd[:,1:]), g(sd[:,0]*prepared.scale), g(found.quality), (float(shape.width[0]), float(shape.width[1])), is_rim=g(torch.zeros_like(over)), is_overlapping=g(over), spacing_nm=spacing_nm)
