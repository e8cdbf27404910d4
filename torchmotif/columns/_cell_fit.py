"""The columns of a mean cell: Gaussians of one width on a flat background, fitted together to its bins."""

import math
from typing import NamedTuple

import numpy as np

__all__ = ["cells_around", "rendered", "sites_of"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
_CLEAR = 4.5  # standard deviations of the mean cell
_MOST = 24  # sites of a cell
# Of the brightest site: the least of a column, and of what may turn out to be one.
_FAINTEST, _TRACE = 0.04, 0.01
_NARROW = 0.16  # of the side of a cell: width of a column from which its fit sets out
_BESIDE = 2.3  # widths from a column, within which what is left over is its misfit
_ABOVE = 2.0  # times the greatest misfit of a cell, by which each of its columns stands out
_FAR = 7.0  # widths: a column further away than this does not reach into a cell
# Of the fit of a cell: steps, damping, gain in chi-squared. Cells of MX2, perovskites and squares take up to 9 steps; what takes more
# are columns that are none.
_ROUNDS, _STUCK, _SETTLED = 15, 1e4, 0.03
_MISSES = 4  # places one after the other that turn out to be no column, after which no other is looked for


class _CellFit(NamedTuple):
    """Gaussians of one width on a flat background, fitted to a mean cell."""

    sites: np.ndarray
    strength: np.ndarray
    width: float
    flat: float
    model: np.ndarray


def sites_of(
    mean: np.ndarray, variance: np.ndarray, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Places, intensities and width of the columns of a mean cell: what their joint fit leaves over, one after another."""
    bins = mean.shape
    at = _middles(bins)
    area = abs(float(np.linalg.det(real)))
    best = _CellFit(
        np.zeros((0, 2)), np.zeros(0), _NARROW * math.sqrt(area), float(mean.min()), mean * 0 + mean.mean()
    )
    open_, missed = np.ones(bins, bool), 0
    for _ in range(_MOST):
        score = _matched(mean - best.model, variance, real, best.width) * open_
        for site in best.sites:  # what is left over nearer to a column is a misfit of it
            score[_away(at, site, real).reshape(bins) < _BESIDE * best.width] = 0
        top = int(score.argmax())
        if score.flat[top] < _CLEAR:
            break
        height = (mean - best.model).flat[top] * 2 * math.pi * best.width**2
        start = best._replace(
            sites=np.vstack([best.sites, at[top]]), strength=np.append(best.strength, height)
        )
        found = _fitted(mean, variance, start, real)
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
    # Where columns are no Gaussians, what is left over looks like faint columns around bright ones.
    while len(best.sites):
        one = rendered(np.full((1, 2), 0.5), np.ones(1), best.width, bins, real)
        unit = _matched(one, variance, real, best.width).max()
        misfit = np.abs(_matched(mean - best.model, variance, real, best.width)).max()
        faintest = best.strength.min()
        if faintest > _FAINTEST * best.strength.max() and faintest * unit > _ABOVE * misfit:
            break
        kept = np.delete(np.arange(len(best.sites)), best.strength.argmin())
        best = _fitted(
            mean, variance, best._replace(sites=best.sites[kept], strength=best.strength[kept]), real
        )
    return best.sites, best.strength, best.width


def rendered(
    sites: np.ndarray, strength: np.ndarray, width: float, bins: tuple[int, int], real: np.ndarray
) -> np.ndarray:
    """Gaussians at the sites of a cell, on its bins."""
    away = ((_middles(bins)[:, None, None] - sites[None, :, None] + cells_around(2)) @ real) ** 2
    value = np.exp(-away.sum(-1) / (2 * width**2)).sum(2) / (2 * math.pi * width**2)
    image: np.ndarray = (value @ strength).reshape(bins)
    return image


def cells_around(reach: int) -> np.ndarray:
    """Numbers ((2 reach + 1)^2, 2) of a cell and of those around it."""
    return np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)


def _middles(bins: tuple[int, ...]) -> np.ndarray:
    """Middles (n, 2) of the bins of a cell, in its sides."""
    return np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in bins), indexing="ij"), -1).reshape(-1, 2)


def _shifts(real: np.ndarray, width: float) -> np.ndarray:
    """Cells around one whose columns reach into it, in pixels."""
    reach = 1 if abs(np.linalg.det(real)) / np.linalg.norm(real, axis=1).max() > _FAR * width else 2
    shifts: np.ndarray = cells_around(reach) @ real
    return shifts


def _away(at: np.ndarray, site: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Distances in pixels to a site of a cell that repeats."""
    gap = at - site
    away: np.ndarray = np.linalg.norm(
        ((gap - np.round(gap)) @ real)[:, None] + _shifts(real, 0.0), axis=2
    ).min(1)
    return away


def _matched(residual: np.ndarray, variance: np.ndarray, real: np.ndarray, width: float) -> np.ndarray:
    """Standard deviations by which a column of that width stands out of what is left over of a cell, at every bin."""
    f = np.stack(np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in residual.shape), indexing="ij"), -1)
    square = ((f @ np.linalg.inv(real).T) ** 2).sum(-1)
    transfer = np.exp(-2 * math.pi**2 * width**2 * square)
    transfer[0, 0] = 0
    filtered = np.fft.ifft2(np.fft.fft2(residual) * transfer).real
    score: np.ndarray = filtered / np.sqrt(variance.mean() * (transfer**2).mean())
    return score


