"""Images at a chosen dose: Poisson draws of an expected image, binomial thinning of real counts."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import as_tensor, like, pixels_of
from torchmotif.errors import InputError, InputTypeError
from torchmotif.image import Micrograph

__all__ = ["apply_dose", "checked_counts", "detected_electrons", "relative_dose_series", "thin"]

_ELEMENTARY_CHARGE_C = 1.602176634e-19
_EXACT_IN_FLOAT32 = 2.0**24
_SERIES = (1.0, 1 / 2, 1 / 5, 1 / 10, 1 / 20, 1 / 50, 1 / 100)


def detected_electrons(current_pa: float, dwell_us: float, detected_fraction: float) -> float:
    """Mean number of electrons per pixel that reach the detector.

    Parameters
    ----------
    current_pa : float
        Beam current in picoampere.
    dwell_us : float
        Dwell time per pixel in microseconds.
    detected_fraction : float
        Share of the incident electrons that the detector counts: 0.01 to 0.02 for an annular dark field detector
        and a monolayer.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the current or the dwell time is not positive, or the fraction is no share.

    Examples
    --------
    >>> round(detected_electrons(30.0, 10.0, 0.01), 1)
    18.7
    """
    for name, value in (("current_pa", current_pa), ("dwell_us", dwell_us)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive and finite, got {value}")
    if not 0 < detected_fraction <= 1:
        raise InputError(f"detected_fraction must lie in (0, 1], got {detected_fraction}")
    return current_pa * 1e-12 * dwell_us * 1e-6 / _ELEMENTARY_CHARGE_C * detected_fraction


def apply_dose(image: Any, electrons_per_pixel: float, *, generator: torch.Generator | None = None) -> Any:
    """A Poisson draw of an expected image, scaled to a mean number of electrons per pixel.

    An image that has noise already keeps it beneath the new one; use `thin` for those.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        The expected image in any unit in which no electrons are zero.
    electrons_per_pixel : float
        Mean detected electrons per pixel; 0 gives an empty image.
    generator : torch.Generator, optional
        Source of the noise, on the image's device.

    Returns
    -------
    Micrograph or float32 array of shape (h, w), as `image` came
        Counts of electrons.

    Raises
    ------
    InputError
        If the dose is negative, or the image has negative or non-finite values, or no intensity at all.

    Examples
    --------
    >>> import numpy as np
    >>> counts = apply_dose(np.ones((64, 64)), 5.0, generator=torch.Generator().manual_seed(0))
    >>> bool(abs(counts.mean() - 5) < 0.2)
    True
    """
    if not (electrons_per_pixel >= 0 and math.isfinite(electrons_per_pixel)):
        raise InputError(
            f"electrons_per_pixel must be zero or positive, and finite, got {electrons_per_pixel}"
        )
    pixels = pixels_of(image)
    expected = as_tensor(pixels)
    _check_not_negative(expected, "image", "subtract the detector's offset and clip at zero first")
    total = expected.sum(dtype=torch.float64)
    if not bool(total > 0):
        raise InputError("image has no intensity: every pixel is zero, so it cannot be scaled to a dose")
    rate = expected * (electrons_per_pixel * expected.numel() / total).to(expected.dtype)
    counts = torch.poisson(rate, generator=generator)
    return _as_came(counts, image, pixels, electrons_per_pixel)


def thin(counts: Any, fraction: float, *, generator: torch.Generator | None = None) -> Any:
    """Binomial thinning: each detected electron is kept with probability `fraction`.

    Thinned Poisson counts are Poisson counts of the lower dose (Rényi, 1956), so a real image in electrons becomes
    a true image of a lower dose.

    Parameters
    ----------
    counts : Micrograph or array of any shape
        Whole numbers of electrons; `Gain.counts` makes them from an image in other units.
    fraction : float
        Relative dose of the result, between 0 and 1.
    generator : torch.Generator, optional
        Source of the choice, on the device of the counts.

    Returns
    -------
    Micrograph or array, as `counts` came, of the same dtype

    Raises
    ------
    InputError
        If the fraction is no share, or the counts are not whole, not finite or negative.

    Examples
    --------
    >>> import numpy as np
    >>> thin(np.array([[0, 100], [1000, 7]]), 1.0)
    array([[   0,  100],
           [1000,    7]])
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction must lie between 0 and 1, got {fraction}")
    pixels, whole = checked_counts(counts)
    kept = torch.binomial(whole, torch.full_like(whole, fraction), generator=generator)
    before = counts.electrons_per_pixel if isinstance(counts, Micrograph) else None
    dtype = (
        pixels.dtype if isinstance(pixels, Tensor) else as_tensor(np.empty(0, pixels.dtype), dtype=None).dtype
    )
    return _as_came(kept.to(dtype), counts, pixels, None if before is None else before * fraction)


