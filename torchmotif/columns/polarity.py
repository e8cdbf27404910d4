"""Polarity: whether columns are brighter or darker than what surrounds them, from the image itself."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike, sent
from torchmotif.columns._cell_polarity import polarity_of_cell
from torchmotif.columns._crystal import supports
from torchmotif.columns._filters import blur
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._peaks import maxima
from torchmotif.columns._steps import has_steps
from torchmotif.columns._windows_spacing import spacing_of, telling
from torchmotif.columns.calibrate import calibrate, first_windows
from torchmotif.columns.model import ImageModel, Pair, Tiles
from torchmotif.columns.pixels import levels
from torchmotif.columns.spacing import nearest_quartiles
from torchmotif.errors import InputError

__all__ = ["SKEWED", "Polarity", "is_bright_field", "polarity_of", "skewness"]

_FINE, _COARSE = 0.1, 1.0  # spacings: widths of the blurs between which the skewness is measured
# Skewness below which columns may be dark, which both fits then tell. Simulated dark-field images of six structures, at 2 electrons per pixel and
# more, and eight real ones have 0.5 to 2.0, the same inverted -0.3 to -1.9; inverted bilayers with 20 times 0.5 electrons -0.11 to -0.15. Of the images of
# `benchmarks/columns/polarity.py` no bright one is taken for dark with -0.1 or -0.15.
SKEWED = -0.1
# Skewness from which bright columns are not doubted where no mean cell tells them, up to that from which they need no telling.
_OPEN = -0.3
# Skewness from which columns are bright. Inverted honeycombs and centred lattices blurred until their columns hardly show have up to 0.82; three waves of a hexagonal lattice
# that are in phase have (2/3)^0.5.
_BRIGHT = 0.9
_BETTER = 0.95  # of the residual variance that dark columns leave, over that of bright ones
# Interquartile range over median of their distances: inverted MoSe2, perovskites and bilayers have 0.01 to 0.1, the gaps of a dense
# colloid 0.17 to 0.19. An inverted pentagonal oxide, which has two distances, has 0.3; its columns are regular since this share of
# them have the vectors of their neighbours (0.5 to 0.7; of the gaps of a colloid 0.05 have).
_IRREGULAR, _SHARED = 0.13, 0.3
_BRIGHT_FIELD = re.compile(r"(?<![a-z])a?bf(?![a-z])|bright.?field", re.IGNORECASE)


def is_bright_field(*names: Any) -> bool:
    """Whether the name of a file, a data set or a detector says bright field.

    Examples
    --------
    >>> is_bright_field("scan 3 ABF"), is_bright_field("HAADF_1.dm4"), is_bright_field(None, "stem_bf.tif")
    (True, False, True)
    """
    return any(_BRIGHT_FIELD.search(str(name).replace("_", " ")) for name in names if name)


class Polarity(NamedTuple):
    """Whether the columns of an image are darker than what surrounds them.

    Attributes
    ----------
    dark : bool
    spacing : float or None
        In pixels, of bright columns, where it was measured.
    levels : ImageModel or None
        Where they were measured.
    unknown : bool
        Whether nothing tells.
    by_cell : bool
        Whether the mean cell tells.
    """

    dark: bool
    spacing: float | None = None
    levels: ImageModel | None = None
    unknown: bool = False
    by_cell: bool = False


def polarity_of(
    read: Callable[[tuple[int, int, int, int]], Any],
    shape: tuple[int, int],
    *,
    axes: Pair = (1.0, 1.0),
    spacing: float | None = None,
    bright_field: bool = False,
    device: DeviceLike = None,
) -> Polarity:
    """Whether the columns of an image are darker than what surrounds them, from the windows that tell its spacing.

    Columns are narrower than the gaps between them, so the image is skewed towards them. Unless it is clearly skewed to the bright side, which a blurred
    honeycomb of dark columns is not, the mean cell of its crystal tells, see `polarity_of_cell`. Where that does not and the image is skewed to
    the dark side, both kinds are fitted, and dark columns must leave less. They must be regular, too: the gaps between densely packed particles
    are not, nor those between pairs of columns. Where it is hardly skewed then, nothing tells.

    Parameters
    ----------
    read : function
        From (first row, first column, end row, end column) to the pixels there, not finite where they are left out.
    shape : (int, int)
    axes, spacing
        See `ImageModel`, `find_columns`.
    bright_field : bool
        Whether a name says so: then the lesser signs count, too.
    device : str or torch.device, optional
    """
    windows = first_windows(read, shape, device)
    try:
        level = levels(windows, axes=axes, limit=None, dark=False)
    except InputError:  # the calibration says what is wrong
        return Polarity(bright_field)
    tiles = level.normalised(windows)
    few = telling(tiles)
    tiles = tiles.some(few)
    try:
        measured = spacing_of(tiles, axes) if spacing is None else spacing
    except InputError:  # bright columns are not seen
        told = polarity_of_cell(tiles, 0.0, hum=level.hum)
        if told and told.fits:
            return Polarity(told.dark, None, level, by_cell=True)
        return Polarity(bright_field, None, level, unknown=not bright_field)
    skewed = skewness(tiles, measured)
    if skewed >= _BRIGHT:
        return Polarity(False, measured, level)
    # What a step leaves in a mean cell may be more than its columns.
    steps = has_steps(tiles, measured, axes)
    told = None if steps else polarity_of_cell(tiles, measured, hum=level.hum)
    if told and told.fits:
        return Polarity(told.dark, None if told.dark else measured, level, by_cell=True)
    likely = skewed < (-SKEWED if bright_field else SKEWED)
    dark = likely and (bright_field or _fits_better(windows[few], axes, spacing))
    # Of a cell that is not that of columns, as where these are smeared, bright ones are at least the better guess.
    unknown = not (dark or bright_field or steps) and _OPEN < skewed < -SKEWED and (told is None or told.dark)
    return Polarity(dark, None if dark else measured, level, unknown)


def _fits_better(windows: Float[Tensor, "t h w"], axes: Pair, spacing: float | None) -> bool:
    """Whether dark columns are regular, and bright ones are not or leave more."""
    fits = []
    for dark in (True, False):
        try:
            model = calibrate(windows, axes=axes, dark=dark, spacing=spacing)
        except InputError:
            return not dark
        if not _is_regular(model.normalised(windows), model, shared=dark):
            return not dark
        fits.append(sum(model.noise[2:]))
    return fits[0] < _BETTER * fits[1]


def _is_regular(tiles: Tiles, model: ImageModel, *, shared: bool) -> bool:
    """Whether the clear maxima keep a distance to their nearest, or have the vectors of their neighbours if these may be `shared`."""
    at, height, tile = maxima(tiles, tiles.data, model.spacing, model.axes)
    keep = as_index((height >= model.least) & tiles.at(tiles.measured, at, tile))
    square = at[keep] / sent(model.axes, at)
    quartiles = nearest_quartiles(tiles.spread(square, tile[keep]), 2 * model.spacing)
    lower, middle, upper = torch.stack(quartiles).tolist()
    if middle > 0 and upper - lower <= _IRREGULAR * middle:
        return True
    if not shared or len(keep) == 0:
        return False
    window = int(torch.bincount(tile[keep]).argmax())
    here = {"positions": at[keep[tile[keep] == window]]}
    clear, _ = supports(here, model.spacing, model.axes, (tiles.shape[1], tiles.shape[2]))
    return bool(clear.double().mean() > _SHARED)


def skewness(tiles: Tiles, spacing: float) -> float:
    """Skewness of what is between the columns' width and their distance."""
    between = blur(tiles.data, _FINE * spacing) - blur(tiles.data, _COARSE * spacing)
    usual, count = torch.where(tiles.usable, between, 0.0).double(), tiles.usable.sum().clamp(min=1)
    usual = torch.where(tiles.usable, usual - usual.sum() / count, 0.0)
    skewed = usual.pow(3).sum() / count / (usual.square().sum() / count).clamp(min=1e-30).pow(1.5)
    return float(skewed)
