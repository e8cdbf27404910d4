"""Two motifs where one was: the split of a set of columns that their moments, and the known noise, support most."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.motifs._mixture import Components, Values, fit_pairs, saddle_ratio
from torchmotif.motifs._noise import CountingNoise, matched_filter, noise_edge, principal_axes
from torchmotif.zernike import ZernikeBasis

__all__ = ["Split", "central_column", "propose_splits", "splits_along"]

_MOST_AXES = 10  # directions of moment space in which one split is looked for
_BY_CHANCE = 6.0  # twice the gain in log-likelihood per parameter that noise alone hardly reaches: at most 5 in crystals


@dataclass(frozen=True, eq=False)
class Split:
    """Two Gaussians of one shape in a few directions of moment space, as wide as the known noise or wider."""

    axes: Float[
        Tensor, "k q"
    ]  # from moments to coordinates in which the noise of the columns is the identity
    means: Float[Tensor, "2 q"]  # of the two components
    intrinsic: Float[Tensor, "q q"]  # covariance of either beyond the noise
    share: float  # of the columns that belong to the second
    # Twice the gain in log-likelihood, less the price of the parameters (Schwarz, 1978): the odds of two components
    # against one are its exponential's root:
    evidence: float
    columns: int  # number n of columns it was learnt on
    # Probability that each learnt column belongs to the second; empty where it serves no more:
    responsibilities: Float[Tensor, " n"]
    # Second and third cumulants of the noise of both along the axes:
    cumulants: tuple[Float[Tensor, "2 q q"], Float[Tensor, "2 q q q"]] | None = None

    def detectability(self, relative_dose: float = 1.0) -> float:
        """Distance between the components in standard deviations of one column (d' of signal detection)."""
        step = self.means[1] - self.means[0]
        return math.sqrt(max(float(step @ self._discriminant(relative_dose)), 0.0))

    def components(self, relative_doses: Values) -> Components:
        """Both components along the directions that tell them apart best at some doses."""
        dose = torch.from_numpy(relative_doses).to(self.means)[:, None]
        direction = torch.stack([self._discriminant(one) for one in relative_doses.tolist()])
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
        one = self._noise()
        second, third = self.cumulants or (one.expand(2, -1, -1), one.new_zeros(2, *one.shape, len(one)))
        noise = torch.einsum("sab,da,db->ds", second, direction, direction) / dose
        skew = torch.einsum("sabc,da,db,dc->ds", third, direction, direction, direction) / dose**2
        step = direction @ (self.means[1] - self.means[0])
        intrinsic = torch.einsum("ab,da,db->d", self.intrinsic, direction, direction).clamp(min=0)
        parts = torch.cat([step[:, None], intrinsic[:, None], noise, skew], dim=1).cpu().numpy()
        return Components(parts[:, 0], parts[:, 1], parts[:, 2:4], parts[:, 4:], self.share)

    def with_cumulants(self, moments: Float[Tensor, "n l"], noise: CountingNoise, scale: float) -> "Split":
        """The split that also knows how the noise of its components is askew, from the learnt columns' finer moments."""
        weights = torch.stack([1 - self.responsibilities, self.responsibilities])
        patches = weights @ moments / weights.sum(1, keepdim=True)
        parts = [noise.cumulants(patch, self.axes) for patch in patches]
        second, third = (torch.stack(part) for part in zip(*parts, strict=True))
        return replace(self, cumulants=(scale * second, scale**2 * third))

    def stands_out(self) -> bool:
        """Whether the gain in likelihood is more than the best of many starts finds in noise."""
        parameters = self.axes.shape[1] + 1
        return self.evidence + parameters * math.log(self.columns) > _BY_CHANCE * parameters

    def saddle_ratio(self, moments: Float[Tensor, "n k"]) -> float:
        """Density without noise of the learnt columns between the components, over that at the lower peak."""
        direction = self._discriminant(1.0)
        length = direction.norm().clamp(min=1e-12)
        values = moments @ (self.axes @ direction) / length
        threshold = float((values - self.log_odds(moments) / length).mean())
        return saddle_ratio(values, threshold, self.responsibilities)

    def log_odds(self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0) -> Float[Tensor, " n"]:
        """Logarithm of the odds of the second component against the first, for moments scaled to the learnt dose."""
        direction = self._discriminant(relative_dose)
        prior = math.log(self.share / (1 - self.share))
        return moments @ (self.axes @ direction) - self.means.mean(0) @ direction + prior

    def _discriminant(self, relative_dose: float) -> Tensor:
        """The linear discriminant of Fisher (1936)."""
        within = self.intrinsic + self._noise() / relative_dose
        discriminant: Tensor = torch.linalg.solve(within, self.means[1] - self.means[0])
        return discriminant

    def _noise(self) -> Tensor:
        return torch.eye(len(self.intrinsic), dtype=self.means.dtype, device=self.means.device)


def propose_splits(
    moments: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"], basis: ZernikeBasis
) -> list[Split]:
    """Splits of the columns in two, the best supported first, where their noise has a covariance.

    They are looked for in the principal directions of the moments that stand out of the noise; among the radial
    moments (m = 0), which all orientations of a motif share; and in the one direction in which the column in the middle
    is brighter or darker, for which the fewest columns suffice.
    """
    (n, k), centred = moments.shape, moments - moments.mean(0)
    variances, axes = principal_axes(centred, covariance)
    spaces = [axes[:, : min(int((variances > noise_edge(n, k)).sum()), _MOST_AXES)]]
    radial = torch.nonzero(basis.orders[:, 1] == 0).flatten().to(moments.device)
    variances, axes = principal_axes(centred[:, radial], covariance[radial][:, radial])
    axes = axes[:, : min(int((variances > 0).sum()), _MOST_AXES)]
    spaces.append(moments.new_zeros(k, axes.shape[1]).index_copy(0, radial, axes))
    brighter = matched_filter(central_column(moments.mean(0), basis), covariance)
    spaces.append(brighter[:, None][:, : int(brighter.any())])
    splits = [split for space in spaces if space.shape[1] for split in splits_along(moments, space)]
    return sorted(splits, key=lambda split: -split.evidence)


def splits_along(moments: Tensor, axes: Tensor) -> list[Split]:
    """Splits in the coordinates that `axes` give."""
    n, q = len(moments), axes.shape[1]
    pairs, responsibilities, evidence = fit_pairs(moments @ axes)
    intrinsic = pairs.covariance - torch.eye(q, dtype=axes.dtype, device=axes.device)
    shares, evidences = torch.stack([pairs.share.clamp(1e-9, 1 - 1e-9), evidence]).tolist()  # one wait
    return [
        Split(
            axes,
            pairs.means[i].clone(),
            intrinsic[i].clone(),
            shares[i],
            evidences[i],
            n,
            responsibilities[i],
        )
        for i in range(len(shares))
    ]


def central_column(moments: Float[Tensor, " k"], basis: ZernikeBasis) -> Float[Tensor, " k"]:
    """What the column in the middle of a patch adds to its moments; zero where there is none.

    The column has the shape of what stands above the first minimum of the patch's mean over all angles, where its
    neighbours begin, and the height of the middle above the darkest place of the patch. The moments are those of a patch
    less noise; a constant background does not matter.
    """
    patch = basis.reconstruct(moments[None].float())[0]
    axis = torch.arange(basis.size, device=patch.device) - (basis.size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None, :])
    ring = radius.long()
    total = patch.new_zeros(int(ring.max()) + 1).index_add(0, ring.flatten(), patch.flatten())
    mean = (total / torch.bincount(ring.flatten()).clamp(min=1))[: basis.size // 2]
    rises = torch.nonzero(mean.diff() > 0).flatten()
    foot = int(rises[0]) if len(rises) else len(mean) - 1
    rise = mean[0] - mean[foot]
    # Of identical patches nothing is left but rounding.
    if foot == 0 or not bool(rise > 1e-6 * patch.abs().max()):
        return torch.zeros_like(moments)
    height = (mean[0] - patch[radius < basis.size / 2].min()) / rise
    column = torch.where(ring <= foot, patch - mean[foot], 0.0).clamp(min=0) * height
    alone: Tensor = basis(column[None])[0].to(moments)
    return alone
