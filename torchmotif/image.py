"""Micrograph: pixels together with their calibration and their dose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from torchmotif._arrays import Pixels, pixels_of
from torchmotif.errors import InputError

__all__ = ["Micrograph", "nm_per"]

# Length units found in microscope files, in nanometres; the two signs for micro look alike.
_NM = {"m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "nm": 1.0, "pm": 1e-3}
_NM |= dict.fromkeys(("a", "å", "angstrom", "angstroms"), 0.1)


def nm_per(unit: str) -> float | None:
    """Nanometres in one `unit` of length, None where it is no length.

    Examples
    --------
    >>> nm_per("A"), nm_per("1/nm")
    (0.1, None)
    """
    return _NM.get(unit.strip().lower())


@dataclass(frozen=True, eq=False)
class Micrograph:
    """An image that never travels without its calibration.

    Parameters
    ----------
    data : array of shape (h, w), numpy or torch, any real dtype
        The pixels, kept as they are: integers stay integers.
    pixel_size : float or (float, float), optional
        Length of a pixel along (rows, columns), in `unit`. None where it is unknown; it is never guessed.
    unit : str
        Unit of `pixel_size`: nm, um, pm, m or A (angstrom).
    metadata : mapping, optional
        Whatever else is known of the image (file, detector, notes).
    electrons_per_pixel : float, optional
        Mean number of detected electrons per pixel. None where it is unknown.

    Raises
    ------
    InputTypeError
        If `data` does not hold real numbers.
    InputError
        If `data` is not two-dimensional, or a calibration is not a positive, finite length.

    Examples
    --------
    >>> import numpy as np
    import torch
    >>> import torchmotif as tm
    >>> scan = tm.Micrograph(np.zeros((64, 48), np.uint16), pixel_size=0.15, unit="A")
    >>> scan.shape, scan.pixel_size_nm
    ((64, 48), (0.015, 0.015))
    """

    data: Any
    pixel_size: Any = None
    unit: str = "nm"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    electrons_per_pixel: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the pixels and bring the calibration to one form."""
        object.__setattr__(self, "data", pixels_of(self.data, "data"))
        object.__setattr__(self, "metadata", dict(self.metadata))
        if self.pixel_size is not None and nm_per(self.unit) is None:
            raise InputError(
                f"unit must be a length (nm, A, pm, um, mm, cm, m), got {self.unit!r}; "
                "leave pixel_size=None where the calibration is no length"
            )
        if self.pixel_size is not None:
            object.__setattr__(self, "pixel_size", _per_axis(self.pixel_size))
        if self.electrons_per_pixel is not None and not self.electrons_per_pixel > 0:
            raise InputError(f"electrons_per_pixel must be positive, got {self.electrons_per_pixel}")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) in pixels."""
        rows, columns = self.data.shape
        return int(rows), int(columns)

    @property
    def pixel_size_nm(self) -> tuple[float, float] | None:
        """Length of a pixel along (rows, columns) in nanometres, None where it is unknown."""
        factor = nm_per(self.unit)
        if self.pixel_size is None or factor is None:
            return None
        row, column = self.pixel_size
        return row * factor, column * factor

    def numpy(self) -> np.ndarray:
        """The pixels as a numpy array, copied from the device where they are on one."""
        if isinstance(self.data, np.ndarray):
            return self.data
        pixels = self.data.detach().cpu()
        array: np.ndarray = (pixels.float() if pixels.dtype == torch.bfloat16 else pixels).numpy()
        return array  # numpy has no bfloat16

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Let numpy read the pixels."""
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def replace(self, data: Pixels, **note: Any) -> "Micrograph":
        """The same calibration and metadata over other pixels; `note` is added to the metadata."""
        return Micrograph(
            data,
            self.pixel_size,
            self.unit,
            {**self.metadata, **note},
            electrons_per_pixel=self.electrons_per_pixel,
        )

    def __repr__(self) -> str:
        """Say shape, type and calibration in a line."""
        size = "no pixel size"
        if self.pixel_size is not None:
            row, column = self.pixel_size
            size = (
                f"{row:.6g} {self.unit}/px" if row == column else f"{row:.6g} x {column:.6g} {self.unit}/px"
            )
        dose = "" if self.electrons_per_pixel is None else f", {self.electrons_per_pixel:.4g} electrons/px"
        return f"Micrograph({self.shape[0]} x {self.shape[1]} {self.data.dtype}, {size}{dose})"


def _per_axis(pixel_size: Any) -> tuple[float, float]:
    try:
        values = np.atleast_1d(np.asarray(pixel_size, dtype=float))
    except (TypeError, ValueError):  # text, ragged lists, structures
        values = np.empty(0)
    if values.shape not in {(1,), (2,)} or not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(
            f"pixel_size must be a positive length, or two of them (row, column), got {pixel_size!r}; "
            "use None where the calibration is unknown"
        )
    return float(values[0]), float(values[-1])
