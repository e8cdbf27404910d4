"""Units of length, and the sizes of pixels that people and files state."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from torchmotif.errors import InputError

__all__ = ["constant_step", "length_nm", "nm_of_axes", "nm_per", "plausible_nm"]

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
        If it is no positive length.

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
        if not 0 < value < np.inf:
            raise InputError(
                f"{name} must be a positive length such as 0.015 (in nm), 15pm or 0.15A, or two of them for (rows, "
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
