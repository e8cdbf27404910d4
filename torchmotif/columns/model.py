"""What all columns of an image have in common, and a batch of its tiles, ready to be filtered and fitted."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.columns._hot import stand_alone
from torchmotif.columns._rows import offsets_of_rows

__all__ = ["FOLDINGS", "Cell", "ImageModel", "Pair", "Tiles"]

Pair = tuple[float, float]

# Translations of half a cell, and the orders of the cell that repeats by each, as multiples of those of the whole.
FOLDINGS: dict[Pair, tuple[Pair, Pair]] = {
    (0.5, 0.0): ((2.0, 0.0), (0.0, 1.0)),
    (0.0, 0.5): ((1.0, 0.0), (0.0, 2.0)),
    (0.5, 0.5): ((1.0, 1.0), (1.0, -1.0)),
}
_MARGIN = 4.0  # spacings around a tile that are fitted with it


@dataclass(frozen=True)
class Cell:
    """The mean cell of a crystal in an image, placed by the local phases of two orders of its lattice.

    Attributes
    ----------
    orders : ((float, float), (float, float))
        Reciprocal vectors in periods per pixel along (row, column).
    window : float
        Standard deviation in pixels of the window in which phases are measured.
    sites : tuple of (float, float)
        Places of the columns: phases of the two orders over 2 pi, from where each is zero.
    intensities : tuple of float
        Of the columns in the mean cell, over `scale`.
    width : float
        Standard deviation of their Gaussian in the mean cell, in pixels.
    ellipse : (float, float)
        The shape (a, b) of an astigmatic one: its covariance over the square of the width is ((1 + a, b), (b, 1 - a)) along (row, column).
    antiphase : (float, float), optional
        Of a superlattice cell, twice as large as that of the lattice of its brightest columns, the translation by which these repeat and others do not,
        in its sides. The phases that place it are those of that lattice.
    lobes : tuple of (float, float, float)
        Places where side lobes of the probe add up to what looks like a faint column, and how intense that is.
    """

    orders: tuple[Pair, Pair]
    window: float
    sites: tuple[Pair, ...]
    intensities: tuple[float, ...]
    width: float
    ellipse: Pair = (0.0, 0.0)
    antiphase: Pair | None = None
    lobes: tuple[tuple[float, float, float], ...] = ()

    @property
    def placing(self) -> np.ndarray:
        """The orders (2, 2) whose phases place the cell: its own, or those of the lattice of its brightest columns."""
        own = np.array(self.orders)
        return own if self.antiphase is None else np.array(FOLDINGS[self.antiphase]) @ own

    def some(self, kept: Sequence[bool]) -> "Cell":
        """With some of its sites."""
        return replace(
            self, sites=tuple(compress(self.sites, kept)), intensities=tuple(compress(self.intensities, kept))
        )

    @property
    def told(self) -> np.ndarray:
        """Places (n, 2) where it is known what lies there: columns, or side lobes."""
        return np.array([*self.sites, *(one[:2] for one in self.lobes)])

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Places (n, 2), intensities (n,) and width, as `sites_of` takes them."""
        return np.array(self.sites), np.array(self.intensities), self.width


