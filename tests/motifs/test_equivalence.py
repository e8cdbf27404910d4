import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.errors import InputError
from torchmotif.metrics import site_f1
from torchmotif.patches import inside, offsets

HEIGHTS = np.array(
    [[1.0, 0.9, 0.9, 0.9], [0.3, 0.9, 0.9, 0.9], [1.0, 1.2, 0.7, 0.1]]
)  # the last one is chiral


@pytest.fixture(scope="module")
def turned() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Noisy patches of three motifs turned at random, half of them mirrored: patches, kinds, angles, mirrored."""
    rng = np.random.default_rng(5)
    kinds = np.repeat([0, 1, 2], [240, 100, 120])
    angles, mirrored = rng.uniform(0, 2 * np.pi, len(kinds)), rng.random(len(kinds)) < 0.5
    around = 2 * np.pi * np.arange(3) / 3 * np.where(mirrored, -1, 1)[:, None] + angles[:, None]
    sites = np.concatenate(
        [np.zeros((len(kinds), 1, 2)), 6 * np.stack([-np.sin(around), np.cos(around)], 2)], 1
    )
    axis = np.arange(23) - 11.0
    spots = np.exp(-((axis - sites[..., :1]) ** 2) / 6)[..., :, None]
    spots = spots * np.exp(-((axis - sites[..., 1:]) ** 2) / 6)[..., None, :]
    expected = 60 * (0.05 + (HEIGHTS[kinds][:, :, None, None] * spots).sum(1))
    return rng.poisson(expected).astype(np.float32), kinds, angles, mirrored


def error_deg(found: np.ndarray, true: np.ndarray, fold: int) -> float:
    """Root mean square of what differs, but for one constant."""
    wave = np.exp(1j * fold * (found - true))
    return float(np.degrees(np.sqrt(np.mean(np.angle(wave / wave.mean()) ** 2)) / fold))


def test_turned_motifs_are_one_and_their_angles_are_known(turned: tuple[np.ndarray, ...]) -> None:
    patches, kinds, angles, mirrored = turned
    plain = ~mirrored
    model = tm.MotifClassifier(equivalence="rotation").fit(patches[plain])
    assert model.n_motifs_ == 3
    assert min(site_f1(kinds[plain], model.labels_).values()) > 0.98
    assert not model.mirrored_.any()
    for kind, fold in enumerate((3, 3, 1)):
        mine = (kinds[plain] == kind) & (model.labels_ >= 0)
        motif = np.bincount(model.labels_[mine]).argmax()
        assert model.folds_[motif] == fold
        assert model.angles_[mine].max() <= 2 * np.pi / fold
        assert error_deg(model.angles_[mine], angles[plain][mine], fold) < 1.5


def test_mirrored_motifs_are_one_where_asked_for(turned: tuple[np.ndarray, ...]) -> None:
    patches, kinds, _, mirrored = turned
    model = tm.MotifClassifier(equivalence="euclidean").fit(patches)
    assert model.n_motifs_ == 3
    chiral = (kinds == 2) & (model.labels_ >= 0)
    assert not model.mirrored_[~chiral & (model.labels_ >= 0)].any()
    same = np.mean(model.mirrored_[chiral] == mirrored[chiral])
    assert max(same, 1 - same) > 0.98
    assert tm.MotifClassifier(equivalence="rotation").fit(patches).n_motifs_ == 4


def test_new_patches_are_turned_too(turned: tuple[np.ndarray, ...]) -> None:
    patches, kinds, _, mirrored = turned
    new = patches[~mirrored]
    model = tm.MotifClassifier(equivalence="rotation").fit(new[::2])
    assert min(site_f1(kinds[~mirrored], model.predict(new)).values()) > 0.97
    found = model.assign(new)
    # A quarter turn of the pixels is exact.
    quarter = model.assign(np.rot90(new, axes=(1, 2)).copy())
    assert_array_equal(quarter.labels, found.labels)
    fits = found.labels >= 0
    period = 2 * np.pi / model.folds_[found.labels[fits]]
    beyond = np.remainder(quarter.angles[fits] - found.angles[fits] - np.pi / 2, period)
    assert np.degrees(np.minimum(beyond, period - beyond)).max() < 0.5
    np.testing.assert_allclose(model.predict_proba(new).sum(1), 1.0, rtol=1e-9)


def test_templates_are_upright_reconstructions(turned: tuple[np.ndarray, ...]) -> None:
    patches, _, _, mirrored = turned
    model = tm.MotifClassifier(3, equivalence="rotation").fit(patches[~mirrored])
    assert_array_equal(model.templates_, model.reconstructions_)
    first = tm.ZernikeBasis(10, 23)(model.templates_[:1] - model.templates_[0].mean())
    assert tm.rotational_symmetry(first, (3,))[0, 0] > 0.95
    assert model.templates_[0, 11, 17] > 1.5 * model.templates_[0, 11, 5]  # a lobe points along the columns


def test_the_grains_of_a_polycrystal_share_their_motifs() -> None:
    specimen = tm.datasets.mose2((480, 480), grains=3, random_state=1)
    truth = specimen.truth
    whole = inside(truth.positions, specimen.shape, 37).numpy()
    positions = truth.positions[whole]
    counts = torch.as_tensor(specimen.draw(generator=torch.Generator().manual_seed(0)).data)
    patches = tm.extract_patches(counts, positions, 37)
    model = tm.MotifClassifier(equivalence="rotation").fit(patches, offsets(positions, 37))
    assert model.n_motifs_ <= 6
    labels, grains = model.labels_.numpy(), truth.grains[whole]
    _, near = cKDTree(positions).query(positions, 13)
    within = (grains[near] == grains[:, None]).all(1)  # a boundary has motifs of its own
    assert min(site_f1(truth.kinds[whole][within], labels[within]).values()) > 0.95
    for motif in (0, 1):
        for grain in range(3):
            mine = (labels == motif) & (grains == grain) & within
            assert mine.sum() > 20
            assert error_deg(model.angles_.numpy()[mine], 0.0, 3) < 1


@pytest.mark.parametrize("equivalence", ["mirror", 1])
def test_an_equivalence_that_is_none_is_refused(equivalence: object) -> None:
    with pytest.raises(InputError, match="equivalence must be"):
        tm.MotifClassifier().set_params(equivalence=equivalence).fit(np.ones((20, 9, 9)))


@pytest.mark.parametrize("count", [1, 2, 30])
def test_identical_patches_are_one_motif_however_turned(count: int) -> None:
    model = tm.MotifClassifier(equivalence="euclidean").fit(np.ones((count, 9, 9)))
    assert model.n_motifs_ == 1
    assert_array_equal(model.labels_, np.zeros(count))
