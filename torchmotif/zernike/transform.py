"""The module that takes patches, positions or whole images to Zernike moments, and back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from torchmotif._arrays import DeviceLike, as_positions, as_tensor, full_precision, like, pixels_of
from torchmotif._checks import whole_number
from torchmotif._memory import empty, memory_for
from torchmotif._windows import Windows
from torchmotif.errors import InputError, InputTypeError
from torchmotif.zernike.basis import disk_area, synthesis_basis, zernike_basis
from torchmotif.zernike.indices import orders
from torchmotif.zernike.maps import correlate, mode_pairs, rim_mask
from torchmotif.zernike.placement import place, whole
from torchmotif.zernike.quadrature import mirrored, transposed
from torchmotif.zernike.shifts import ShiftedKernels, fill

__all__ = ["ZernikeBasis"]


# Kernels at an offset that is no pixel take 10 ms to make, half of the time in which a thousand patches are learnt. Those of
# the last offsets are kept for the next basis, 256 MiB of float32 at most: two tables of 40 px take 50, one of 65 px 90.
_KEPT, _KEPT_VALUES = 64, 1 << 20


@lru_cache(maxsize=_KEPT)
def _kept(
    n_max: int, size: int, offset: tuple[float, float], dtype: torch.dtype, *, orthonormal: bool
) -> Float[Tensor, "k size size"]:
    """The kernels of a shifted disk over the disk's area, on the host; not to be written to."""
    exact = zernike_basis(n_max, size, orthonormal=orthonormal, offset=offset, dtype=torch.float64)
    return (exact / disk_area(size)).to(dtype)


@lru_cache(maxsize=4)  # of two orders, those of the motifs and of their noise, and of another size
def _kept_centred(n_max: int, size: int, *, orthonormal: bool) -> Float[Tensor, "k size size"]:
    """The kernels of the disk in the middle, on the host; not to be written to."""
    return zernike_basis(n_max, size, orthonormal=orthonormal, dtype=torch.float64)


