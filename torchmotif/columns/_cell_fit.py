"""The columns of a mean cell: Gaussians of one width on a flat background, fitted together to its bins."""

import math
from typing import NamedTuple

import numpy as np

from torchmotif.columns._cell_bins import (
    APART,
    away_from,
    left_beside,
    matched,
    middles,
    rendered,
    score_of_one,
)
from torchmotif.columns._cell_model import CellFit, Unknowns
from torchmotif.columns._lobes import Seen, without_lobes
from torchmotif.columns._waves import Waves

__all__ = [
    "CLEAR",
    "FAINTEST_SITE",
    "FINEST",
    "MOST_SITES",
    "NARROW",
    "Shown",
    "fitted",
    "grown",
    "sites_of",
]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
CLEAR = 4.5  # standard deviations of the mean cell
MOST_SITES = 24  # sites of a cell
# Of the brightest site: the least of a column, and of what may turn out to be one. Of 270 crystals (`benchmarks/columns/any_crystal.py`, seeds 7 and 3) 264 have
# 0.97 with 0.025 and 261 with 0.04, which leaves out oxygen beside Ba and La (0.028 to 0.038); with 0.02 two domains of PbTiO3 pass for one cell with a
# site that is none (precision 0.90).
FAINTEST_SITE, _TRACE = 0.025, 0.01
NARROW = 0.16  # of the side of a cell: width of a column from which its fit sets out
_ABOVE = 2.0  # times the greatest misfit of a cell, by which each of its columns stands out
FINEST = 0.35  # periods per pixel: what columns of 1.5 px have beyond, a three-hundredth of it, tells nothing
# Of the fit of a cell: steps, damping, gain in chi-squared. Cells of MX2, perovskites and squares take up to 9 steps; what takes more
# are columns that are none.
_ROUNDS, _STUCK, _SETTLED = 15, 1e4, 0.03
# More than rounding: of a perovskite whose columns are 2.5 px apart the matrix was singular without. Larger ones were not tried.
_LEAST_DAMPING = 1e-9
# Of a site's share of the brightest, what it keeps where columns have a tail; width of the tail over that of the column, and its intensity over the column's, at the start
# of its fit.
# Of rectangular lattices whose columns have one of 8 to 20 px, sites between their rows keep nothing; oxygen in perovskites, with and without such tails, 0.9 and more.
_KEPT, _WIDE, _IN_TAIL = 0.5, 2.5, 0.05
# Of the brightest site, those from which the fit of ellipses sets out: others may be what circles leave of them. And of what circles leave of a cell, chi-squared, at
# most what ellipses leave where they are taken: with axes of 1.2 to 1.4 they leave 0.01 to 0.1, where noise is not more than that, the mean of two grains 0.18 and of
# two domains 0.8.
_BRIGHT, _LESS_LEFT = 0.3, 0.1
# Of an ellipse where rows have offsets, at least: axes of 1.2 have 0.18, the circles of a crystal along hum, whose cell lies on the grid of pixels, 0.06, and its oxygen was lost with them.
# Without offsets an image that was sheared by 0.08 has 0.075, and lacks its oxygen without ellipses.
_LEAST_OVAL = 0.1
_MISSES = 4  # places one after the other that turn out to be no column, after which no other is looked for


class Shown(NamedTuple):
    """What is shown of a mean cell."""

    mean: np.ndarray  # (a, b) of its bins, less that of all
    variance: np.ndarray  # (a, b)
    real: np.ndarray  # (2, 2) its sides, in pixels along (row, column)
    waves: Waves
    along: float  # periods per pixel along the rows, up to which orders tell nothing

    @staticmethod
    def of(mean: np.ndarray, variance: np.ndarray, real: np.ndarray, along: float = 0.0) -> "Shown":
        """By the orders up to `FINEST` that have more than so many periods per pixel along the rows."""
        waves = Waves.of(mean.shape, real, FINEST).across(along)
        return Shown(mean - mean.mean(), variance, real, waves, along)

    def none(self, width: float) -> CellFit:
        """A fit without columns, and the width of those to come."""
        return CellFit(np.zeros((0, 2)), np.zeros(0), width, np.zeros(self.mean.shape))

    def score(self, fit: CellFit) -> np.ndarray:
        """What is left beside a fit, see `left_beside`."""
        rest = self.mean - fit.model
        return left_beside(rest, self.variance, self.real, fit.sites, fit.width, along=self.along)

    def misfit(self, fit: CellFit) -> float:
        """Standard deviations by which most is left of a fit."""
        rest = self.mean - fit.model
        return float(np.abs(matched(rest, self.variance, self.real, fit.width, self.along)).max())

    def chi_squared(self, fit: CellFit) -> float:
        """Of a fit."""
        left = self.waves.of_image(self.mean) - self.waves.of_image(fit.model)
        return _weight(self.variance) * float((np.abs(left) ** 2).sum())

    def cost(self, fit: CellFit) -> float:
        """Chi-squared of a fit, and for each of its columns the least by which one must lower it."""
        return self.chi_squared(fit) + CLEAR**2 * len(fit.sites)


