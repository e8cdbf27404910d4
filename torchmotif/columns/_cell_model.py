"""The Gaussians of a mean cell, and how the unknowns of their fit lie in one vector."""

import math
from typing import NamedTuple

import numpy as np

from torchmotif.columns._waves import Ellipse, Waves

__all__ = ["CellFit", "Unknowns"]

# Width of the tail over that of the column, at least; of rectangular lattices whose columns have a tail of 8 to 20 px, sites between their rows are told from it
# with that, see `sites_of`.
_WIDER = 1.6
_LONGEST = 0.6  # of an ellipse: axes as two to one


class CellFit(NamedTuple):
    """Gaussians of one width on a flat background, fitted to a mean cell."""

    sites: np.ndarray
    strength: np.ndarray
    width: float
    model: np.ndarray
    # Of each column, where it is fitted: the intensity of a wider Gaussian over its own, and the width of that.
    tail: tuple[float, float] | None = None
    ellipse: Ellipse | None = None  # of all columns, where it is fitted
    lobes: np.ndarray | None = None  # (m, 3) places and intensities of sites that turned out to be side lobes

    def some(self, which: np.ndarray) -> "CellFit":
        """With some of the columns, not fitted anew."""
        return self._replace(sites=self.sites[which], strength=self.strength[which])


class Unknowns(NamedTuple):
    """How the unknowns of a fit lie in one vector: intensities, places, of the tail its share and width, of the ellipse two, the width."""

    waves: Waves
    columns: int
    tail: int  # where those of the tail begin, before the ellipse's and the width; 0 for none
    oval: bool

    @staticmethod
    def of(waves: Waves, start: CellFit) -> tuple["Unknowns", np.ndarray]:
        """For a start, and their values there."""
        k = len(start.sites)
        values = np.concatenate(
            [start.strength, start.sites.ravel(), start.tail or (), start.ellipse or (), [start.width]]
        )
        return Unknowns(waves, k, 3 * k if start.tail else 0, start.ellipse is not None), values

    def places(self, p: np.ndarray) -> np.ndarray:
        """Of the columns, (k, 2)."""
        return p[self.columns : 3 * self.columns].reshape(-1, 2)

    def ellipse(self, p: np.ndarray) -> Ellipse:
        """Of all columns."""
        return (float(p[-3]), float(p[-2])) if self.oval else (0.0, 0.0)

    def parts(self, p: np.ndarray) -> list[tuple[float, float]]:
        """Width and share of each of the Gaussians of which a column is made."""
        return [(p[-1], 1.0)] + ([(p[self.tail + 1], p[self.tail])] if self.tail else [])

    def shape(self, p: np.ndarray) -> np.ndarray:
        """Factors of one column."""
        return sum(
            (share * self.waves.gaussian(width, self.ellipse(p)) for width, share in self.parts(p)),
            np.zeros(len(self.waves.order)),
        )

    def slopes(self, p: np.ndarray, phases: np.ndarray) -> np.ndarray:
        """Derivatives of all factors, real parts and then imaginary ones, by the unknowns."""
        k, order, ellipse, parts = self.columns, self.waves.order, self.ellipse(p), self.parts(p)
        each, every = self.shape(p)[:, None] * phases, phases @ p[:k]
        moved = (-2j * math.pi * order[:, None] * (each * p[:k])[:, :, None]).reshape(len(order), -1)
        gaussians = [self.waves.gaussian(width, ellipse) * every for width, _ in parts]
        # By the square of a width, twice over the periods that it sees.
        wider = [-2 * math.pi**2 * share * one for (_, share), one in zip(parts, gaussians, strict=True)]
        seen = self.waves.squeezed(ellipse)
        by_width = [2 * width * seen * one for (width, _), one in zip(parts, wider, strict=True)]
        longer = sum(width**2 * one for (width, _), one in zip(parts, wider, strict=True))
        of_oval = [longer * aside for aside in self.waves.aside.T] if self.oval else []
        rest = [*(gaussians[1:] + by_width[1:]), *of_oval, by_width[0]]
        found = np.concatenate([each, moved, np.stack(rest, 1)], axis=1)
        return np.concatenate([found.real, found.imag])

    def bounded(self, p: np.ndarray, tried: np.ndarray) -> np.ndarray:
        """What is tried after p, no farther from it than widths may change in a step, a tail wider than the column, an ellipse no longer than allowed."""
        tried[-1] = np.clip(tried[-1], 0.8 * p[-1], 1.2 * p[-1])
        if self.tail:
            share, wide = tried[self.tail : self.tail + 2]
            before = p[self.tail + 1]
            least = max(0.8 * before, _WIDER * tried[-1])
            tried[self.tail : self.tail + 2] = max(share, 0.0), np.clip(wide, least, max(1.2 * before, least))
        if self.oval:
            tried[-3:-1] *= _LONGEST / max(float(np.hypot(*tried[-3:-1])), _LONGEST)
        return tried
