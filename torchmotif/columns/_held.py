"""Columns that keep their place follow what those of their kind around them have in common."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.columns._around import Around
from torchmotif.columns._equations import covariance_of
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import Sites
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._search import STEPS, converge

__all__ = ["follow"]

# Lattice constants: standard deviation of the window in which the columns of a kind have a shift in common. About 40 of them tell it.
_WINDOW = 1.8
_ROUNDS = 5  # of shifts, after each of which the others are fitted anew
# Mean of the squared shifts over their variance, for a kind in a tile, from which on they are no noise: of noise, whose mean is 1,
# some ten independent windows reach 2 once in a thousand times.
# Once they are clear, what is left of them is followed down to a part of the noise.
_CLEAR, _LEFT = 3.0, 0.3
_FURTHEST = 0.5  # widths, in one round
_MOST = 0.34  # of the spacing, in all: a column farther from its place would be another's


def follow(fit: Fit, sites: Sites) -> None:
    """Move the held columns of a fit that has converged, as far as those of a kind are off their predicted places together.

    The mean cell is that of all domains, and a phase that is measured in a window follows no wall. A column too faint for a place of its own
    is then held beside its true one, and draws its neighbours: in PbTiO3, where oxygen moves by 25 pm, titanium by 1 pm. What the columns of a kind
    within some cells say together is as sure as one of many times the dose. Shifts that are no more than noise are not made.
    """
    site = sites.of_columns(fit)
    held = as_index(fit.fixed & (site >= 0))
    if not len(held):
        return
    group = sites.tile[site[held]] * sites.kinds + sites.kind[site[held]]
    groups = len(fit.data) * sites.kinds
    begun, width = fit.positions[held], fit.shape.width.double()
    most = _MOST * sites.spacing * fit.axes
    clear = torch.ones(groups, dtype=torch.bool, device=group.device)
    for number in range(_ROUNDS):
        shift, usual = _in_common(fit, held, group, groups, _WINDOW * sites.reach)
        clear = clear & (usual > (_LEFT if number else _CLEAR))
        # At first shrunk as James and Stein (1961) do.
        shift = shift * torch.where(clear, 1.0 if number else 1 - 1 / usual.clamp(min=1), 0.0)[group, None]
        shift = shift.clamp(-_FURTHEST * width, _FURTHEST * width)
        moved = begun + (fit.positions[held] + shift - begun).clamp(-most, most)
        changed = as_index((moved != fit.positions[held]).any(dim=1))
        if not len(changed):
            break
        fit.positions = fit.positions.index_copy(0, held, moved)
        fit.look()
        converge(fit, STEPS, fit.next_to(held[changed]))
        fit.assemble(fit.expected, fit.stale())


def _in_common(
    fit: Fit, rows: Int[Tensor, " k"], group: Int[Tensor, " k"], groups: int, sigma: float
) -> tuple[Float[Tensor, "k 2"], Float[Tensor, " g"]]:
    """The shift that columns of a group around each have in common; and in each group the mean of their squares over their variance."""
    own, shared = fit.information()
    variance = covariance_of(own, shared, fit.neighbours, rows).diagonal(dim1=1, dim2=2)[:, 1:].double()
    told = torch.where(variance > 0, 1 / variance, 0.0)
    residual = (fit.data - fit.expected) * fit.weights
    products = fit.profile.at(rows).projected(fit.profile.pad(residual))[:, 1:]
    score = (products * fit.intensity[rows, None]).double()
    wide, narrow = (Around.of(fit, rows, group, groups, one) for one in (sigma, sigma / 2**0.5))

    def sums(around: Around, values: Float[Tensor, "k 2"]) -> Float[Tensor, "k 2"]:
        each = [around.sums(one) + around.own * one for one in values.unbind(1)]
        return torch.stack(each, dim=1)

    total = sums(wide, told).clamp(min=1e-12)
    shift = sums(wide, score) / total
    # The square of a Gaussian window is one of half its variance.
    noise = sums(narrow, told) / total.square()
    square = (shift.square() / noise.clamp(min=1e-12)).mean(dim=1)
    both = torch.zeros(groups, 2, dtype=score.dtype, device=score.device)
    both.index_add_(0, group, torch.stack([square, torch.ones_like(square)], dim=1))
    return shift, both[:, 0] / both[:, 1].clamp(min=1)
