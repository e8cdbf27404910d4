"""From what users hold (numpy arrays, torch tensors, micrographs) to tensors on one device, and back."""

import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from torchmotif.errors import InputError, InputTypeError

__all__ = [
    "ArrayLike",
    "Budget",
    "DeviceLike",
    "Pixels",
    "as_positions",
    "as_tensor",
    "full_precision",
    "is_colour",
    "keeps_digits",
    "like",
    "pixels_of",
    "sent",
    "solvable",
]

ArrayLike = np.ndarray | Tensor | Sequence[Any]
Pixels = np.ndarray | Tensor
DeviceLike = str | torch.device | None
P = TypeVar("P", np.ndarray, Tensor)
A = ParamSpec("A")
R = TypeVar("R")


class Budget(NamedTuple):
    """How much is worked on at a time: what the caches of a CPU hold, and what keeps an accelerator busy."""

    cpu: int
    accelerator: int

    def on(self, values: Tensor) -> int:
        """Where some values lie."""
        return self.cpu if values.device.type == "cpu" else self.accelerator

    def split(self, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Values part by part along their first axis, as many at a time as the first of them allow."""
        few = max(1, self.on(values[0]) // max(1, values[0][:1].numel()))
        return zip(*(one.split(few) for one in values), strict=True)


def pixels_of(image: Any, name: str = "image") -> Any:
    """The array inside a micrograph, or the array itself, checked to be real and two-dimensional.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    name : str
        The argument's name, for the error message.

    Returns
    -------
    numpy.ndarray or torch.Tensor

    Raises
    ------
    InputTypeError
        If the values are not real numbers.
    InputError
        If the array is not two-dimensional or has no pixels.
    """
    if isinstance(image, str | os.PathLike):
        raise InputTypeError(
            f"{name} must be an array or a Micrograph, got the path {str(image)!r}; read it first, with tm.read"
        )
    data = getattr(image, "data", image) if not isinstance(image, np.ndarray | Tensor) else image
    if not isinstance(data, np.ndarray | Tensor):
        data = np.asarray(data)
    is_number = (
        data.dtype.kind in "iuf"
        if isinstance(data, np.ndarray)
        else not (data.is_complex() or data.dtype == torch.bool)
    )
    if not is_number:
        raise InputTypeError(f"{name} must hold real numbers, got dtype {data.dtype}; convert it first")
    if data.ndim != 2:
        raise InputError(
            f"{name} must be two-dimensional (h, w), got {data.ndim} dimension{'s' * (data.ndim != 1)} {tuple(data.shape)}; "
            f"{_to_an_image(tuple(data.shape))}"
        )
    if 0 in data.shape:
        raise InputError(f"{name} has no pixels: its shape is {tuple(data.shape)}")
    return data


def is_colour(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is a picture in colours rather than a stack: no image has three or four columns of pixels."""
    return len(shape) == 3 and shape[-1] in {3, 4} and min(shape[:2]) > shape[-1]


def _to_an_image(shape: Sequence[int]) -> str:
    """What to do with an array of this shape."""
    if len(shape) < 2:
        return "give it the rows and columns that it had, for example by reshape"
    if is_colour(shape):
        return "make a picture in colours grey first, for example by image[..., :3].mean(axis=-1)"
    return "take one frame of a stack first, for example image[0]"


def as_tensor(
    array: Any, *, device: DeviceLike = None, dtype: torch.dtype | None = torch.float32, name: str = "array"
) -> Tensor:
    """A tensor of `array` on `device` (None: where it is) with `dtype` (None: as it is).

    Integers travel to the device as they are and become floats there.

    Parameters
    ----------
    array : array-like of numbers
    device : str or torch.device, optional
    dtype : torch.dtype, optional
    name : str
        The argument's name, for the error message.

    Returns
    -------
    torch.Tensor

    Raises
    ------
    InputError
        If there is no such device here.
    InputTypeError
        If torch cannot hold the values.
    """
    device = _available(device)
    if isinstance(array, Tensor):
        if array.is_complex() and dtype is not None and not dtype.is_complex:
            raise InputTypeError(f"{name} must hold real numbers, got dtype {array.dtype}; convert it first")
        return array.to(device=device, dtype=dtype)
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        raise InputTypeError(f"{name} must hold real numbers, got dtype {values.dtype}; convert it first")
    if not values.dtype.isnative:  # torch has no other byte order
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype == np.longdouble:  # nor extended precision
        values = values.astype(np.float64)
    if any(stride < 0 for stride in values.strides) or not values.flags.writeable:
        values = values.copy()
    return torch.from_numpy(values).to(device=device).to(dtype=dtype)


def _available(device: DeviceLike) -> torch.device | None:
    """The device, checked to be one that this machine has."""
    if device is None:
        return None
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"device must be one of torch's, such as 'cpu' or 'cuda:0', got {device!r}"
        ) from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device={str(device)!r} is not available here: torch sees {torch.cuda.device_count()} CUDA devices; "
            "leave device out to compute where the data are"
        )
    return wanted


