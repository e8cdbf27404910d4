import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns.polarity import Polarity, is_bright_field, polarity_of
from torchmotif.errors import TorchMotifWarning

SPECIMENS = {
    "honeycomb": lambda: tm.datasets.mose2((256, 256)),
    "square": lambda: tm.datasets.square((256, 256)),
    "perovskite": lambda: tm.datasets.perovskite((256, 256)),
    "pairs": lambda: tm.datasets.dumbbells((256, 256)),
    "oxide": lambda: tm.datasets.pentagonal_oxide((256, 256)),
}


def drawn(name: str) -> tuple[tm.datasets.Specimen, np.ndarray]:
    specimen = SPECIMENS[name]()
    return specimen, specimen.draw(generator=torch.Generator().manual_seed(0)).numpy()


def precision(specimen: tm.datasets.Specimen, found: tm.Columns) -> float:
    distance = cKDTree(specimen.truth.positions).query(found.positions)[0]
    return float((distance < 0.3 * found.spacing).mean())


@pytest.mark.parametrize("name", SPECIMENS)
def test_bright_columns_are_found_by_themselves(name: str) -> None:
    specimen, pixels = drawn(name)
    assert precision(specimen, tm.find_columns(pixels)) > 0.9


@pytest.mark.parametrize("name", ["honeycomb", "perovskite", "pairs", "oxide"])
def test_dark_columns_are_found_by_themselves(name: str) -> None:
    specimen, pixels = drawn(name)
    found = tm.find_columns(pixels.max() - pixels)
    assert len(found) > 20
    assert precision(specimen, found) > 0.9


def told(pixels: np.ndarray) -> Polarity:
    h, w = pixels.shape
    return polarity_of(lambda box: pixels[box[0] : box[2], box[1] : box[3]], (h, w))


def columns_on(cell: np.ndarray, places: list[tuple[float, float]], width: float) -> np.ndarray:
    """Like columns at some places of all cells, of height 1, 256 x 256 px."""
    number = np.stack(np.meshgrid(*[np.arange(-40, 41)] * 2, indexing="ij"), -1).reshape(-1, 1, 2)
    at = ((number + places) @ cell).reshape(-1, 2) + 128.3
    at = at[((at > -30) & (at < 286)).all(1)]
    rows, cols = (np.exp(-((np.arange(256) - one[:, None]) ** 2) / (2 * width**2)) for one in at.T)
    return rows.T @ cols


HEXAGONAL = np.array([[17.0, 2.0], [17.0 / 2 - 3**0.5, 1.0 + 17.0 * 0.75**0.5]])
# Columns of these lattices are so wide that their gaps are as narrow: by skewness alone they have the other polarity.
WIDE = {
    "honeycomb": (HEXAGONAL * 1.5, [(0.0, 0.0), (1 / 3, 1 / 3)], 5.6),
    "kagome": (HEXAGONAL * 1.9, [(0.0, 0.0), (0.5, 0.0), (0.0, 0.5)], 5.5),
    "hexagonal": (HEXAGONAL, [(0.0, 0.0)], 5.6),
}


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", WIDE)
def test_the_mean_cell_tells_the_polarity_of_wide_columns(name: str, dark: bool) -> None:
    clean = columns_on(*WIDE[name])
    clean = (clean.max() - clean if dark else clean) + 0.3 * clean.max()
    pixels = np.random.default_rng(3).poisson(60 * clean / clean.mean()).astype(np.float32)
    assert told(pixels).dark == dark


@pytest.mark.parametrize("electrons", [10.0, 1000.0])
def test_a_blurred_honeycomb_of_dark_columns_is_no_lattice_of_bright_ones(electrons: float) -> None:
    clean = gaussian_filter(np.asarray(tm.datasets.mose2((256, 256), 0.02).image), 3.0)
    generator = torch.Generator().manual_seed(5)
    assert told(np.asarray(tm.apply_dose(2 * clean.max() - clean, electrons, generator=generator))).dark


def test_waves_that_are_their_own_negative_have_no_polarity() -> None:
    row, col = np.mgrid[:192, :192] * (2 * np.pi / 17.3)
    clean = 40 + 10 * (np.cos(row + 0.2 * col) + np.cos(col - 0.2 * row))
    pixels = np.random.default_rng(0).poisson(clean).astype(np.float32)
    assert told(pixels).unknown
    with pytest.warns(TorchMotifWarning, match="whether the columns are bright or dark"):
        tm.analyze(pixels, hierarchy=0, progress=False)


def test_a_given_polarity_is_taken() -> None:
    _, pixels = drawn("honeycomb")
    auto, bright = tm.find_columns(pixels), tm.find_columns(pixels, polarity="bright")
    np.testing.assert_array_equal(auto.positions, bright.positions)


def test_dark_columns_are_said_to_be_dark() -> None:
    _, pixels = drawn("honeycomb")
    result = tm.analyze(pixels.max() - pixels, hierarchy=0, progress=False)
    assert any("dark" in note for note in result.record["notes"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scan_BF.dm4", True),
        ("ABF", True),
        ("Bright Field", True),
        ("HAADF", False),
        ("abfall", False),
        (None, False),
    ],
)
def test_names_say_bright_field(name: str | None, said: bool) -> None:
    assert is_bright_field(name) == said


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("pixel_nm", [0.05, 0.08])
def test_columns_of_few_pixels_have_a_polarity(pixel_nm: float, dark: bool) -> None:
    specimen = tm.datasets.perovskite((256, 256), pixel_nm)
    image = np.asarray(specimen.image)
    image = 1.2 * image.max() - image if dark else image + 0.2 * image.max()
    pixels = np.random.default_rng(0).poisson(200 * image / image.mean()).astype(np.float32)
    assert told(pixels).dark == dark
    assert len(tm.find_columns(pixels)) > 1500


def test_the_edge_of_a_crystal_is_no_dark_column() -> None:
    square = tm.datasets.square((320, 320), electrons_per_pixel=50.0)
    specimen = tm.datasets.with_edge(square, 30 * float(np.ptp(np.asarray(square.image))), edge_px=10.0)
    assert not told(specimen.draw(generator=torch.Generator().manual_seed(0)).numpy()).dark


def test_dark_particles_that_are_given_as_such_look_dark() -> None:
    rng = np.random.default_rng(1)
    row, col = np.mgrid[:256, :256]
    image = np.zeros((256, 256))
    for r, c in rng.uniform(0, 256, (60, 2)):
        image = np.maximum(image, 1 / (1 + np.exp((np.hypot(row - r, col - c) - 5) * 2)))
    pixels = rng.poisson(60 * (1.3 - image)).astype(np.float32)
    with pytest.warns(TorchMotifWarning, match="no regular neighbours"):
        result = tm.analyze(pixels, polarity="dark", hierarchy=0, progress=False)
    assert not any("as if they were bright" in one for one in result.warnings)
