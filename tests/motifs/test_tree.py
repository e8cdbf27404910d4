import pytest
import torch
from drawn import CRITERIA, RADIUS, RIGHT, SIZE, SMALL, UP, WhiteNoise, moments_of

from torchmotif.motifs._growth import Grower
from torchmotif.motifs._tree import MotifTree
from torchmotif.motifs.detectability import Acquisition, SplitCriteria


def groups(counts: list[int], moved: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Moments of groups of columns in noise, all but the first moved; and which column is of which."""
    kind = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    moments = torch.randn(len(kind), 28, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return moments + torch.stack([0 * moments[0], *moved])[kind], kind


def grower(moments: torch.Tensor, criteria: SplitCriteria = CRITERIA) -> Grower:
    return Grower(moments.float(), WhiteNoise(28), SMALL, criteria)


def grown(moments: torch.Tensor, criteria: SplitCriteria = CRITERIA) -> MotifTree:
    return grower(moments, criteria).grown()[0]


def labels_of(tree: MotifTree, moments: torch.Tensor) -> torch.Tensor:
    return tree.log_probabilities(moments).argmax(1)


def test_a_tree_has_a_leaf_for_every_group() -> None:
    moments, kind = groups([300, 100, 200], [9 * UP, 9 * RIGHT])
    tree = grown(moments)
    logs = tree.log_probabilities(moments)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(600, dtype=torch.float64))
    assert logs.argmax(1).tolist() == torch.tensor([0, 2, 1])[kind].tolist()  # the most frequent first
    assert len(tree.splits) == 2
    assert not tree.candidates
    here = Acquisition(CRITERIA, 600, 600)
    found, perhaps = tree.resolutions([0, 1, 2], here)
    assert not perhaps
    assert [one.resolved for one in found] == [True, True]
    (one, two), last = sorted(found[0].motifs, key=len), found[1].motifs
    assert sorted(one + two) == [0, 1, 2]
    assert sorted(last[0] + last[1]) == sorted(two)
    # Where leaves are one motif in two orientations, nothing tells them apart; what fits none is left out.
    assert tree.resolutions([0, 0, 0], here)[0] == []
    parted = [sorted(one.motifs) for one in tree.resolutions([0, 1, 0], here)[0]]
    assert parted == [[(0,), (1,)]]
    parted = [sorted(one.motifs) for one in tree.resolutions([0, 1, -1], here)[0]]
    assert parted == [[(0,), (1,)]]


def test_both_components_of_a_split_are_split_again() -> None:
    moments, kind = groups([300, 200, 150, 100], [12 * UP, 9 * RIGHT, 12 * UP + 9 * RIGHT])
    labels = grown(moments).log_probabilities(moments).argmax(1)
    assert labels.tolist() == kind.tolist()


@pytest.mark.parametrize("by", [3.0, -3.0])
def test_of_equally_frequent_leaves_the_brighter_is_first(by: float) -> None:
    moments, kind = groups([100, 100], [9 * UP])
    moments[kind == 1, 0] += by
    first = grown(moments).log_probabilities(moments).argmax(1) == 0
    assert bool((first == (kind == (by > 0))).all())


def test_what_is_forced_comes_after_what_is_supported() -> None:
    moments, kind = groups([300, 100, 200], [9 * UP, 9 * RIGHT])
    tree, labels = grown(moments), labels_of(grown(moments), moments)
    rows = [torch.nonzero(labels == i)[:, 0] for i in range(3)]
    more = labels_of(grower(moments).forced(tree, rows, 2, fewest=5), moments)
    assert more.unique().tolist() == list(range(5))
    assert all(len(kind[more == i].unique()) == 1 for i in range(5))
    assert min(torch.bincount(more)) >= 5


@pytest.mark.parametrize(
    ("motif", "left"),
    [
        ([0, 1, 2, 3], [400, 200, 60]),
        ([0, 1, 2, -1], [400, 200, 60]),
        ([0, 1, -1, 2], [300, 260, 100]),
        ([0, -1, -1, 1], [660]),
    ],
)
def test_the_least_supported_split_of_two_motifs_is_pruned(motif: list[int], left: list[int]) -> None:
    """With what is beneath it, which parts off only what fits no motif."""
    moments, _ = groups([300, 100, 200, 60], [9 * UP, 9 * RIGHT, 9 * RIGHT + 30 * UP])
    tree = grown(moments)
    assert torch.bincount(labels_of(tree, moments)).tolist() == [300, 200, 100, 60]
    assert torch.bincount(labels_of(tree.pruned(motif), moments)).tolist() == left


def test_what_all_columns_share_does_not_matter() -> None:
    moments, kind = groups([300, 100], [9 * UP])
    moments[:, 0] += 100
    labels = grown(moments).log_probabilities(moments).argmax(1)
    assert labels.tolist() == kind.tolist()


def test_a_single_column_is_not_parted() -> None:
    moments = torch.randn(1, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tree = grower(moments).forced(grown(moments), [torch.arange(1)], 1, fewest=1)
    assert len(tree.leaves) == 1


@pytest.mark.parametrize(
    ("pattern", "motifs"),
    [
        (
            (RADIUS > 0.85 * SIZE / 2) & (RADIUS < SIZE / 2),
            1,
        ),  # what lies beyond shines in at the disk's edge
        (1.0 + 0 * RADIUS, 1),
        (torch.arange(SIZE).expand(SIZE, -1), 1),  # a slope
        (torch.roll(torch.exp(-(RADIUS**2) / 9), 4, 0), 2),
    ],
    ids=["edge", "constant", "slope", "column"],
)
def test_flat_differences_and_those_at_the_edge_of_the_disk_are_no_motifs(
    pattern: torch.Tensor, motifs: int
) -> None:
    difference = moments_of(pattern[None], SMALL)[0]
    moments, _ = groups([300, 100], [9 * difference / difference.norm()])
    assert len(grown(moments).leaves) == motifs


@pytest.mark.parametrize(("count", "distance", "motifs"), [(4, 20.0, 1), (6, 20.0, 2), (200, 1.5, 1)])
def test_groups_that_are_too_rare_or_too_alike_are_no_leaves(
    count: int, distance: float, motifs: int
) -> None:
    moments, _ = groups([400, count], [distance * UP])
    assert len(grown(moments).leaves) == motifs


def test_what_lacks_only_dose_is_a_candidate() -> None:
    moments, _ = groups([500, 120], [3.5 * UP])
    criteria = SplitCriteria(min_evidence=10.0, min_detectability=6.0, max_valley=1.0, min_share=0.003)
    tree = grown(moments, criteria)
    assert len(tree.leaves) == 1
    ((node, split),) = tree.candidates
    assert node == 0
    assert split.detectability() == pytest.approx(3.5, rel=0.2)
    _, (hint,) = tree.resolutions([0], Acquisition(criteria, 620, 620))
    assert hint.motifs == ((0,), (0,))
    assert not hint.resolved
    assert hint.least_relative_dose > 1
    assert tree.resolutions([-1], Acquisition(criteria, 620, 620))[1] == []
