import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.utils import estimator_checks

import torchmotif as tm
from torchmotif.errors import InputError

KINDS = 3


@pytest.fixture(scope="module")
def patches() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy patches of a three-fold ring whose centre has one of three heights, at random sub-pixel offsets."""
    rng = np.random.default_rng(3)
    kinds = np.repeat(np.arange(KINDS), [200, 120, 60])
    offsets = rng.uniform(-0.5, 0.5, (len(kinds), 2))
    axis = np.arange(21) - 10.0
    angles = 2 * np.pi * np.arange(3) / 3
    sites = np.concatenate([[[0.0, 0.0]], 6 * np.stack([np.sin(angles), np.cos(angles)], axis=1)])
    centres = offsets[:, None, :] + sites
    spots = np.exp(-((axis - centres[..., :1]) ** 2) / 6)[..., :, None]
    spots = spots * np.exp(-((axis - centres[..., 1:]) ** 2) / 6)[..., None, :]
    heights = np.ones((len(kinds), 4))
    heights[:, 0] = np.array([1.0, 0.6, 0.2])[kinds]
    expected = 40 * (0.1 + (heights[:, :, None, None] * spots).sum(axis=1))
    return rng.poisson(expected).astype(np.float32), offsets, kinds


@pytest.fixture(scope="module", params=[(0, 20), (1, 20), (0, 30)], ids=lambda given: f"{given[1]} soiled")
def soiled(patches: tuple[np.ndarray, ...], request: pytest.FixtureRequest) -> tuple[np.ndarray, ...]:
    """Patches of three kinds, some more of the rarest of them with dirt on them (kind -1); and their offsets."""
    windows, offsets, kinds = patches
    seed, many = request.param
    rng = np.random.default_rng(seed)
    chosen = [np.flatnonzero(kinds == kind)[:most] for kind, most in ((0, 200), (1, 60), (2, 30))]
    rows = np.concatenate([*chosen, np.flatnonzero(kinds == 2)[-many:]])
    y, x = np.mgrid[-10:11, -10:11]
    row, col = rng.uniform(-7, 7, (2, many, 2, 1, 1))
    shown = windows[rows]
    shown[-many:] += rng.poisson(32 * np.exp(-((y - row) ** 2 + (x - col) ** 2) / 6).sum(axis=1))
    return shown, offsets[rows], np.repeat([0, 1, 2, -1], [200, 60, 30, many])


@pytest.mark.parametrize("n_motifs", [None, 3])
def test_soiled_patches_fit_no_motif(soiled: tuple[np.ndarray, ...], n_motifs: int | None) -> None:
    """Motifs are ordered by the patches that fit them; that there are three of them may be known."""
    windows, offsets, kinds = soiled
    model = tm.MotifClassifier(n_motifs).fit(windows, offsets)
    assert (model.labels_ == kinds).mean() > 0.98
    assert_array_equal(model.counts_, np.sort(model.counts_)[::-1])


@pytest.mark.parametrize("n_motifs", [1, 2, 4, 5])
def test_what_is_soiled_is_no_motif_of_a_number_that_was_given(
    soiled: tuple[np.ndarray, ...], n_motifs: int
) -> None:
    """Fewer motifs are whole kinds together, more of them are parts of a kind."""
    windows, offsets, kinds = soiled
    model = tm.MotifClassifier(n_motifs).fit(windows, offsets)
    assert model.n_motifs_ == n_motifs
    assert min(model.counts_) >= 5
    for kind in range(3):
        shares = np.bincount(model.labels_[(kinds == kind) & (model.labels_ >= 0)], minlength=n_motifs)
        assert shares.sum() > 0.95 * (kinds == kind).sum()
        if n_motifs < KINDS:
            assert shares.max() > 0.95 * shares.sum()
    if n_motifs > KINDS:
        of = [np.bincount(kinds[(model.labels_ == i) & (kinds >= 0)]) for i in range(n_motifs)]
        assert all(part.max() > 0.95 * part.sum() for part in of)


def test_motifs_are_found_without_saying_how_many(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, kinds = patches
    model = tm.MotifClassifier().fit(windows, offsets)
    assert model.n_motifs_ == KINDS
    assert adjusted_mutual_info_score(kinds, model.labels_) > 0.99
    assert_array_equal(model.counts_, np.sort(model.counts_)[::-1])
    assert model.templates_.shape == (KINDS, 21, 21)


def test_offsets_are_not_motifs(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, kinds = patches
    one = kinds == 0
    assert tm.MotifClassifier().fit(windows[one], offsets[one]).n_motifs_ == 1


def test_probabilities_are_probabilities(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, _ = patches
    model = tm.MotifClassifier().fit(windows, offsets)
    probabilities = model.predict_proba(windows, offsets)
    assert probabilities.shape == (len(windows), KINDS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-9)
    fits = model.labels_ >= 0
    assert_array_equal(probabilities.argmax(axis=1)[fits], model.labels_[fits])
    np.testing.assert_allclose(probabilities.max(axis=1)[fits], model.probabilities_[fits])


def test_predict_repeats_fit_and_labels_new_patches(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, kinds = patches
    model = tm.MotifClassifier()
    labels = model.fit_predict(windows, offsets)
    assert_array_equal(model.predict(windows, offsets), labels)
    half = tm.MotifClassifier().fit(windows[::2], offsets[::2])
    assert adjusted_mutual_info_score(kinds[1::2], half.predict(windows[1::2], offsets[1::2])) > 0.99


def test_same_seed_same_bits(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, _ = patches
    first, second = (tm.MotifClassifier(random_state=5).fit(windows, offsets) for _ in range(2))
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.probabilities_, second.probabilities_)


def test_the_scale_of_the_image_does_not_matter(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, _ = patches
    plain = tm.MotifClassifier().fit_predict(windows, offsets)
    scaled = tm.MotifClassifier().fit_predict(windows * 1e5 - 3e6, offsets)
    assert adjusted_mutual_info_score(plain, scaled) > 0.99


@pytest.mark.parametrize("n_motifs", [1, 2, 5])
def test_the_number_of_motifs_can_be_given(patches: tuple[np.ndarray, ...], n_motifs: int) -> None:
    windows, offsets, _ = patches
    assert tm.MotifClassifier(n_motifs).fit(windows, offsets).n_motifs_ == n_motifs


def test_what_fits_no_motif_is_labelled_so(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, _ = patches
    model = tm.MotifClassifier().fit(windows, offsets)
    strange = windows[:1] + 400 * np.eye(21, dtype=np.float32)
    assert model.predict(strange)[0] == -1


def test_torch_in_torch_out(patches: tuple[np.ndarray, ...], device: torch.device) -> None:
    windows, offsets, _ = patches
    model = tm.MotifClassifier().fit(
        torch.as_tensor(windows, device=device), torch.as_tensor(offsets, device=device)
    )
    for learnt in (model.labels_, model.probabilities_, model.templates_):
        assert isinstance(learnt, torch.Tensor)
        assert learnt.device.type == device.type
    expected = tm.MotifClassifier().fit(windows, offsets)
    assert_array_equal(model.labels_.cpu().numpy(), expected.labels_)


def test_moments_are_learnt_and_sorted_as_their_patches_are(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, _ = patches
    level = float(windows.mean())
    moments = tm.ZernikeBasis(14, 21)(windows - level, offsets)
    by_patch = tm.MotifClassifier().fit(windows, offsets)
    by_moment = tm.MotifClassifier().fit_moments(moments, 21, offsets, level=level)
    assert_array_equal(by_moment.labels_, by_patch.labels_)
    np.testing.assert_allclose(by_moment.reconstructions_, by_patch.reconstructions_, atol=0.01)
    assert by_moment.electrons_per_count_ == pytest.approx(by_patch.electrons_per_count_, rel=1e-3)
    for model in (by_patch, by_moment):
        assert_array_equal(model.predict_moments(moments, level=level).labels, by_patch.labels_)
    assert (
        np.mean(
            tm.MotifClassifier().fit_moments(moments[:, :66], 21, offsets, level=level).labels_
            == by_patch.labels_
        )
        > 0.99
    )
    other_level = tm.ZernikeBasis(10, 21)(windows - level - 3, offsets)
    assert np.mean(by_moment.predict_moments(other_level, level=level + 3).labels == by_patch.labels_) > 0.99
    assert np.mean(by_moment.predict(windows, offsets) == by_patch.labels_) > 0.99


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        (np.zeros((5, 64)), "full sets"),
        (np.zeros((0, 66)), r"shape \(n, k\)"),
        (np.full((5, 66), np.inf), "not finite"),
    ],
    ids=["no full set", "empty", "inf"],
)
def test_bad_moments_are_refused(moments: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tm.MotifClassifier().fit_moments(moments, 21)


def test_bad_parameters_are_refused_with_moments_too() -> None:
    with pytest.raises(InputError, match="min_share"):
        tm.MotifClassifier(min_share=2.0).fit_moments(np.ones((5, 66)), 21)


def test_moments_of_a_lower_order_are_refused(patches: tuple[np.ndarray, ...]) -> None:
    model = tm.MotifClassifier().fit(patches[0])
    with pytest.raises(InputError, match="moments must be at least 66 a column as in fit, got 15"):
        model.predict_moments(np.zeros((3, 15)))


@pytest.mark.parametrize("learn", ["patches", "moments"])
def test_a_sample_keeps_the_rare_motifs(learn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen of 12,000 columns: a sample of a quarter has four of them at random, less than a motif needs."""
    monkeypatch.setattr("torchmotif.motifs.sample.MOST", 3_000)
    rng = np.random.default_rng(0)
    kinds = np.where(rng.random(12_000) < 0.4, 1, 0)
    kinds[rng.choice(len(kinds), 15, replace=False)] = 2
    y, x = np.mgrid[-8:9, -8:9]
    spot, beside = np.exp(-(x**2 + y**2) / 18), np.exp(-((x - 5) ** 2 + y**2) / 10)
    windows = rng.poisson(1 + np.stack([20 * spot, 10 * spot, 3 * spot + 20 * beside])[kinds]).astype(
        np.float32
    )
    model = tm.MotifClassifier(n_max=6)
    if learn == "patches":
        model.fit(windows)
    else:
        model.fit_moments(tm.ZernikeBasis(10, 17)(windows - 5.0), 17, level=5.0)
    assert model.n_motifs_ == KINDS
    assert_array_equal(model.labels_[kinds == 2], 2)
    assert (model.labels_ == kinds).mean() > 0.99


