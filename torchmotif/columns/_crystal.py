"""Which columns are those of a crystal, and which are speckle: a crystal's neighbours share the vectors to theirs."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._neighbours import as_index

__all__ = ["SEEN", "counting_alone", "speckle", "supports"]

SEEN = ("positions", "intensities", "position_errors", "is_rim")  # of columns, by which they are told

# Tried on speckle, 25 simulated crystals at three doses and ten real images (benchmarks/archive/2026-11.md, "Speckle and crystals"); by how
# much each of these may be changed is not recorded, but where a comment says so.
#
# Neighbours from which a column is looked at, those of each at which the same vector is tried, and those among which its end is
# sought: few first, which tell nearly every column of a simple lattice, and for the others enough to hold the shortest vectors of
# dumbbells and of an oxide with many columns in a cell.
_LOOKS = ((8, 6, 16), (24, 8, 32))
_TOLERANCE = 0.12  # spacings by which strain and defects may move the end of a vector
_OF_ERRORS = 4.0  # times the standard deviation of a position, along both axes: four positions have a part in each trial
_LOOSE = 0.3  # spacings: no end is looked for farther away
_OVER_STEP = 0.5  # of the tolerance, for columns over a step of the background, which draws them aside
_THERE = 0.85  # share of a crystal's vectors that end at a column, beside vacancies and edges
# Log of how much likelier a vector that neighbours share is in a crystal than among as many columns at random, from which the second
# best of a column's tells: of 5,400 columns of speckle 0.1 % have more, of those in 25 crystals at three doses all but 0 to 2 %, but in
# the pentagonal oxide and a bilayer at a fiftieth of the dose, where half have less.
_CLEAR = 4.0
_BESIDE = 0.0  # the same beside three columns that are clear: at corners and edges there are fewer trials
# Neighbours that may surround a column, and median nearest distances within which they do.
_ROUND, _NEAR = 8, 2.5
_ONE_SIDE = 0.5  # length of their mean direction: half a plane has 0.64
_FEWEST = 10  # clear columns that are a crystal
# Share of pairs of a clear and another column in which the clear one is brighter. Speckle on which particles lie has 0.94 to 1.0;
# in colloids, oxides, implanted and low-dose crystals, whose columns without a shared vector are columns all the same, it is
# 0.4 to 0.82.
_BRIGHTER = 0.88
_CHUNK = Budget(1 << 19, 1 << 25)  # distances at a time: 16 megabytes, and a gigabyte


def counting_alone(errors: Any, correlation: float) -> Any:
    """Errors of positions without what noise as wide as columns adds, see `ImageModel.correlation`: speckle scatters by more, and is no crystal for that."""
    return errors / math.sqrt(correlation)


def speckle(
    columns: dict[str, Any], spacing: float, axes: tuple[float, float], shape: tuple[int, int]
) -> Bool[Tensor, " n"]:
    """Which columns of an image no neighbourhood supports, where there is a crystal beside which they are none.

    Beside columns that a crystal supports are those that it surrounds, such as interstitials and those of grain boundaries.
    All others are speckle if they are fainter; as bright as the crystal's they are kept, for they may be a packing without
    order, and so are all where no crystal is found.

    Parameters
    ----------
    columns : dict of arrays or tensors
        positions (n, 2) in pixels, intensities (n,), and where there was a fit position_errors (n, 2), is_rim (n,); of several
        images of one shape the number of each column's, image (n,).
    spacing, axes
        See `ImageModel`.
    shape : (int, int)
        Of the image.

    Returns
    -------
    boolean tensor of shape (n,)
        Where the positions lie.
    """
    clear, supported = supports(columns, spacing, axes, shape)
    rest, strength = ~supported, torch.as_tensor(columns["intensities"])
    image, images = _images(columns, clear)

    def summed(values: Tensor) -> Int[Tensor, " i"]:
        return torch.zeros(images, dtype=torch.long, device=rest.device).index_add_(0, image, values.long())

    crystal, others = summed(clear), summed(rest)
    # Of pairs of a clear and another column of an image, those in which the clear one is fainter.
    order = torch.argsort(strength, stable=True)
    order = order[torch.argsort(image[order], stable=True)]
    before = torch.empty_like(image)
    before[order] = clear[order].cumsum(0)
    fainter = summed((before - (crystal.cumsum(0) - crystal)[image]) * rest) / (crystal * others).clamp(min=1)
    return rest & ((crystal >= _FEWEST) & (1 - fainter >= _BRIGHTER))[image]


def supports(
    columns: dict[str, Any], spacing: float, axes: tuple[float, float], shape: tuple[int, int]
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Which columns share vectors with their neighbours, and which of all are in a crystal: those, and those beside and between.

    See `speckle` for the parameters.
    """
    positions = torch.as_tensor(columns["positions"]).double()
    scale = sent(axes, positions)
    at, last = positions / scale, sent(shape, positions) / scale - 1
    n = len(at)
    if n <= 3:
        none = torch.zeros(n, dtype=torch.bool, device=at.device)
        return none, none
    tolerance = torch.full_like(at[:, 0], _TOLERANCE * spacing)
    if "position_errors" in columns:
        errors = (torch.as_tensor(columns["position_errors"]) / scale).mean(1)
        tolerance = torch.hypot(tolerance, _OF_ERRORS * errors.nan_to_num(0.0, spacing))
    tolerance = tolerance.clamp(max=_LOOSE * spacing)
    if "is_rim" in columns:
        inside = ((at > spacing) & (at < last - spacing)).all(1)
        over_step = inside & torch.as_tensor(columns["is_rim"])
        tolerance = torch.where(over_step, _OVER_STEP * tolerance, tolerance)
    # Images side by side, so far apart that no column of one is near to one of another.
    apart = 10 * (max(shape) / min(axes) + spacing)
    moved = at + torch.outer(_images(columns, at)[0], sent((apart, 0.0), at))
    around = _Around(at, moved, tolerance, last, apart / 2)
    score = around.scores(torch.arange(n, device=at.device), *_LOOKS[0])
    for look in _LOOKS[1:]:
        some = as_index(score <= _CLEAR)
        if len(some):
            score[some] = torch.maximum(score[some], around.scores(some, *look))
    clear = score > _CLEAR
    supported = clear | ((score > _BESIDE) & (around.near(clear).sum(1) >= 3))
    return clear, supported | around.surrounded(supported, spacing)