def relative_dose_series(
    counts: Any,
    fractions: Sequence[float] = _SERIES,
    *,
    nested: bool = False,
    generator: torch.Generator | None = None,
) -> list[Any]:
    """One image thinned to a series of relative doses.

    Parameters
    ----------
    counts : Micrograph or array of any shape
        Whole numbers of electrons.
    fractions : sequence of float
        Relative doses, each between 0 and 1.
    nested : bool
        Whether every electron of a lower dose is also in the next higher one, as if one acquisition had been
        stopped early; otherwise each image is thinned from the full counts.
    generator : torch.Generator, optional
        Source of the choice, on the device of the counts.

    Returns
    -------
    list
        An image per fraction, each as `counts` came.

    Raises
    ------
    InputError
        If a fraction is no share, or `nested` is asked for and the fractions do not fall; or as `thin`.

    Examples
    --------
    >>> import numpy as np
    >>> [int(i.sum()) for i in relative_dose_series(np.full((2, 2), 50), (1.0, 0.0))]
    [200, 0]
    """
    if not nested:
        return [thin(counts, fraction, generator=generator) for fraction in fractions]
    series: list[Any] = []
    current, reached = counts, 1.0
    for fraction in fractions:
        if not 0 <= fraction <= reached:
            raise InputError(
                f"fractions of a nested series must fall and lie between 0 and 1, got {tuple(fractions)}"
            )
        current = thin(current, fraction / reached if reached > 0 else 0.0, generator=generator)
        reached = fraction
        series.append(current)
    return series


def checked_counts(counts: Any, name: str = "counts") -> tuple[Any, Tensor]:
    """The array inside `counts` as it is, and as a tensor of a float type that holds its whole numbers exactly.

    Raises
    ------
    InputTypeError
        If the values are not real numbers.
    InputError
        If a value is not whole, not finite or negative.
    """
    pixels = counts.data if isinstance(counts, Micrograph) else counts
    if not isinstance(pixels, np.ndarray | Tensor):
        pixels = np.asarray(pixels)
    tensor = as_tensor(pixels, dtype=None, name=name)
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InputTypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}; convert it first")
    if tensor.dtype not in {torch.float32, torch.float64}:
        tensor = tensor.to(torch.float64)
    _check_not_negative(tensor, name, "counts of electrons start at 0")
    if not bool((tensor == tensor.round()).all()):
        raise InputError(
            f"{name} must be whole numbers of electrons; for an image in other units, estimate_gain(image)"
            ".counts(image) gives them"
        )
    small = tensor.numel() == 0 or float(tensor.max()) < _EXACT_IN_FLOAT32
    return pixels, tensor.to(torch.float32 if small else torch.float64)


def _check_not_negative(values: Tensor, name: str, remedy: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise InputError(f"{name} has values that are not finite; fill them first")
    if bool((values < 0).any()):
        raise InputError(f"{name} has negative values, the least is {float(values.min()):.4g}; {remedy}")


def _as_came(counts: Tensor, original: Any, pixels: Any, electrons: float | None) -> Any:
    """Counts as array or tensor like `pixels`, inside a micrograph where `original` was one."""
    data = like(counts, pixels)
    if not isinstance(original, Micrograph):
        return data
    return dataclasses.replace(original, data=data, electrons_per_pixel=electrons or None)
