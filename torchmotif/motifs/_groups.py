"""Sets of columns as coordinates in units of the noise: along principal directions, and along what single columns add."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.motifs._mixture import Points
from torchmotif.motifs._noise import CountingNoise, matched_filter, noise_edge, principal_axes, straightened
from torchmotif.motifs._single_columns import MOST_NEIGHBOURS, central_columns, neighbouring_columns
from torchmotif.zernike import ZernikeBasis

__all__ = ["Blocks", "Groups"]

_MOST_AXES = 10  # directions of moment space in which one split is looked for
_BLOCK = 256  # columns that are multiplied at a time
_LEAST_VARIANCE = 1e-9  # below, there is no such direction


class Blocks(ABC):
    """Sets of rows of a table of values, in which splits are looked for: each less its mean, in blocks of rows of one set.

    Blocks are of one size, so that one batched product serves all sets, be they large or small. In which directions splits are
    looked for depends on what is known of the noise: a subclass says it, in `spaces`.
    """

    def __init__(self, finer: Float[Tensor, "n l"], rows: Sequence[Int[Tensor, " _"]], used: int) -> None:
        self.used = used  # splits are looked for in the first so many values; the means are of all
        self.counts = [len(mine) for mine in rows]
        blocks = [-(-count // _BLOCK) for count in self.counts]
        starts = [sum(blocks[:i]) * _BLOCK for i in range(len(blocks))]
        self.slices = [slice(i, i + count) for i, count in zip(starts, self.counts, strict=True)]
        # All that the device has to know of the sets, in one piece: each number that is sent by itself is waited for.
        group = np.repeat(np.arange(len(blocks)), blocks)
        before = np.cumsum([0, *self.counts[:-1]])
        layout = np.concatenate([self.counts, np.subtract(starts, before), group]).astype(np.int64)
        counts, shift, group_ = (
            torch.from_numpy(layout).to(finer.device).tensor_split((len(blocks), 2 * len(blocks)))
        )
        self.order, self.group = torch.cat(list(rows)), group_
        n = len(self.order)
        self.set = torch.repeat_interleave(counts, output_size=n)  # of each column
        self.place = torch.arange(n, device=finer.device) + shift[self.set]
        self.size = counts.double()
        moments = finer.new_zeros(sum(blocks) * _BLOCK, finer.shape[1] + 1)  # what is left over is 0
        moments[self.place] = F.pad(finer[self.order], (0, 1), value=1.0)
        moments = moments.view(-1, _BLOCK, moments.shape[1])
        self.present = moments[..., -1:]
        self.means = self.total(moments[..., :-1].sum(1).double()) / self.size[:, None]
        self.blocks = moments[..., :-1] - self.means.float()[group_][:, None] * self.present

    @property
    def moments(self) -> Float[Tensor, "m l"]:
        """Of the columns of all sets, less the mean of each; those of a set are in its slice, and 0 in between."""
        return self.blocks.flatten(0, 1)

    def total(self, of_blocks: Float[Tensor, "p ..."]) -> Float[Tensor, "g ..."]:
        """Sum over the blocks of each set."""
        sums = of_blocks.new_zeros(len(self.counts), *of_blocks.shape[1:])
        return sums.index_add_(0, self.group, of_blocks)

    @property
    @abstractmethod
    def spaces(self) -> list[tuple[Float[Tensor, "g q"], Float[Tensor, "g k q"]]]:
        """Variances, 0 where there is no such axis, and axes from values to coordinates in units of the noise."""

    @property
    def bend(self) -> Float[Tensor, "g q 2"]:
        """Skewness that was taken out of each coordinate, and the mean that was subtracted after."""
        return self.size.new_zeros(len(self.counts), self.axes.shape[2], 2)

    def gains_askew(
        self,
        odds: Float[Tensor, "p w c"],  # noqa: ARG002
        discriminants: Float[Tensor, "g c q1"],
    ) -> Float[Tensor, "g c"]:
        """Log-likelihood of one component whose noise is askew over that of one Gaussian, along discriminants."""
        return torch.zeros_like(discriminants[..., 0])

    @cached_property
    def scatter(self) -> Float[Tensor, "g k k"]:
        """Mean squares and products of the values that are used."""
        each = self.blocks[..., : self.used]
        return self.total(torch.bmm(each.mT, each).double()) / self.size[:, None, None]

    @cached_property
    def axes(self) -> Float[Tensor, "g k q"]:
        """Those of all spaces."""
        return torch.cat([axes for _, axes in self.spaces], -1)

    @cached_property
    def points(self) -> Points:
        """The columns in these coordinates."""
        return self._in_coordinates()

    def _in_coordinates(self) -> Points:
        x = torch.bmm(self.blocks[..., : self.used], self.axes.float()[self.group])
        x = torch.cat([x, self.present], -1)
        variance = torch.cat([values for values, _ in self.spaces], -1).float()
        return Points(x, x, self.group, self.size.float(), torch.where(variance > 0, variance, 1.0))

    def of_columns(self, of_points: Bool[Tensor, "p w"]) -> Bool[Tensor, " m"]:
        """What was computed of every point, for the columns in their order."""
        return of_points.reshape(-1)[self.place]


class Groups(Blocks):
    """Sets of columns by their moments, and what is known of the noise of each."""

    def __init__(
        self,
        finer: Float[Tensor, "n l"],
        rows: Sequence[Int[Tensor, " _"]],
        noise: CountingNoise,
        basis: ZernikeBasis,
        scale: float,
    ) -> None:
        super().__init__(finer, rows, len(basis.basis))
        self.basis, self.noise, self.scale = basis, noise, scale
        shares = torch.stack([noise.shares(mine) for mine in rows])
        self.covariance = scale * noise.covariances(self.means, shares)
        self.column = central_columns(self.means[:, : self.used], basis)
        self.filter = matched_filter(self.column, self.covariance)
        around = neighbouring_columns(self.means[:, : self.used], basis)
        self.neighbours = matched_filter(around, self.covariance[:, None])

    @cached_property
    def spaces(self) -> list[tuple[Float[Tensor, "g q"], Float[Tensor, "g k q"]]]:
        """Variances, 0 where there is no such axis, and axes from moments to coordinates in units of the noise.

        They are the principal directions of the moments that stand out of the noise; the radial moments (m = 0), which all
        orientations of a motif share; and the one direction in which the column in the middle is brighter or darker, for
        which the fewest columns suffice.
        """
        k, scatter = self.used, self.scatter
        radial = _radial(self.basis.n_max, scatter.device)
        values, axes = _leading(scatter, self.covariance, noise_edge(self.size[:, None], k))
        within, noise = (part[:, radial][:, :, radial] for part in (scatter, self.covariance))
        inner_values, inner_axes = _leading(within, noise, 1e-9)
        whole = axes.new_zeros(len(axes), k, inner_axes.shape[2]).index_copy(1, radial, inner_axes)
        known = torch.cat([self.filter[:, None], self.neighbours], 1).mT
        power = (known * (scatter @ known)).sum(1)
        alone = zip(power.split(1, -1), known.split(1, -1), strict=True)
        return [(values, axes), (inner_values, whole), *alone]

    @cached_property
    def _straight(self) -> tuple[Float[Tensor, "p w s"], Float[Tensor, "g s"], Float[Tensor, "g s"]]:
        """Coordinates along the directions of single columns less the noise's skewness, their means before, and that skewness.

        It would look like a few unlike columns.
        """
        plain = self._in_coordinates().x[..., self._first : -1]
        skewness, _ = self.noise.askew(self.means, self.axes[..., self._first :].mT, self.scale)
        values = straightened(plain, skewness[self.group][:, None])[0] * self.present
        means = self.total(values.sum(1)) / self.size.float()[:, None]
        return (values - means[self.group][:, None]) * self.present, means, skewness

    @property
    def _first(self) -> int:
        """The first coordinate along a single column."""
        return self.axes.shape[2] - 1 - MOST_NEIGHBOURS

    @cached_property
    def points(self) -> Points:
        """See `Blocks`."""
        plain, (values, _, _) = self._in_coordinates(), self._straight
        variance = self.total(values.square().sum(1)) / plain.whole
        variance = torch.where(variance > _LEAST_VARIANCE, variance, 1.0)
        x = torch.cat([plain.x[..., : self._first], values, self.present], -1)
        variance = torch.cat([plain.variance[:, : self._first], variance], 1)
        return Points(x, x, self.group, plain.count, variance)

    @property
    def bend(self) -> Float[Tensor, "g q 2"]:
        """See `Blocks`."""
        _, means, skewness = self._straight
        return F.pad(torch.stack([skewness, means], -1), (0, 0, self._first, 0)).double()

    def gains_askew(
        self, odds: Float[Tensor, "p w c"], discriminants: Float[Tensor, "g c q1"]
    ) -> Float[Tensor, "g c"]:
        """See `Blocks`."""
        directions = discriminants[..., : self._first]
        variance = self.points.variance[:, None, : self._first]
        width = (directions.square() * variance).sum(-1).sqrt().clamp(min=1e-9)
        along = directions @ self.axes[..., : self._first].float().mT
        third, fourth = self.noise.askew(self.means, along, self.scale)
        skewness = third / width**3
        # What the fourth cumulant is beyond that of a gamma variable (Comon, 1994):
        more = (fourth / width**4 - 1.5 * skewness.square()).square() / 48
        x = (odds - discriminants[self.group][:, None, :, -1]) / width[self.group][:, None]
        y, slope = straightened(x, skewness[self.group][:, None])
        gain = self.points.total((self.present.mT @ (0.5 * (x.square() - y.square()) + slope))[:, 0])
        return torch.where(directions.any(-1), gain + self.points.whole * more, 0.0)


def _radial(n_max: int, device: torch.device) -> Int[Tensor, " r"]:
    """Which moments are radial, of m = 0 and even n."""
    n = torch.arange(0, n_max + 1, 2, device=device)
    return n * (n + 2) // 2


def _leading(scatter: Tensor, covariance: Tensor, least: Tensor | float) -> tuple[Tensor, Tensor]:
    """Leading variances above the least, else 0, and their axes."""
    values, axes = (part[..., :_MOST_AXES] for part in principal_axes(scatter, covariance))
    usable = values > least
    return torch.where(usable, values, 0.0), torch.where(usable[:, None], axes, 0.0)
