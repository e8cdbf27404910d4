"""Which assemblies occur more, or less, often than chance, and the free energies that this stands for."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils.validation import check_is_fitted

from torchmotif.errors import InputError
from torchmotif.hierarchy import Level, MotifHierarchy
from torchmotif.plane_graph.codes import trimmed
from torchmotif.statistics.null_models import Null, least_words, null_labels, shuffled_expectation

__all__ = ["AssemblyStatistics", "assembly_statistics", "growth_graph"]

_ALL_WORDS = 20_000  # where no more assemblies are possible, those that do not occur are tested as well
_RARE = 10.0  # expected counts below this are never taken as normal


@dataclass(frozen=True, eq=False)
class AssemblyStatistics:
    """Assemblies of all levels against a null model of the labels.

    Attributes
    ----------
    table : pandas.DataFrame
        A row for each assembly: `size` in motifs, `index` in its level (beyond its end for assemblies that could
        occur and do not), `labels` and `structure`; `count`, and `expected` and `deviation` under the null model;
        `z`; two-sided `p`, and `p_adjusted` for the number of assemblies; `character` ("favoured", "frustrated" or
        "neutral"); `energy_kt` = -ln(count / expected), and its bootstrap error `energy_error_kt`.
    bootstrap : array of shape (b, rows)
        Resampled energies.
    null : str
    """

    table: pd.DataFrame
    bootstrap: np.ndarray
    null: Null

    def __repr__(self) -> str:
        """Say how many assemblies differ from chance."""
        counts = self.table["character"].value_counts()
        named = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("favoured", "frustrated", "neutral"))
        return f"AssemblyStatistics({named}; against {self.null} labels)"


def assembly_statistics(
    hierarchy: MotifHierarchy,
    *,
    null: Null = "shuffled",
    n_samples: int = 200,
    n_bootstrap: int = 200,
    n_blocks: int = 64,
    alpha: float = 0.05,
    correction: Literal["bh", "by"] = "bh",
    random_state: int = 0,
) -> AssemblyStatistics:
    """Test every assembly against a null model of the labels on the same graph.

    Expected counts under shuffling are exact; other moments are of `n_samples` drawn labellings. Counts are compared
    with the negative binomial, Poisson or normal distribution of the same mean and variance. Energies are resampled
    in blocks of the field of view, because neighbouring groups overlap.

    Parameters
    ----------
    hierarchy : MotifHierarchy
        Fitted.
    null : {"shuffled", "ising"}
        Labels shuffled with their numbers fixed; or drawn from the nearest-neighbour Ising model fitted to them.
    n_samples, n_bootstrap : int
    n_blocks : int
        Blocks of the field of view, rounded to a square.
    alpha : float
        Level of significance.
    correction : {"bh", "by"}
        False discovery rate after Benjamini & Hochberg (1995), or Benjamini & Yekutieli (2001) for any dependence.
    random_state : int

    Returns
    -------
    AssemblyStatistics

    Raises
    ------
    InputError
        If the null model is unknown or cannot be fitted, or a number is too small.

    Examples
    --------
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> from torchmotif.statistics import assembly_statistics
    >>> square = np.stack(np.meshgrid(range(20), range(20), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> labels = np.random.default_rng(0).integers(2, size=len(square))
    >>> hierarchy = tm.MotifHierarchy(max_size=2).fit(tm.PlaneGraph.from_positions(square, labels))
    >>> assembly_statistics(hierarchy)
    AssemblyStatistics(0 favoured, 0 frustrated, 5 neutral; against shuffled labels)
    """
    check_is_fitted(hierarchy)
    if n_samples < 20 or n_bootstrap < 2 or n_blocks < 4:
        raise InputError(
            "n_samples, n_bootstrap and n_blocks must be at least 20, 2 and 4, "
            f"got {n_samples}, {n_bootstrap} and {n_blocks}"
        )
    levels, graph = hierarchy.levels_, hierarchy.graph_
    tested = [_tested(level) for level in levels]
    samples = [np.empty((n_samples, len(keys))) for keys in tested]
    for i, labels in enumerate(null_labels(graph, null, n_samples, random_state=random_state)):
        for level, keys, counts in zip(levels, tested, samples, strict=True):
            counts[i] = _counts(level.pieces.keys(labels), keys)
    blocks = _Blocks(graph.positions, graph.label_index, n_blocks, n_bootstrap, random_state)
    tables, energies = [], []
    for level, keys, counts in zip(levels, tested, samples, strict=True):
        mean = np.maximum(counts.mean(axis=0), 1 / n_samples)
        if null == "shuffled":
            mean = shuffled_expectation(level.pieces, keys, np.bincount(graph.label_index))
        tables.append(_table(level, keys, mean, counts.std(axis=0, ddof=1)))
        energies.append(blocks.energies(level, keys, mean, fixed_composition=null == "shuffled"))
    table, bootstrap = pd.concat(tables, ignore_index=True), np.concatenate(energies, axis=1)
    table["p_adjusted"] = stats.false_discovery_control(table["p"], method=correction)
    sign = np.where(table["z"] > 0, "favoured", "frustrated")
    table["character"] = np.where(table["p_adjusted"] < alpha, sign, "neutral")
    table["energy_error_kt"] = _spread(bootstrap)
    return AssemblyStatistics(table, bootstrap, null)


def growth_graph(hierarchy: MotifHierarchy, statistics: AssemblyStatistics) -> Any:
    """The containment of assemblies with their energies, and what each attachment of one more motif costs.

    Parameters
    ----------
    hierarchy : MotifHierarchy
        Fitted.
    statistics : AssemblyStatistics
        Of this hierarchy.

    Returns
    -------
    networkx.DiGraph
        As `MotifHierarchy.to_networkx`; nodes carry `expected`, `z`, `energy_kt` and `character` as well, edges
        `attachment_kt`, the energy of the larger assembly less that of the smaller, and `attachment_error_kt`.
    """
    graph = hierarchy.to_networkx()
    table = statistics.table
    row = {
        pair: i for i, pair in enumerate(zip(table["size"].tolist(), table["index"].tolist(), strict=True))
    }
    nodes = list(graph.nodes)
    columns = table[["expected", "z", "energy_kt", "character"]].iloc[[row[node] for node in nodes]]
    for node, values in zip(nodes, columns.to_dict("records"), strict=True):
        graph.nodes[node].update(values)
    ends = np.array([(row[a], row[b]) for a, b in graph.edges], np.int64).reshape(-1, 2)
    energy = table["energy_kt"].to_numpy()
    with np.errstate(invalid="ignore"):  # assemblies that a resample holds none of
        cost = energy[ends[:, 1]] - energy[ends[:, 0]]
        error = _spread(statistics.bootstrap[:, ends[:, 1]] - statistics.bootstrap[:, ends[:, 0]])
    for edge, value, spread in zip(list(graph.edges), cost.tolist(), error.tolist(), strict=True):
        graph.edges[edge].update(attachment_kt=value, attachment_error_kt=spread)
    return graph


class _Blocks:
    """Resampling of the field of view in blocks."""

    def __init__(
        self, positions: np.ndarray, label_index: np.ndarray, n_blocks: int, n_bootstrap: int, seed: int
    ) -> None:
        side = max(round(n_blocks**0.5), 2)
        low, high = positions.min(axis=0), positions.max(axis=0)
        place = np.minimum((side * (positions - low) / (high - low)).astype(np.int64), side - 1)
        self.count = side**2
        self.block = place[:, 0] * side + place[:, 1]
        random = np.random.default_rng(seed)
        equal = np.full(self.count, 1 / self.count)
        self.weights = random.multinomial(self.count, equal, size=n_bootstrap).astype(np.float64)
        with np.errstate(divide="ignore"):
            labels = self.weights @ self._cross(self.block, label_index, int(label_index.max()) + 1)
            share = np.bincount(label_index) / len(label_index)
            self.log_share = np.log(labels / labels.sum(axis=1, keepdims=True)) - np.log(share)

    def energies(
        self, level: Level, keys: np.ndarray, mean: np.ndarray, *, fixed_composition: bool
    ) -> np.ndarray:
        """Resampled energies (b, a) of assemblies; infinite or NaN where a resample holds none."""
        pieces = level.pieces
        block = self.block[pieces.members[:, 0]]
        shape = np.repeat(np.arange(len(pieces.per_shape)), pieces.per_shape)
        observed = np.zeros((len(self.weights), len(keys)))
        observed[:, : len(level)] = self.weights @ self._cross(block, level.assembly, len(level))
        groups = self.weights @ self._cross(block, shape, len(pieces.per_shape))
        scale = groups / pieces.per_shape
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = np.log(mean) + np.log(scale[:, keys // pieces.n_words])
            if fixed_composition:
                for letter in (keys[:, None] // pieces.base % pieces.n_labels).T:
                    expected = expected + self.log_share[:, letter]
            energies: np.ndarray = expected - np.log(observed)
        return energies

    def _cross(self, block: np.ndarray, kind: np.ndarray, kinds: int) -> np.ndarray:
        """Counts (blocks, kinds)."""
        return np.bincount(block * kinds + kind, minlength=self.count * kinds).reshape(self.count, kinds)


def _tested(level: Level) -> np.ndarray:
    """Keys of the assemblies that occur, and of those that could, where these are not too many."""
    if level.pieces.n_words * len(level.pieces.symmetries) > _ALL_WORDS:
        return level.keys
    possible = least_words(level.pieces)
    return np.concatenate([level.keys, possible[~np.isin(possible, level.keys)]])


def _counts(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each of the wanted keys occurs."""
    ranked = np.argsort(wanted)
    place = np.minimum(np.searchsorted(wanted[ranked], keys), len(wanted) - 1)
    found = ranked[place]
    return np.bincount(found[wanted[found] == keys], minlength=len(wanted))


def _table(level: Level, keys: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> pd.DataFrame:
    count = np.pad(level.counts, (0, len(keys) - len(level)))
    pieces = level.pieces
    structures = [trimmed(code) for code in pieces.shape_codes]
    words = level.label_names[keys[:, None] // pieces.base % pieces.n_labels]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(count == mean, 0.0, (count - mean) / deviation)
        energy = np.log(mean) - np.log(count)
    return pd.DataFrame(
        {
            "size": level.size,
            "index": np.arange(len(keys)),
            "labels": [tuple(word) for word in words.tolist()],
            "structure": [structures[i] for i in (keys // pieces.n_words).tolist()],
            "count": count,
            "expected": mean,
            "deviation": deviation,
            "z": z,
            "p": _two_sided(count, mean, deviation**2),
            "energy_kt": energy,
        }
    )


def _two_sided(count: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Two-sided probability of a count at least as far out, at given mean and variance."""
    mean = np.maximum(mean, 1e-12)
    wide = variance > mean * (1 + 1e-9)
    spread = np.where(wide, variance, 2 * mean)  # the second is not used
    clumped = stats.nbinom(mean**2 / (spread - mean), mean / spread)
    single, normal = stats.poisson(mean), stats.norm(mean, np.sqrt(np.maximum(variance, 1e-12)))
    rare = mean < _RARE
    below = np.select([wide, rare], [clumped.cdf(count), single.cdf(count)], normal.cdf(count + 0.5))
    above = np.select([wide, rare], [clumped.sf(count - 1), single.sf(count - 1)], normal.sf(count - 0.5))
    p: np.ndarray = np.clip(2 * np.minimum(below, above), 0.0, 1.0)
    return p


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation along the first axis of what is finite; NaN where less than half is."""
    finite = np.isfinite(values)
    number = finite.sum(axis=0)
    known = np.where(finite, values, 0.0)
    mean = known.sum(axis=0) / np.maximum(number, 1)
    variance = (np.where(finite, values - np.where(finite, mean, 0), 0.0) ** 2).sum(axis=0) / np.maximum(
        number - 1, 1
    )
    return np.where(2 * number > len(values), np.sqrt(variance), np.nan)