@dataclass(frozen=True)
class ImageModel:
    """What all columns of an image have in common, and what tells them from its noise.

    Measured once, on windows chosen without regard to any tiling, it makes the columns of every tile the same
    whatever the tiles are.

    Attributes
    ----------
    spacing : float
        Distance between neighbouring columns in pixels; where pixels are not square, in pixels of the same area.
    level, scale : float
        Mean and standard deviation of the pixels.
    usual : (float, float)
        Pixels beyond this range are hot, or X-ray spikes.
    limit : float or None
        Value of saturated pixels.
    dark : bool
        Whether columns are darker than what surrounds them.
    axes : (float, float)
        Pixels along (rows, columns) per side of a square pixel of the same area: the pixel aspect.
    least : float
        Height in the matched-filtered image above which a maximum is a column.
    width : (float, float)
        Standard deviation of the columns' Gaussian along (rows, columns) in pixels.
    noise : (float, float, float, float)
        Of the pixels less `level` over `scale`: two expected values, and the variances there.
    faintest : float
        Least intensity of a column, over `scale`.
    overdispersion : float
        Variance of the columns' elongations over what counting electrons lets expect, at least 1.
    correlation : float
        Variance of what is fitted over what noise of the pixels, if it were white, would give: more than 1 where an image was resampled or filtered.
    cells : tuple of Cell
        Mean cells of its crystals, by which columns are predicted; none where no lattice was seen or nothing is to be predicted.
    hum : bool
        Whether something is added to whole rows, see `offsets_of_rows`.
    drifts : bool
        Whether rows differ slowly, by what is added to them or by columns that drift: `is_hummed` tells which.
    slopes : bool
        Whether planes through the background have much of the pixels' variance, as slopes by more than the columns' contrast do; see `levels`.
    rounding : float
        What pixels are rounded to, over `scale`, where the image has no noise, as simulated ones may; 0 where it has. See `levels`.
    """

    spacing: float
    level: float
    scale: float
    usual: Pair
    limit: float | None
    dark: bool
    axes: Pair
    least: float = 0.0
    width: Pair = (1.0, 1.0)
    noise: tuple[float, float, float, float] = (-1.0, 1.0, 1.0, 1.0)
    faintest: float = 0.0
    overdispersion: float = 1.0
    correlation: float = 1.0
    cells: tuple[Cell, ...] = ()
    hum: bool = False
    drifts: bool = False
    slopes: bool = False
    rounding: float = 0.0

    @property
    def margin(self) -> int:
        """Pixels around a tile that must be seen with it."""
        return round(_MARGIN * self.spacing * max(self.axes))

    @property
    def area(self) -> float:
        """Intensity of a column of height 1."""
        return 2 * math.pi * self.width[0] * self.width[1]

    def as_dict(self) -> dict[str, Any]:
        """Numbers for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ImageModel":
        """What `as_dict` gave, also after JSON made lists of tuples."""
        plain: dict[str, Any] = {key: _tuples(value) for key, value in values.items()}
        cells = tuple(
            Cell(**{key: _tuples(value) for key, value in cell.items()}) for cell in plain.pop("cells", ())
        )
        return cls(**plain, cells=cells)

    def is_usual(self, windows: Float[Tensor, "t h w"]) -> Bool[Tensor, "t h w"]:
        """Pixels that are finite and not hot."""
        usual = torch.isfinite(windows) & (windows >= self.usual[0]) & (windows <= self.usual[1])
        if self.limit is None:
            return usual
        # Where many pixels are hot, the limit may be theirs.
        height = torch.where(usual, windows - self.level, 0.0)
        return usual & ~((windows == self.limit) & stand_alone(-height if self.dark else height))

    def normalised(self, windows: Float[Tensor, "t h w"]) -> "Tiles":
        """Pixels as they were read, but for what is added to whole rows, ready to be filtered and fitted."""
        usable = self.is_usual(windows)
        data = (torch.where(usable, windows, self.level) - self.level) / self.scale
        if self.rounding:
            data = torch.round(data / self.rounding) * self.rounding
        saturated = usable & (windows == self.limit) if self.limit is not None else torch.zeros_like(usable)
        if self.hum:
            data = torch.where(usable, data - offsets_of_rows(data, usable & ~saturated), data)
        data = (-data if self.dark else data).float()
        return Tiles(data, usable & ~saturated, saturated, slopes=self.slopes)


def _tuples(value: Any) -> Any:
    """Lists, also nested ones, as tuples."""
    return tuple(_tuples(one) for one in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, eq=False)
class Tiles:
    """A batch of tiles of one shape, ready to be filtered and fitted.

    Attributes
    ----------
    data : Tensor of shape (t, h, w), float32
        Mean near 0 and standard deviation near 1, columns bright, all finite.
    usable : boolean Tensor of shape (t, h, w)
        Pixels that were measured: finite, not masked, not saturated, not hot.
    saturated : boolean Tensor of shape (t, h, w)
    step : Tensor of shape (t, h, w), optional
        Steps of the background; none where it is smooth.
    under : Tensor of shape (t, h, w), optional
        What lies under the columns of the tiles with a step, in units of the data, and 0 in the others; there where `step` is. A step rises by it: the step itself has the slope of the mean over some
        spacings, too, which the background of a fit follows.
    slopes : bool
        See `ImageModel`.
    beyond : Tensor of shape (t, h, w), optional
        What columns beyond the tiles, or where nothing was measured, reach in; none where they are not known.
    """

    data: Float[Tensor, "t h w"]
    usable: Bool[Tensor, "t h w"]
    saturated: Bool[Tensor, "t h w"]
    step: Float[Tensor, "t h w"] | None = None
    under: Float[Tensor, "t h w"] | None = None
    slopes: bool = False
    beyond: Float[Tensor, "t h w"] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number, rows and columns."""
        t, h, w = self.data.shape
        return t, h, w

    @property
    def level(self) -> Float[Tensor, "t h w"]:
        """The data without the steps of the background."""
        return self.data if self.step is None else self.data - self.step

    @property
    def is_even(self) -> bool:
        """Whether the background has neither steps nor slopes."""
        return self.step is None and not self.slopes

    @property
    def measured(self) -> Bool[Tensor, "t h w"]:
        """Pixels where a column may be."""
        return self.usable | self.saturated

    def some(self, which: Tensor | slice) -> "Tiles":
        """Some of them."""
        return self._parts(which)

    def cut(self, rows: slice, cols: slice) -> "Tiles":
        """A part of each."""
        return self._parts((slice(None), rows, cols))

    def _parts(self, which: Any) -> "Tiles":
        step, under, beyond = (
            None if one is None else one[which] for one in (self.step, self.under, self.beyond)
        )
        data, usable, saturated = (one[which] for one in (self.data, self.usable, self.saturated))
        return Tiles(data, usable, saturated, step, under, self.slopes, beyond)

    def spread(self, positions: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Float[Tensor, "n 2"]:
        """Positions in their tiles as positions so far apart that no tile's are neighbours of another's."""
        _, h, w = self.shape
        return positions + torch.stack([tile * float(4 * (h + w)), torch.zeros_like(tile)], dim=1)

    def holds(self, positions: Float[Tensor, "n 2"]) -> Bool[Tensor, " n"]:
        """Which positions round to a pixel of a tile."""
        _, h, w = self.shape
        row, col = positions.unbind(1)
        return (row > -0.5) & (row < h - 0.5) & (col > -0.5) & (col < w - 0.5)

    def at(self, pixels: Tensor, positions: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Tensor:
        """Values of the pixels nearest to positions."""
        _, h, w = self.shape
        row, col = positions.round().long().unbind(1)
        values: Tensor = pixels[tile, row.clamp(0, h - 1), col.clamp(0, w - 1)]
        return values
