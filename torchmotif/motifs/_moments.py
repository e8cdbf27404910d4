"""Patches and moments as users hold them, checked, and a batch at a time as moments in one unit on the device."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_positions, as_tensor
from torchmotif.errors import InputError
from torchmotif.zernike import ZernikeBasis

__all__ = ["MomentScale", "MomentSource", "PatchSource", "Source", "add_by_label", "finer_order", "n_max_of"]

_BATCH_BYTES = 128 << 20  # of patches at a time on a CPU
_BATCH_BYTES_ON_ACCELERATOR = 1 << 30
# Patches that tell mean and deviation of the pixels, which only have to be about right: half, twice or all of them move nothing of 26 images.
_MOST_SAMPLED = 4096
_PARTS = 4  # of them, whose means are compared; 2, 8, or no comparison, move nothing of 26 images, the least electrons being 1/400
_BATCH_MOMENTS = 65_536  # columns at a time where there are moments
# More than those of the motifs, to order 10 in crystals: without, noise along single directions is off by half, with them by a tenth. In AMI,
# bilayers and a perovskite at 1/10 lose 0.03 to 0.04 without; with 2, 1,000 patches at 1/50 lose 0.02; 8 are no better.
_ORDERS_FOR_NOISE = 4


@dataclass(frozen=True, eq=False)
class MomentScale:
    """Moments about the true centres of pixels less a level, at the learnt dose, over a unit."""

    basis: ZernikeBasis
    level: float  # mean of the learnt pixels: without it moments of unlike offsets are hardly comparable
    unit: float  # standard deviation of the learnt patches
    dark: float  # value of a pixel without electrons
    # Of the order that was learnt on, so that a patch has the same moments again to the last digit:
    finer: ZernikeBasis | None = None

    @property
    def counts_at_level(self) -> float:
        """What the level stands above a pixel without electrons, in units of the moments."""
        return (self.level - self.dark) / self.unit

    def of_patches(
        self,
        windows: Float[Tensor, "n s s"],
        shifts: Float[Tensor, "n 2"] | None,
        relative_dose: float = 1.0,
    ) -> Float[Tensor, "n k"]:
        """From patches and their offsets."""
        level = self.dark + (self.level - self.dark) * relative_dose
        moments = (self.finer or self.basis)(windows, shifts, level=level)[:, : len(self.basis.basis)]
        return self.of_moments(moments, level, relative_dose)

    def of_moments(
        self, moments: Float[Tensor, "n k"], level: float, relative_dose: float = 1.0
    ) -> Float[Tensor, "n k"]:
        """From moments of pixels from which a level was subtracted."""
        if not (relative_dose > 0 and math.isfinite(relative_dose)):
            raise InputError(f"relative_dose must be positive and finite, got {relative_dose}")
        moments = moments / relative_dose
        moments[:, 0] += (level - self.dark) / relative_dose + self.dark - self.level
        return moments / self.unit

    def reconstructed(self, moments: Float[Tensor, "n k"]) -> Float[Tensor, "n s s"]:
        """The patches that moments stand for, zero outside the disk."""
        constant = torch.zeros_like(moments[:1])
        constant[0, 0] = 1.0  # the first polynomial is 1
        disk = self.basis.reconstruct(constant.float()).round()
        patches: Tensor = self.basis.reconstruct((moments * self.unit).float()) + self.level * disk
        return patches


class PatchSource:
    """Square patches (n, s, s) of one size, of which a batch at a time is brought to the device as float32.

    They are a tensor, or anything that is sliced like a numpy array, such as a memory-mapped one; `offsets` (n, 2) are the
    true centres minus the window centres in pixels.
    """

    name = "patches"

    def __init__(self, patches: Any, device: DeviceLike, offsets: Any = None) -> None:
        self._data = patches if hasattr(patches, "shape") else np.asarray(patches)
        shape = tuple(self._data.shape)
        if len(shape) != 3 or shape[1] != shape[2] or shape[1] < 3:
            raise InputError(
                f"patches must have the shape (n, s, s) with s of at least 3, got {shape}; see extract_patches"
            )
        self.size, self.n_max = int(shape[1]), int(shape[1]) // 2
        self._where = device
        self.device = self._on_device(slice(0, 0)).device
        budget = _BATCH_BYTES if self.device.type == "cpu" else _BATCH_BYTES_ON_ACCELERATOR
        self.batch = max(1, budget // (4 * self.size**2))
        self.offsets = _checked_offsets(offsets, len(self), self.device)

    def __len__(self) -> int:
        """Number of patches."""
        return int(self._data.shape[0])

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows and patches of every batch."""
        for first in range(0, len(self), self.batch):
            rows = slice(first, min(first + self.batch, len(self)))
            yield rows, self._on_device(rows)

    def scaled(self, scale: MomentScale, relative_dose: float = 1.0) -> Iterator[Tensor]:
        """Moments of every batch; patches with values that are not finite are refused."""
        for rows, windows in self:
            _require_finite(windows, "patches", "drop those patches, or fill their pixels first")
            yield scale.of_patches(
                windows, None if self.offsets is None else self.offsets[rows], relative_dose
            )

    def read(self, basis: ZernikeBasis) -> "Read":
        """Moments of all patches, and what their pixels are like, in one pass."""
        some = self._on_device(slice(0, len(self), -(-len(self) // _MOST_SAMPLED)))
        mean = some.mean(dtype=torch.float64)
        level, deviation = torch.stack([mean, (some - mean).std(correction=0)]).tolist()  # read at once
        least = math.inf
        moments = torch.empty(len(self), len(basis.basis), device=self.device)
        for rows, windows in self:
            least = min(
                least, _require_finite(windows, "patches", "drop those patches, or fill their pixels first")
            )
            moments[rows] = basis(windows, None if self.offsets is None else self.offsets[rows], level=level)
        return Read(moments, level, deviation, least, _parts(some))

    def _on_device(self, rows: Any) -> Tensor:
        return as_tensor(self._data[rows], device=self._where, name="patches")


class MomentSource:
    """Zernike moments (n, k) of patches of a size, full sets of them; `level` is what was subtracted from the pixels."""

    name = "moments"

    def __init__(
        self, moments: Any, device: DeviceLike, size: int, level: float, offsets: Any = None
    ) -> None:
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
        _require_finite(values, "moments", "drop those rows first")
        self.values, self.size, self.level, self.device = values, size, level, values.device
        self.n_max = min(n_max, size // 2)
        self.offsets = _checked_offsets(offsets, len(values), values.device)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self.values)

    def scaled(self, scale: MomentScale, relative_dose: float = 1.0) -> Iterator[Tensor]:
        """Moments of every batch, to the order of the basis."""
        for part in self.values[:, : len(scale.basis.basis)].split(_BATCH_MOMENTS):
            yield scale.of_moments(part, self.level, relative_dose).float()

    def read(self, basis: ZernikeBasis) -> "Read":  # noqa: ARG002
        """All moments; in place of those of the pixels their root mean square, and that no pixel is negative."""
        return Read(self.values, self.level, float(self.values.square().sum(1).mean().sqrt()), 0.0, None)


class Read(NamedTuple):
    """What was read of all patches."""

    moments: Float[Tensor, "n l"]  # of the pixels less the level
    level: float  # about the mean of the pixels
    deviation: float  # about their standard deviation
    least: float  # of them
    parts: Float[Tensor, "p s s"] | None  # means of parts of some of them; None where there are only moments


Source = PatchSource | MomentSource


def _parts(windows: Float[Tensor, "n s s"]) -> Float[Tensor, "p s s"]:
    """Mean patches of several parts, which tell what is there from what is noise."""
    return torch.stack([windows[i::_PARTS].mean(0) for i in range(min(_PARTS, len(windows)))])


def finer_order(n_max: int, size: int) -> int:
    """The order to which moments of patches of a side in pixels are made: beyond that of the motifs, so that their noise is known."""
    return min(n_max + _ORDERS_FOR_NOISE, size - 1)


def n_max_of(k: int) -> int:
    """The highest radial order that k moments reach."""
    return (math.isqrt(8 * k + 1) - 3) // 2


def add_by_label(
    total: Float[Tensor, "m p"], labels: Int[Tensor, " n"], windows: Float[Tensor, "n s s"]
) -> None:
    """Add a batch of patches to the sum of each label; float64, as beyond 2^24 single electrons no longer count."""
    part = torch.zeros_like(total, dtype=windows.dtype)
    total += part.index_add_(0, labels, windows.flatten(1))


def _checked_offsets(offsets: Any, n: int, device: torch.device) -> Tensor | None:
    if offsets is None:
        return None
    shifts = as_positions(offsets, device=device, name="offsets")
    if len(shifts) != n:
        raise InputError(f"offsets must have one row for each of the {n} patches, got {len(shifts)}")
    return shifts


def _require_finite(values: Tensor, name: str, remedy: str) -> float:
    """The least of values that are finite."""
    least, most = torch.stack(torch.aminmax(values)).tolist() if values.numel() else (0.0, 0.0)
    if not (math.isfinite(least) and math.isfinite(most)):
        raise InputError(f"{name} has values that are not finite; {remedy}")
    return float(least)
