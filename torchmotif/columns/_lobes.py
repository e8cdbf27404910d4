"""Faint sites of a mean cell that are but what the side lobes of a probe add up to, by a profile that all its columns share."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import eval_laguerre

from torchmotif.columns._cell_model import CellFit
from torchmotif.columns._waves import Waves

__all__ = ["Seen", "without_lobes"]

# Measured on 158 simulated crystals of twelve kinds with Gaussian, Airy, ringed and wide-tailed probes at 10, 100 and 1000 electrons per pixel (docs/decisions/0202). Of their 70 cells with a
# faint site those named differ where a constant is multiplied by 0.7 or 1.4, steps by a half or two.
_FAINT = 0.2  # of the brightest site: fainter ones are asked about; with 0.14 three cells keep a site, two of them lobes
# Of what a site has between Gaussians, where the shared profile leaves less of it lobes are in its place (none differs); and standard deviations above which it has more than a column must
# have (with 1.4 two cells keep lobes).
_LEFT, _SURE = 0.5, 2.0
# Cutoff of the aperture in periods per width of a Gaussian, and width of the blur over that: diffraction alone has 0.44 and 0. What moves with them was not measured.
_CUTOFFS, _BLURS = np.linspace(0.35, 0.8, 10), np.linspace(0.0, 0.9, 7)
_STEPS, _DAMPING, _SETTLED = (
    15,
    1e-4,
    0.1,
)  # of a fit (with 8 one cell keeps lobes); what its damping begins with; gain in chi-squared
_MOVED = 0.02  # of the cell's sides, by which a site moves in a step at most; none differs
_SLIGHT = 1e-6  # more than rounding, where what a profile has in place of a site is told by nothing
_BY = (0.02, 0.03)  # shares of cutoff and squared blur, over which slopes by them are taken

Profile = Callable[["Seen", CellFit], "_Shared"]


class Seen(NamedTuple):
    """The structure factors of a mean cell."""

    waves: Waves
    factors: np.ndarray  # (n,), complex
    weight: float  # of their squares, which makes them chi-squared


class _Shared(NamedTuple):
    """Columns of one profile, fitted."""

    chi_squared: float
    strength: np.ndarray  # over that of the brightest
    error: np.ndarray
    factors: np.ndarray  # of all of them together
    parts: int  # of the profile

    @property
    def cost(self) -> float:
        """Chi-squared, and what each part of the profile must lower it by (Schwarz 1978)."""
        return self.chi_squared + self.parts * math.log(2 * len(self.factors))


def without_lobes(
    seen: Seen,
    fits: Callable[[np.ndarray], CellFit],
    fit: CellFit,
    chi_squared: float,
    *,
    clear: float,
    faintest: float,
) -> tuple[CellFit, np.ndarray, np.ndarray, np.ndarray] | None:
    """The Gaussians of a fit without its faint sites that are but side lobes, their intensities over the brightest, and their factors with the lobes; None where all are columns as far as can be told.

    What six lobes add up to in the hollow between columns looks like one that is faint. A profile that is not quite Gaussian, which all columns share, has it in the hollow
    and beside every column; a column has it in the hollow alone. Of the profiles that describe the cell with all sites about as well as any does, all must leave little
    of a site, and the best must describe the cell better without it than Gaussians do with it.

    Parameters
    ----------
    fits
        From which sites are kept to the fit of these by Gaussians.
    fit, chi_squared
        Gaussians with all sites, and what they leave.
    clear, faintest : float
        Standard deviations and share of the brightest that a site must have.

    Returns
    -------
    (CellFit, (k,), (n,), boolean (k',)), or None
        The last says which sites were lobes.
    """
    share = fit.strength / fit.strength.max()
    faint = share < _FAINT
    if not faint.any():
        return None
    told = [_told(seen, fits, profile, fit, faint) for profile in _PROFILES]
    least = min(one.cost for one in told)
    lobes = faint
    for one in told:
        if one.cost > least + clear**2:
            continue
        error = one.error * math.sqrt(max(1.0, one.chi_squared / (2 * len(seen.factors))))
        little = (one.strength < _LEFT * share) | (one.strength < clear * error)
        lobes = lobes & little & (one.strength - _SURE * error < faintest)
    if not lobes.any():
        return None
    few = fits(~lobes)
    left = min((profile(seen, few) for profile in _PROFILES), key=lambda one: one.cost)
    return None if left.chi_squared + clear**2 > chi_squared else (few, left.strength, left.factors, lobes)


def _told(
    seen: Seen, fits: Callable[[np.ndarray], CellFit], profile: Profile, fit: CellFit, faint: np.ndarray
) -> _Shared:
    """What a profile makes of all sites; of those that are faint none is darker than the background."""
    found = profile(seen, fit)
    dark = faint & (found.strength < 0)
    if not dark.any():
        return found
    without = profile(seen, fits(~dark))
    strength, error = np.zeros((2, len(dark)))
    strength[~dark], error[~dark] = without.strength, without.error
    return without._replace(strength=strength, error=error)


def _smooth(seen: Seen, fit: CellFit, terms: int) -> _Shared:
    """By a Gaussian, and its factors times so many Laguerre polynomials and coma."""
    waves = seen.waves
    power = 2 * math.pi**2 * fit.width**2 * waves.squeezed(fit.ellipse or (0.0, 0.0))
    core = np.exp(-power) / waves.area
    round_ = [core * eval_laguerre(n, 2 * power) for n in range(1, terms + 1)]
    coma = 2j * math.pi * fit.width * waves.wave * (core * power)[:, None]
    return _shared(seen, fit, core, np.column_stack([*round_, coma]))


def _diffracted(seen: Seen, fit: CellFit) -> _Shared:
    """By the Airy pattern of a round aperture (Goodman, Introduction to Fourier Optics), blurred by a Gaussian."""
    waves = seen.waves
    square = fit.width**2 * waves.squeezed(fit.ellipse or (0.0, 0.0))

    def profile(cutoff: float | np.ndarray, blur: float | np.ndarray) -> np.ndarray:
        x = np.clip(np.sqrt(square) / cutoff, 0, 1)
        overlap = 2 / math.pi * (np.arccos(x) - x * np.sqrt(1 - x**2))
        found: np.ndarray = overlap * np.exp(-2 * math.pi**2 * blur * square) / waves.area
        return found

    # Intensities follow from every pair of cutoff and blur by linear least squares.
    every = profile(_CUTOFFS[:, None, None], _BLURS[:, None] ** 2).reshape(-1, len(square))
    phases, k = waves.phases(fit.sites), len(fit.sites)
    pairs = (phases.conj()[:, :, None] * phases[:, None, :]).real.reshape(len(square), -1)
    normal = (every**2 @ pairs).reshape(-1, k, k)
    normal = normal + _SLIGHT * normal.trace(axis1=1, axis2=2)[:, None, None] / k * np.eye(k)
    right = every @ (phases.conj() * seen.factors[:, None]).real
    strength = np.linalg.solve(normal, right[..., None])[..., 0]
    n = int((strength * right).sum(1).argmax())
    cutoff, blur = _CUTOFFS[n // len(_BLURS)], _BLURS[n % len(_BLURS)] ** 2
    core = every[n]
    slopes = [
        (profile(cutoff * (1 + _BY[0]), blur) - core) / _BY[0],
        (profile(cutoff, blur + _BY[1]) - core) / _BY[1],
    ]
    return _shared(seen, fit._replace(strength=strength[n]), core, np.stack(slopes, 1))


def _shared(seen: Seen, start: CellFit, core: np.ndarray, more: np.ndarray) -> _Shared:
    """Least squares of intensities, places, and how much of `more` (n, m) all columns have beside the factors of a core, by the steps of Levenberg and Marquardt."""
    waves, k = seen.waves, len(start.sites)

    def state(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Phases, factors of one column, what all leave, and chi-squared."""
        phases, shape = waves.phases(p[k : 3 * k].reshape(-1, 2)), core + more @ p[3 * k :]
        gap = seen.factors - shape * (phases @ p[:k])
        return phases, shape, gap, seen.weight * float((np.abs(gap) ** 2).sum())

    p = np.concatenate([start.strength, start.sites.ravel(), np.zeros(more.shape[1])])
    phases, shape, gap, cost = state(p)
    damping, unit = _DAMPING, np.eye(len(p))
    for _ in range(_STEPS):
        each, every = shape[:, None] * phases, phases @ p[:k]
        moved = (-2j * math.pi * waves.order[:, None] * (each * p[:k])[:, :, None]).reshape(len(gap), -1)
        slopes = np.concatenate([each, moved, more * every[:, None]], axis=1)
        normal = seen.weight * (slopes.conj().T @ slopes).real
        scale = np.sqrt(normal.diagonal()) + 1e-12
        normal, right = normal / np.outer(scale, scale), seen.weight * (slopes.conj().T @ gap).real / scale
        gain = 0.0
        while damping < 1:
            step = np.linalg.solve(normal + damping * unit, right) / scale
            step[k : 3 * k] = np.clip(step[k : 3 * k], -_MOVED, _MOVED)
            tried = state(p + step)
            gain = cost - tried[3]
            damping = max(damping / 10, _SLIGHT) if gain > 0 else damping * 10
            if gain > 0:
                p, (phases, shape, gap, cost) = p + step, tried
                break
        if gain < _SETTLED:
            break
    error = np.sqrt(np.linalg.inv(normal + _SLIGHT * unit).diagonal()) / scale
    most = p[:k].max()
    return _Shared(cost, p[:k] / most, error[:k] / most, seen.factors - gap, more.shape[1])


# From those with the fewest unknowns on: two even powers, diffraction, and rings.
_PROFILES: tuple[Profile, ...] = (
    lambda seen, fit: _smooth(seen, fit, 2),
    _diffracted,
    lambda seen, fit: _smooth(seen, fit, 4),
)