class ZernikeBasis(nn.Module):
    """Projects patches on the Zernike polynomials up to radial order `n_max`.

    Everything is computed in the basis's own precision: integers and half-precision floats are converted to it,
    and neither autocast nor TF32 lower it. Gradients flow through patches, images and moments, but not through maps.

    Parameters
    ----------
    n_max : int
        Highest radial order; k = (n_max + 1)(n_max + 2) / 2 real moments. At most size - 1; the pixels surely determine
        all moments up to size // 2, see `zernike_basis`.
    size : int
        Side of the patches in pixels, at least 3; the disk's radius is size / 2.
    subpixel : int
        Fractional positions are honoured to 1 / subpixel of a pixel by shifting the basis, never the counts.
    orthonormal : bool
        Whether the basis is exactly orthonormal on the pixels; see `zernike_basis`.
    dtype : torch.float32 or torch.float64
    device : str or torch.device, optional

    Raises
    ------
    InputError
        If `subpixel` is no whole number of at least 1, or as in `zernike_basis`.
    InputTypeError
        If `dtype` is another.

    Examples
    --------
    >>> basis = ZernikeBasis(10, 33)
    >>> basis(torch.ones(5, 33, 33)).shape
    torch.Size([5, 66])
    """

    def __init__(
        self,
        n_max: int,
        size: int,
        *,
        subpixel: int = 8,
        orthonormal: bool = False,
        dtype: torch.dtype = torch.float32,
        device: DeviceLike = None,
    ) -> None:
        super().__init__()
        n_max, size = whole_number("n_max", n_max, 0), whole_number("size", size, 3)
        subpixel = whole_number("subpixel", subpixel, 1)
        if dtype not in {torch.float32, torch.float64}:
            raise InputTypeError(
                f"dtype must be torch.float32 or torch.float64, got {dtype}; "
                "patches may be of any type, moments need the digits"
            )
        self.n_max, self.size, self.subpixel, self.orthonormal = n_max, size, subpixel, orthonormal
        self.basis: Tensor
        first = self._centred().flatten(1).to(device=device, dtype=dtype, copy=True)
        self.register_buffer("basis", first, persistent=False)
        self._shifted: ShiftedKernels
        self._synthesis: Tensor | None
        self._forget()

    @property
    def orders(self) -> Int[Tensor, "k 2"]:
        """The double index (n, m) of every moment, shape (k, 2)."""
        return orders(self.n_max)

    def extra_repr(self) -> str:
        """Say order and size where the module is printed."""
        return f"n_max={self.n_max}, size={self.size}, k={len(self.basis)}, orthonormal={self.orthonormal}"

    def forward(self, patches: Any, offsets: Any = None, *, level: float = 0.0) -> Any:
        """Moments of the patches: integrals of patch times polynomial over the area of the disk.

        Parameters
        ----------
        patches : array of shape (n, size, size)
            Any real dtype. A patch with a value that is not finite has moments that are NaN.
        offsets : array of shape (n, 2), optional
            True centre minus window centre, (row, col) in pixels, at most half a pixel.
        level : float
            Is subtracted from the pixels first: their mean keeps digits, and moments of unlike offsets alike.

        Returns
        -------
        array of shape (n, k)
            numpy or torch as `patches` came.

        Raises
        ------
        InputError
            If the patches have another size than the basis, or an offset is more than half a pixel. (Offsets on an
            accelerator are not looked at: there the rows of such offsets are NaN.)
        """
        values = as_tensor(patches, device=self.basis.device, dtype=self.basis.dtype, name="patches")
        if values.ndim != 3 or tuple(values.shape[1:]) != (self.size, self.size):
            raise InputError(
                f"patches must have the shape (n, {self.size}, {self.size}), got {tuple(values.shape)}"
            )

        def less(some: Tensor) -> Tensor:
            return some - level if level else some

        if offsets is None:
            moments = self.basis.new_empty(len(values), len(self.basis))
            fill(moments, lambda start, stop: less(values[start:stop]), self._shifted.at((0, 0)))
            return like(moments, patches)
        shift = as_tensor(offsets, dtype=torch.float64, name="offsets")
        if tuple(shift.shape) != (len(values), 2):
            raise InputError(f"offsets must have the shape ({len(values)}, 2), got {tuple(shift.shape)}")
        near = (shift.abs() <= 0.5 + 0.5 / self.subpixel).all(dim=1)  # false for NaN
        if shift.device.type == "cpu" and not bool(near.all()):
            raise InputError(
                f"offsets must be finite and at most half a pixel, got {int((~near).sum())} others; "
                "take the windows around the nearest pixels"
            )
        moments = self._project(lambda rows: less(values[rows]), torch.where(near[:, None], shift, 0.0))
        return like(torch.where(near.to(moments.device)[:, None], moments, torch.nan), patches)

    def project(
        self, image: Any, positions: Any, *, outside: Literal["error", "drop", "mask"] = "error"
    ) -> Any:
        """Moments around positions of an image, a batch of windows at a time.

        Parameters
        ----------
        image : Micrograph or array of shape (h, w)
        positions : array of shape (n, 2)
            (row, col) in pixels; fractions are honoured to 1 / subpixel of a pixel.
        outside : {"error", "drop", "mask"}
            What to do with positions whose window reaches over the rim (see `inside`): refuse, leave out their
            rows, or fill their rows with NaN. Positions on an accelerator stay there with "mask".

        Returns
        -------
        array of shape (n, k)
            numpy or torch as `image` came; the same as projecting the patches with their offsets.

        Raises
        ------
        InputError
            If a position is not finite or lies outside, and `outside` is "error".
        """
        pixels = pixels_of(image)
        data = as_tensor(pixels, device=self.basis.device, dtype=self.basis.dtype)
        h, w = data.shape
        start, offsets, kept = place(positions, (h, w), self.size, outside)
        if min(h, w) < self.size or len(start) == 0:
            return like(data.new_full((len(start), len(self.basis)), torch.nan), pixels)
        windows = Windows(data, start.to(data.device), self.size)
        moments = self._project(windows, offsets, start[:, 0] * w + start[:, 1])
        if outside == "mask":
            moments = torch.where(kept.to(data.device)[:, None], moments, torch.nan)
        return like(moments, pixels)

    def inside(self, positions: Any, shape: tuple[int, int]) -> Any:
        """Which positions have a whole window in an image of `shape`, boolean of shape (n,)."""
        return like(whole(as_positions(positions), shape, self.size), positions)

    def reconstruct(self, moments: Any) -> Any:
        """The patches that the moments stand for, zero outside the disk; their moments are these again.

        Parameters
        ----------
        moments : array of shape (n, k)

        Returns
        -------
        array of shape (n, size, size)

        Raises
        ------
        InputError
            If k is not the basis's, or the pixels do not determine that many moments (see `zernike_basis`).
        """
        values = as_tensor(moments, device=self.basis.device, dtype=self.basis.dtype, name="moments")
        if values.ndim != 2 or values.shape[1] != len(self.basis):
            raise InputError(f"moments must have the shape (n, {len(self.basis)}), got {tuple(values.shape)}")
        if self._synthesis is None:
            self._synthesis = self._make_synthesis()
        with full_precision(values.device.type), memory_for("reconstruct fewer at a time"):
            return like((values @ self._synthesis).view(-1, self.size, self.size), moments)

    def maps(self, image: Any) -> Any:
        """Moments at every pixel.

        Parameters
        ----------
        image : Micrograph or array of shape (h, w)

        Returns
        -------
        array of shape (k, h, w)
            What `project` gives at the pixels; NaN where the window reaches over the rim (see `valid_mask`) or
            holds a pixel that is not finite.

        Raises
        ------
        InputError
            If the image is smaller than the window.
        """
        data, kernels = self._dense(image)
        with memory_for("take the maps a few at a time with iter_maps"):
            out = empty(data, len(kernels), *data.shape)
        for _ in correlate(data, kernels, mode_pairs(self.orders), out):
            pass
        return like(out, pixels_of(image))

    def iter_maps(self, image: Any, modes: Iterable[int] | None = None) -> Iterator[tuple[list[int], Any]]:
        """Moments at every pixel, a few at a time, so that not all are ever held.

        Parameters
        ----------
        image : Micrograph or array of shape (h, w)
        modes : iterable of int, optional
            Single indices of the moments wanted; by default all.

        Yields
        ------
        modes : list of int
            Single indices; the cosine and the sine of one (n, |m|) come together, one after the other.
        maps : array of shape (c, h, w)
            As in `maps`.

        Raises
        ------
        InputError
            If the image is smaller than the window, or an index is none of the basis's.
        """
        data, kernels = self._dense(image)
        if modes is not None and not isinstance(modes, Iterable):
            raise InputError(f"modes must be a sequence of indices, got {modes!r}; use [{modes!r}]")
        chosen = (
            range(len(kernels)) if modes is None else sorted({whole_number("modes", j, 0) for j in modes})
        )
        if len(chosen) and chosen[-1] >= len(kernels):
            raise InputError(f"modes must lie between 0 and {len(kernels) - 1}, got {chosen[-1]}")
        pairs = mode_pairs(self.orders[list(chosen)])
        for rows, found in correlate(data, kernels[list(chosen)], pairs):
            yield [chosen[row] for row in rows], like(found, pixels_of(image))

    def lower(self, n_max: int) -> "ZernikeBasis":
        """The basis up to a lower order, whose kernels at fractional positions are those of this one.

        Parameters
        ----------
        n_max : int

        Returns
        -------
        ZernikeBasis
            Of the same size; not of an orthonormal basis, whose members depend on the highest order.

        Raises
        ------
        InputError
            If the order is higher than this one's, or the basis is orthonormal.

        Examples
        --------
        >>> ZernikeBasis(14, 33).lower(10)
        ZernikeBasis(n_max=10, size=33, k=66, orthonormal=False)
        """
        if n_max > self.n_max or self.orthonormal:
            raise InputError(
                f"n_max must be at most {self.n_max}, and the basis not orthonormal, got {n_max}; make a basis of its own"
            )
        found = ZernikeBasis(
            n_max, self.size, subpixel=self.subpixel, dtype=self.basis.dtype, device=self.basis.device
        )
        found._shifted.make = partial(self._first, len(found.basis))
        return found

    def _first(self, count: int, offset: tuple[float, float]) -> Tensor:
        """So many of the kernels at an offset, neither negative."""
        row, column = (round(part * self.subpixel) for part in offset)
        return self._shifted.at((row, column))[:count]

    def kernels(self, offsets: Sequence[tuple[float, float]]) -> Float[Tensor, "o k p"]:
        """What pixels are weighed with at some offsets (row, col), each rounded to the grid of `subpixel` steps.

        Parameters
        ----------
        offsets : sequence of (float, float)
            True centre minus window centre in pixels, at most half a pixel.

        Returns
        -------
        Tensor of shape (o, k, size^2)
            The sum of a patch times its kernels are the moments.
        """
        steps = [(round(row * self.subpixel), round(col * self.subpixel)) for row, col in offsets]
        return torch.stack([self._shifted.at(step).flatten(1) for step in steps])

    def valid_mask(self, shape: tuple[int, int]) -> Bool[Tensor, "h w"]:
        """Which pixels of an image of `shape` have a whole window: where `maps` is not NaN."""
        return rim_mask(shape, self.size, self.basis.device)

    def _project(
        self, windows: Callable[[Tensor], Tensor], offsets: Tensor, place: Tensor | None = None
    ) -> Tensor:
        if len(offsets) == 0:
            return self.basis.new_empty(0, len(self.basis))
        steps = self._shifted.steps(offsets)
        return self._shifted.project(windows, steps, self.basis.device, place)

    def _at(self, offset: tuple[float, float]) -> Tensor:
        """The kernels of a shifted disk, over the disk's area: sums with them are moments. On the host, but for the disk in the middle."""
        if not any(offset):
            return self.basis.view(-1, self.size, self.size) / disk_area(self.size)
        make = _kept if len(self.basis) * self.size**2 <= _KEPT_VALUES else _kept.__wrapped__
        if offset[1] > offset[0]:
            exchanged = make(
                self.n_max, self.size, offset[::-1], self.basis.dtype, orthonormal=self.orthonormal
            )
            return transposed(exchanged, self.n_max)
        return make(self.n_max, self.size, offset, self.basis.dtype, orthonormal=self.orthonormal)

    def _dense(self, image: Any) -> tuple[Tensor, Tensor]:
        """The image and the kernels of a disk centred on a pixel, whose window may be even."""
        data = as_tensor(pixels_of(image), device=self.basis.device, dtype=self.basis.dtype)
        if min(data.shape) < self.size:
            raise InputError(
                f"image must have at least {self.size} pixels a side, the window's size, got {tuple(data.shape)}"
            )
        shift = 0.0 if self.size % 2 else -0.5
        return data, self._at((shift, shift)).to(self.basis)

    def _centred(self) -> Tensor:
        """The kernels of the disk in the middle, float64 on the host; not to be written to."""
        few = (self.n_max + 1) * (self.n_max + 2) // 2 * self.size**2 <= _KEPT_VALUES
        make = _kept_centred if few else _kept_centred.__wrapped__
        return make(self.n_max, self.size, orthonormal=self.orthonormal)

    def _make_synthesis(self) -> Tensor:
        kernels = self._centred()
        if not self.orthonormal:  # an orthonormal basis is its own dual
            kernels = synthesis_basis(self.n_max, kernels)
        return kernels.flatten(1).to(self.basis)

    def _forget(self) -> None:
        """Drop what was derived from the basis's device and dtype."""
        self._shifted = ShiftedKernels(self._at, partial(mirrored, n_max=self.n_max), self.subpixel)
        self._synthesis = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ZernikeBasis":
        """Keep derived tensors where the basis goes."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._forget()
        return self
