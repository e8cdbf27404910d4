"""Checks of arguments that many functions share."""

import math
import operator
from numbers import Real
from typing import Any

from torchmotif.errors import InputError

__all__ = ["real_number", "whole_number"]


def whole_number(name: str, value: Any, least: int) -> int:
    """The argument `name` as an int; 2.0 is none, lest 2.5 be rounded in silence.

    Raises
    ------
    InputError
        If it is no whole number or below `least`.

    Examples
    --------
    >>> import numpy as np
    >>> whole_number("n_max", np.int64(4), 0)
    4
    """
    try:
        number = operator.index(value)
    except (TypeError, RuntimeError):  # RuntimeError: tensors of more than one number
        number = least - 1
    if number < least or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def real_number(name: str, value: Any, least: float, most: float, remedy: str) -> float:
    """The argument `name` as a float within limits.

    Raises
    ------
    InputError
        If it is no number between `least` and `most`; `remedy` says what to give.

    Examples
    --------
    >>> real_number("gamma", 2, 1.0, 2.0, "")
    2.0
    """
    wrong = isinstance(value, bool) or not isinstance(value, Real)
    if wrong or not (math.isfinite(float(value)) and least <= float(value) <= most):
        raise InputError(f"{name} must lie between {least:g} and {most:g}, got {value!r}; {remedy}")
    return float(value)