def _fitted(mean: np.ndarray, variance: np.ndarray, start: _CellFit, real: np.ndarray) -> _CellFit:
    """Least squares by the steps of Levenberg and Marquardt from a start."""
    bins, k = mean.shape, len(start.sites)
    shifts = _shifts(real, start.width)
    pixel = _middles(bins) @ real
    weight, y = 1 / variance.ravel(), mean.ravel()

    def parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        away = pixel[:, None, None] - p[k : 3 * k].reshape(k, 1, 2) - shifts
        square = (away**2).sum(-1) / p[-2] ** 2
        return away, square, np.exp(-square / 2) / (2 * math.pi * p[-2] ** 2)

    def slopes(p: np.ndarray, away: np.ndarray, square: np.ndarray, value: np.ndarray) -> np.ndarray:
        moved = (value[..., None] * away).sum(2) / p[-2] ** 2 * p[:k, None]
        wider = ((value * (square - 2)).sum(2) @ p[:k])[:, None] / p[-2]
        return np.concatenate([value.sum(2), moved.reshape(len(y), -1), wider, np.ones((len(y), 1))], axis=1)

    p = np.concatenate([start.strength, (start.sites @ real).ravel(), [start.width, start.flat]])
    now = parts(p)
    model = now[2].sum(2) @ p[:k] + p[-1]
    cost, damping = float(weight @ (y - model) ** 2), 1e-5
    for _ in range(_ROUNDS):
        jacobian = slopes(p, *now)
        normal = (jacobian * weight[:, None]).T @ jacobian
        right = jacobian.T @ (weight * (y - model))
        gain = 0.0
        while damping < _STUCK:
            change = np.linalg.solve(normal + damping * np.diag(normal.diagonal() + 1e-12), right)
            change[-2] = np.clip(change[-2], -0.2 * p[-2], 0.2 * p[-2])
            tried = parts(p + change)
            reached = tried[2].sum(2) @ (p + change)[:k] + (p + change)[-1]
            gain = cost - float(weight @ (y - reached) ** 2)
            damping = damping / 10 if gain > 0 else damping * 10
            if gain > 0:
                p, now, model, cost = p + change, tried, reached, cost - gain
                break
        if gain < _SETTLED:
            break
    sites = (p[k : 3 * k].reshape(k, 2) @ np.linalg.inv(real)) % 1
    return _CellFit(sites, p[:k], float(p[-2]), float(p[-1]), model.reshape(bins))
