"""Where held columns of a kind are likelier to be than where the mean cell has them, beside a step of the background."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._around import Around
from torchmotif.columns._filters import blur
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import Sites
from torchmotif.columns.model import ImageModel

__all__ = ["MOST", "NARROW", "WIDE", "leaps"]

# Lattice constants: standard deviations of the windows in which columns of a kind have a shift in common. In the wider one about 40 of them
# tell it; the other follows walls between domains, by its 8.
WIDE, NARROW = 1.8, 0.8
MOST = 0.7  # of the spacing, in all: a column farther from its place would be another's
# Widths between places that are tried, and by how much the logarithm of the likelihood of one must be greater, as it is by chance once in 30,000 places. All columns in a window
# tell no more together than about so many squared standard deviations, where a cell has one of a kind: those on the dark side of a step would tell where those on the bright side are. Of PbTiO3 with two domains, one of which lies on a
# background ten times as high, 0.90 of the columns are found without such a bound, 0.96 with it. What moves with the others was not measured.
_STRIDE, _LIKELIER, _TELLS = 0.7, 8.0, 40.0
_MEASURED = 0.5  # of what the pixels around a column tell: where they tell less, some were not measured


def leaps(
    fit: Fit, sites: Sites, model: ImageModel, rows: Int[Tensor, " k"], site: Int[Tensor, " k"]
) -> Float[Tensor, "k 2"]:
    """From where columns are held to where those of their kind around them are likelier to be, with the intensities that the mean cell says; 0 where no place is.

    Steps by the slope of the likelihood lead nowhere from a place that is more than a width away. The likelihood is that of Gaussian noise, summed in Gaussian
    windows over the columns of a kind (Tibshirani & Hastie 1987).

    Parameters
    ----------
    fit, sites, model
    rows : Tensor of shape (k,)
        Numbers of held columns of the fit, at least one.
    site : Tensor of shape (k,)
        Number of the place of each.

    Returns
    -------
    Tensor of shape (k, 2), in pixels
    """
    across = [max(1, round(_STRIDE * side)) for side in model.width]
    counts = [
        int(MOST * sites.spacing * along / side) for along, side in zip(model.axes, across, strict=True)
    ]
    grid = [
        torch.arange(-n, n + 1, device=rows.device) * side for n, side in zip(counts, across, strict=True)
    ]
    offset = torch.cartesian_prod(*grid).double()
    offset = offset[(offset / fit.axes).norm(dim=1) <= MOST * sites.spacing]
    here = len(offset) // 2
    # Products of Gaussians with what is left, and with themselves.
    width, sigma = sent(model.width, offset), model.width[0] / model.axes[0]
    told = blur((fit.data - fit.expected) * fit.weights, sigma, model.axes)
    known = blur(fit.weights, sigma / 2**0.5, model.axes) / (2 * model.area)
    tried, tile = fit.positions[rows, None] + offset, fit.tile[rows, None].expand(-1, len(offset))
    both = fit.tiles.at(torch.stack([told, known], dim=3), tried.flatten(0, 1), tile.flatten())
    product, square = both.view(*tile.shape, 2).unbind(2)
    own = torch.exp(-(offset / width).square().sum(1) / 4)
    product = product + (fit.intensity[rows] * square[:, here])[:, None] * own
    bright = (sites.intensity * sites.part)[site]
    likelihood = bright[:, None] * (product - bright[:, None] / 2 * square)
    # Where hardly anything was measured, or beyond the tile, nothing speaks for a place, nor against it.
    last = sent(fit.tiles.shape[1:], tried) - 1
    measured = ((tried >= 0) & (tried <= last)).all(2) & (square > _MEASURED * square[:, here, None])
    likelihood = torch.where(measured, likelihood, likelihood[:, here, None])
    kinds, group = torch.unique(sites.tile[site] * sites.kinds + sites.kind[site], return_inverse=True)
    tells, totals = bright.square() * square[:, here], []
    for share in (NARROW, WIDE):
        bound = _TELLS / (2 * math.pi * share**2)
        part = (bound / tells.clamp(min=1e-12)).clamp(max=1)[:, None]
        around = Around.of(fit, rows, group, len(kinds), share * sites.reach)
        totals.append(around.every(likelihood * part))
    total = torch.stack(totals)
    gain = total - total[:, :, here, None]
    most, where = gain.max(dim=2)
    # Only from where one is less likely than none, to where it is likelier: what is left of brighter columns beside it may look like a shift.
    there = total.gather(2, where[:, :, None])[:, :, 0]
    near, wide = (total[:, :, here] < 0) & (there > 0) & (most > _LIKELIER)
    # Beside a wall the wider window is that of the other domain.
    wide &= gain[0].gather(1, where[1, :, None])[:, 0] >= 0
    far, chosen = near | wide, torch.where(near, where[0], where[1])
    # The leap that most of a kind make, as those in a domain do, is that of others, too, of which fewer columns around tell: at borders and walls.
    made = gain.new_zeros(len(kinds), len(offset)).index_put_(
        (group, chosen), far.to(gain.dtype), accumulate=True
    )
    same = made.argmax(dim=1)[group, None]
    also = (made.amax(dim=1)[group] > 0) & (gain.sum(0).gather(1, same)[:, 0] > 0)
    chosen = torch.where(far, chosen, same[:, 0])
    far = (far | also) & measured.gather(1, chosen[:, None])[:, 0]
    found: Tensor = torch.where(far[:, None], offset[chosen], 0.0)
    return found
