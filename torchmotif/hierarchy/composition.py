"""A hierarchy learnt by minimum description length: neighbouring units merge where that pays for itself.

The description is a code that can be read back by whoever knows the graph without its labels. Columns are visited from
left to right; at the first that is not yet covered comes a symbol: which unit covers it, by which of its columns, and
which way round. Symbols are sent by the enumerative code, first how often each occurs, then in which order
(Rissanen 1983; Grünwald 2007); each type of unit is sent once, as two known types and how they touch.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaln

from torchmotif.errors import InputError
from torchmotif.plane_graph import Code, Corners, PlaneGraph, canonical_shapes
from torchmotif.plane_graph.codes import unique_rows

__all__ = ["Composition", "CompositionLevel", "compose"]

_FEWEST = 3  # rarer pairs never pay for their type


@dataclass(frozen=True, eq=False)
class CompositionLevel:
    """The units after one round of merging.

    Attributes
    ----------
    unit : array of shape (n,)
        The unit of each column, -1 on the rim.
    kind : array of shape (u,)
        Which of `codes` each unit is.
    codes : list of Code
        Labels and structure of the types in use, the one that covers most columns first.
    counts : array of shape (c,)
        How often each type occurs.
    bits : float
        Description length of the labels off the rim.
    """

    unit: np.ndarray
    kind: np.ndarray
    codes: list[Code]
    counts: np.ndarray
    bits: float

    def __repr__(self) -> str:
        """Say how much it says in how few units."""
        return (
            f"CompositionLevel({len(self.kind)} units of {len(self.codes)} types, "
            f"{self.bits_per_column:.3f} bits per column)"
        )

    @property
    def bits_per_column(self) -> float:
        """Description length per column off the rim."""
        return self.bits / int((self.unit >= 0).sum())


@dataclass(frozen=True, eq=False)
class Composition:
    """Levels of ever larger units, from single columns to where merging no longer pays.

    Attributes
    ----------
    levels : list of CompositionLevel
    """

    levels: list[CompositionLevel]

    @property
    def bits_per_column(self) -> float:
        """Description length of the labels per column at the last level: 0 in perfect order, their entropy in none."""
        return self.levels[-1].bits_per_column


def compose(graph: PlaneGraph, *, reflections: bool = True, corners: Corners = "faces") -> Composition:
    """Merge units of a labelled graph, level by level, as long as this shortens its description.

    Columns on the rim are left out: what surrounds them is not known.

    Parameters
    ----------
    graph : PlaneGraph
        With labels.
    reflections : bool
        Whether a unit and its mirror image are of one type.
    corners : {"none", "gaps", "faces"}
        What of the graph around a unit tells types apart.

    Returns
    -------
    Composition

    Raises
    ------
    InputError
        If the graph has no labels, or every node is on the rim.

    Examples
    --------
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> from torchmotif.hierarchy import compose
    >>> square = np.stack(np.meshgrid(range(16), range(16), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> chequered = square.sum(axis=1).astype(int) // 10 % 2
    >>> random = np.random.default_rng(0).integers(2, size=256)
    >>> lengths = [compose(tm.PlaneGraph.from_positions(square, x)).bits_per_column for x in (chequered, random)]
    >>> lengths[0] < 0.5 < 0.9 < lengths[1] < 1.1
    True
    """
    if graph.labels is None:
        raise InputError("graph has no labels; use graph.with_labels(labels)")
    if graph.rim.all():
        raise InputError("graph has no node off the rim: nothing in it has all its surroundings")
    units = _Units(graph, reflections, corners)
    levels = [units.snapshot()]
    while units.merge():
        levels.append(units.snapshot())
    return Composition(levels)


@dataclass
class _Types:
    """Types of units and symbols known so far."""

    codes: list[Code]
    size: list[int]
    degree: int
    bits: float = 0.0
    known: dict[Code, int] = field(default_factory=dict)
    symbols: dict[tuple[int, ...], int] = field(default_factory=dict)
    symbol_bits: list[float] = field(default_factory=list)

    def symbol(self, key: tuple[int, ...]) -> int:
        """The number of a symbol (type, column, place, direction)."""
        if key not in self.symbols:
            self.symbols[key] = len(self.symbols)
            size = self.size[key[0]]
            self.symbol_bits.append(
                float(np.log2(2 * size * self.degree * len(self.codes))) if size > 1 else 0.0
            )
        return self.symbols[key]

    def price(self, first: int, second: int) -> float:
        """Bits that say how two types make a third."""
        touch = self.size[first] * self.degree * self.size[second] * self.degree * 2
        return float(2 * np.log2(len(self.codes)) + np.log2(touch))

    def add(self, code: Code, first: int, second: int) -> int:
        """The number of a type made of two others."""
        if code not in self.known:
            self.bits += self.price(first, second)
            self.known[code] = len(self.codes)
            self.codes.append(code)
            self.size.append(self.size[first] + self.size[second])
        return self.known[code]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Neighbouring units that could merge: their ends, the code of both together, and how this lies."""

    first: np.ndarray
    second: np.ndarray
    code: Code
    symbols: np.ndarray  # (p, 3) column, place, direction


class _Units:
    """A partition of the columns into units, each of a type."""

    def __init__(self, graph: PlaneGraph, reflections: bool, corners: Corners) -> None:
        self.graph, self.reflections, self.corners = graph, reflections, corners
        self.rank = np.empty(len(graph), np.int64)
        self.rank[np.lexsort((graph.positions[:, 0], graph.positions[:, 1]))] = np.arange(len(graph))
        inner = ~graph.rim
        self.inner = np.flatnonzero(inner)
        self.unit = np.arange(len(self.inner))  # of each inner column
        self.place = np.where(inner, np.cumsum(inner) - 1, -1)
        self.edges = self.place[graph.edges[inner[graph.edges].all(axis=1)]]
        self.kind = graph.label_index[self.inner]
        single: list[Code] = [((label,), ()) for label in graph.label_names.tolist()]
        self.types = _Types(single, [1] * len(single), max(int(graph.degrees.max(initial=1)), 1))
        for i in range(len(single)):
            self.types.symbol((i, 0, 0, 0))
        self.symbol = self.kind.copy()

    def snapshot(self) -> CompositionLevel:
        sizes = np.array(self.types.size)
        counts = np.bincount(self.kind, minlength=len(sizes))
        used = np.flatnonzero(counts)
        used = used[np.argsort(-(counts * sizes)[used], kind="stable")]
        place = np.full(len(sizes), -1)
        place[used] = np.arange(len(used))
        codes = [self.types.codes[i] for i in used]
        bits = self.types.bits + self._bits(self._symbol_counts())
        unit = np.where(self.place < 0, -1, self.unit[self.place])
        return CompositionLevel(unit, place[self.kind], codes, counts[used], bits)

    def merge(self) -> bool:
        """One round: every pair of types that pays for itself merges, frequent ones first."""
        counts = self._symbol_counts()
        partner = np.full(len(self.kind), -1)
        new_symbol = np.full(len(self.kind), -1)
        for pairs in self._candidates():
            free = np.flatnonzero((partner[pairs.first] < 0) & (partner[pairs.second] < 0))
            if len(free) < _FEWEST:
                continue
            chosen = self._matching(pairs, free)
            first, second = pairs.first[chosen], pairs.second[chosen]
            kinds = int(self.kind[first[0]]), int(self.kind[second[0]])
            is_new = pairs.code not in self.types.known
            price = self.types.price(*kinds) if is_new else 0.0
            rows, which, times = np.unique(
                pairs.symbols[chosen], axis=0, return_inverse=True, return_counts=True
            )
            less = counts - np.bincount(
                np.concatenate([self.symbol[first], self.symbol[second]]), minlength=len(counts)
            )
            size = len(pairs.code[0])
            extra = len(rows) * np.log2(2 * size * self.types.degree * len(self.types.codes))
            after = self._bits(np.concatenate([less, times]), new=len(rows)) + extra
            if after + price >= self._bits(counts):
                continue
            kind = self.types.add(pairs.code, *kinds)
            numbers = np.array([self.types.symbol((kind, *row)) for row in rows.tolist()])
            counts = np.pad(less, (0, len(self.types.symbol_bits) - len(less)))
            counts += np.bincount(numbers, times, len(counts)).astype(np.int64)
            partner[first], partner[second] = second, first
            new_symbol[first] = numbers[which.ravel()]
        merged = new_symbol >= 0
        self._join(merged, partner, new_symbol)
        return bool(merged.any())

    def _candidates(self) -> list[_Pairs]:
        """Pairs of neighbouring units by what they make, frequent ones first."""
        ends = np.sort(self.unit[self.edges], axis=1)
        ends = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
        order = self.inner[np.argsort(self.unit, kind="stable")]
        sizes = np.bincount(self.unit)
        starts = np.cumsum(sizes) - sizes
        found = []
        total = sizes[ends].sum(axis=1)
        for size in np.unique(total).tolist():
            first, second = ends[total == size].T
            swap = self.kind[first] > self.kind[second]
            first, second = np.where(swap, second, first), np.where(swap, first, second)
            step = np.arange(size)
            inside = step < sizes[first][:, None]
            place = np.where(
                inside, starts[first][:, None] + step, (starts[second] - sizes[first])[:, None] + step
            )
            found += self._coded(first, second, order[place])
        return sorted(found, key=lambda pairs: -len(pairs.first))

    def _coded(self, first: np.ndarray, second: np.ndarray, pieces: np.ndarray) -> list[_Pairs]:
        """Pairs that make pieces of one size, by the types of both and the code of the piece."""
        shapes = canonical_shapes(
            self.graph.embedding,
            pieces,
            reflections=self.reflections,
            corners=self.corners,
            colours=self.graph.label_index,
        )
        column = self.rank[shapes.members].argmin(axis=1)
        least = np.take_along_axis(shapes.members, column[:, None], axis=1)[:, 0]
        near = self.graph.embedding.rotation[0][least]
        same = near[:, :, None] == shapes.members[:, None, :]
        role = np.where(same.any(axis=2), same.argmax(axis=2), pieces.shape[1])
        symbols = np.stack([column, role.argmin(axis=1), shapes.darts[:, 1]], axis=1)
        kinds, which = unique_rows(np.stack([self.kind[first], self.kind[second], shapes.shape], axis=1))
        ranked = np.argsort(which, kind="stable")
        groups = np.split(ranked, np.flatnonzero(np.diff(which[ranked])) + 1)
        return [
            _Pairs(
                first[rows],
                second[rows],
                shapes.named_code(int(shape), self.graph.label_names),
                symbols[rows],
            )
            for rows, shape in zip(groups, kinds[:, 2], strict=True)
            if len(rows) >= _FEWEST
        ]

    def _matching(self, pairs: _Pairs, free: np.ndarray) -> np.ndarray:
        """Pairs without a unit in common: first those that lie the most frequent way, from left to right."""
        _, way, times = np.unique(pairs.symbols[free], axis=0, return_inverse=True, return_counts=True)
        left = np.minimum(self.leftmost[pairs.first[free]], self.leftmost[pairs.second[free]])
        waiting = free[np.lexsort((left, -times[way.ravel()]))]
        used = np.zeros(len(self.kind), bool)
        chosen = []
        while len(waiting):
            ends = np.stack([pairs.first[waiting], pairs.second[waiting]])
            _, earliest, inverse = np.unique(ends.T, return_index=True, return_inverse=True)
            turn = (earliest[inverse].reshape(-1, 2) // 2 == np.arange(len(waiting))[:, None]).all(axis=1)
            chosen.append(waiting[turn])
            used[ends[:, turn]] = True
            waiting = waiting[~used[ends].any(axis=0)]
        return np.concatenate(chosen)

    def _join(self, merged: np.ndarray, partner: np.ndarray, symbol: np.ndarray) -> None:
        """Give the second unit of each merged pair's columns to the first."""
        owner = np.arange(len(self.kind))
        owner[partner[merged]] = np.flatnonzero(merged)
        kept, self.unit = np.unique(owner[self.unit], return_inverse=True)
        self.symbol = np.where(merged, symbol, self.symbol)[kept]
        self.kind = np.array([key[0] for key in self.types.symbols])[self.symbol]

    @property
    def leftmost(self) -> np.ndarray:
        """Rank of each unit's first column."""
        first = np.full(len(self.kind), len(self.rank))
        np.minimum.at(first, self.unit, self.rank[self.inner])
        return first

    def _symbol_counts(self) -> np.ndarray:
        return np.bincount(self.symbol, minlength=len(self.types.symbol_bits))

    def _bits(self, counts: np.ndarray, new: int = 0) -> float:
        """Length of the symbols: which occur, how often, in which order; the last `new` are named elsewhere."""
        named = np.array(self.types.symbol_bits + [0.0] * new)[counts > 0].sum()
        counts = counts[counts > 0]
        n, k = counts.sum(), len(counts)
        orders = gammaln(n + 1) - gammaln(counts + 1).sum()
        shares = gammaln(n) - gammaln(k) - gammaln(n - k + 1)
        return float(named + (orders + shares) / np.log(2))
