"""Strain against geometric phase analysis, which reads it from the image itself and knows no columns."""

from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

import torchmotif as tm

_SMOOTH = 26.0  # pixels: one lattice constant


def phase_strain(image: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Strain (h, w, 3) along rows, columns and their shear, by Hytch, Snoeck & Kilaas (1998), from two reflections of a lattice (2, 2)."""
    row, col = np.indices(image.shape)
    slopes = []
    for g in np.linalg.inv(basis).T:
        carried = (image - image.mean()) * np.exp(-2j * np.pi * (g[0] * row + g[1] * col))
        wave = gaussian_filter(carried.real, _SMOOTH) + 1j * gaussian_filter(carried.imag, _SMOOTH)
        wave /= np.maximum(np.abs(wave), 1e-12)
        slopes.append([np.imag(np.gradient(wave, axis=axis) * wave.conj()) for axis in (0, 1)])
    phase = np.moveaxis(np.array(slopes), (0, 1), (2, 3))
    distortion = -np.einsum("pi,hwpj->hwij", basis, phase) / (2 * np.pi)
    shear = (distortion[..., 0, 1] + distortion[..., 1, 0]) / 2
    return np.stack([distortion[..., 0, 0], distortion[..., 1, 1], shear], axis=-1)


def test_strain_agrees_with_geometric_phase_analysis() -> None:
    side, constant = 384, 0.3905 / 0.015
    centre = ((side - 1) / 2,) * 2

    def displacement(positions: torch.Tensor) -> torch.Tensor:
        even: Any = tm.datasets.homogeneous([[0.004, 0.003], [0.003, -0.006]], centre=centre)
        return even(positions) + tm.datasets.strain_gradient(0.02 / side, centre[0])(positions)

    specimen = tm.datasets.polar_perovskite(
        (side, side), displacement_pm=0.0, rotation_rad=0.0, displacement=displacement
    )
    image = specimen.draw(generator=torch.Generator().manual_seed(0))
    field = tm.analyze(image, progress=False).strain({"a_nm": 0.3905})
    ours, errors = field.smoothed(_SMOOTH)
    places = np.rint(field.positions).astype(int)
    inner = field.known & ((places > 80) & (places < side - 80)).all(axis=1)
    theirs = phase_strain(np.asarray(image.numpy(), np.float64), constant * np.eye(2))
    theirs = theirs[places[inner, 0], places[inner, 1]]
    away = (field.positions[inner, 0] - centre[0]) / side
    true = np.stack([0.004 + 0.02 * away, -0.006 + 0 * away, 0.003 + 0 * away], axis=1)
    assert inner.sum() > 60
    # Strain from positions is of the deformed lattice as the reference sees it; phases are of the inverse: strain squared apart.
    assert np.abs(ours[inner, :3] - theirs).mean() < 8e-4
    assert np.abs(np.mean(ours[inner, :3] - theirs, axis=0)).max() < 4e-4
    assert np.corrcoef(ours[inner, 0], theirs[:, 0])[0, 1] > 0.9
    off = ours[inner, :3] - true
    assert off.std() < (theirs - true).std()
    assert np.abs(off.mean(axis=0)).max() < 4e-4
    assert np.sqrt((off**2).mean()) < 2.5 * np.nanmedian(errors[inner, :3])
