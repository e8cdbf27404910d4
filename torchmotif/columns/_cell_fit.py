"""The columns of a mean cell: Gaussians of one width on a flat background, fitted together to its bins."""

import math
from typing import NamedTuple

import numpy as np

__all__ = [
    "CLEAR",
    "FAINTEST_SITE",
    "FINEST",
    "Waves",
    "cells_around",
    "left_beside",
    "rendered",
    "score_of_one",
    "sites_of",
]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
CLEAR = 4.5  # standard deviations of the mean cell
_MOST = 24  # sites of a cell
# Of the brightest site: the least of a column, and of what may turn out to be one. Of 270 crystals (`benchmarks/columns/any_crystal.py`, seeds 7 and 3) 264 have
# 0.97 with 0.025 and 261 with 0.04, which leaves out oxygen beside Ba and La (0.028 to 0.038); with 0.02 two domains of PbTiO3 pass for one cell with a
# site that is none (precision 0.90).
FAINTEST_SITE, _TRACE = 0.025, 0.01
_NARROW = 0.16  # of the side of a cell: width of a column from which its fit sets out
_BESIDE = 2.3  # widths from a column, within which what is left over is its misfit
_ABOVE = 2.0  # times the greatest misfit of a cell, by which each of its columns stands out
FINEST = 0.35  # periods per pixel: what columns of 1.5 px have beyond, a three-hundredth of it, tells nothing
# Of the fit of a cell: steps, damping, gain in chi-squared. Cells of MX2, perovskites and squares take up to 9 steps; what takes more
# are columns that are none.
_ROUNDS, _STUCK, _SETTLED = 15, 1e4, 0.03
# Of a site's share of the brightest, what it keeps where columns have a tail; width of the tail over that of the column, at the start of its fit and at least; its
# intensity over the column's at the start.
# Of rectangular lattices whose columns have one of 8 to 20 px, sites between their rows keep nothing; oxygen in perovskites, with and without such tails, 0.9 and more.
_KEPT, _WIDE, _WIDER, _IN_TAIL = 0.5, 2.5, 1.6, 0.05
_MISSES = 4  # places one after the other that turn out to be no column, after which no other is looked for


class _CellFit(NamedTuple):
    """Gaussians of one width on a flat background, fitted to a mean cell."""

    sites: np.ndarray
    strength: np.ndarray
    width: float
    model: np.ndarray
    # Of each column, where it is fitted: the intensity of a wider Gaussian over its own, and the width of that.
    tail: tuple[float, float] | None = None


