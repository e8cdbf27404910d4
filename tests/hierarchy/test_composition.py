from collections.abc import Callable

import numpy as np
import pytest

import torchmotif as tm
from torchmotif.hierarchy import compose

Lattice = Callable[[str, int], np.ndarray]


def _mose2(rate: float | None, seed: int) -> tm.PlaneGraph:
    specimen = tm.datasets.mose2((480, 480), vacancy_rate=0.2 if rate is None else rate, random_state=seed)
    kinds = specimen.truth.kinds.astype(str)
    if rate is None:
        kinds = np.random.default_rng(seed).permutation(kinds)
    return tm.PlaneGraph.from_positions(specimen.truth.positions, kinds)


def test_description_length_orders_specimens_by_their_disorder() -> None:
    lengths = np.array(
        [
            [compose(_mose2(rate, seed)).bits_per_column for seed in range(4)]
            for rate in (0.0, 0.01, 0.06, 0.2, None)
        ]
    )
    mean, error = lengths.mean(axis=1), lengths.std(axis=1, ddof=1) / 2
    assert (np.diff(mean) > 3 * np.hypot(error[1:], error[:-1])).all()


def test_units_partition_the_columns_and_never_cost_more() -> None:
    graph = _mose2(0.06, 0)
    levels = compose(graph).levels
    assert len(levels) > 1
    assert (np.diff([level.bits for level in levels]) < 0).all()
    for level in levels:
        assert ((level.unit >= 0) == ~graph.rim).all()
        assert set(level.unit[level.unit >= 0]) == set(range(len(level.kind)))
        for unit in range(0, len(level.kind), 97):
            nodes = np.flatnonzero(level.unit == unit)
            labels, _ = level.codes[level.kind[unit]]
            assert sorted(labels) == sorted(graph.labels[nodes].tolist())
            assert graph.canonical_code(nodes)[0]  # connected


def test_a_block_pattern_is_found(lattice: Lattice) -> None:
    points = lattice("square", 22)
    stripes = (points[:, 1] // 10).astype(int) % 3
    level = compose(tm.PlaneGraph.from_positions(points, stripes)).levels[-1]
    assert level.bits_per_column < 0.35
    assert len(level.codes[0][0]) >= 3


def test_random_labels_are_not_compressed(lattice: Lattice) -> None:
    labels = np.random.default_rng(0).integers(2, size=900)
    bits = compose(tm.PlaneGraph.from_positions(lattice("square", 30), labels)).bits_per_column
    assert 0.98 < bits < 1.03


def test_bad_input_is_refused(lattice: Lattice) -> None:
    points = lattice("square", 5)
    with pytest.raises(tm.errors.InputError, match="no labels"):
        compose(tm.PlaneGraph.from_positions(points))
    with pytest.raises(tm.errors.InputError, match="no node off the rim"):
        compose(tm.PlaneGraph.from_positions(points, [0] * 25, radius=3.0))
