"""Micrograph: pixels together with their calibration and their dose."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from torchmotif._arrays import Pixels, as_tensor, pixels_of
from torchmotif._units import constant_step, nm_of_axes, nm_per, plausible_nm
from torchmotif.errors import InputError, InputTypeError

__all__ = [
    "Micrograph",
    "as_micrograph",
    "checked_mask",
    "labelled",
    "per_axis",
]


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
    mask : boolean array of shape (h, w), optional
        True where a pixel was not measured, in the way of `numpy.ma`; such pixels are left out of whatever is computed.

    Raises
    ------
    InputTypeError
        If `data` does not hold real numbers.
    InputError
        If `data` is not two-dimensional, a calibration is not a positive, finite length, or the mask does not fit.

    Examples
    --------
    >>> import numpy as np
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
    mask: Any = field(default=None, kw_only=True)

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
            object.__setattr__(self, "pixel_size", per_axis(self.pixel_size))
        if self.electrons_per_pixel is not None and not self.electrons_per_pixel > 0:
            raise InputError(f"electrons_per_pixel must be positive, got {self.electrons_per_pixel}")

        if self.mask is not None:
            object.__setattr__(self, "mask", checked_mask(self.mask, self.shape))

    @classmethod
    def from_hyperspy(cls, signal: Any) -> "Micrograph":
        """The image of a HyperSpy signal, with its calibration and its title.

        Parameters
        ----------
        signal : hyperspy.signals.Signal2D
            Of one image; lazy ones are computed. HyperSpy itself is not needed here.

        Returns
        -------
        Micrograph
            `pixel_size` in nm; None unless both axes are lengths.

        Raises
        ------
        InputTypeError
            If `signal` is no signal, or does not hold real numbers.
        InputError
            If it is a stack of images.

        Examples
        --------
        >>> import hyperspy.api as hs  # doctest: +SKIP
        >>> Micrograph.from_hyperspy(hs.load("stack.emd").inav[0])  # doctest: +SKIP
        """
        if not _is_signal(signal):
            raise InputTypeError(
                f"signal must be a HyperSpy signal, got {type(signal).__name__}; use tm.Micrograph for arrays"
            )
        found = labelled(signal)
        if found is None or found.data.ndim != 2:
            axes = 0 if found is None else found.data.ndim
            raise InputError(
                f"signal must hold one image, got {axes} axes; take one of a stack: signal.inav[0]"
            )
        return found.micrograph()

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

    def measured(self) -> np.ndarray:
        """The pixels as a float array in which those that were not measured are NaN."""
        pixels = self.numpy()
        if self.mask is None:
            return pixels
        return np.where(self.mask, np.nan, pixels.astype(np.result_type(pixels.dtype, np.float32)))

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
            mask=None if tuple(data.shape) != self.shape else self.mask,
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
        hidden = "" if self.mask is None else f", {self.mask.mean():.1%} not measured"
        return f"Micrograph({self.shape[0]} x {self.shape[1]} {self.data.dtype}, {size}{dose}{hidden})"


def checked_mask(mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """A mask on the host.

    Raises
    ------
    InputError
        If it is not boolean, or not of the image's shape.
    """
    values = mask.detach().cpu().numpy() if isinstance(mask, torch.Tensor) else np.asarray(mask)
    if values.dtype != bool or values.shape != shape:
        raise InputError(
            f"mask must be boolean and have the image's shape {shape}, true where pixels are to be "
            f"ignored; got {values.dtype} {values.shape}"
        )
    return values


def per_axis(pixel_size: Any, name: str = "pixel_size") -> tuple[float, float]:
    """A length of pixels, or two of them, as one along each axis; an InputError says that it is none."""
    if isinstance(pixel_size, torch.Tensor):
        pixel_size = as_tensor(pixel_size, dtype=torch.float64, name=name).detach().cpu().numpy()
    try:
        values = np.atleast_1d(np.asarray(pixel_size, dtype=float))
    except (TypeError, ValueError):  # text, ragged lists, structures
        values = np.empty(0)
    if values.shape not in {(1,), (2,)} or not (np.isfinite(values).all() and (values > 0).all()):
        raise InputError(
            f"{name} must be a positive length, or two of them (row, column), got {pixel_size!r}; "
            "use None where the calibration is unknown"
        )
    return float(values[0]), float(values[-1])


def as_micrograph(image: Any) -> Micrograph:
    """A micrograph as it is, a HyperSpy signal or an xarray with its calibration, an array without one."""
    if isinstance(image, Micrograph):
        return image
    if _is_signal(image):
        return Micrograph.from_hyperspy(image)
    found = labelled(image)
    return Micrograph(pixels_of(image)) if found is None else found.micrograph()


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pixels with the calibration that their own axes have; the axes of the image come last, rows before columns."""

    data: Any
    pixel_size_nm: tuple[float, float] | None = None
    title: str = ""
    notes: list[str] = field(default_factory=list)

    def micrograph(self) -> Micrograph:
        """The image, its pixels computed where they were lazy."""
        metadata: dict[str, Any] = {"title": self.title} if self.title else {}
        if self.notes:
            metadata["notes"] = self.notes
        return Micrograph(np.asarray(self.data), self.pixel_size_nm, "nm", metadata)


def labelled(image: Any) -> Labelled | None:
    """What HyperSpy signals and xarrays say of their pixels, lazy or not; None for anything else.

    Parameters
    ----------
    image : HyperSpy signal, xarray.DataArray, or anything else

    Returns
    -------
    Labelled or None
        Its data are an array of numpy or dask, of two dimensions or three.

    Examples
    --------
    >>> labelled(np.zeros((3, 3))) is None
    True
    """
    if _is_signal(image):
        manager = image.axes_manager
        axes = sorted([*manager.navigation_axes, *manager.signal_axes], key=lambda axis: axis.index_in_array)
        # axes without a constant step have no scale
        size = nm_of_axes((getattr(axis, "scale", None), axis.units) for axis in axes[-2:])
        title = str(image.metadata.get_item("General.title", ""))
        size, notes = plausible_nm(size, "the signal")
        return Labelled(image.data, size, title, notes)
    if not all(hasattr(image, name) for name in ("dims", "coords", "dtype")):
        return None
    dims = [str(name).lower() for name in image.dims]
    if dims[-2:] == ["x", "y"]:  # its names say that columns come first
        image = image.transpose(*image.dims[:-2], image.dims[-1], image.dims[-2])
    size = nm_of_axes(_axis_of(image, name) for name in image.dims[-2:])
    size, notes = plausible_nm(size, "the array")
    return Labelled(image.data, size, str(image.name or ""), notes)


def _axis_of(array: Any, name: Any) -> tuple[float | None, str]:
    """Step and unit of a dimension of an xarray; no step where its coordinates have no constant one."""
    if name not in array.coords:
        return None, ""
    values = np.asarray(array.coords[name])
    return constant_step(values), str(array.coords[name].attrs.get("units", ""))


def _is_signal(image: Any) -> bool:
    return hasattr(image, "axes_manager") and hasattr(image, "data")