def as_positions(positions: Any, *, device: DeviceLike = None, name: str = "positions") -> Tensor:
    """Positions as a float64 tensor of shape (n, 2), checked to be finite.

    Parameters
    ----------
    positions : array-like of shape (n, 2)
        (row, col) in pixels; an empty sequence is taken as shape (0, 2).
    device : str or torch.device, optional
    name : str
        The argument's name, for the error message.

    Returns
    -------
    torch.Tensor of shape (n, 2), float64

    Raises
    ------
    InputError
        If the shape is another, or a value is not finite.
    """
    tensor = as_tensor(positions, device=device, dtype=torch.float64, name=name)
    if tensor.numel() == 0:
        return tensor.reshape(0, 2)
    if tensor.ndim != 2 or tensor.shape[1] != 2:
        raise InputError(f"{name} must have the shape (n, 2) = (row, col) each, got {tuple(tensor.shape)}")
    # Least and greatest are not finite if any is not: one pass, one read, no mask.
    if not all(map(math.isfinite, torch.stack(torch.aminmax(tensor.detach())).tolist())):
        raise InputError(f"{name} has values that are not finite; drop those rows first")
    return tensor


def sent(values: Any, to: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A few numbers of the host's on the device of a tensor, by default with its dtype, without a wait for what is queued there.

    CUDA copies memory that is not pinned to a buffer of its own before the call returns, so it may change or go afterwards
    (CUDA runtime API, "API synchronization behavior").
    """
    return torch.as_tensor(values, dtype=to.dtype if dtype is None else dtype).to(
        to.device, non_blocking=True
    )


def like(result: Tensor, original: Any) -> Any:
    """Give `result` back the way `original` came: a tensor for a tensor, numpy for everything else."""
    if isinstance(getattr(original, "data", original), Tensor) or isinstance(original, Tensor):
        return result
    return result.detach().cpu().numpy()


@contextmanager
def solvable(name: str) -> Iterator[None]:
    """Within the block, equations that rounding made unsolvable raise an error of ours that names the argument.

    Raises
    ------
    InputError
        If torch cannot factorise a matrix.
    """
    try:
        yield
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise InputError(
            f"{name} has values of such different sizes that nothing but rounding is left of the smaller ones; "
            "clip the outliers first"
        ) from error


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Within the block, products of single-precision matrices keep their digits: no autocast, no TF32, no bfloat16.

    See docs/decisions/0101. The user's settings of torch come back after it. They belong to the process, so another thread
    that multiplies meanwhile has full precision too.

    Parameters
    ----------
    device_type : str
        "cuda", "cpu" or another of torch's.
    """
    with torch.autocast(device_type, enabled=False), _legacy_highest(), ExitStack() as stack:
        for place in _lowered(device_type):
            stack.callback(setattr, place, "fp32_precision", place.fp32_precision)
            place.fp32_precision = "ieee"
        yield


def keeps_digits(function: Callable[A, R]) -> Callable[A, R]:
    """A function that always runs within `full_precision`, on every kind of device that is here.

    Examples
    --------
    >>> product = keeps_digits(lambda a: a @ a.T)
    >>> with torch.autocast("cpu", torch.bfloat16):
    ...     product(torch.ones(1, 2)).dtype
    torch.float32
    """

    @functools.wraps(function)
    def run(*args: A.args, **kwargs: A.kwargs) -> R:
        with ExitStack() as stack:
            for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
                stack.enter_context(full_precision(kind))
            return function(*args, **kwargs)

    return run


@contextmanager
def _legacy_highest() -> Iterator[None]:
    """Full precision by the setting that torch has had longest; it keeps the newer ones in step, not the reverse."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # precision was set by the newer names
        before = "highest"
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _lowered(device_type: str) -> list[Any]:
    """Where torch was told by the newer names to take digits away from products on this kind of device."""
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):  # torch before 2.9
        return []
    places = {"cuda": (backends.cuda.matmul,), "cpu": (backends.mkldnn.matmul, backends.mkldnn.conv)}
    inherited = {backends.fp32_precision, *([backends.mkldnn.fp32_precision] if device_type == "cpu" else [])}
    fine = {"ieee", "none"} if inherited <= {"ieee", "none"} else {"ieee"}  # "none" inherits
    return [place for place in places.get(device_type, ()) if place.fp32_precision not in fine]
