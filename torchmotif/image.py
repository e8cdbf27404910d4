"""Micrograph: pixels together with their calibration and their dose."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from torchmotif._arrays import Pixels, as_tensor, pixels_of
from torchmotif.errors import InputError, InputTypeError

__all__ = [
    "Micrograph",
    "as_micrograph",
    "checked_mask",
    "constant_step",
    "labelled",
    "length_nm",
    "nm_of_axes",
    "nm_per",
    "per_axis",
    "plausible_nm",
]

# Pixels in nm outside of this are a slip of a unit or of an exponent: an atom is resolved by pixels of 0.001 to 0.1 nm, a
# colloid by such of 1 to 1,000, and no image of interest here is coarser than a tenth of a millimetre.
_FINEST_NM, _COARSEST_NM = 1e-4, 1e5

# Length units found in microscope files, in nanometres; the two signs for micro, and for angstrom, look alike.
_NM = {"m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "nm": 1.0, "pm": 1e-3, "fm": 1e-6}
_NM |= dict.fromkeys(("a", "å", "å", "ang", "angstrom", "ångström", "ångstrom", "ångström"), 0.1)
_LENGTH = re.compile(r"(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*(?P<unit>[^\W\d]*)", re.IGNORECASE)
_NM |= {"micron": 1e3} | {
    prefix + metre: nm
    for prefix, nm in (
        ("", 1e9),
        ("centi", 1e7),
        ("milli", 1e6),
        ("micro", 1e3),
        ("nano", 1.0),
        ("pico", 1e-3),
    )
    for metre in ("meter", "metre")
}


def nm_per(unit: str) -> float | None:
    """Nanometres in one `unit` of length, None where it is no length.

    Examples
    --------
    >>> nm_per("A"), nm_per("1/nm")
    (0.1, None)
    >>> nm_per("microns"), nm_per("[n_m]")  # as ImageJ and Berkeley's EMD files write them
    (1000.0, 1.0)
    """
    word = unit.replace("\\u00B5", "µ").strip().lower().removeprefix("[").removesuffix("]").replace("_", "")
    return _NM.get(word, _NM.get(word.removesuffix("s")))


def length_nm(text: str, name: str = "pixel_size") -> float | tuple[float, float]:
    """A length, or two of them, in nanometres, as people write it: a number in nm, or with its unit.

    Parameters
    ----------
    text : str
        Such as "0.015", "15pm", "0.15 A", or "15pm,16pm" for (rows, columns).
    name : str
        The argument's name, for the error message.

    Returns
    -------
    float or (float, float)

    Raises
    ------
    InputError
        If it is no length, or one that no micrograph's pixel has.

    Examples
    --------
    >>> length_nm("15pm"), length_nm("0.15 A"), length_nm("0.015,0.016 nm")
    (0.015, 0.015, (0.015, 0.016))
    """
    found = []
    parts = text.split(",")
    for part in parts:
        match = _LENGTH.fullmatch(part.strip())
        unit = match["unit"] or (_LENGTH.fullmatch(parts[-1].strip()) or match)["unit"] if match else ""
        factor = nm_per(unit or "nm")
        value = float(match["number"]) * factor if match and factor else 0.0
        if not _FINEST_NM <= value <= _COARSEST_NM:
            raise InputError(
                f"{name} must be a length from {_FINEST_NM:g} to {_COARSEST_NM:g} nm, such as 0.015 (in nm), 15pm or 0.15A, or two of them for (rows, "
                f"columns) such as 15pm,16pm; got {text!r}"
            )
        found.append(float(f"{value:.15g}"))  # 15 pm are 0.015 nm, not 0.015 and some rounding
    if len(found) > 2:
        raise InputError(f"{name} must be one length, or two for (rows, columns); got {text!r}")
    return found[0] if len(found) == 1 else (found[0], found[1])


def nm_of_axes(axes: Iterable[tuple[Any, Any]]) -> tuple[float, float] | None:
    """Nanometres per pixel along (rows, columns), None unless both axes are lengths.

    Parameters
    ----------
    axes : iterable of (scale, unit)
        The axis of the rows, then that of the columns; either part may be missing (None).

    Returns
    -------
    (float, float) or None

    Examples
    --------
    >>> nm_of_axes([(0.5, "Å"), (-0.05, "nm")]), nm_of_axes([(0.5, "Å"), (1.0, None)])
    ((0.05, 0.05), None)
    """
    sizes = []
    for scale, unit in axes:
        factor = nm_per(str(unit or ""))
        try:
            step = float(scale or 0.0)
        except (TypeError, ValueError):  # what files call a scale may be anything
            return None
        if factor is None or not (np.isfinite(step) and step != 0):
            return None
        sizes.append(abs(step) * factor)
    return (sizes[0], sizes[1]) if len(sizes) == 2 else None


def plausible_nm(
    size: tuple[float, float] | None, giver: str
) -> tuple[tuple[float, float] | None, list[str]]:
    """A pixel size in nm, None where no micrograph has it, and notes that say so.

    Parameters
    ----------
    size : (float, float) or None
    giver : str
        What it is from, for people.

    Examples
    --------
    >>> plausible_nm((0.015, 0.015), "the file"), plausible_nm((1e16, 1e16), "the file")[0]
    (((0.015, 0.015), []), None)
    """
    if size is None or all(_FINEST_NM <= side <= _COARSEST_NM for side in size):
        return size, []
    told = " x ".join(f"{side:.3g}" for side in dict.fromkeys(size))
    return None, [
        f"{giver} gives a pixel size of {told} nm, which cannot be; it is left out, state the right one"
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


def constant_step(values: np.ndarray) -> float | None:
    """The step between coordinates, None where it is not constant.

    Examples
    --------
    >>> constant_step(np.array([0.0, 0.5, 1.0])), constant_step(np.array([0.0, 0.5, 2.0]))
    (0.5, None)
    """
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        return None
    steps = np.diff(values.astype(float))
    step = float((float(values[-1]) - float(values[0])) / (len(values) - 1))
    # half a percent: coordinates kept in single precision have lost some digits of their steps
    return step if step and np.abs(steps - step).max() < 5e-3 * abs(step) else None


def _is_signal(image: Any) -> bool:
    return hasattr(image, "axes_manager") and hasattr(image, "data")
