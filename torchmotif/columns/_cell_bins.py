"""The bins of a mean cell: how far they are from its sites, columns drawn on them, and what stands out of what is left over."""

import math

import numpy as np

from torchmotif.columns._waves import Ellipse, Waves

__all__ = [
    "APART",
    "away_from",
    "cells_around",
    "left_beside",
    "matched",
    "middles",
    "rendered",
    "score_of_one",
]

APART = 2.3  # widths from a column, within which what is left over is its misfit


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
    score, at = matched(rest, variance, real, width, along), middles(rest.shape)
    for site in sites:
        score[away_from(at, site, real).reshape(rest.shape) < APART * width] = 0
    return score


def score_of_one(variance: np.ndarray, real: np.ndarray, width: float, along: float = 0.0) -> float:
    """Standard deviations by which a column of intensity 1 stands out of a cell."""
    one = rendered(np.full((1, 2), 0.5), np.ones(1), width, (variance.shape[0], variance.shape[1]), real)
    return float(matched(one, variance, real, width, along).max())


def rendered(
    sites: np.ndarray,
    strength: np.ndarray,
    width: float,
    bins: tuple[int, int],
    real: np.ndarray,
    *,
    ellipse: Ellipse = (0.0, 0.0),
) -> np.ndarray:
    """Gaussians at the sites of a cell, on its bins, less their mean."""
    waves = Waves.of(bins, real)
    return waves.image(waves.factors(sites, strength, width, ellipse), bins)


def cells_around(reach: int) -> np.ndarray:
    """Numbers ((2 reach + 1)^2, 2) of a cell and of those around it."""
    return np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)


def middles(bins: tuple[int, ...]) -> np.ndarray:
    """Middles (n, 2) of the bins of a cell, in its sides."""
    return np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in bins), indexing="ij"), -1).reshape(-1, 2)


def away_from(at: np.ndarray, site: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Distances in pixels to a site of a cell that repeats."""
    gap = at - site
    away: np.ndarray = np.linalg.norm(
        ((gap - np.round(gap)) @ real)[:, None] + cells_around(1) @ real, axis=2
    ).min(1)
    return away


def matched(
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
