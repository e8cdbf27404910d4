"""Columns that the mean cell of a part of an image shows and that were not found there: the mean over all of it hides them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._beside_steps import weights_of_some
from torchmotif.columns._cell_bins import APART, away_from, left_beside, middles, rendered, score_of_one
from torchmotif.columns._cell_fit import CLEAR, FAINTEST_SITE, sites_of
from torchmotif.columns._folding import above, along_rows, folded
from torchmotif.columns._guided import SAME
from torchmotif.columns._neighbours import is_near
from torchmotif.columns._predicted import AGREES, places_of
from torchmotif.columns._territories import Located, expected, sum_of
from torchmotif.columns.model import Cell, ImageModel, Tiles

__all__ = ["FEW", "NONE_HIDDEN", "Hidden", "Uneven", "hidden", "most_of"]

Box = tuple[int, int, int, int]

# Of the places of a site, that hold a column: where fewer do, the site was not found. Of crystals of whose parts a site is missing (43 and 741, see below) all have 0.00, known sites of others, whose
# faint columns are found, 0.6 and more.
_FOUND = 0.5
FEW = 30  # places, below which no share is judged
# Parts that show such a site, at least. Four crystals whose oxygen is missing (`benchmarks/columns/disturbed.py`, 43; 643, 658, 741 of steps, patches and slopes) have it in three to
# five parts; two of 51 right ones (800 to 859) a site that is none in one.
_PARTS = 2
# Of the pixels, those that are cut off, from which on parts are not asked: the mean cell of cut tops has something between columns. A particle, 5 % of whose image is cut off,
# has 0.05 of its brightest there in all quarters, and nothing where none is.
_CUT_OFF = 0.02


class Hidden(NamedTuple):
    """Columns that a part of an image shows, and that were not found."""

    places: int = 0  # without a column
    share: float = 0.0  # of the intensity of the brightest in the mean cell
    part: Box | None = None  # first row and column, end row and column; None where the background is dark

    def moved(self, row: int, col: int) -> "Hidden":
        """In an image in which the tile begins at that pixel."""
        if self.part is None:
            return self
        top, left, bottom, right = self.part
        return self._replace(part=(top + row, left + col, bottom + row, right + col))


NONE_HIDDEN = Hidden()


class Uneven(NamedTuple):
    """Noise that differs from place to place."""

    variance: Float[Tensor, "t h w"]  # of what lies under the columns
    weights: Float[Tensor, "t h w"]  # of the pixels


def hidden(
    tiles: Tiles,
    model: ImageModel,
    every: Sequence[Located],
    positions: Float[Tensor, "n 2"],
    noise: Uneven | None,
) -> Hidden:
    """The site that most places have without a column, of those that the mean cell of a quarter of a tile shows, or of where noise is less.

    At least two parts must show one, and that of most places is given. Of two domains the mean cell is that of both: what lies at two places in it is too faint at either. So is what shows where noise is less, and not
    where it is more. In a part it stands out.

    Parameters
    ----------
    tiles : Tiles
        One, without the steps of the background.
    model : ImageModel
    every : sequence of Located
        Its cells, see `located`.
    positions : Tensor of shape (n, 2)
        Of the columns that were found.
    noise : Uneven, optional
        None where it is even.
    """
    if bool(tiles.saturated.sum() > _CUT_OFF * tiles.measured.sum()):
        return NONE_HIDDEN
    square = positions / sent(model.axes, positions)
    model_of_all, found = sum_of(model.cells, every), list[Hidden]()
    for cell, where in zip(model.cells, every, strict=True):
        others = model_of_all - torch.where(where.inside, expected(cell, where.place), 0.0)
        alone = where._replace(level=where.level - others)
        agreeing = above(where.inside, where.agrees.field[:, :1], AGREES)
        for box, part in _parts(agreeing, noise):
            shown = _Shown.of(alone, part, cell, noise, hum=model.hum)
            if shown is None:
                continue
            # The fit of all sites takes far longer than the question whether columns are where most is left.
            asked = _Asked(tiles, where, part, square, model)
            if asked.without_columns(shown.left).places:
                found.append(asked.without_columns(shown.fitted())._replace(part=box))
    found = [one for one in found if one.places]
    return most_of(found) if len({one.part for one in found}) >= _PARTS else NONE_HIDDEN


def most_of(found: Iterable[Hidden]) -> Hidden:
    """That of most places."""
    return max(found, key=lambda one: one.places)


def _parts(inside: Bool[Tensor, "t h w"], noise: Uneven | None) -> Iterator[tuple[Box | None, Tensor]]:
    """Some pixels by quarters, and those where noise is no more than at most of them."""
    _, h, w = inside.shape
    for top, bottom in ((0, h // 2), (h // 2, h)):
        for left, right in ((0, w // 2), (w // 2, w)):
            part = torch.zeros_like(inside)
            part[:, top:bottom, left:right] = inside[:, top:bottom, left:right]
            yield (top, left, bottom, right), part
    if noise is not None and bool(inside.any()):
        yield None, inside & (noise.variance <= noise.variance[inside].median())


class _Shown(NamedTuple):
    """The mean of a part of a crystal, and what the mean cell of all leaves of it."""

    mean: np.ndarray
    variance: np.ndarray
    real: np.ndarray
    along: float
    cell: Cell
    left: Cell  # the cell with the one site alone that stands out most beside its own

    @classmethod
    def of(cls, at: Located, part: Tensor, cell: Cell, noise: Uneven | None, *, hum: bool) -> "_Shown | None":
        """None where the part is small or nothing stands out."""
        if not bool(part.any()):
            return None
        real, along = np.linalg.inv(np.array(cell.orders)).T, along_rows(part, hum=hum)
        found = folded(
            at, part, real, None if noise is None else weights_of_some(noise.weights, part), hum=hum
        )
        if found is None:
            return None
        mean, variance = found
        width, bins = cell.width, (mean.shape[0], mean.shape[1])
        rest = mean - mean.mean() - rendered(*cell.columns, bins, real, ellipse=cell.ellipse)
        left = left_beside(rest, variance, real, cell.told, width, along=along)
        # What is fainter would be a column in no cell.
        least = FAINTEST_SITE * max(cell.intensities) * score_of_one(variance, real, width, along)
        if left.max() < max(CLEAR, least):
            return None
        return cls(
            mean, variance, real, along, cell, _with_sites(cell, middles(bins)[[left.argmax()]], np.ones(1))
        )

    def fitted(self) -> Cell:
        """The cell with the sites of this mean."""
        found = sites_of(self.mean, self.variance, self.real, self.along)
        beside = np.ones(len(found.sites), bool)
        for row, col, _ in self.cell.lobes:
            beside &= away_from(found.sites, np.array([row, col]), self.real) > APART * self.cell.width
        return _with_sites(
            self.cell, found.sites[beside], found.strength[beside] / max(found.strength, default=1.0)
        )


def _with_sites(cell: Cell, sites: np.ndarray, intensities: np.ndarray) -> Cell:
    """The cell with other sites."""
    places = tuple((float(a), float(b)) for a, b in sites)
    return replace(cell, sites=places, intensities=tuple(intensities.tolist()))


class _Asked(NamedTuple):
    """A part of a crystal, and the columns that were found."""

    tiles: Tiles
    where: Located
    part: Bool[Tensor, "t h w"]
    positions: Float[Tensor, "n 2"]  # in square pixels
    model: ImageModel

    def without_columns(self, shown: Cell) -> Hidden:
        """The site of a cell that most places have without a column, if fewer than half have one."""
        if not shown.sites:
            return NONE_HIDDEN
        at, home, site = places_of(self.where.place, shown)
        within = self.tiles.at(self.part, at, home)
        near = is_near(at / sent(self.model.axes, at), self.positions, SAME * self.model.spacing)
        counts = torch.zeros(2, len(shown.sites), dtype=torch.long, device=at.device)
        held, every = counts.index_add_(1, site, torch.stack([near & within, within]).long())
        missing = torch.where((every >= FEW) & (held < _FOUND * every), every - held, 0).tolist()
        return most_of(Hidden(count, share) for count, share in zip(missing, shown.intensities, strict=True))
