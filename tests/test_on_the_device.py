"""The whole way on another device than the CPU: what it gives is what the CPU gives, for specimens of many kinds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

SIDE = 256
# Of the standard error of a position, half of the columns and nine tenths of them: fits end after as many steps on every device, but
# the conjugate gradients within a step end by their remainder on a CPU, and after a number of steps elsewhere.
APART = {"MoSe2 at a fiftieth": (0.4, 1.0), "bilayer": (0.1, 0.6)}
USUAL = (0.05, 0.15)
ALIKE = 0.985  # share of columns that both devices find
LABELS = {"bilayer": 0.7}  # whose motifs pass into one another

Drawn = Callable[[], tm.Micrograph]


def drawn(specimen: tm.datasets.Specimen, dose: float = 1.0) -> tm.Micrograph:
    return specimen.draw(dose, torch.Generator().manual_seed(3))


SPECIMENS: dict[str, Drawn] = {
    "MoSe2": lambda: drawn(tm.datasets.mose2((SIDE, SIDE))),
    "MoSe2 at a fiftieth": lambda: drawn(tm.datasets.mose2((SIDE, SIDE)), 1 / 50),
    "WS2": lambda: drawn(tm.datasets.mx2("W", "S", (SIDE, SIDE)), 1 / 10),
    "square": lambda: drawn(tm.datasets.square((SIDE, SIDE))),
    "rectangular": lambda: drawn(tm.datasets.rectangular((SIDE, SIDE))),
    "dumbbells": lambda: drawn(tm.datasets.dumbbells((SIDE, SIDE))),
    "perovskite": lambda: drawn(tm.datasets.perovskite((SIDE, SIDE))),
    "particle": lambda: drawn(tm.datasets.nanoparticle((SIDE, SIDE))),
    "edge": lambda: drawn(tm.datasets.with_edge(tm.datasets.square((SIDE, SIDE)), 200.0)),
    "bilayer": lambda: drawn(tm.datasets.twisted_bilayer_mos2(shape=(SIDE, SIDE))),
}


@pytest.fixture(scope="module")
def device(device: torch.device) -> torch.device:
    if device.type == "cpu":
        pytest.skip("compares another device with the CPU")
    return device


def partners(found: tm.Columns, expected: tm.Columns) -> tuple[np.ndarray, np.ndarray]:
    """How far each expected column is from the nearest that was found, and which that is."""
    one, other = (np.asarray(torch.as_tensor(columns.positions).cpu()) for columns in (found, expected))
    return cKDTree(one).query(other)


@pytest.mark.parametrize("name", SPECIMENS)
@pytest.mark.filterwarnings("ignore::torchmotif.errors.TorchMotifWarning")
def test_an_image_gives_the_same_columns_and_motifs(name: str, device: torch.device) -> None:
    scan = SPECIMENS[name]()
    expected = tm.analyze(scan, progress=False)
    found = tm.analyze(scan, device=device, progress=False)
    apart, partner = partners(found.columns, expected.columns)
    assert len(found.columns) == pytest.approx(len(expected.columns), rel=1 - ALIKE)
    assert (apart < 1).mean() >= ALIKE
    in_errors = apart / np.asarray(expected.columns.position_errors).mean(1)
    assert (np.nanquantile(in_errors, (0.5, 0.9)) <= APART.get(name, USUAL)).all()
    assert found.columns.spacing == pytest.approx(expected.columns.spacing, rel=1e-3)
    assert tm.metrics.ami(expected.labels, np.asarray(found.labels)[partner]) >= LABELS.get(name, 0.95)
    assert name in LABELS or found.n_motifs == expected.n_motifs


def test_what_follows_the_labels_takes_results_of_the_device(device: torch.device, tmp_path: Path) -> None:
    scan = SPECIMENS["MoSe2"]()
    expected, found = (tm.analyze(scan, device=d, progress=False) for d in (None, device))
    order = partners(found.columns, expected.columns)[1]
    assert (found.grains.labels[order] == expected.grains.labels).mean() >= ALIKE
    for ask in (lambda result: result.strain().values, lambda result: result.displacements().values):
        one, other = (np.nanstd(ask(result), axis=0) for result in (found, expected))
        np.testing.assert_allclose(one, other, rtol=0.05)
    assert found.identify("MoSe2").motif_names == expected.identify("MoSe2").motif_names
    found.save(tmp_path / "result")
    np.testing.assert_array_equal(tm.MotifResult.load(tmp_path / "result").labels, found.labels)


def test_a_stack_goes_the_same_way(device: torch.device, tmp_path: Path) -> None:
    specimen = tm.datasets.mose2((SIDE, SIDE))
    frames = np.stack([specimen.draw(1.0, torch.Generator().manual_seed(i)).data for i in range(3)])
    results = [
        tm.field.analyze(frames, tmp_path / name, device=where, workers=1, progress=False)
        for name, where in (("device", str(device)), ("cpu", "cpu"))
    ]
    for i in range(len(frames)):
        one, other = (result[i] for result in results)
        apart, partner = partners(one.columns, other.columns)
        assert (apart < 1).mean() >= ALIKE
        assert tm.metrics.ami(other.labels, np.asarray(one.labels)[partner]) >= 0.95


@pytest.mark.parametrize("kind", ["fit", "predict"])
def test_a_classifier_needs_no_copy_on_the_host(kind: str, device: torch.device) -> None:
    scan = SPECIMENS["MoSe2"]()
    image = torch.as_tensor(scan.data).float()
    at = tm.datasets.mose2((SIDE, SIDE)).truth.positions
    at = at[tm.patches.inside(at, image.shape, 33)]
    patches, offsets = tm.extract_patches(image, at, 33), tm.patches.offsets(at, 33)
    model = tm.MotifClassifier(random_state=0).fit(patches, offsets)
    there = tm.MotifClassifier(random_state=0).fit(patches.to(device), offsets.to(device))
    labels = there.labels_ if kind == "fit" else there.predict(patches.to(device), offsets.to(device))
    assert labels.device.type == device.type
    assert (labels.cpu() == torch.as_tensor(model.labels_)).float().mean() >= ALIKE
