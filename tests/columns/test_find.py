from collections.abc import Callable, Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch
from probes import Scene, dumbbells, honeycomb
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import grid

SIDE = 160


@pytest.fixture(scope="module")
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((256, 256))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return honeycomb(SIDE)


def within(positions: np.ndarray, shape: tuple[int, int], margin: float) -> np.ndarray:
    return ((positions > margin) & (positions < np.array(shape) - 1 - margin)).all(axis=1)


def recall_precision(
    found: np.ndarray, truth: np.ndarray, shape: tuple[int, int], tolerance: float
) -> tuple[float, float]:
    truth_inner, found_inner = (x[within(x, shape, 8)] for x in (truth, found))
    missed = cKDTree(found).query(truth_inner)[0]
    false = cKDTree(truth).query(found_inner)[0]
    return float((missed < tolerance).mean()), float((false < tolerance).mean())


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dose", [1.0, 1 / 10, 1 / 50])
def test_every_column_of_a_specimen_is_found(specimen: tm.datasets.Specimen, dose: float) -> None:
    image = specimen.draw(dose, torch.Generator().manual_seed(0))
    columns = tm.find_columns(image)
    recall, precision = recall_precision(
        columns.positions.numpy(), specimen.truth.positions.numpy(), image.shape, 4.0
    )
    assert recall >= 0.95
    assert precision >= 0.97
    assert columns.spacing_nm == pytest.approx(0.3289 / 3**0.5, rel=0.06)