def test_a_sample_that_lacks_nothing_is_learnt_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchmotif.motifs.sample.MOST", 500)
    learnt: list[int] = []
    learn = tm.MotifClassifier._learn

    def counted(model: tm.MotifClassifier, *args: Any) -> None:
        learnt.append(len(args[-1]))
        learn(model, *args)

    monkeypatch.setattr(tm.MotifClassifier, "_learn", counted)
    y, x = np.mgrid[-8:9, -8:9]
    spot = np.exp(-(x**2 + y**2) / 18)
    windows = np.random.default_rng(0).poisson(np.repeat([1 + 20 * spot, 1 + 10 * spot], 600, axis=0))
    assert tm.MotifClassifier(n_max=6).fit(windows).counts_.tolist() == [600, 600]
    assert learnt == [500]
    # Four of another kind are no motif, ten are:
    other = 1 + 20 * np.exp(-((x - 5) ** 2 + y**2) / 10) + 3 * spot
    for rare, times in ((4, 1), (10, 2)):
        learnt.clear()
        more = np.random.default_rng(1).poisson(np.repeat([other], rare, axis=0))
        model = tm.MotifClassifier(n_max=6).fit(np.concatenate([windows, more]))
        assert len(learnt) == times
        assert model.n_motifs_ == 1 + times


