"""find_columns: from an image to its atomic columns."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import DeviceLike, keeps_digits, like, pixels_of, solvable
from torchmotif.columns.neighbours import pairs_within
from torchmotif.columns.prepare import Prepared, pixel_nm, prepare
from torchmotif.columns.result import Columns
from torchmotif.columns.scale import measure
from torchmotif.columns.search import WIDTH, Found, at_nearest, completed, fitted, seen
from torchmotif.columns.shape import Shape
from torchmotif.errors import InputError

__all__ = ["described", "find_columns"]

_OVERLAPPING = 3.03  # widths between two columns whose Gaussians have a tenth of their square in common
_CUT = 2.3  # widths from the rim within which a column loses more than a hundredth of its intensity


@keeps_digits
def find_columns(
    image: Any,
    *,
    spacing: float | None = None,
    threshold: float | None = None,
    polarity: Literal["bright", "dark"] = "bright",
    mask: Any = None,
    refine: bool = True,
    include_dark_sites: bool = False,
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
        Least height of a column above its background, in the image's units. Without it, and beside it, a column
        must be three standard deviations above nothing, and a twentieth of the upper decile of all.
    polarity : {"bright", "dark"}
        Whether columns are brighter (dark field) or darker (bright field) than what surrounds them.
    mask : boolean array of shape (h, w), optional
        True where pixels are to be left out, in the way of `numpy.ma`.
    refine : bool
        False gives the maxima as they are: their position to some tenths of a pixel, and for intensity their
        height in the filtered image times the area of a column.
    include_dark_sites : bool
        Adds the sites that the lattice around them predicts but nothing shows, such as divacancies; they keep the
        predicted position, have the intensity that a fit gives them there, and are flagged.
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
    if not refine or len(positions) == 0:
        keep = _ordered(positions)
        keep = keep[height[keep] * prepared.scale >= (threshold or 0.0)]
        area = 2 * math.pi * (WIDTH * spacing) ** 2
        results = {"positions": positions[keep], "intensities": height[keep] * (prepared.scale * area)}
        return _result(results, image, spacing, None)
    with solvable("image"):
        found, shape = fitted(prepared, positions, spacing)
    if threshold is not None:
        least = threshold / prepared.scale * 2 * math.pi * shape.width.prod()
        found = found.where(found.intensity >= least)
    if include_dark_sites:
        found = completed(prepared, found, shape, spacing)
    last = found.positions.new_tensor(prepared.shape) - 0.5
    found = found.where(
        ((found.positions > -0.5) & (found.positions < last)).all(dim=1)
    )  # beyond it: held at the rim
    found = found.where(_ordered(found.positions))
    return _result(described(found, prepared, shape), image, spacing, shape)


def _result(arrays: dict[str, Tensor], image: Any, spacing: float, shape: Shape | None) -> Columns:
    """Columns with arrays of the kind that `image` is."""
    nm = pixel_nm(image)
    return Columns(
        **{name: like(values, pixels_of(image)) for name, values in arrays.items()},
        spacing=float(spacing),
        spacing_nm=None if nm is None else spacing * nm,
        width=None if shape is None else (float(shape.width[0]), float(shape.width[1])),
    )


def described(found: Found, image: Prepared, shape: Shape) -> dict[str, Tensor]:
    """The attributes of `Columns` that are arrays."""
    errors = found.covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    edge = torch.minimum(found.positions, found.positions.new_tensor(image.shape) - 1 - found.positions)
    at_edge = (edge < _CUT * shape.width).any(dim=1)
    reach = math.ceil(_CUT * float(shape.width.max()))
    at_gap = _touches(found.positions, ~(image.usable | image.saturated), reach)
    overlapping = torch.zeros(len(found), dtype=torch.bool, device=found.positions.device)
    overlapping[pairs_within(found.positions / shape.width.double(), _OVERLAPPING)[0]] = True
    return {
        "positions": found.positions,
        "intensities": found.intensity * image.scale,
        "position_errors": errors[:, 1:],
        "intensity_errors": errors[:, 0] * image.scale,
        "fit_quality": found.quality,
        "is_rim": at_edge | at_gap,
        "is_overlapping": overlapping,
        "is_saturated": _touches(found.positions, image.saturated, 1),
        "is_predicted": found.predicted,
    }


def _touches(positions: Float[Tensor, "n 2"], pixels: Bool[Tensor, "h w"], reach: int) -> Bool[Tensor, " n"]:
    """Which positions have one of the given pixels at most `reach` rows and columns away."""
    if not bool(pixels.any()):
        return torch.zeros(len(positions), dtype=torch.bool, device=positions.device)
    wide = F.max_pool2d(pixels[None, None].float(), 2 * reach + 1, 1, reach)[0, 0] > 0
    return at_nearest(wide, positions)


def _ordered(positions: Float[Tensor, "n 2"]) -> Int[Tensor, " n"]:
    """Order by row, then column."""
    by_column = torch.argsort(positions[:, 1], stable=True)
    return by_column[torch.argsort(positions[by_column, 0], stable=True)]
