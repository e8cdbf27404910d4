"""Two motifs where one was: the split of a set of columns that their moments, and the known noise, support most."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from torchmotif.motifs.centre import central_column
from torchmotif.motifs.noise import CountingNoise, whitened
from torchmotif.motifs.sides import Sides
from torchmotif.motifs.valley import valley_at
from torchmotif.zernike import ZernikeBasis

__all__ = ["Split", "matched_filter", "propose_splits"]

_MAX_AXES = 10  # directions of moment space in which one split is looked for
_STARTS = (0.0, 1.2, -1.2, 2.2, -2.2, 4.0, -4.0)  # standard scores that part an axis to begin with
_SOFT = 0.02  # of every column begins on the other side
_SCREENING, _STEPS = 8, 100  # steps of expectation and maximisation for all starts, and for the best of them
# Starts that are followed to the end. With half of them a gradient of the background crowded a vacancy out, depending on
# a thousandth of a pixel in the positions.
_KEPT = 16
_BY_CHANCE = 6.0  # twice the gain in log-likelihood per parameter that noise alone hardly reaches
_SETTLED = 1e-4  # mean change of the assignments between two steps


@dataclass(frozen=True, eq=False)
class Split:
    """Two Gaussians of one shape in a few directions of moment space, as wide as the known noise or wider.

    Attributes
    ----------
    axes : Tensor of shape (k, q)
        From moments to coordinates in which the noise of the learnt columns is the identity.
    means : Tensor of shape (2, q)
        Of the two sides.
    intrinsic : Tensor of shape (q, q)
        Covariance of either side beyond the noise.
    share : float
        Of the columns that belong to the second side.
    evidence : float
        Twice the gain in log-likelihood, less the price of the parameters (Schwarz, 1978): the odds of two sides
        against one are its exponential's root.
    columns : int
        Number n of columns it was learnt on.
    responsibilities : Tensor of shape (n,)
        Probability that each learnt column belongs to the second side; empty where it serves no more.
    cumulants : tuple of Tensors of shape (2, q, q) and (2, q, q, q), optional
        Second and third cumulants of the noise on both sides along the axes.
    """

    axes: Float[Tensor, "k q"]
    means: Float[Tensor, "2 q"]
    intrinsic: Float[Tensor, "q q"]
    share: float
    evidence: float
    columns: int
    responsibilities: Float[Tensor, " n"]
    cumulants: tuple[Float[Tensor, "2 q q"], Float[Tensor, "2 q q q"]] | None = None

    def detectability(self, relative_dose: float = 1.0) -> float:
        """Distance between the two sides in standard deviations of one column (d' of signal detection)."""
        step = self.means[1] - self.means[0]
        return math.sqrt(max(float(step @ self._discriminant(relative_dose)), 0.0))

    def sides(self, relative_doses: NDArray[np.float64]) -> Sides:
        """Both sides along the directions that tell them apart best at some doses."""
        dose = torch.from_numpy(relative_doses).to(self.means)[:, None]
        direction = torch.stack([self._discriminant(one) for one in relative_doses.tolist()])
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
        one = torch.eye(len(self.intrinsic), dtype=self.means.dtype, device=self.means.device)
        second, third = self.cumulants or (one.expand(2, -1, -1), one.new_zeros(2, *one.shape, len(one)))
        noise = torch.einsum("sab,da,db->ds", second, direction, direction) / dose
        skew = torch.einsum("sabc,da,db,dc->ds", third, direction, direction, direction) / dose**2
        step = direction @ (self.means[1] - self.means[0])
        intrinsic = torch.einsum("ab,da,db->d", self.intrinsic, direction, direction).clamp(min=0)
        parts = torch.cat([step[:, None], intrinsic[:, None], noise, skew], dim=1).cpu().numpy()
        return Sides(parts[:, 0], parts[:, 1], parts[:, 2:4], parts[:, 4:], self.share)

    def with_cumulants(self, moments: Float[Tensor, "n l"], noise: CountingNoise, scale: float) -> "Split":
        """The split that also knows how the noise of its sides is askew, from the learnt columns' finer moments."""
        sides = torch.stack([1 - self.responsibilities, self.responsibilities])
        patches = sides @ moments / sides.sum(1, keepdim=True)
        parts = [noise.cumulants(patch, self.axes) for patch in patches]
        second, third = (torch.stack(part) for part in zip(*parts, strict=True))
        return replace(self, cumulants=(scale * second, scale**2 * third))

    def stands_out(self) -> bool:
        """Whether the gain in likelihood is more than the best of many starts finds in noise."""
        parameters = self.axes.shape[1] + 1
        return self.evidence + parameters * math.log(self.columns) > _BY_CHANCE * parameters

    def valley(self, moments: Float[Tensor, "n k"]) -> float:
        """Density without noise of the learnt columns between the sides, over that at the lower peak; see `valley_at`."""
        direction = self._discriminant(1.0)
        length = direction.norm().clamp(min=1e-12)
        values = moments @ (self.axes @ direction) / length
        odds = self.log_odds(moments)
        threshold = float((values - odds / length).mean())
        return valley_at(values, threshold, 1 - self.responsibilities, self.responsibilities)

    def log_odds(self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0) -> Float[Tensor, " n"]:
        """Logarithm of the odds of the second side against the first, for moments scaled to the learnt dose."""
        direction = self._discriminant(relative_dose)
        prior = math.log(self.share / (1 - self.share))
        return moments @ (self.axes @ direction) - self.means.mean(0) @ direction + prior

    def _discriminant(self, relative_dose: float) -> Tensor:
        """The linear discriminant of Fisher (1936)."""
        noise = torch.eye(len(self.intrinsic), dtype=self.means.dtype, device=self.means.device)
        discriminant: Tensor = torch.linalg.solve(
            self.intrinsic + noise / relative_dose, self.means[1] - self.means[0]
        )
        return discriminant


def propose_splits(
    moments: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"], basis: ZernikeBasis
) -> list[Split]:
    """Splits of the columns in two, the best supported first.

    They are looked for in the principal directions of the moments that stand out of the noise; among the radial
    moments (m = 0), which all orientations of a motif share; and in the one direction in which the column in the middle
    is brighter or darker, for which the fewest columns suffice.

    Parameters
    ----------
    moments : Tensor of shape (n, k), float64
    covariance : Tensor of shape (k, k)
        Of their noise.
    basis : ZernikeBasis
    """
    k = moments.shape[1]
    index = torch.nonzero(basis.orders[:, 1] == 0).flatten().to(moments.device)
    spaces = [(torch.arange(k, device=moments.device), True), (index, False)]
    splits = []
    for chosen, only_significant in spaces:
        axes = _axes(moments[:, chosen], covariance[chosen][:, chosen], only_significant)
        if axes.shape[1]:
            whole = moments.new_zeros(k, axes.shape[1])
            whole[chosen] = axes
            splits += _splits_along(moments, whole)
    brighter = matched_filter(central_column(moments.mean(0), basis), covariance)
    if bool(brighter.any()):
        splits += _splits_along(moments, brighter[:, None])
    return sorted(splits, key=lambda split: -split.evidence)


def matched_filter(signal: Float[Tensor, " k"], covariance: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """The direction in which a signal stands out most of noise, which scatters by 1 there; zero without a signal."""
    direction = torch.linalg.solve(covariance, signal)
    scaled: Tensor = direction / (signal @ direction).clamp(min=1e-30).sqrt()
    return scaled


def _axes(moments: Tensor, covariance: Tensor, only_significant: bool) -> Tensor:
    """Principal directions (k, q) in units of the noise; only those above the edge of Marchenko & Pastur (1967)."""
    n, k = moments.shape
    white = whitened(moments - moments.mean(0), covariance)
    variances, directions = torch.linalg.eigh(white.T @ white / n)
    edge = (1 + math.sqrt(k / n)) ** 2 if only_significant else 0.0
    count = min(int((variances > edge).sum()), _MAX_AXES)
    factor = torch.linalg.cholesky(covariance)
    axes: Tensor = torch.linalg.solve_triangular(factor.T, directions.flip(1)[:, :count], upper=True)
    return axes


class _Pairs(NamedTuple):
    """Mixtures of two Gaussians with one covariance, b at a time."""

    first: Float[Tensor, "b q"]
    second: Float[Tensor, "b q"]
    covariance: Float[Tensor, "b q q"]
    share: Float[Tensor, " b"]


def _splits_along(moments: Tensor, axes: Tensor) -> list[Split]:
    """Splits in the coordinates that `axes` give, from many starts."""
    x = moments @ axes
    n, q = x.shape
    score = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-12)
    parted = torch.cat([score > start if start >= 0 else score < start for start in _STARTS], dim=1).T
    sides = _SOFT + (1 - 2 * _SOFT) * parted.to(x.dtype)
    scatter = torch.cov(x.T, correction=0).reshape(q, q)
    for _ in range(_SCREENING):
        sides = torch.sigmoid(_log_odds(x, _maximised(x, scatter, sides)))
    pairs = _maximised(x, scatter, sides)
    sides = sides[_distinct(_log_likelihood(x, pairs), pairs.share)]
    for _ in range(_STEPS):
        before, pairs = sides, _maximised(x, scatter, sides)
        sides = torch.sigmoid(_log_odds(x, pairs))
        if bool((sides - before).abs().mean(1).max() < _SETTLED):
            break
    single = _maximised(x, scatter, x.new_full((1, n), 0.5))
    gain = 2 * (_log_likelihood(x, pairs) - _log_likelihood(x, single)) - (q + 1) * math.log(n)
    noise = torch.eye(q, dtype=x.dtype, device=x.device)
    intrinsic, means = pairs.covariance - noise, torch.stack([pairs.first, pairs.second], dim=1)
    shares, gains = torch.stack([pairs.share.clamp(1e-9, 1 - 1e-9), gain]).tolist()  # one wait for the device
    return [
        Split(axes, means[i].clone(), intrinsic[i].clone(), shares[i], gains[i], n, sides[i])
        for i in _distinct(gain, pairs.share).tolist()
    ]


def _maximised(x: Tensor, scatter: Tensor, sides: Tensor) -> _Pairs:
    """The mixtures of greatest likelihood for given assignments; no variance is less than the noise, 1."""
    n = len(x)
    second = sides.sum(1).clamp(1e-9, n - 1e-9)
    total, pull = x.sum(0), sides @ x
    m1, m0 = pull / second[:, None], (total - pull) / (n - second)[:, None]
    between = (second * (n - second) / n**2)[:, None, None] * (m1 - m0)[:, :, None] * (m1 - m0)[:, None, :]
    values, vectors = torch.linalg.eigh(scatter - between)
    covariance = (vectors * values.clamp(min=1.0)[:, None, :]) @ vectors.mT
    return _Pairs(m0, m1, covariance, second / n)


def _log_odds(x: Tensor, pairs: _Pairs) -> Tensor:
    """Logarithm of the odds of the second side, shape (b, n)."""
    direction = torch.linalg.solve(pairs.covariance, pairs.second - pairs.first)
    middle = (direction * (pairs.first + pairs.second)).sum(1, keepdim=True) / 2
    odds: Tensor = direction @ x.T - middle + torch.logit(pairs.share)[:, None]
    return odds


def _log_likelihood(x: Tensor, pairs: _Pairs) -> Tensor:
    """Log-likelihood of every mixture, but for a constant, shape (b,)."""
    factor = torch.linalg.cholesky(pairs.covariance)
    white = torch.linalg.solve_triangular(factor, x.T - pairs.first[:, :, None], upper=False)
    first = torch.log1p(-pairs.share)[:, None] - 0.5 * white.square().sum(1)
    log_root = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    likelihood: Tensor = (first + F.softplus(_log_odds(x, pairs))).sum(1) - len(x) * log_root
    return likelihood


def _distinct(value: Tensor, share: Tensor) -> Tensor:
    """Indices of the mixtures of highest value, one of each kind."""
    order = torch.argsort(value, descending=True, stable=True)
    spread = torch.minimum(share, 1 - share)[order]
    near = (value[order][:, None] - value[order]).abs() < 0.01 + 1e-3 * value[order].abs()
    alike = near & ((spread[:, None] - spread).abs() < 1e-3 + 0.02 * spread)
    return order[~alike.tril(-1).any(1)][:_KEPT]