def sites_of(
    mean: np.ndarray,
    variance: np.ndarray,
    real: np.ndarray,
    along: float = 0.0,
    known: tuple[np.ndarray, np.ndarray, float] | None = None,
) -> CellFit:
    """The columns of a mean cell, and sites that are but side lobes of theirs: what their joint fit leaves over, one after another.

    Their fit is one of its structure factors, of which there are tens where a cell has a thousand bins and more; but of those orders whose waves have no more
    than `along` periods per pixel along the rows: where rows have offsets, these tell nothing. Where what was `known` of the cell, its places, intensities and
    width, leads to a better fit, that is taken: two of a pair may end as one that is wide, and what it leaves.
    """
    shown = Shown.of(mean, variance, real, along)
    width = NARROW * math.sqrt(shown.waves.area)
    if not len(shown.waves.order):  # finer than columns are
        return shown.none(width)
    best = grown(shown, shown.none(width))
    others = []
    if len(best.sites) == 1 and not shown.score(best).any():
        others.append(grown(shown, _as_pair(shown)))
    if known is not None and len(known[0]):
        others.append(fitted(shown, CellFit(*known, np.zeros(mean.shape))))
    for other in others:
        # Two that are nearer than they are wide are one that is not round, as walls, slopes, drift and noise make them.
        if _nearest(shown, other) > other.width:
            best = min(best, other, key=shown.cost)
    best = _less_lobes(shown, _less_tail(shown, _as_ellipses(shown, best)))
    lobes = best.lobes
    # Where columns are no Gaussians, what is left over looks like faint columns around bright ones.
    while len(best.sites):
        unit = score_of_one(variance, real, best.width, along)
        faintest = best.strength.min()
        if faintest > FAINTEST_SITE * best.strength.max() and faintest * unit > _ABOVE * shown.misfit(best):
            break
        best = fitted(shown, best.some(np.delete(np.arange(len(best.sites)), best.strength.argmin())))
    return best._replace(lobes=lobes)


def grown(shown: Shown, best: CellFit) -> CellFit:
    """A fit with the columns that stand out of what it leaves over, one after another."""
    bins, at = shown.mean.shape, middles(shown.mean.shape)
    open_, missed = np.ones(bins, bool), 0
    for _ in range(MOST_SITES):
        score = shown.score(best) * open_
        top = int(score.argmax())
        if score.flat[top] < CLEAR:
            break
        height = (shown.mean - best.model).flat[top] * 2 * math.pi * best.width**2
        start = best._replace(
            sites=np.vstack([best.sites, at[top]]), strength=np.append(best.strength, height)
        )
        found = fitted(shown, start)
        near = min(
            (float(away_from(found.sites[-1:], one, shown.real)[0]) for one in found.sites[:-1]),
            default=math.inf,
        )
        # One of several faint columns looks fainter than it is as long as the others are part of the flat background.
        if found.strength.min() > _TRACE * found.strength.max() and near > APART * found.width:
            best, missed = found, 0
        elif (missed := missed + 1) == _MISSES:
            break
        else:
            open_ &= away_from(at, at[top], shown.real).reshape(bins) > best.width
    return best


def _nearest(shown: Shown, fit: CellFit) -> float:
    """Distance in pixels between the two columns of a fit that are nearest to each other."""
    sites = fit.sites
    return min(
        (float(away_from(sites[:n], sites[n], shown.real).min()) for n in range(1, len(sites))),
        default=math.inf,
    )


def _as_pair(shown: Shown) -> CellFit:
    """A fit that sets out from two narrow columns: that of one may end so wide that no other has a place beside it."""
    start, bins, at = (
        shown.none(NARROW * math.sqrt(shown.waves.area)),
        shown.mean.shape,
        middles(shown.mean.shape),
    )
    for _ in range(2):
        score = shown.score(start)
        top = int(score.argmax())
        height = (shown.mean - start.model).flat[top] * 2 * math.pi * start.width**2
        if score.flat[top] < CLEAR or height <= 0:
            break
        sites, strength = np.vstack([start.sites, at[top]]), np.append(start.strength, height)
        model = rendered(sites, strength, start.width, (bins[0], bins[1]), shown.real)
        start = start._replace(sites=sites, strength=strength, model=model)
    return fitted(shown, start) if len(start.sites) else start