def _images(columns: dict[str, Any], like: Tensor) -> tuple[Int[Tensor, " n"], int]:
    """The image that each column is in, and how many there are."""
    if "image" not in columns:
        return torch.zeros(len(like), dtype=torch.long, device=like.device), 1
    image = torch.as_tensor(columns["image"], device=like.device)
    return image, int(image.max()) + 1 if len(image) else 1


class _Around:
    """The nearest neighbours of all columns, where these lie in their image `at`, and among those of all images `moved`."""

    def __init__(
        self,
        at: Float[Tensor, "n 2"],
        moved: Float[Tensor, "n 2"],
        tolerance: Float[Tensor, " n"],
        last: Float[Tensor, " 2"],
        far: float,
    ) -> None:
        self.at, self.moved, self.tolerance, self.last, self.far = at, moved, tolerance, last, far
        self.most = min(_LOOKS[-1][2], len(at) - 1)
        points = moved.cpu().numpy()
        found: Any = cKDTree(points).query(points, self.most + 1, workers=torch.get_num_threads())
        self.distance = sent(found[0][:, 1:], at, torch.float64)
        self.index: Int[Tensor, "n k"] = sent(found[1][:, 1:], at, torch.long)

    def scores(self, some: Int[Tensor, " c"], neighbours: int, trials: int, ends: int) -> Float[Tensor, " c"]:
        """Log likelihood ratio of the second best vector by which a neighbour leads to each of some columns."""
        k, j, m = (min(count, self.most) for count in (neighbours, trials, ends))
        # What is looked up together lies together.
        within = [axis[self.index[:, :m]] for axis in self.moved.unbind(1)]
        parts = some.split(max(1, _CHUNK.on(some) // (k * j * m)))
        return torch.cat([self._score(part, k, j, within) for part in parts])

    def _score(
        self, some: Int[Tensor, " c"], k: int, j: int, within: list[Float[Tensor, "n m"]]
    ) -> Float[Tensor, " c"]:
        m = within[0].shape[1]
        near, tolerance = self.index[some, :k], self.tolerance[some, None, None]
        vector = self.moved[some, None] - self.moved[near]  # (c, k, 2)
        length = vector.norm(dim=2)[:, :, None]
        # Neighbours of a neighbour, from which the vector is tried.
        other = self.index[:, :j][near]  # (c, k, j)
        end = self.at[other] + vector[:, :, None]
        tried = ((end > 0) & (end < self.last)).all(3) & (other != some[:, None, None])
        tried &= self.distance[:, m - 1][other] > length + tolerance
        end = self.moved[other] + vector[:, :, None]
        row, col = (
            at.index_select(0, other.flatten()).sub_(end[..., axis].flatten()[:, None])
            for axis, at in enumerate(within)
        )
        nearest = row.square_().addcmul_(col, col).amin(1).view_as(other)
        hit = tried & (nearest < tolerance**2)
        hits, counts = hit.sum(2), tried.sum(2)
        there = length[..., 0] < self.far  # few columns have all neighbours within their image
        density = (
            there.sum(1, keepdim=True) / torch.where(there, length[..., 0], 0.0).amax(1, keepdim=True) ** 2
        )
        chance = (density * tolerance[:, 0] ** 2).clamp(max=0.5)
        ratio = hits * torch.log(_THERE / chance) + (counts - hits) * torch.log((1 - _THERE) / (1 - chance))
        return ratio.topk(2, dim=1)[0][:, 1]

    def near(self, which: Bool[Tensor, " n"]) -> Bool[Tensor, "n k"]:
        """Which of the nearest neighbours of each column are so, and near."""
        reach = _NEAR * self.distance[:, 0].median()
        return which[self.index[:, :_ROUND]] & (self.distance[:, :_ROUND] < reach)

    def surrounded(self, which: Bool[Tensor, " n"], spacing: float) -> Bool[Tensor, " n"]:
        """Which columns have such on all sides, as far as there is an image."""
        near = self.near(which)
        away = self.moved[self.index[:, :_ROUND]] - self.moved[:, None]
        away = away / self.distance[:, :_ROUND, None].clamp(min=1e-9)
        count = near.sum(1)
        mean = (away * near[:, :, None]).sum(1) / count.clamp(min=1)[:, None]
        at_border = (self.at < 2 * spacing) | (self.at > self.last - 2 * spacing)
        mean = torch.where(at_border, 0.0, mean)
        found: Tensor = (count >= 3) & (mean.norm(dim=1) < _ONE_SIDE)
        return found
