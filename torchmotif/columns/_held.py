"""Columns that keep their place follow what those of their kind around them have in common."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.columns._around import Around
from torchmotif.columns._beside_steps import are_stepped
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import Sites
from torchmotif.columns._leaps import MOST, NARROW, WIDE, leaps
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._search import STEPS, converge
from torchmotif.columns.model import ImageModel

__all__ = ["follow"]

_SURE = 0.1  # widths to which the narrower window tells a shift, where it is taken
_ROUNDS = 8  # of shifts, after each of which the others are fitted anew
# Mean of the squared shifts over their variance, for a kind in a tile, from which on they are no noise: of noise, whose mean is 1,
# some ten independent windows reach 2 once in a thousand times.
# Once they are clear, what is left of them is followed down to a part of the noise.
_CLEAR, _LEFT = 3.0, 0.3
_FURTHEST = 0.5  # widths, in one round


def follow(fit: Fit, sites: Sites, model: ImageModel) -> Sites:
    """Move the held columns of a fit that has converged, as far as those of a kind are off their predicted places together.

    The mean cell is that of all domains, and a phase that is measured in a window follows no wall. A column too faint for a place of its own
    is then held beside its true one, and draws its neighbours: in PbTiO3, where oxygen moves by 25 pm, titanium by 1 pm. What the columns of a kind
    within some cells say together is as sure as one of many times the dose. Shifts that are no more than noise are not made.

    Returns
    -------
    Sites
        With the places where the columns are now.
    """
    held = as_index(fit.fixed)
    if not len(held):
        return sites
    site = sites.of_columns(fit)[held]
    there, hidden = site >= 0, sites.in_steps(model)
    chosen = as_index(there if hidden is None else there & ~hidden[site])
    if not len(chosen):
        return sites
    held, site = held[chosen], site[chosen]
    group, groups = sites.tile[site] * sites.kinds + sites.kind[site], len(fit.data) * sites.kinds
    first, width = fit.positions[held], fit.shape.width.double()
    if fit.tiles.step is not None:
        _leapt(fit, sites, model, held, site)
    begun = fit.positions[held]
    most = MOST * sites.spacing * fit.axes
    clear = torch.ones(groups, dtype=torch.bool, device=group.device)
    common, share = torch.zeros_like(begun), torch.ones_like(begun)
    for number in range(_ROUNDS):
        shift, noise, usual = _in_common(fit, held, group, groups, sites.reach)
        clear = clear & (usual > (_LEFT if number else _CLEAR))
        if number == 0 and fit.tiles.step is not None:
            uneven = are_stepped(fit.tiles.step)[fit.tile[held], None] & (noise > 0)
            common, sure = _of_all(shift, noise, group, groups)
            common, share = common * (clear[group, None] & uneven), torch.where(uneven, sure, 1.0)
        # At first shrunk as James and Stein (1961) do.
        shift = shift * torch.where(clear, 1.0 if number else 1 - 1 / usual.clamp(min=1), 0.0)[group, None]
        far = common + share * (fit.positions[held] + shift - begun - common)
        shift = torch.where(clear[group, None], begun + far - fit.positions[held], 0.0)
        shift = shift.clamp(-_FURTHEST * width, _FURTHEST * width)
        moved = first + (fit.positions[held] + shift - first).clamp(-most, most)
        changed = as_index((moved != fit.positions[held]).any(dim=1))
        if not len(changed):
            break
        fit.positions = fit.positions.index_copy(0, held, moved)
        fit.look()
        converge(fit, STEPS, fit.next_to(held[changed]))
        fit.assemble(fit.expected, fit.stale())
    return replace(sites, positions=sites.positions.index_add(0, site, fit.positions[held] - first))


def _leapt(
    fit: Fit, sites: Sites, model: ImageModel, held: Int[Tensor, " k"], site: Int[Tensor, " k"]
) -> None:
    """Move the held columns of tiles with a step to where those of their kind are likelier to be; fit those beside them anew.

    Their mean cell is that of the dark side, whose domain may be another one.
    """
    assert fit.tiles.step is not None  # noqa: S101
    some = as_index(are_stepped(fit.tiles.step)[fit.tile[held]])
    if not len(some):
        return
    far = leaps(fit, sites, model, held[some], site[some])
    moved = held[some[as_index((far != 0).any(dim=1))]]
    if len(moved):
        beside = fit.next_to(moved)
        fit.positions = fit.positions.index_add(0, held[some], far)
        fit.find_neighbours()
        fit.look()
        fit.assemble(fit.expected)
        converge(fit, STEPS, beside | fit.next_to(moved))
        fit.assemble(fit.expected, fit.stale())


def _of_all(
    shift: Float[Tensor, "k 2"], noise: Float[Tensor, "k 2"], group: Int[Tensor, " k"], groups: int
) -> tuple[Float[Tensor, "k 2"], Float[Tensor, "k 2"]]:
    """The mean shift of each one's group, and the share of what is beyond it that is no noise (empirical Bayes, Efron & Morris 1973).

    On the bright side of a step noise is many times that of the dark side, by which shifts are clear.
    """
    known = torch.where(noise > 0, 1 / noise.clamp(min=1e-12), 0.0)  # a kind that is not there stays

    def mean(values: Float[Tensor, "k 2"]) -> Float[Tensor, "k 2"]:
        sums = torch.zeros(2, groups, 2, dtype=values.dtype, device=values.device)
        total, weight = sums.index_add_(1, group, torch.stack([known * values, known])).unbind(0)
        every: Tensor = total / weight.clamp(min=1e-12)
        return every[group]

    usual = mean(shift)
    beyond = mean((shift - usual).square() - noise).clamp(min=0)
    return usual, beyond / (beyond + noise).clamp(min=1e-12)


def _in_common(
    fit: Fit, rows: Int[Tensor, " k"], group: Int[Tensor, " k"], groups: int, constant: float
) -> tuple[Float[Tensor, "k 2"], Float[Tensor, "k 2"], Float[Tensor, " g"]]:
    """The shift that columns of a group around each have in common, its variance, and in each group the mean of their squares over that."""
    residual = (fit.data - fit.expected) * fit.weights
    products = fit.profile.at(rows).projected(fit.profile.pad(residual))[:, 1:]
    own = fit.blocks.own[rows].diagonal(dim1=1, dim2=2)[:, 1:]
    shift, noise = _in_window(fit, rows, (group, groups), (products, own), WIDE * constant)
    square = (shift.square() / noise.clamp(min=1e-12)).mean(dim=1)
    both = torch.zeros(groups, 2, dtype=square.dtype, device=square.device)
    both.index_add_(0, group, torch.stack([square, torch.ones_like(square)], dim=1))
    near, its = _in_window(fit, rows, (group, groups), (products, own), NARROW * constant)
    sure = (its > 0) & (its < (_SURE * fit.shape.width.double()) ** 2)
    chosen = torch.where(sure, near, shift), torch.where(sure, its, noise)
    return *chosen, both[:, 0] / both[:, 1].clamp(min=1)


def _in_window(
    fit: Fit, rows: Int[Tensor, " k"], group: tuple[Tensor, int], told: tuple[Tensor, Tensor], sigma: float
) -> tuple[Float[Tensor, "k 2"], Float[Tensor, "k 2"]]:
    """The common shift in Gaussian windows and its variance: one step of Gauss and Newton, from products with derivatives and their squares."""
    # The square of a Gaussian window is one of half its variance.
    wide, narrow = (Around.of(fit, rows, *group, one) for one in (sigma, sigma / 2**0.5))

    # What is usual around a place says more of its brightness than noise there. A kind that is not there has none, or less: it stays.
    bright = torch.stack([fit.intensity[rows].double(), torch.ones_like(wide.own)], dim=1)
    mean = torch.div(*wide.every(bright).split(1, dim=1)).clamp(min=0)
    score, square = mean * told[0], mean**2 * told[1]
    total = wide.every(square).clamp(min=1e-12)
    return wide.every(score) / total, narrow.every(square) / total.square()