def sites_of(
    mean: np.ndarray,
    variance: np.ndarray,
    real: np.ndarray,
    along: float = 0.0,
    known: tuple[np.ndarray, np.ndarray, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Places, intensities and width of the columns of a mean cell: what their joint fit leaves over, one after another.

    Their fit is one of its structure factors, of which there are tens where a cell has a thousand bins and more; but of those orders whose waves have no more
    than `along` periods per pixel along the rows: where rows have offsets, these tell nothing. Where what was `known` of the cell, its places, intensities and
    width, leads to a better fit, that is taken: two of a pair may end as one that is wide, and what it leaves.
    """
    bins = mean.shape
    at = _middles(bins)
    area = abs(float(np.linalg.det(real)))
    best = _CellFit(np.zeros((0, 2)), np.zeros(0), _NARROW * math.sqrt(area), np.zeros(bins))
    mean = mean - mean.mean()
    waves = Waves.of(bins, real, FINEST).across(real, along)
    open_, missed = np.ones(bins, bool), 0
    for _ in range(_MOST):
        score = left_beside(mean - best.model, variance, real, best.sites, best.width, along=along) * open_
        top = int(score.argmax())
        if score.flat[top] < CLEAR:
            break
        height = (mean - best.model).flat[top] * 2 * math.pi * best.width**2
        start = best._replace(
            sites=np.vstack([best.sites, at[top]]), strength=np.append(best.strength, height)
        )
        found = _fitted(mean, variance, start, waves)
        near = min(
            (float(_away(found.sites[-1:], one, real)[0]) for one in found.sites[:-1]), default=math.inf
        )
        # One of several faint columns looks fainter than it is as long as the others are part of the flat background.
        if found.strength.min() > _TRACE * found.strength.max() and near > _BESIDE * found.width:
            best, missed = found, 0
        elif (missed := missed + 1) == _MISSES:
            break
        else:
            open_ &= _away(at, at[top], real).reshape(bins) > best.width
    if known is not None and len(known[0]):
        found = _fitted(mean, variance, _CellFit(*known, np.zeros(bins)), waves)
        if _cost(mean, variance, found, waves) < _cost(mean, variance, best, waves):
            best = found
    best = _less_tail(mean, variance, best, waves)
    # Where columns are no Gaussians, what is left over looks like faint columns around bright ones.
    while len(best.sites):
        unit = score_of_one(variance, real, best.width, along)
        misfit = np.abs(_matched(mean - best.model, variance, real, best.width, along)).max()
        faintest = best.strength.min()
        if faintest > FAINTEST_SITE * best.strength.max() and faintest * unit > _ABOVE * misfit:
            break
        kept = np.delete(np.arange(len(best.sites)), best.strength.argmin())
        best = _fitted(
            mean, variance, best._replace(sites=best.sites[kept], strength=best.strength[kept]), waves
        )
    return best.sites, best.strength, best.width


def _less_tail(mean: np.ndarray, variance: np.ndarray, fit: _CellFit, waves: "Waves") -> _CellFit:
    """The fit without sites that are but the tail of brighter ones, which has no more than two numbers: with the tail in their place, if there are such."""
    if len(fit.sites) < 2:
        return fit
    tailed = _fitted(mean, variance, fit._replace(tail=(_IN_TAIL, _WIDE * fit.width)), waves)
    kept = tailed.strength / tailed.strength.max() > _KEPT * fit.strength / fit.strength.max()
    if kept.all():
        return fit
    start = tailed._replace(sites=tailed.sites[kept], strength=tailed.strength[kept])
    return _fitted(mean, variance, start, waves)


def left_beside(
    rest: np.ndarray,
    variance: np.ndarray,
    real: np.ndarray,
    sites: np.ndarray,
    width: float,
    *,
    along: float = 0.0,
) -> np.ndarray:
    """Standard deviations by which a column stands out of what is left over of a cell, at every bin that is not so near to a site that it is its misfit."""
    score, at = _matched(rest, variance, real, width, along), _middles(rest.shape)
    for site in sites:
        score[_away(at, site, real).reshape(rest.shape) < _BESIDE * width] = 0
    return score


def score_of_one(variance: np.ndarray, real: np.ndarray, width: float, along: float = 0.0) -> float:
    """Standard deviations by which a column of intensity 1 stands out of a cell."""
    one = rendered(np.full((1, 2), 0.5), np.ones(1), width, (variance.shape[0], variance.shape[1]), real)
    return float(_matched(one, variance, real, width, along).max())


def rendered(
    sites: np.ndarray, strength: np.ndarray, width: float, bins: tuple[int, int], real: np.ndarray
) -> np.ndarray:
    """Gaussians at the sites of a cell, on its bins, less their mean."""
    waves = Waves.of(bins, real)
    return waves.image(waves.factors(sites, strength, width), bins)


def cells_around(reach: int) -> np.ndarray:
    """Numbers ((2 reach + 1)^2, 2) of a cell and of those around it."""
    return np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)


def _middles(bins: tuple[int, ...]) -> np.ndarray:
    """Middles (n, 2) of the bins of a cell, in its sides."""
    return np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in bins), indexing="ij"), -1).reshape(-1, 2)


def _away(at: np.ndarray, site: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Distances in pixels to a site of a cell that repeats."""
    gap = at - site
    away: np.ndarray = np.linalg.norm(
        ((gap - np.round(gap)) @ real)[:, None] + cells_around(1) @ real, axis=2
    ).min(1)
    return away


def _matched(
    residual: np.ndarray, variance: np.ndarray, real: np.ndarray, width: float, along: float = 0.0
) -> np.ndarray:
    """Standard deviations by which a column of that width stands out of what is left over of a cell, at every bin."""
    f = np.stack(np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in residual.shape), indexing="ij"), -1)
    waves = f @ np.linalg.inv(real).T
    transfer = np.exp(-2 * math.pi**2 * width**2 * (waves**2).sum(-1))
    transfer[np.abs(waves[..., 1]) <= along if along else (waves == 0).all(-1)] = 0
    filtered = np.fft.ifft2(np.fft.fft2(residual) * transfer).real
    score: np.ndarray = filtered / np.sqrt(variance.mean() * (transfer**2).mean())
    return score


