"""The self-check: what is wrong is said, what is right is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.analysis import frames as module
from torchmotif.analysis.frames import some_and_unlike
from torchmotif.columns._rest import Rest, together
from torchmotif.errors import TorchMotifWarning

RIGHT = {
    "honeycomb": lambda: tm.datasets.mose2((256, 256)),
    "square": lambda: tm.datasets.square((256, 256)),
    "rectangular": lambda: tm.datasets.rectangular((256, 256), ratio=1.4),
    "rock salt": lambda: tm.datasets.rocksalt("Sr", "O", (256, 256), lattice_nm=0.516),
    "oxide": lambda: tm.datasets.pentagonal_oxide((256, 256)),
}


def scan(name: str, dose: float = 1.0) -> tm.Micrograph:
    return RIGHT[name]().draw(dose, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dose", [1.0, 0.1])
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_warning(name: str, dose: float) -> None:
    assert tm.analyze(scan(name, dose), progress=False).warnings == []


@pytest.mark.parametrize(("seed", "rotation_rad"), [(0, 0.3), (1, 0.7), (2, 1.1)])
def test_places_that_a_crystal_leaves_free_are_no_doubt(seed: int, rotation_rad: float) -> None:
    """Fluorite along [110]: short vectors lead to places between its anions that hold none."""
    long, short = 0.546, 0.546 / 2**0.5
    anions = [("F", row, col) for row in (0.25, 0.75) for col in (0.0, 0.5)]
    columns = [("Ca", 0.0, 0.0), ("Ca", 0.5, 0.5), *anions]
    cell = ((long, 0.0), (0.0, short))
    specimen = tm.datasets.projection(cell, columns, (320, 320), rotation_rad=rotation_rad)
    assert tm.analyze(specimen.draw(1.0, torch.Generator().manual_seed(seed)), progress=False).warnings == []


def test_a_lattice_many_of_whose_places_hold_no_column_is_said() -> None:
    """Of a square lattice every third column is missing, anywhere."""
    rng, side, pixel = np.random.default_rng(0), 14.0, np.arange(300)
    turn = np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    places = side * np.argwhere(np.ones((80, 80))) @ turn + 150 - side * np.array([40, 40]) @ turn
    places = places[((places > -20) & (places < 320)).all(1)]
    columns = places[rng.random(len(places)) > 0.3]
    rows, cols = (np.exp(-((pixel - columns[:, [axis]]) ** 2) / 18) for axis in (0, 1))
    pixels = rng.poisson(40 * (rows.T @ cols + 0.2)).astype(np.float32)
    with pytest.warns(TorchMotifWarning, match="more places than columns"):
        tm.analyze(pixels, progress=False)


def test_a_spacing_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.warns(TorchMotifWarning, match="spacing"):
        result = tm.analyze(scan("square"), spacing=11.0, progress=False)
    assert any("spacing" in one for one in result.warnings)
    result.save(tmp_path / "out")
    loaded = tm.MotifResult.load(tmp_path / "out")
    assert loaded.warnings == result.warnings
    assert result.warnings[0].split(":")[0][:30] in (tmp_path / "out" / "report.html").read_text()


def test_a_spacing_that_finds_one_sublattice_is_said() -> None:
    with pytest.warns(TorchMotifWarning, match="px apart"):
        tm.analyze(scan("honeycomb"), spacing=22.6, progress=False)


def test_light_columns_that_alternate_between_cells_are_nearer_than_the_spacing_and_right() -> None:
    u, cell = 0.307, ((0.4737, 0.0), (0.0, 0.4737))
    pairs = [(u, u), (-u % 1, -u % 1), (0.5 + u, 0.5 - u), (0.5 - u, 0.5 + u)]
    columns = [("Sn", 0.0, 0.0), ("Sn", 0.5, 0.5), *(("O", row, col) for row, col in pairs)]
    rutile = tm.datasets.projection(cell, columns, (320, 320), rotation_rad=0.3)
    pixels = rutile.draw(1.0, torch.Generator().manual_seed(0))
    assert tm.analyze(pixels, progress=False).warnings == []
    with pytest.warns(TorchMotifWarning, match="spacing"):
        tm.analyze(pixels, spacing=16.0, progress=False)


def test_a_particle_by_itself_is_right() -> None:
    specimen = tm.datasets.nanoparticle((300, 300), radius_nm=1.2, carbon_nm=300.0, carbon_ends=None)
    result = tm.analyze(specimen.draw(1.0, torch.Generator().manual_seed(1)), progress=False)
    assert result.warnings == []
    assert any("speckle" in note for note in result.record["notes"])


def test_particles_without_a_lattice_are_said_to_be_incomplete_where_they_are_faint() -> None:
    colloid = tm.datasets.colloid((256, 256), random_state=2)
    assert tm.analyze(colloid.draw(1.0, torch.Generator().manual_seed(2)), progress=False).warnings == []
    with pytest.warns(TorchMotifWarning, match="fainter ones are missing"):
        tm.analyze(colloid.draw(0.05, torch.Generator().manual_seed(2)), progress=False)


def test_particles_that_were_not_found_are_said() -> None:
    colloid = tm.datasets.colloid((256, 256), random_state=0)
    with pytest.warns(TorchMotifWarning, match="beside the columns as much is left over"):
        tm.analyze(colloid.draw(1.0, torch.Generator().manual_seed(0)), progress=False)


def test_a_few_columns_without_order_are_said() -> None:
    colloid = tm.datasets.colloid((384, 384), random_state=11)
    with pytest.warns(TorchMotifWarning, match="has no columns"):
        tm.analyze(colloid.draw(0.03, torch.Generator().manual_seed(11)), progress=False)


def test_layers_on_each_other_are_said_at_a_low_dose() -> None:
    bilayer = tm.datasets.twisted_bilayer_mos2(0.1, (256, 256))
    with pytest.warns(TorchMotifWarning, match="layers lie on each other"):
        tm.analyze(bilayer.draw(0.1, torch.Generator().manual_seed(0)), progress=False)


@pytest.mark.parametrize(
    "specimen",
    [RIGHT["rock salt"], lambda: tm.datasets.perovskite((256, 256))],
    ids=["rock salt", "perovskite"],
)
def test_a_sublattice_too_faint_for_the_dose_is_said(specimen: Callable[[], tm.datasets.Specimen]) -> None:
    with pytest.warns(TorchMotifWarning, match="light columns may be missing"):
        tm.analyze(specimen().draw(0.004, torch.Generator().manual_seed(0)), progress=False)


@pytest.mark.parametrize("specimen", [RIGHT["square"], RIGHT["honeycomb"]], ids=["square", "honeycomb"])
def test_a_low_dose_of_a_crystal_without_light_columns_is_no_doubt(
    specimen: Callable[[], tm.datasets.Specimen],
) -> None:
    assert tm.analyze(specimen().draw(0.004, torch.Generator().manual_seed(0)), progress=False).warnings == []


@pytest.mark.slow
def test_noise_in_one_window_of_a_large_image_is_no_sublattice() -> None:
    """Of four windows one has 3.2 standard deviations beside its sites."""
    specimen = tm.datasets.mose2((1400, 1400), random_state=3)
    assert tm.analyze(specimen.draw(0.004, torch.Generator().manual_seed(3)), progress=False).warnings == []


@pytest.mark.parametrize(
    ("traces", "doubted"),
    [
        ([3.2, 0.9, 1.5, 1.2], False),
        ([3.2, 2.9, 1.5, 1.2], False),
        ([3.2, 2.9, 1.5, 3.0], True),
        ([2.8, 3.1, 5.0, 1.4, 3.3], True),
    ],
)
def test_a_trace_of_columns_counts_where_most_windows_have_it(traces: list[float], doubted: bool) -> None:
    windows = [Rest(trace=trace, brightest=80.0) for trace in traces] + [Rest()]
    assert (together(windows).doubtful > 0) == doubted
    assert together([Rest()]).doubtful == 0


def test_a_grain_that_was_not_found_is_said() -> None:
    grains = tm.datasets.mose2((256, 256), grains=3, random_state=0)
    with pytest.warns(TorchMotifWarning, match="as bright as where they are"):
        tm.analyze(grains.draw(0.004, torch.Generator().manual_seed(0)), progress=False)


def test_a_hole_is_no_grain_that_was_not_found() -> None:
    crystal = tm.datasets.mose2((300, 300), random_state=0)
    row, col = np.mgrid[:300, :300]
    pixels = np.asarray(crystal.image.data) * (np.hypot(row - 150, col - 150) > 110)
    drawn = np.asarray(tm.apply_dose(pixels, 1.0, generator=torch.Generator().manual_seed(0)))
    assert not any("as bright" in said for said in tm.analyze(drawn, progress=False).warnings)


def test_a_wrong_polarity_is_said() -> None:
    pixels = scan("honeycomb").numpy()
    with pytest.warns(TorchMotifWarning, match="polarity='dark'"):
        tm.analyze(pixels.max() - pixels, polarity="bright", progress=False)


def test_what_was_not_measured_is_kept_with_the_result(tmp_path: Path) -> None:
    pixels = scan("honeycomb").numpy() + 50
    pixels[:, :40] = 0
    result = tm.analyze(pixels, progress=False)
    assert any("were not measured" in note for note in result.record["notes"])
    hidden = result.image.mask
    assert hidden is not None
    assert hidden[:, :39].all()
    assert not hidden[:, 45:].any()
    assert (result.columns.positions[:, 1] > 38).all()
    result.save(tmp_path / "out", report=False)
    np.testing.assert_array_equal(tm.MotifResult.load(tmp_path / "out").image.mask, hidden)


def test_layers_whose_columns_are_all_found_are_no_doubt() -> None:
    bilayer = tm.datasets.twisted_bilayer_mos2(0.3, (384, 384), 0.015, background=0.2)
    assert tm.analyze(bilayer.draw(1.0, torch.Generator().manual_seed(1)), progress=False).warnings == []


@pytest.mark.parametrize(("angle", "side", "dose", "seed"), [(0.12, 384, 0.1, 2), (0.13, 256, 0.05, 3)])
def test_neither_layer_is_a_trace_or_a_neighbour_of_the_other(
    angle: float, side: int, dose: float, seed: int
) -> None:
    bilayer = tm.datasets.twisted_bilayer_mos2(angle, (side, side))
    assert tm.analyze(bilayer.draw(dose, torch.Generator().manual_seed(seed)), progress=False).warnings == []


@pytest.mark.parametrize("angle", [0.0524, 0.1])
def test_layers_on_each_other_are_said(angle: float) -> None:
    bilayer = tm.datasets.twisted_bilayer_mos2(angle, (384, 384), 0.015, background=0.2)
    with pytest.warns(
        TorchMotifWarning, match="several were taken for one|layers lie on each other|no regular neighbours"
    ):
        tm.analyze(bilayer.draw(1.0, torch.Generator().manual_seed(1)), progress=False)


def oxide_on_a_step(height: float, dose: float) -> tuple[tm.Micrograph, np.ndarray]:
    """The image, and where its columns are."""
    crystal = tm.datasets.rocksalt("Mg", "O", (320, 320), rotation_rad=0.3)
    specimen = tm.datasets.with_edge(crystal, height, crystal="everywhere", edge_px=6.0)
    return specimen.draw(dose, torch.Generator().manual_seed(1)), np.asarray(specimen.truth.positions)


def test_a_low_step_hides_no_columns() -> None:
    assert tm.analyze(oxide_on_a_step(30.0, 1.0)[0], progress=False).warnings == []


def test_columns_that_a_bright_side_hides_are_said() -> None:
    with pytest.warns(TorchMotifWarning, match="its noise hides faint columns there"):
        tm.analyze(oxide_on_a_step(300.0, 0.1)[0], progress=False)


def test_columns_that_a_bright_side_does_not_hide_are_found() -> None:
    image, truth = oxide_on_a_step(300.0, 1.0)
    result = tm.analyze(image, progress=False)
    assert result.warnings == []
    found = np.asarray(result.columns.positions)
    near = 0.3 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    truth_inside, found_inside = (at[((at > near) & (at < 319 - near)).all(1)] for at in (truth, found))
    assert (cKDTree(found).query(truth_inside)[0] < near).mean() >= 0.97
    assert (cKDTree(truth).query(found_inside)[0] < near).mean() >= 0.97


@pytest.mark.parametrize(("dose", "said"), [(1.0, False), (0.1, True)])
def test_the_rim_of_a_particle_that_noise_hides_is_said(dose: float, said: bool) -> None:
    """No mean cell tells of it: the places of its crystal end before."""
    particle = tm.datasets.nanoparticle(
        (288, 288), 0.026, element="Pt", axis="110", rotation_rad=0.5, random_state=4
    )
    high = 4 * float(np.ptp(np.asarray(particle.image)))
    specimen = tm.datasets.with_edge(
        particle, high, at=0.65, angle_rad=0.1, edge_px=12.0, crystal="everywhere"
    )
    counts = specimen.draw(dose, torch.Generator().manual_seed(1))
    if said:
        with pytest.warns(TorchMotifWarning, match="its noise hides about"):
            tm.analyze(counts, progress=False)
    else:
        assert tm.analyze(counts, progress=False).warnings == []


def test_a_step_far_higher_than_the_columns_is_said() -> None:
    square = tm.datasets.square((256, 256), electrons_per_pixel=50.0)
    high = 30 * float(np.ptp(np.asarray(square.image)))
    specimen = tm.datasets.with_edge(square, high, edge_px=10.0, crystal="everywhere")
    with pytest.warns(TorchMotifWarning, match="times the height of the columns"):
        tm.analyze(specimen.draw(1.0, torch.Generator().manual_seed(1)), progress=False)


def test_columns_left_out_by_a_threshold_are_not_missed() -> None:
    pixels = scan("rock salt").numpy()
    result = tm.analyze(pixels, threshold=0.3 * float(np.ptp(pixels)), progress=False)
    assert not any("what repeats" in one for one in result.warnings)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_of_a_long_stack_some_frames_and_the_odd_ones_are_looked_at(number: int) -> None:
    """Odd by the number of columns, by their misfit, or by the share without a motif."""
    rng, odd = np.random.default_rng(0), 151
    seen = np.stack([rng.poisson(300, 1000), rng.normal(1.0, 0.05, 1000), rng.uniform(0, 0.02, 1000)], axis=1)
    usual = some_and_unlike(seen)
    assert usual.sum() < 80
    assert usual[[0, -1]].all()
    assert not usual[odd]
    seen[odd, number] = (220, 1.5, 0.1)[number]
    assert some_and_unlike(seen)[odd]


def test_long_stacks_that_are_alike_share_batches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_FRAMES", 2)
    frames = np.stack(
        [tm.datasets.mose2((128, 128)).draw(1.0, torch.Generator().manual_seed(i)).data for i in range(3)]
    )
    for name in ("one.npy", "other.npy"):
        np.save(tmp_path / name, frames)
    result = tm.field.analyze(
        [tmp_path / "one.npy", tmp_path / "other.npy"], tmp_path / "store", workers=1, progress=False
    )
    assert len(result.images) == 6


@pytest.mark.parametrize(
    ("trace", "brightest", "doubted"),
    [(5.2, 150.0, False), (3.2, 150.0, True), (6.2, 250.0, True), (4.6, 255.0, False), (40.0, 400.0, False)],
)
def test_a_trace_that_the_fit_refused_is_a_doubt_where_columns_may_be_so_faint(
    trace: float, brightest: float, doubted: bool
) -> None:
    assert (Rest(trace=trace, brightest=brightest).doubtful > 0) == doubted
