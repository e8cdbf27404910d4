"""Patches, moments and parameters as users hold them, checked, and a batch at a time on the device."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_positions, as_tensor
from torchmotif._checks import whole_number
from torchmotif.errors import InputError

__all__ = ["PatchSource", "check_parameters", "checked_moments", "checked_offsets", "n_max_of"]

_BATCH_BYTES = 128 << 20
_BATCH_BYTES_ON_ACCELERATOR = 1 << 30


class PatchSource:
    """Square patches of one size, of which a batch at a time is brought to the device as float32.

    Parameters
    ----------
    patches : array of shape (n, s, s)
        A tensor, or anything that is sliced like a numpy array, such as a memory-mapped one.
    device : str or torch.device, optional
        By default where the patches are.

    Raises
    ------
    InputError
        If the shape is another.
    """

    def __init__(self, patches: Any, device: DeviceLike) -> None:
        self._data = patches if hasattr(patches, "shape") else np.asarray(patches)
        shape = tuple(self._data.shape)
        if len(shape) != 3 or shape[1] != shape[2] or shape[1] < 3:
            raise InputError(
                f"patches must have the shape (n, s, s) with s of at least 3, got {shape}; see extract_patches"
            )
        self.size = int(shape[1])
        self._where = device
        self.device = self._on_device(slice(0, 0)).device
        budget = _BATCH_BYTES if self.device.type == "cpu" else _BATCH_BYTES_ON_ACCELERATOR
        self.batch = max(1, budget // (4 * self.size**2))

    def __len__(self) -> int:
        """Number of patches."""
        return int(self._data.shape[0])

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows and patches of every batch; patches with values that are not finite are refused."""
        for first in range(0, len(self), self.batch):
            rows = slice(first, min(first + self.batch, len(self)))
            yield rows, self._checked(self._on_device(rows))

    def take(self, rows: Tensor) -> Tensor:
        """The patches with these numbers."""
        index = rows.to(self._data.device) if isinstance(self._data, Tensor) else rows.cpu().numpy()
        return self._checked(self._on_device(index))

    def mean_deviation_least(self) -> tuple[float, float, float]:
        """Mean and standard deviation of all pixels, and the least of them."""
        total, squares, least = 0.0, 0.0, np.inf
        first: float | None = None
        for _, windows in self:
            first = float(windows.mean()) if first is None else first
            beyond = windows - first  # a common offset would cost digits of the squares
            total += float(beyond.sum(dtype=torch.float64))
            squares += float(beyond.square().sum(dtype=torch.float64))
            least = min(least, float(windows.min()))
        count = len(self) * self.size**2
        mean = total / count
        return (first or 0.0) + mean, max(squares / count - mean**2, 0.0) ** 0.5, least

    def _on_device(self, rows: Any) -> Tensor:
        return as_tensor(self._data[rows], device=self._where, name="patches")

    @staticmethod
    def _checked(windows: Tensor) -> Tensor:
        if not bool(torch.isfinite(windows).all()):
            raise InputError(
                "patches has values that are not finite; drop those patches, or fill their pixels first"
            )
        return windows


def checked_moments(moments: Any, device: DeviceLike) -> Tensor:
    """Moments (n, k) in float64 on the device, full sets of them and finite."""
    values = as_tensor(moments, device=device, dtype=torch.float64, name="moments")
    if values.ndim != 2 or len(values) == 0:
        raise InputError(
            f"moments must have the shape (n, k) with n of at least 1, got {tuple(values.shape)}"
        )
    n_max = n_max_of(values.shape[1])
    if (n_max + 1) * (n_max + 2) // 2 != values.shape[1]:
        raise InputError(
            f"moments must come in full sets of (n_max + 1)(n_max + 2) / 2, got {values.shape[1]}; "
            "see ZernikeBasis.project"
        )
    if not bool(torch.isfinite(values).all()):
        raise InputError("moments has values that are not finite; drop those rows first")
    return values


def n_max_of(k: int) -> int:
    """The highest radial order that k moments reach."""
    return (math.isqrt(8 * k + 1) - 3) // 2


def checked_offsets(offsets: Any, n: int, device: torch.device) -> Tensor | None:
    """Offsets (n, 2) in float64 on the device."""
    if offsets is None:
        return None
    shifts = as_positions(offsets, device=device, name="offsets")
    if len(shifts) != n:
        raise InputError(f"offsets must have one row for each of the {n} patches, got {len(shifts)}")
    return shifts


def check_parameters(estimator: Any, n: int) -> None:
    """Refuse parameters of a `MotifClassifier` that are out of range for n columns."""
    for name, least in (("n_motifs", 1), ("n_max", 0), ("random_state", 0)):
        value = getattr(estimator, name)
        if value is not None:
            whole_number(name, value, least)
    n_motifs = estimator.n_motifs
    if n_motifs is not None and not 1 <= n_motifs <= n:
        raise InputError(f"n_motifs must lie between 1 and the number of patches, {n}, got {n_motifs}")
    for name in ("max_valley", "min_share"):
        if not 0 < getattr(estimator, name) <= 1:
            raise InputError(f"{name} must lie between 0 and 1, got {getattr(estimator, name)}")
    if estimator.equivalence not in {None, "rotation", "euclidean"}:
        raise InputError(
            f"equivalence must be 'rotation', 'euclidean' or None, got {estimator.equivalence!r}"
        )
    gain = estimator.electrons_per_count
    if gain is not None and not (gain > 0 and math.isfinite(gain)):
        raise InputError(f"electrons_per_count must be positive and finite, got {gain}")
