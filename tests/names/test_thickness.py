"""Names of crystals whose thickness varies: particles are not full of vacancies, and clusters of vacancies are no thickness."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.names import identify
from torchmotif.names._mixture import Levels, fit_mixture
from torchmotif.names._thickness import hosts_of_other_thickness

SIDE, STEP = 30, 10.0
VACANCY = 0.58  # of the host, as V_S of S2
HALF = STEP * (SIDE - 1) / 2


def places() -> np.ndarray:
    axis = STEP * np.arange(SIDE)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def said(intensities: np.ndarray, error: float) -> int:
    """How many columns are said to be the host of another thickness."""
    errors = np.full(len(intensities), error)
    levels = Levels(np.array([1.0, VACANCY, 0.0, 1.4]), np.array([0.001, 0.02, 0.05, 0.02]))
    fitted = fit_mixture(intensities, errors, levels, 0.0, np.ones(len(errors), bool))
    return int(hosts_of_other_thickness(places(), intensities, errors, fitted, 0.0).sum())


def disc(radius: float, inside: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda at: np.where(np.hypot(*(at - HALF).T) < radius, inside, 0.02)


@pytest.mark.parametrize("error", [0.03, 0.08, 0.15])
@pytest.mark.parametrize(
    "share",
    [
        pytest.param(disc(0, 0.0), id="few"),
        pytest.param(lambda at: np.full(len(at), 0.3), id="many"),
        pytest.param(disc(70, 1.0), id="disc"),
        pytest.param(disc(70, 0.6), id="disc of most"),
        pytest.param(lambda at: (at[:, 1] > HALF).astype(float), id="half"),
        pytest.param(lambda at: (at[:, 1] // (2 * STEP) % 2).astype(float), id="stripes"),
        pytest.param(lambda at: at[:, 1] / at[:, 1].max(), id="ever more"),
    ],
)
def test_vacancies_are_no_thickness_however_they_cluster(
    share: Callable[[np.ndarray], np.ndarray], error: float
) -> None:
    rng = np.random.default_rng(0)
    at = places()
    empty = rng.random(len(at)) < share(at)
    for tilt in (0.0, 0.1):  # of the detector's brightness
        bright = np.where(empty, VACANCY, 1.0) * (1 + tilt * (at[:, 0] / at[:, 0].max() - 0.5))
        assert said(bright + error * rng.standard_normal(len(at)), error) == 0


@pytest.mark.parametrize("error", [0.03, 0.08])
def test_columns_that_become_shorter_towards_a_rim_are_no_vacancies(error: float) -> None:
    away = np.hypot(*(places() - HALF).T) / (1.1 * HALF * 2**0.5)
    bright = np.sqrt(1 - away**2) + error * np.random.default_rng(0).standard_normal(len(away))
    assert said(bright, error) > 50


def test_few_columns_are_not_judged() -> None:
    at, bright = places()[:20], np.linspace(0.4, 1.0, 20)
    errors = np.full(20, 0.01)
    fitted = fit_mixture(
        bright, errors, Levels(np.array([1.0, VACANCY]), np.full(2, 0.02)), 0.0, np.ones(20, bool)
    )
    assert not hosts_of_other_thickness(at, bright, errors, fitted, 0.0).any()


def test_names_of_a_particle_say_that_its_thickness_varies() -> None:
    particle = tm.datasets.nanoparticle((400, 400), radius_nm=2.5, carbon_nm=0.0, electrons_per_pixel=1.0)
    scan = particle.draw(generator=torch.Generator().manual_seed(0))
    names = tm.analyze(scan, progress=False).identify("Au").names
    assert names is not None
    varying = names.record["varying"]
    assert varying["V_Au"] > 0.9 * names.counts["V_Au"] > 40
    [warning] = [one for one in names.warnings if "as bright as the columns around them" in one]
    assert f"{varying['V_Au']} V_Au" in warning


def test_right_names_are_not_doubted(identified: tm.MotifResult) -> None:
    assert identified.names is not None
    assert "varying" not in identified.names.record


def test_neighbours_are_those_in_square_pixels(
    identified: tm.MotifResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    def around(rows_per_col: float) -> np.ndarray:
        """Where columns are said to be, of an image whose pixels are that much higher than wide."""
        seen: list[np.ndarray] = []

        def none(positions: np.ndarray, *_: object) -> np.ndarray:
            seen.append(positions)
            return np.zeros(len(positions), bool)

        monkeypatch.setattr(identify, "hosts_of_other_thickness", none)
        assert identified.names is not None
        columns, sites = identified.columns, identified.sites
        low = np.array([1 / rows_per_col, 1.0])
        names = identify.identify_columns(
            np.zeros((round(identified.image.shape[0] / rows_per_col), identified.image.shape[1])),
            replace(columns, positions=columns.positions * low),
            replace(sites, positions=sites.positions * low),
            identified.names.record["formula"],
            pixel_size_nm=(0.02 * rows_per_col, 0.02),
        )
        assert len(names) == len(columns)
        return np.concatenate(seen)

    square = around(1.0)
    assert len(square) > 100
    np.testing.assert_allclose(around(2.0), square)