@pytest.mark.real_data
@pytest.mark.parametrize("detector", ["ADF1", "ADF2"])
@pytest.mark.parametrize("number", ["11", "25"])
def test_the_labelled_columns_of_a_real_image_are_found(real_data, number: str, detector: str) -> None:
    read = pytest.importorskip("rsciio.digitalmicrograph").file_reader
    image = read(real_data / f"TiWSe2_1028_{number}_{detector}.dm4")[0]["data"]
    labelled = np.loadtxt(real_data / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", skiprows=1)[:, :2]
    found = tm.find_columns(image).positions
    # The labels leave out a rim of eight pixels: what was found there cannot be judged.
    judged = ((found >= labelled.min(axis=0) - 1.6) & (found <= labelled.max(axis=0) + 1.6)).all(axis=1)
    assert (cKDTree(found).query(labelled)[0] <= 1.6).mean() >= 0.98
    assert (cKDTree(labelled).query(found[judged])[0] <= 1.6).mean() >= 0.98


def test_numpy_gives_numpy_and_torch_torch(scene: Scene) -> None:
    image = scene.draw()
    from_torch, from_numpy = tm.find_columns(image), tm.find_columns(image.numpy())
    assert isinstance(from_torch.positions, torch.Tensor)
    assert isinstance(from_numpy.is_rim, np.ndarray)
    np.testing.assert_array_equal(from_numpy.positions, from_torch.positions.numpy())
    assert from_numpy.positions.dtype == np.float64


def test_positions_are_ordered_by_row_then_column(scene: Scene) -> None:
    positions = tm.find_columns(scene.draw()).positions.numpy()
    np.testing.assert_array_equal(np.lexsort((positions[:, 1], positions[:, 0])), np.arange(len(positions)))


@pytest.mark.parametrize("dose", [1.0, 1 / 50])
def test_columns_of_several_tiles_do_not_depend_on_the_number_of_threads(
    specimen: tm.datasets.Specimen,
    dose: float,
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grid, "_SIDE", 96)
    monkeypatch.setattr(grid, "_SPACINGS", 1.0)
    monkeypatch.setattr(grid, "BATCH", 60_000)
    image = specimen.draw(dose, torch.Generator().manual_seed(0))
    threads(1)
    one = tm.find_columns(image)
    assert len(one) > 250
    threads(3)
    several = tm.find_columns(image)
    assert torch.get_num_threads() == 3
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(several, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_gain_and_offset_do_not_matter(scene: Scene) -> None:
    image = scene.draw().double()
    plain, scaled = tm.find_columns(image), tm.find_columns(1e4 * image - 3e5)
    torch.testing.assert_close(scaled.positions, plain.positions, atol=5e-3, rtol=0)
    torch.testing.assert_close(scaled.intensities, 1e4 * plain.intensities, rtol=5e-3, atol=0)
    torch.testing.assert_close(scaled.intensity_errors, 1e4 * plain.intensity_errors, rtol=5e-3, atol=0)


def test_dark_columns_are_bright_ones_of_the_negative(scene: Scene) -> None:
    image = scene.draw()
    dark, bright = tm.find_columns(-image, polarity="dark"), tm.find_columns(image)
    torch.testing.assert_close(dark.positions, bright.positions)
    torch.testing.assert_close(dark.intensities, bright.intensities)


def test_columns_that_are_round_in_the_specimen_are_found_under_oblong_pixels(scene: Scene) -> None:
    oblong = Scene(
        scene.positions, scene.intensities, scene.sigma, scene.background, scene.shape
    ).draw()  # drawn with square pixels
    stretched = oblong.view(SIDE // 2, 2, SIDE).sum(dim=1)  # every two rows are one
    micrograph = tm.Micrograph(stretched, pixel_size=(0.03, 0.015))
    columns = tm.find_columns(micrograph)
    assert columns.spacing_nm == pytest.approx(0.015 * 22 / 3**0.5, rel=0.06)
    truth = (scene.positions.numpy() - [0.5, 0]) / [2, 1]
    inner = within(truth, (SIDE // 2, SIDE), 8)
    assert cKDTree(columns.positions.numpy()).query(truth[inner])[0].max() < 0.5
    assert columns.width[1] == pytest.approx(2 * columns.width[0], rel=0.1)


def test_a_threshold_leaves_out_what_is_lower(scene: Scene) -> None:
    image = scene.draw()
    height = 1500 / (2 * np.pi * scene.sigma**2)  # between vacancies and the others
    kept = tm.find_columns(image, threshold=height)
    assert kept.intensities.min() > 1400
    assert len(kept) < len(tm.find_columns(image))


def test_without_refinement_positions_are_rough_and_errors_unknown(scene: Scene) -> None:
    columns = tm.find_columns(scene.draw(), refine=False)
    assert columns.position_errors is None
    distance = cKDTree(columns.positions.numpy()).query(scene.positions.numpy())[0]
    assert np.median(distance) < 0.5


def test_flags_say_what_is_special(scene: Scene) -> None:
    counts = scene.draw()
    limit = torch.quantile(counts, 0.97)
    columns = tm.find_columns(counts.clamp(max=limit))
    positions = columns.positions.numpy()
    at_rim = ~within(positions, scene.shape, 7)
    inner = within(positions, scene.shape, 12)
    assert columns.is_rim.numpy()[at_rim].any()
    assert not columns.is_rim.numpy()[inner].any()
    nearest = cKDTree(scene.positions.numpy()).query(positions)[1]
    bright = (scene.intensities[nearest] == 2500).numpy() & inner
    faint = (scene.intensities[nearest] == 1250).numpy() & inner
    assert columns.is_saturated.numpy()[bright].mean() > 0.9
    assert not columns.is_saturated.numpy()[faint].any()
    assert not columns.is_overlapping.numpy()[inner].any()
    assert not columns.is_predicted.any()
    # The unsaturated flanks still give the whole intensity.
    assert np.median(columns.intensities.numpy()[bright]) == pytest.approx(2500, rel=0.05)


@pytest.mark.parametrize(("dose", "seed"), [(1.0, 3), (1.0, 5), (1 / 10, 4)])
def test_the_centres_of_hexagons_are_dark_columns(dose: float, seed: int) -> None:
    specimen = tm.datasets.mose2((256, 256), 0.015, vacancy_rate=0.0)
    columns = specimen.truth.positions.numpy()
    distance = 0.3289 / 0.015  # px, between hexagons, as between columns of one kind
    image = specimen.draw(dose, torch.Generator().manual_seed(seed))
    found = tm.find_columns(image, polarity="dark", spacing=distance).positions.numpy()
    here = within(found, image.shape, distance)
    nearest = cKDTree(columns).query(found[here], k=3)[0]
    cells = within(columns, image.shape, distance).sum() / 2
    assert here.sum() == pytest.approx(cells, rel=0.05)
    # The three nearest columns are as far away as a side of the hexagon is long.
    assert np.abs(nearest / (distance / 3**0.5) - 1).max() < 0.25


def test_a_column_too_dark_to_be_seen_is_predicted_by_its_lattice(scene: Scene) -> None:
    inner = torch.as_tensor(within(scene.positions.numpy(), scene.shape, 40))
    gone = int(torch.nonzero(inner & (scene.intensities == 2500))[0])
    intensities = scene.intensities.clone()
    intensities[gone] = 0
    image = Scene(scene.positions, intensities, scene.sigma, scene.background, scene.shape).draw()
    seen = tm.find_columns(image)
    assert cKDTree(seen.positions.numpy()).query(scene.positions[gone].numpy())[0] > 8
    columns = tm.find_columns(image, include_dark_sites=True)
    distance, index = cKDTree(columns.positions.numpy()).query(scene.positions[gone].numpy())
    assert distance < 0.5
    assert columns.is_predicted[index]
    assert abs(columns.intensities[index]) < 5 * columns.intensity_errors[index]
    assert columns.is_predicted.sum() <= 3


@pytest.mark.parametrize("way", ["nan", "mask", "masked array"])
def test_masked_pixels_are_left_out(scene: Scene, way: str) -> None:
    image = scene.draw().numpy().astype(np.float64)
    hidden = np.zeros(scene.shape, dtype=bool)
    hidden[60:100, 60:100] = True
    spoiled = np.where(hidden, 1e4, image)
    given = {"nan": np.where(hidden, np.nan, image), "masked array": np.ma.array(spoiled, mask=hidden)}
    columns = tm.find_columns(given.get(way, spoiled), mask=hidden if way == "mask" else None)
    truth = scene.positions.numpy()
    clear = within(truth, scene.shape, 8) & ~((truth > 53) & (truth < 106)).all(axis=1)
    assert cKDTree(columns.positions).query(truth[clear])[0].max() < 1
    inside = ((columns.positions > 61) & (columns.positions < 98)).all(axis=1)
    assert not inside.any()


def test_hot_pixels_and_negative_values_do_no_harm(scene: Scene) -> None:
    image = scene.draw() - 20
    spoiled = image.clone()
    spoiled[50, 60], spoiled[100, 30] = 1e9, -1e7
    columns = tm.find_columns(spoiled)
    truth = scene.positions.numpy()
    found = cKDTree(columns.positions.numpy()).query(truth[within(truth, scene.shape, 8)])[0]
    assert (found < 1).mean() > 0.98
    assert columns.intensities.max() < 4000


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pure_noise_has_no_columns(seed: int) -> None:
    noise = np.random.default_rng(seed).poisson(20, (200, 200))
    with pytest.raises(tm.errors.InputError, match="no regular spacing"):
        tm.find_columns(noise)
    assert len(tm.find_columns(noise, spacing=10.0)) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_a_dose_that_shows_nothing_finds_almost_nothing(seed: int) -> None:
    specimen = tm.datasets.mose2((200, 230), vacancy_rate=0.08)
    scan = specimen.draw(1 / 400, torch.Generator().manual_seed(seed))
    # Of single maxima: the lattice may show all the same.
    assert len(tm.find_columns(scan, spacing=12.6, guided=False)) <= 10


@pytest.mark.parametrize("seed", [0, 11, 19])
def test_maxima_that_all_turn_out_to_be_nothing_are_no_columns(seed: int) -> None:
    scan = tm.datasets.mose2((256, 256)).draw(1 / 500, torch.Generator().manual_seed(seed))
    assert len(tm.find_columns(scan, guided=False)) <= 10


@pytest.mark.parametrize("dose", [1 / 1000, 1 / 20_000])
def test_single_electrons_are_no_columns(dose: float) -> None:
    scan = tm.datasets.mose2((200, 230)).draw(dose, torch.Generator().manual_seed(0))
    assert len(tm.find_columns(scan, spacing=12.6)) == 0
    with pytest.raises(tm.errors.InputError, match="no regular spacing"):
        tm.find_columns(scan)


@pytest.mark.parametrize("mean", [0.001, 0.02, 0.3])
def test_counts_without_columns_have_none(mean: float) -> None:
    counts = np.random.default_rng(0).poisson(mean, (300, 300))
    assert len(tm.find_columns(counts, spacing=10.0)) <= 1


@pytest.mark.parametrize("dose", [1.0, 1 / 50])
def test_pairs_with_one_maximum_are_split(dose: float) -> None:
    pairs = dumbbells()
    columns = tm.find_columns(pairs.draw(dose, 1), spacing=8.0)
    inner = within(pairs.positions.numpy(), pairs.shape, 14)
    near = cKDTree(columns.positions.numpy()).query(pairs.positions.numpy()[inner])[0] < pairs.sigma
    assert near.mean() > (0.99 if dose == 1 else 0.95)


def test_a_huge_dynamic_range_hides_no_column(scene: Scene) -> None:
    bright = Scene(torch.tensor([[80.0, 80.0]]).double(), torch.tensor([1e6]).double(), 3.0, 0.0, scene.shape)
    far = np.hypot(*(scene.positions.numpy() - 80).T) > 35
    image = torch.poisson(scene.expected() + bright.expected(), generator=torch.Generator().manual_seed(0))
    columns = tm.find_columns(image, spacing=22 / 3**0.5)
    inner = far & within(scene.positions.numpy(), scene.shape, 8)
    near = cKDTree(columns.positions.numpy()).query(scene.positions.numpy()[inner])[0] < 2
    assert near.mean() > 0.95


def test_a_single_column_is_found_when_its_scale_is_given() -> None:
    scene = Scene(torch.tensor([[31.3, 40.7]]).double(), torch.tensor([2000.0]).double(), 2.5, 1.0, (64, 80))
    columns = tm.find_columns(scene.draw(), spacing=11.0)
    assert len(columns) == 1
    assert np.hypot(*(columns.positions[0].numpy() - [31.3, 40.7])) < 0.3
    assert columns.intensities[0] == pytest.approx(2000, rel=0.1)


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.ones((64, 64)), {}, "constant"),
        (np.full((64, 64), np.nan), {}, "no finite pixel"),
        (np.zeros((8, 8)), {}, "at least 16 pixels"),
        (np.zeros((3, 64, 64)), {}, "two-dimensional"),
        (np.eye(64), {"spacing": 1.0}, "spacing must be at least 2"),
        (np.eye(64), {"mask": np.zeros((3, 3), bool)}, "mask must be boolean"),
    ],
    ids=["constant", "nan", "small", "stack", "spacing", "mask"],
)
def test_bad_input_is_refused(image: np.ndarray, arguments: dict, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.find_columns(image, **arguments)


def test_columns_of_two_widths_are_all_found(scene: Scene) -> None:
    parts = [
        Scene(scene.positions[which], scene.intensities[which], sigma, 0.5, scene.shape)
        for which, sigma in ((scene.intensities == 1800, 2.3), (scene.intensities != 1800, 3.4))
    ]
    image = torch.poisson(
        sum(part.expected(10) for part in parts), generator=torch.Generator().manual_seed(0)
    )
    columns = tm.find_columns(image)
    truth = scene.positions.numpy()
    recall, precision = recall_precision(columns.positions.numpy(), truth, scene.shape, 2.0)
    assert recall == 1
    assert precision > 0.95
    assert 2.3 < min(columns.width) <= max(columns.width) < 3.4
