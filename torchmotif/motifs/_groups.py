"""Sets of columns as coordinates in units of the noise: along principal directions, and along what single columns add."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.motifs._mixture import Points
from torchmotif.motifs._noise import CountingNoise, matched_filter, noise_edge, principal_axes, straightened
from torchmotif.motifs._single_columns import MOST_NEIGHBOURS, single_columns
from torchmotif.zernike import ZernikeBasis

__all__ = ["FLAT", "UNKNOWN", "Blocks", "Groups"]

FLAT = 3  # moments, the first ones, are those of a constant and of slopes
# Times the scatter of the columns, the variance of flat moments of which nothing is known: what they tell is nothing beside the others, and float64
# inverts it. With 1e4 and 1e8 the same motifs are found.
UNKNOWN = 1e6
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
        # All that the device has to know of the sets, in one piece.
        group = np.repeat(np.arange(len(blocks)), blocks)
        before = np.cumsum([0, *self.counts[:-1]])
        layout = np.concatenate([self.counts, np.subtract(starts, before), group]).astype(np.int64)
        counts, shift, group_ = sent(layout, finer, torch.int64).tensor_split((len(blocks), 2 * len(blocks)))
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
        return self._as_points(*self._plain)

    @cached_property
    def _plain(self) -> tuple[Float[Tensor, "p w q1"], Float[Tensor, "g q"]]:
        """Coordinates of the columns, and 1; and the variance of each coordinate."""
        x = torch.bmm(self.blocks[..., : self.used], self.axes.float()[self.group])
        x = torch.cat([x, self.present], -1)
        return x, torch.where(self.variances > 0, self.variances, 1.0)

    @cached_property
    def variances(self) -> Float[Tensor, "g q"]:
        """Along the axes of all spaces, 0 where there is no such axis."""
        return torch.cat([values for values, _ in self.spaces], -1).float()

    def _as_points(self, x: Float[Tensor, "p w q1"], variance: Float[Tensor, "g q"]) -> Points:
        count = self.size.float()
        return Points(x, x / count[self.group][:, None, None], self.group, count, variance)

    def of_columns(self, of_points: Shaped[Tensor, "p w ..."]) -> Shaped[Tensor, " m"]:
        """What was computed of every point, for the columns in their order."""
        return of_points.reshape(-1)[self.place]

    def quantiles(self, of_columns: Float[Tensor, " m"], at: Sequence[float]) -> Float[Tensor, "g q"]:
        """Those of the columns of each set, linear between two of them."""
        # Two sorts rank the columns of all sets.
        order = torch.argsort(of_columns, stable=True)
        ranked = of_columns[order[torch.argsort(self.set[order], stable=True)]]
        before = np.cumsum([0, *self.counts[:-1]])[:, None]
        place = (np.array(self.counts)[:, None] - 1) * np.array(at)
        low, high = before + np.floor(place), before + np.ceil(place)
        places = sent(np.stack([low, high, place % 1]), ranked, torch.float64)
        ends = ranked[places[:2].long()]
        return torch.lerp(ends[0], ends[1], places[2].to(ranked))


class Groups(Blocks):
    """Sets of columns by their moments, and what is known of the noise of each.

    Where the background is `uneven`, nothing is known of its height and slope under each column: whatever they are counts as noise.
    """

    def __init__(
        self,
        finer: Float[Tensor, "n l"],
        rows: Sequence[Int[Tensor, " _"]],
        noise: CountingNoise,
        basis: ZernikeBasis,
        scale: float,
        *,
        uneven: bool = False,
    ) -> None:
        super().__init__(finer, rows, len(basis.basis))
        self.basis, self.noise, self.scale = basis, noise, scale
        offsets = noise.offsets_of(self.order)
        shares = offsets.new_zeros(len(rows), offsets.shape[1]).index_add_(0, self.set, offsets)
        self.covariance = scale * noise.covariances(self.means, shares / self.size.to(shares)[:, None])
        if uneven:
            power = self.scatter.diagonal(dim1=1, dim2=2).sum(1)
            self.covariance.diagonal(dim1=1, dim2=2)[:, :FLAT] += UNKNOWN * power[:, None]
        columns = single_columns(self.means[:, : self.used], basis)
        self.column = columns[:, 0]  # in the middle
        self.filters = matched_filter(columns, self.covariance[:, None])

    @cached_property
    def spaces(self) -> list[tuple[Float[Tensor, "g q"], Float[Tensor, "g k q"]]]:
        """Variances, 0 where there is no such axis, and axes from moments to coordinates in units of the noise.

        They are the principal directions of the moments that stand out of the noise; the radial moments (m = 0), which all
        orientations of a motif share; and the one direction in which the column in the middle is brighter or darker, for
        which the fewest columns suffice.
        """
        k, scatter = self.used, self.scatter
        radial, others = _radial(self.basis.n_max, scatter.device)
        # Both are one batch: where only radial moments count, the others have no scatter, and noise of their own.
        values, axes = principal_axes(
            torch.stack([scatter, scatter * radial]),
            torch.stack([self.covariance, torch.addcmul(others, self.covariance, radial)]),
        )
        inner = min(self.basis.n_max // 2 + 1, _MOST_AXES)
        known = self.filters.mT
        power = (known * torch.bmm(scatter, known)).sum(1)
        alone = zip(power.split(1, -1), known.split(1, -1), strict=True)
        return [
            _leading(values[0], axes[0], _MOST_AXES, noise_edge(self.size[:, None], k)),
            _leading(values[1], axes[1], inner, 1e-9),
            *alone,
        ]

    @cached_property
    def _straight(self) -> tuple[Float[Tensor, "p w s"], Float[Tensor, "g s"], Float[Tensor, "g s"]]:
        """Coordinates along the directions of single columns less the noise's skewness, their means before, and that skewness.

        It would look like a few unlike columns.
        """
        plain = self._plain[0][..., self._first : -1]
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
        (x, plain), (values, _, _) = self._plain, self._straight
        variance = self.total(values.square().sum(1)) / self.size.float()[:, None]
        variance = torch.where(variance > _LEAST_VARIANCE, variance, 1.0)
        x = torch.cat([x[..., : self._first], values, self.present], -1)
        variance = torch.cat([plain[:, : self._first], variance], 1)
        return self._as_points(x, variance)

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
        along = torch.bmm(directions, self.axes[..., : self._first].float().mT)
        third, fourth = self.noise.askew(self.means, along, self.scale)
        skewness = third / width**3
        # What the fourth cumulant is beyond that of a gamma variable (Comon, 1994):
        more = (fourth / width**4 - 1.5 * skewness.square()).square() / 48
        x = (odds - discriminants[self.group][:, None, :, -1]) / width[self.group][:, None]
        y, slope = straightened(x, skewness[self.group][:, None])
        gain = self.points.mean(0.5 * (x.square() - y.square()) + slope)
        return torch.where(directions.any(-1), self.points.count[:, None] * (gain + more), 0.0)


@lru_cache(maxsize=16)
def _radial(n_max: int, device: torch.device) -> tuple[Float[Tensor, "k k"], Float[Tensor, "k k"]]:
    """1 for two radial moments, of m = 0 and even n; and on the diagonal for all others."""
    n = torch.arange(0, n_max + 1, 2)
    is_radial = torch.zeros((n_max + 1) * (n_max + 2) // 2, dtype=torch.float64)
    is_radial[n * (n + 2) // 2] = 1.0
    both = torch.stack([torch.outer(is_radial, is_radial), torch.diag(1 - is_radial)]).to(device)
    return both[0], both[1]


def _leading(
    values: Float[Tensor, "g k"], axes: Float[Tensor, "g k k"], most: int, least: Tensor | float
) -> tuple[Tensor, Tensor]:
    """At most so many leading variances above the least, else 0, and their axes."""
    values, axes = values[..., :most], axes[..., :most]
    usable = values > least
    return torch.where(usable, values, 0.0), torch.where(usable[:, None], axes, 0.0)