def test_patches_on_disk_are_read_in_place(patches: tuple[np.ndarray, ...], tmp_path: Path) -> None:
    windows, offsets, _ = patches
    np.save(tmp_path / "patches.npy", windows)
    on_disk = np.load(tmp_path / "patches.npy", mmap_mode="r")
    assert_array_equal(
        tm.MotifClassifier().fit_predict(on_disk, offsets), tm.MotifClassifier().fit_predict(windows, offsets)
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_or_identical_patches_are_one_motif(count: int) -> None:
    model = tm.MotifClassifier().fit(np.ones((count, 9, 9)))
    assert model.n_motifs_ == 1
    assert_array_equal(model.labels_, np.zeros(count))


@pytest.mark.parametrize(
    ("windows", "parameters", "message"),
    [
        (np.zeros((5, 9)), {}, r"shape \(n, s, s\)"),
        (np.zeros((5, 9, 8)), {}, r"shape \(n, s, s\)"),
        (np.zeros((0, 9, 9)), {}, "at least one patch"),
        (np.full((5, 9, 9), np.nan), {}, "not finite"),
        (np.zeros((5, 9, 9)), {"n_motifs": 6}, "n_motifs must lie between 1 and the number of patches, 5"),
        (np.zeros((5, 9, 9)), {"max_valley": 0.0}, "max_valley"),
    ],
    ids=["2-D", "not square", "empty", "nan", "too many motifs", "max_valley"],
)
def test_bad_input(windows: np.ndarray, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tm.MotifClassifier(**parameters).fit(windows)


def test_offsets_of_another_length_are_refused(patches: tuple[np.ndarray, ...]) -> None:
    windows, offsets, _ = patches
    with pytest.raises(InputError, match="one row for each"):
        tm.MotifClassifier().fit(windows, offsets[:-1])


def test_patches_of_another_size_are_refused(patches: tuple[np.ndarray, ...]) -> None:
    model = tm.MotifClassifier().fit(patches[0])
    with pytest.raises(InputError, match="21 px a side as in fit, got 19 px"):
        model.predict(patches[0][:, 1:-1, 1:-1])


def test_the_mean_alone_tells_bright_from_dark() -> None:
    patches = np.random.default_rng(0).poisson(np.repeat([5.0, 20.0], 60)[:, None, None], (120, 9, 9))
    model = tm.MotifClassifier(2, n_max=0).fit(patches)
    assert model.counts_.tolist() == [60, 60]
    assert (model.labels_ == np.repeat([1, 0], 60)).all()  # the brighter first


def test_moments_of_whole_pixels_need_no_level() -> None:
    patches = np.random.default_rng(0).poisson(np.repeat([5.0, 20.0], 60)[:, None, None], (120, 9, 9))
    moments = tm.ZernikeBasis(4, 9)(patches.astype(np.float32))
    model = tm.MotifClassifier(2).fit_moments(moments, 9)
    assert_array_equal(model.labels_, tm.MotifClassifier(2).fit_moments(moments, 9, level=0.0).labels_)
    found, known = model.predict_moments(moments), model.predict_moments(moments, level=0.0)
    assert_array_equal(found.scores, known.scores)
    assert_array_equal(found.labels, model.labels_)


def test_predict_before_fit_says_so() -> None:
    with pytest.raises(NotFittedError):
        tm.MotifClassifier().predict(np.zeros((5, 9, 9)))


# scikit-learn's parametrize_with_checks yields nothing for estimators that do not take two-dimensional input; those
# of its checks that do not feed such data are called here one by one.
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_mixin_order,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_set_params,
        estimator_checks.check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_scikit_learn_checks(check: object) -> None:
    check("MotifClassifier", tm.MotifClassifier())  # type: ignore[operator]


def test_it_is_cloned_pickled_and_tagged(patches: tuple[np.ndarray, ...]) -> None:
    model = tm.MotifClassifier(n_motifs=2).fit(patches[0], patches[1])
    assert clone(model).get_params() == model.get_params()
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301
    assert_array_equal(copy.predict(patches[0]), model.predict(patches[0]))
    for _, split in [*model._model.tree.splits, *model._model.tree.candidates]:  # no views of larger tensors
        kept = [split.axes, split.means, split.intrinsic, split.sides, *(split.cumulants or ())]
        assert all(one.untyped_storage().nbytes() == one.nbytes for one in kept)
    assert model.__sklearn_tags__().input_tags.three_d_array


@pytest.mark.parametrize("equivalence", [None, "rotation"])
@pytest.mark.parametrize("learn", ["patches", "moments"])
def test_the_number_of_threads_changes_no_bit(
    patches: tuple[np.ndarray, ...], equivalence: str | None, learn: str
) -> None:
    windows, offsets, _ = patches
    moments = tm.ZernikeBasis(14, windows.shape[1])(windows - 5.0, offsets)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            model = tm.MotifClassifier(equivalence=equivalence)
            if learn == "patches":
                model.fit(windows, offsets)
            else:
                model.fit_moments(moments, windows.shape[1], offsets, level=5.0)
            assert torch.get_num_threads() == threads
            found.append([model.labels_, model.probabilities_, model.outlier_scores_, model.angles_])
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()
