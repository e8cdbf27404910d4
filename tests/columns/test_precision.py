"""How near the fit comes to what the noise allows."""

import numpy as np
import pytest
import torch
from probes import Scene, dumbbells, honeycomb
from scipy.spatial import cKDTree

import torchmotif as tm

DRAWS = 3


def errors_and_bounds(scene: Scene, dose: float, spacing: float | None) -> tuple[np.ndarray, ...]:
    """Errors of (intensity, row, column) of the inner columns over several draws, their bounds, and their claims."""
    truth, side = scene.positions.numpy(), scene.shape[0]
    inner = ((truth > 14) & (truth < side - 15)).all(axis=1)
    bound = scene.bound(dose)[inner]
    errors, claims = [], []
    for seed in range(DRAWS):
        columns = tm.find_columns(scene.draw(dose, seed).numpy(), spacing=spacing)
        distance, index = cKDTree(columns.positions).query(truth[inner])
        assert (distance < scene.sigma).mean() > 0.95
        near = distance < scene.sigma
        index = index[near]
        intensity = columns.intensities[index] / dose - scene.intensities.numpy()[inner][near]
        errors.append(np.column_stack([intensity, columns.positions[index] - truth[inner][near]]))
        claims.append(
            np.column_stack([columns.intensity_errors[index] / dose, columns.position_errors[index]])
        )
    return np.concatenate(errors), bound, np.concatenate(claims)


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scene", "dose", "spacing"),
    [
        (honeycomb(), 1.0, None),
        (honeycomb(), 1 / 10, None),
        (honeycomb(), 1 / 50, None),
        (dumbbells(), 1.0, 8.0),
        (dumbbells(), 1 / 10, 8.0),
        (dumbbells(), 1 / 50, 8.0),
    ],
    ids=["honeycomb", "honeycomb 1/10", "honeycomb 1/50", "dumbbells", "dumbbells 1/10", "dumbbells 1/50"],
)
def test_errors_are_near_the_cramer_rao_bound_and_as_large_as_claimed(
    scene: Scene, dose: float, spacing: float | None
) -> None:
    errors, bound, claims = errors_and_bounds(scene, dose, spacing)
    assert rms(errors[:, 1:]) <= 1.25 * rms(bound[:, 1:])
    assert rms(errors[:, 0]) <= 1.25 * rms(bound[:, 0])
    assert 0.8 <= rms(errors[:, 1:] / claims[:, 1:]) <= 1.25
    assert 0.8 <= rms(errors[:, 0] / claims[:, 0]) <= 1.25


def test_without_noise_positions_and_intensities_are_exact() -> None:
    scene = honeycomb(vacancy=0.1)
    columns = tm.find_columns(scene.expected().numpy())
    truth = scene.positions.numpy()
    inner = ((truth > 30) & (truth < 130)).all(
        axis=1
    )  # columns beyond the rim, unseen, shine a little into the image
    distance, index = cKDTree(columns.positions).query(truth[inner])
    assert distance.max() < 0.03
    np.testing.assert_allclose(columns.intensities[index], scene.intensities.numpy()[inner], rtol=0.03)
    np.testing.assert_allclose(columns.width, scene.sigma, rtol=0.01)


def test_a_slow_background_is_taken_off() -> None:
    scene = honeycomb()
    ramp = torch.linspace(0, 30, 160)[:, None] + 10 * torch.sin(torch.linspace(0, 3, 160))[None, :]
    image = torch.poisson(scene.expected() + ramp, generator=torch.Generator().manual_seed(0))
    columns = tm.find_columns(image.numpy())
    truth = scene.positions.numpy()
    inner = ((truth > 14) & (truth < 145)).all(axis=1)
    _, index = cKDTree(columns.positions).query(truth[inner])
    residual = (columns.intensities[index] - scene.intensities.numpy()[inner]) / columns.intensity_errors[
        index
    ]
    assert rms(residual) < 1.3
    assert abs(residual.mean()) < 0.5
