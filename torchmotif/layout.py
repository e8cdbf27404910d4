"""Force-relaxed layouts: a picture in two dimensions in which neighbours in feature space stay neighbours."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from torch import Tensor

from torchmotif._arrays import DeviceLike, keeps_digits, like
from torchmotif._matrix import as_matrix
from torchmotif.errors import InputError
from torchmotif.pca import PCA

__all__ = ["ForceLayout", "fuzzy_graph", "nearest_neighbours"]

_BLOCK_BYTES = 64 << 20  # of distances that are held at a time
_GROUP = 32  # distances of which only the least is compared at first
_BISECTIONS = 50  # of the width of a neighbourhood
_EXTENT = 10.0  # of the layout at the start
_LONGEST_STEP = 4.0  # per pair, coordinate and unit of learning rate


class _Edges(NamedTuple):
    """The edges of a symmetric graph sorted by their first point: those of point i are `start[i] + range(degree[i])`."""

    target: Tensor
    weight: Tensor
    start: Tensor
    degree: Tensor


class ForceLayout(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Two-dimensional layout of a neighbour graph, relaxed by forces in two stages.

    Points start at their first two principal components, the largest coordinate at 10. Neighbours attract, points
    drawn at random repel: a pair at distance d moves by its difference times strength / (d^exponent + 1). The first
    stage gathers what belongs together, the second one parts the groups.

    Parameters
    ----------
    n_neighbors : int
        Neighbours of every point in the graph, without itself.
    metric : {"correlation", "euclidean"}
        Distance between rows of features.
    n_iter : int
        Iterations of both stages together, half of them in each. In one iteration every point is pulled by
        `n_neighbors` of its edges, all of them in turn.
    negative_samples : int
        Points drawn at random for every pull.
    first_stage, second_stage : tuple of 4 numbers
        Exponents of attraction and repulsion, strengths of attraction and repulsion. The default is what motif-learn
        was released with; the article has 5 samples and (2, 5, 5, 1) in the second stage, which keeps fewer
        neighbours.
    learning_rate : float
        Of the first iteration of each stage; it falls linearly to nothing.
    random_state : int
        Seed of the draws. Same seed, same machine: the same layout, bit for bit.
    device : str or torch.device, optional
        Where to compute; by default where the data are.

    Attributes
    ----------
    embedding_ : array of shape (n, 2)
        Positions in the layout.
    n_features_in_ : int

    Raises
    ------
    InputError
        If a parameter is out of range, or the data are no finite matrix.

    Notes
    -----
    Graph and forces as in Dan et al., Science Advances 8, eabk1005 (2022), with the edge weights of McInnes, Healy &
    Melville (2018). All points move at the same time, each by one edge and its draws in a step. Neighbours are found
    exactly, in blocks: time grows with n^2 d for them and with n for the relaxation, memory with n.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(60, 8))
    >>> ForceLayout(n_neighbors=5).fit_transform(X).shape
    (60, 2)
    """

    def __init__(
        self,
        n_neighbors: int = 10,
        *,
        metric: str = "correlation",
        n_iter: int = 100,
        negative_samples: int = 10,
        first_stage: tuple[float, float, float, float] = (0, 2, 1, 1),
        second_stage: tuple[float, float, float, float] = (2, 4, 5, 2),
        learning_rate: float = 1.0,
        random_state: int = 0,
        device: DeviceLike = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.n_iter = n_iter
        self.negative_samples = negative_samples
        self.first_stage = first_stage
        self.second_stage = second_stage
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Any:
        """Say to scikit-learn that both precisions are kept."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @keeps_digits
    def fit(self, X: Any, y: Any = None) -> "ForceLayout":  # noqa: ARG002
        """Lay out the rows of a matrix.

        Parameters
        ----------
        X : array of shape (n, d)
        y : ignored

        Returns
        -------
        ForceLayout
            Itself.
        """
        self._check()
        matrix = as_matrix(self, X, min_samples=2, device=self.device)
        largest = float(matrix.abs().max())
        # Beyond this, squares leave the range of single precision; the layout does not depend on the unit.
        rows = (matrix if not largest or 1e-15 < largest < 1e15 else matrix / largest).float()
        edges = _edges(
            *fuzzy_graph(*nearest_neighbours(rows, self.n_neighbors, metric=self.metric)), len(rows)
        )
        positions = self._relax(edges, _start(rows))
        self._n_features_out = 2
        self.embedding_ = like(positions.T.contiguous().to(matrix.dtype), X)
        return self

    @keeps_digits
    def fit_transform(self, X: Any, y: Any = None) -> Any:  # noqa: ARG002
        """Lay out the rows of a matrix.

        Parameters
        ----------
        X : array of shape (n, d)
        y : ignored

        Returns
        -------
        array of shape (n, 2)
        """
        return self.fit(X).embedding_

    def _check(self) -> None:
        """Raise where a parameter is out of range."""
        for name, least in (("n_neighbors", 1), ("n_iter", 0), ("negative_samples", 0)):
            value = getattr(self, name)
            if not value >= least:
                raise InputError(f"{name} must be at least {least}, got {value}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("first_stage", "second_stage"):
            stage = getattr(self, name)
            if len(stage) != 4 or min(stage) < 0:
                raise InputError(
                    f"{name} must be four numbers that are not negative, two exponents and two strengths, got {stage}"
                )

    def _relax(self, edges: _Edges, positions: Tensor) -> Tensor:
        """The positions, shape (2, n), after both stages."""
        n = positions.shape[1]
        generator = torch.Generator(positions.device).manual_seed(self.random_state)
        pulls = min(self.n_neighbors, n - 1)
        turn = 0
        halves = (self.n_iter - self.n_iter // 2, self.n_iter // 2)
        for stage, iterations in zip((self.first_stage, self.second_stage), halves, strict=True):
            near, far, attraction, repulsion = stage
            for rate in np.linspace(self.learning_rate, 0.0, iterations, endpoint=False):
                # Of all pulls at once, where each is a small step: which edges, how strong, and from whom to be pushed.
                edge = (
                    edges.start
                    + torch.arange(turn, turn + pulls, device=positions.device)[:, None] % edges.degree
                )
                turn += pulls - 1
                targets, weights = edges.target[edge], edges.weight[edge]
                drawn = torch.randint(
                    n, (pulls, self.negative_samples * n), generator=generator, device=positions.device
                )
                for target, weight, pushing in zip(targets, weights, drawn, strict=True):
                    neighbours = positions.index_select(1, target)
                    others = positions.index_select(1, pushing).view(2, self.negative_samples, n)
                    pull = _displacement(neighbours - positions, near, attraction) * weight
                    push = _displacement(positions[:, None] - others, far, repulsion).sum(dim=1)
                    positions = positions + (pull + push).mul_(rate)
        return positions


def nearest_neighbours(X: Tensor, n_neighbors: int, *, metric: str = "correlation") -> tuple[Tensor, Tensor]:
    """The nearest other rows of every row, found exactly.

    Parameters
    ----------
    X : Tensor of shape (n, d)
    n_neighbors : int
        At most n - 1 are given.
    metric : {"correlation", "euclidean"}
        Correlation: one minus Pearson's coefficient of two rows; a constant row correlates with none.

    Returns
    -------
    indices : Tensor of shape (n, n_neighbors), int64
        The nearest first.
    distances : Tensor of shape (n, n_neighbors)

    Raises
    ------
    InputError
        If the metric has another name.
    """
    if metric not in ("correlation", "euclidean"):
        raise InputError(f"metric must be 'correlation' or 'euclidean', got {metric!r}")
    if metric == "correlation":
        X = X - X.mean(dim=1, keepdim=True)
        X = X / X.norm(dim=1, keepdim=True).clamp(min=torch.finfo(X.dtype).tiny)
        squares, base, share = X.new_zeros(len(X)), 1.0, -1.0
    else:
        X = X - X.mean(dim=0)  # a common offset would cost digits of the distances
        squares, base, share = (X**2).sum(dim=1), 0.0, -2.0
    n, k = len(X), min(n_neighbors, len(X) - 1)
    groups = -(-n // _GROUP)
    padding = groups * _GROUP - n
    columns = torch.nn.functional.pad(X, (0, 0, 0, padding)).T
    beside = torch.nn.functional.pad(base + squares, (0, padding), value=torch.inf)
    found = []
    for rows in torch.arange(n, device=X.device).split(max(1, _BLOCK_BYTES // (4 * len(beside)))):
        distances = torch.addmm(beside, X[rows], columns, alpha=share)
        distances[torch.arange(len(rows), device=X.device), rows] = torch.inf
        # The k least lie in the k groups with the least minima: few are left to be sorted.
        blocks = distances.view(len(rows), groups, _GROUP)
        best = blocks.amin(dim=2).topk(min(k, groups), dim=1, largest=False, sorted=False).indices
        candidates = blocks.gather(1, best[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
        values, place = candidates.topk(k, dim=1, largest=False)
        indices = best.gather(1, place // _GROUP) * _GROUP + place % _GROUP
        found.append((indices, (values + squares[rows, None]).clamp(min=0)))
    indices, distances = (torch.cat(part) for part in zip(*found, strict=True))
    return indices, distances if metric == "correlation" else distances.sqrt()


def fuzzy_graph(indices: Tensor, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The symmetric neighbour graph with weights between 0 and 1.

    Parameters
    ----------
    indices, distances : Tensors of shape (n, k)
        Of the k nearest neighbours of every point, the nearest first.

    Returns
    -------
    source, target : Tensors of shape (e,), int64
        Both directions of every edge, sorted by source, then target.
    weight : Tensor of shape (e,)

    Notes
    -----
    McInnes, Healy & Melville (2018): exp(-(d - d_nearest) / width), the width such that the weights of a point add up
    to log2 k; then the fuzzy union a + b - a b of both directions.
    """
    n, k = indices.shape
    beyond = distances - distances[:, :1]
    weight = torch.exp(-beyond / _widths(beyond, float(np.log2(k)))).flatten()
    source = torch.arange(n, device=indices.device).repeat_interleave(k)
    target = indices.flatten()
    key, order = torch.sort(source * n + target)
    source, target, weight = source[order], target[order], weight[order]
    place = torch.searchsorted(key, target * n + source).clamp(max=len(key) - 1)
    mutual = key[place] == target * n + source
    back = torch.where(mutual, weight[place], 0.0)
    union = weight + back - weight * back
    source, target, union = (
        torch.cat([ahead, behind[~mutual]])
        for ahead, behind in ((source, target), (target, source), (union, union))
    )
    order = torch.argsort(source * n + target)
    return source[order], target[order], union[order]


def _widths(beyond: Tensor, total: float) -> Tensor:
    """The width for which the weights of each row add up to `total`, by bisection; shape (n, 1)."""
    largest = beyond.amax(dim=1, keepdim=True).clamp(min=torch.finfo(beyond.dtype).tiny)
    low, high = largest * 1e-6, largest * 1e3
    for _ in range(_BISECTIONS):
        middle = (low * high).sqrt()
        wide = torch.exp(-beyond / middle).sum(dim=1, keepdim=True) > total
        low, high = torch.where(wide, low, middle), torch.where(wide, middle, high)
    return high


def _edges(source: Tensor, target: Tensor, weight: Tensor, n: int) -> _Edges:
    """The edges with the place where those of each point begin."""
    degree = torch.bincount(source, minlength=n)
    return _Edges(target, weight, torch.cumsum(degree, dim=0) - degree, degree)


def _start(rows: Tensor) -> Tensor:
    """The first two principal components, shape (2, n), the largest coordinate at the edge of the layout."""
    components = PCA(min(2, *rows.shape)).fit_transform(rows)
    components = components / components.abs().max().clamp(min=torch.finfo(rows.dtype).tiny) * _EXTENT
    return torch.nn.functional.pad(components.T, (0, 0, 0, 2 - components.shape[1]))


def _displacement(difference: Tensor, exponent: float, strength: float) -> Tensor:
    """How far a pair with this difference, shape (2, ...), moves per unit of learning rate."""
    squared = difference[0] ** 2 + difference[1] ** 2
    whole, rest = divmod(exponent, 2)  # whole powers and square roots are far cheaper than others
    power = squared**whole if rest == 0 else squared**whole * squared ** (rest / 2)
    return (difference * power.add_(1).reciprocal_().mul_(strength)).clamp_(-_LONGEST_STEP, _LONGEST_STEP)