class Waves(NamedTuple):
    """Orders of a cell but the zeroth, one of each pair of opposite ones."""

    order: np.ndarray  # (n, 2) whole numbers
    square: np.ndarray  # (n,) of its length in periods per pixel
    area: float  # of the cell in square pixels

    @staticmethod
    def of(bins: tuple[int, ...], real: np.ndarray, finest: float = math.inf) -> "Waves":
        """Those that some bins tell, up to so many periods per pixel."""
        most = [(n - 1) // 2 for n in bins]
        order = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), -1).reshape(-1, 2)
        order = order[len(order) // 2 + 1 :]
        square = ((order @ np.linalg.inv(real).T) ** 2).sum(1)
        kept = square < finest**2
        return Waves(order[kept], square[kept], abs(float(np.linalg.det(real))))

    def across(self, real: np.ndarray, along: float) -> "Waves":
        """Those that have more than so many periods per pixel along the rows; all for 0."""
        rise = np.abs((self.order @ np.linalg.inv(real).T)[:, 1])
        return self.some(rise > along) if along else self

    def some(self, which: np.ndarray) -> "Waves":
        """Some of them."""
        return Waves(self.order[which], self.square[which], self.area)

    def of_image(self, image: np.ndarray) -> np.ndarray:
        """Structure factors of a cell: (n,), complex, of which the sum over all orders is the image."""
        # Middles of bins are half a bin from where they begin.
        half = np.exp(-1j * math.pi * (self.order / np.array(image.shape)).sum(1))
        found: np.ndarray = np.fft.fft2(image)[tuple(self.order.T)] * half / image.size
        return found

    def image(self, factors: np.ndarray, bins: tuple[int, ...]) -> np.ndarray:
        """The cell that has these."""
        full = np.zeros(bins, complex)
        full[tuple(self.order.T)] = factors * np.exp(1j * math.pi * (self.order / np.array(bins)).sum(1))
        image: np.ndarray = 2 * np.fft.ifft2(full).real * math.prod(bins)
        return image

    def gaussian(self, width: float) -> np.ndarray:
        """Factors (n,) of one of intensity 1 in the corner of the cell."""
        found: np.ndarray = np.exp(-2 * math.pi**2 * width**2 * self.square) / self.area
        return found

    def phases(self, sites: np.ndarray) -> np.ndarray:
        """By which factors of the corner become those (n, k) of sites."""
        found: np.ndarray = np.exp(-2j * math.pi * (self.order @ sites.T))
        return found

    def factors(self, sites: np.ndarray, strength: np.ndarray, width: float) -> np.ndarray:
        """Those of all of them together."""
        found: np.ndarray = self.gaussian(width) * (self.phases(sites) @ strength)
        return found


def _cost(mean: np.ndarray, variance: np.ndarray, fit: _CellFit, waves: Waves) -> float:
    """Chi-squared of a fit, and for each of its columns the least by which one must lower it."""
    left = waves.of_image(mean) - waves.factors(fit.sites, fit.strength, fit.width)
    return _weight(variance) * float((np.abs(left) ** 2).sum()) + CLEAR**2 * len(fit.sites)


def _weight(variance: np.ndarray) -> float:
    """Of a squared structure factor: by Parseval's theorem the squares that all bins would give, which have the same noise, about."""
    return 2 * variance.size / float(variance.mean())


def _fitted(mean: np.ndarray, variance: np.ndarray, start: _CellFit, waves: Waves) -> _CellFit:
    """Least squares of structure factors by the steps of Levenberg and Marquardt from a start; the tail is fitted where this has one."""
    k, y = len(start.sites), waves.of_image(mean)
    weight = _weight(variance)

    def shape(p: np.ndarray) -> np.ndarray:
        narrow = waves.gaussian(p[-1])
        return narrow if start.tail is None else narrow + p[-3] * waves.gaussian(p[-2])

    def slopes(p: np.ndarray, phases: np.ndarray) -> np.ndarray:
        parts, every = shape(p)[:, None] * phases, phases @ p[:k]

        def wider(width: float) -> np.ndarray:
            slope: np.ndarray = -4 * math.pi**2 * width * waves.square * waves.gaussian(width) * every
            return slope

        of_tail = [] if start.tail is None else [waves.gaussian(p[-2]) * every, p[-3] * wider(p[-2])]
        moved = -2j * math.pi * waves.order[:, None] * (parts * p[:k])[:, :, None]
        found = np.concatenate(
            [parts, moved.reshape(len(y), -1), np.stack([*of_tail, wider(p[-1])], 1)], axis=1
        )
        return np.concatenate([found.real, found.imag])

    def misfit(p: np.ndarray, phases: np.ndarray) -> np.ndarray:
        gap = y - shape(p) * (phases @ p[:k])
        return np.concatenate([gap.real, gap.imag])

    p = np.concatenate([start.strength, start.sites.ravel(), start.tail or (), [start.width]])
    phases = waves.phases(start.sites)
    gap = misfit(p, phases)
    cost, damping = weight * float(gap @ gap), 1e-5
    for _ in range(_ROUNDS):
        jacobian = slopes(p, phases)
        normal, right = weight * jacobian.T @ jacobian, weight * jacobian.T @ gap
        gain = 0.0
        while damping < _STUCK:
            tried = p + np.linalg.solve(normal + damping * np.diag(normal.diagonal() + 1e-12), right)
            tried[-1] = np.clip(tried[-1], 0.8 * p[-1], 1.2 * p[-1])
            if start.tail is not None:
                least = max(0.8 * p[-2], _WIDER * tried[-1])
                tried[-3:-1] = max(tried[-3], 0.0), np.clip(tried[-2], least, max(1.2 * p[-2], least))
            turned = waves.phases(tried[k : 3 * k].reshape(k, 2))
            left = misfit(tried, turned)
            gain = cost - weight * float(left @ left)
            damping = damping / 10 if gain > 0 else damping * 10
            if gain > 0:
                p, phases, gap, cost = tried, turned, left, cost - gain
                break
        if gain < _SETTLED:
            break
    model = waves.image(shape(p) * (phases @ p[:k]), mean.shape)
    tail = None if start.tail is None else (float(p[-3]), float(p[-2]))
    return _CellFit(p[k : 3 * k].reshape(k, 2) % 1, p[:k], float(p[-1]), model, tail)
