"""Nothing but the image, the arguments and the seed decides what comes out."""

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import torchmotif as tm


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    """Noisy patches of three kinds, two of them equally frequent."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[-8:9, -8:9]
    spots = [np.exp(-((y - row) ** 2 + x**2) / 6) for row in (0, 5, -5)]
    kinds = np.repeat(np.arange(3), [100, 60, 60])
    rng.shuffle(kinds)
    heights = np.array([[1.0, 1.0, 1.0], [1.0, 0.3, 1.0], [1.0, 1.0, 0.3]])
    expected = 40 * (0.1 + np.tensordot(heights[kinds], spots, axes=1))
    return rng.poisson(expected).astype(np.float32)


def test_the_order_of_columns_does_not_change_their_motifs(patches: np.ndarray) -> None:
    model = tm.MotifClassifier().fit(patches)
    assert model.n_motifs_ == 3
    order = np.random.default_rng(0).permutation(len(patches))
    shuffled = tm.MotifClassifier().fit(patches[order])
    assert_array_equal(shuffled.labels_, model.labels_[order])
    assert_allclose(shuffled.probabilities_, model.probabilities_[order], atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_more_than_the_last_digits() -> None:
    """See docs/decisions/0100: the same number gives the same bits, another one other roundings of large sums."""
    scan = tm.datasets.mose2((128, 132), vacancy_rate=0.06).draw(generator=torch.Generator().manual_seed(1))
    results = []
    for count in (1, 2, 2):
        torch.set_num_threads(count)
        results.append(tm.analyze(scan, progress=False))
    one, two, again = results
    assert_array_equal(two.columns.positions, again.columns.positions)
    assert_array_equal(two.probabilities, again.probabilities)
    assert_array_equal(two.templates, again.templates)
    assert_array_equal(one.labels, two.labels)
    assert_allclose(one.columns.positions, two.columns.positions, atol=1e-5)
    assert_allclose(one.probabilities, two.probabilities, atol=1e-6)
    assert [r.record["threads"] for r in results] == [1, 2, 2]
    for name in ("torchmotif", "torch", "numpy", "scipy", "scikit-learn"):
        assert one.record["versions"][name] == version(name)