def _as_ellipses(shown: Shown, fit: CellFit) -> CellFit:
    """The fit with ellipses of one shape where these leave far less, or no more than noise: the probe is astigmatic.

    What circles leave around bright columns hides faint ones.
    """
    if not len(fit.sites):
        return fit
    # Of the faint ones some may be what circles leave, and without them others may be found that are none; two bright ones so near may be one that is long.
    ovals, order = fit._replace(ellipse=(0.0, 0.0)), np.argsort(-fit.strength)
    sites, bright = fit.sites[order], fit.strength[order] > _BRIGHT * fit.strength.max()
    near = [(away_from(sites[:n], one, shown.real) < APART * fit.width).any() for n, one in enumerate(sites)]
    starts = (ovals, ovals.some(order[bright & ~np.array(near)]))
    found = min((grown(shown, fitted(shown, start)) for start in starts), key=shown.cost)
    before, parts = shown.chi_squared(fit), 2 * len(shown.waves.order)
    noise = parts + 2 * math.sqrt(2 * parts)  # two standard deviations above its mean
    is_long = not shown.along or math.hypot(*(found.ellipse or (0.0, 0.0))) > _LEAST_OVAL
    better = shown.chi_squared(found) < max(_LESS_LEFT * before, min(noise, before / 2))
    return found if is_long and better else fit


def _less_tail(shown: Shown, fit: CellFit) -> CellFit:
    """The fit without sites that are but the tail of brighter ones, which has no more than two numbers: with the tail in their place, if there are such."""
    if len(fit.sites) < 2:
        return fit
    tailed = fitted(shown, fit._replace(tail=(_IN_TAIL, _WIDE * fit.width)))
    kept = tailed.strength / tailed.strength.max() > _KEPT * fit.strength / fit.strength.max()
    return fit if kept.all() else fitted(shown, tailed.some(kept))


def _less_lobes(shown: Shown, fit: CellFit) -> CellFit:
    """The fit without sites that are but side lobes of brighter ones; its model has the lobes."""
    if len(fit.sites) < 2:
        return fit
    seen = Seen(shown.waves, shown.waves.of_image(shown.mean), _weight(shown.variance))

    def some(kept: np.ndarray) -> CellFit:
        return fitted(shown, fit.some(kept))

    told = without_lobes(seen, some, fit, shown.chi_squared(fit), clear=CLEAR, faintest=FAINTEST_SITE)
    if told is None:
        return fit
    found, strength, factors, lobes = told
    # Columns will be fitted by Gaussians.
    return found._replace(
        strength=strength * found.strength.max(),
        model=shown.waves.image(factors, shown.mean.shape),
        lobes=np.column_stack([fit.sites[lobes] % 1, fit.strength[lobes]]),
    )


def _weight(variance: np.ndarray) -> float:
    """Of a squared structure factor: by Parseval's theorem the squares that all bins would give, which have the same noise, about."""
    return 2 * variance.size / float(variance.mean())


def fitted(shown: Shown, start: CellFit) -> CellFit:
    """Least squares of structure factors by the steps of Levenberg and Marquardt from a start; tail and ellipse are fitted where this has them."""
    waves, y, weight = shown.waves, shown.waves.of_image(shown.mean), _weight(shown.variance)
    unknowns, p = Unknowns.of(waves, start)
    k = unknowns.columns

    def misfit(p: np.ndarray, phases: np.ndarray) -> np.ndarray:
        gap = y - unknowns.shape(p) * (phases @ p[:k])
        return np.concatenate([gap.real, gap.imag])

    phases = waves.phases(start.sites)
    gap = misfit(p, phases)
    cost, damping = weight * float(gap @ gap), 1e-5
    for _ in range(_ROUNDS):
        jacobian = unknowns.slopes(p, phases)
        normal, right = weight * jacobian.T @ jacobian, weight * jacobian.T @ gap
        gain = 0.0
        while damping < _STUCK:
            step = np.linalg.solve(normal + damping * np.diag(normal.diagonal() + 1e-12), right)
            tried = unknowns.bounded(p, p + step)
            turned = waves.phases(unknowns.places(tried))
            left = misfit(tried, turned)
            gain = cost - weight * float(left @ left)
            damping = max(damping / 10, _LEAST_DAMPING) if gain > 0 else damping * 10
            if gain > 0:
                p, phases, gap, cost = tried, turned, left, cost - gain
                break
        if gain < _SETTLED:
            break
    model = waves.image(unknowns.shape(p) * (phases @ p[:k]), shown.mean.shape)
    tail = (float(p[unknowns.tail]), float(p[unknowns.tail + 1])) if unknowns.tail else None
    ellipse = unknowns.ellipse(p) if unknowns.oval else None
    return CellFit(unknowns.places(p) % 1, p[:k], float(p[-1]), model, tail, ellipse)
