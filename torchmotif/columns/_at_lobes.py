"""Columns of an image that are but the side lobes of brighter ones, where its mean cells say that these add up."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._coarse import Coarse
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import SAME
from torchmotif.columns._neighbours import nearest_within
from torchmotif.columns._predicted import AGREES, places_of
from torchmotif.columns._territories import located
from torchmotif.columns.model import ImageModel

__all__ = ["are_lobes"]

# Times what lobes have in the mean cell, from which on a column at such a place is one: an atom in the hollow of a ring is brighter than its ring's lobes. Of the first five images of
# docs/decisions/0202 all have the same columns with 1.4 to 4; with 1 dumbbells at 1,000 electrons per pixel keep some of their lobes (precision 0.996).
_MORE = 2.0


def are_lobes(fit: Fit, model: ImageModel) -> Bool[Tensor, " n"] | None:
    """Which columns of a fit are side lobes; None where no mean cell has any.

    At a high dose what is left over there stands out of the noise of a single place, too.
    """
    chosen = tuple(cell for cell in model.cells if cell.lobes)
    if not chosen:
        return None
    tiles, axes = fit.tiles, fit.axes
    coarse = Coarse.of(replace(tiles, usable=tiles.measured), chosen)
    found = torch.zeros_like(fit.fixed)
    cells = coarse.cells(chosen)
    for fine, cell, where in zip(chosen, cells, located(coarse.tiles, cells), strict=True):
        at, home, number = places_of(where.place, replace(cell, sites=tuple(one[:2] for one in cell.lobes)))
        here = coarse.tiles.at(where.inside, at, home) & (where.agrees.at(at, home)[:, 0] > AGREES)
        most = _MORE * sent([one[2] for one in fine.lobes], fit.intensity)[number]
        places = tiles.spread(coarse.positions(at), home) / axes
        nearest = nearest_within(fit.spread, places, SAME * model.spacing)
        if len(places):
            found |= (nearest >= 0) & here[nearest] & (fit.intensity < most[nearest])
    return found
