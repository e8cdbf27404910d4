"""The sampled Zernike basis, and the module that projects patches on it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchmotif._arrays import DeviceLike
from torchmotif.errors import InputError
from torchmotif.zernike.indices import n_modes, orders

__all__ = ["ZernikeBasis", "radial_polynomials", "zernike_basis"]


def radial_polynomials(n_max: int, r: Float[Tensor, " p"]) -> list[Float[Tensor, "_ p"]]:
    """Radial polynomials R_n^m at the radii `r`.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    r : Tensor of shape (p,)
        Radii in units of the disk's radius.

    Returns
    -------
    list of Tensor
        Entry n has the shape (n // 2 + 1, p); its row i is m = n - 2 i.

    Notes
    -----
    The recurrence of Shakibaei & Paramesran (2013), R_n^m = r (R_{n-1}^{|m-1|} + R_{n-1}^{m+1}) - R_{n-2}^m, stays
    at rounding error for all orders, where the factorial formula loses every digit by n = 40.
    """
    table: list[Tensor] = []
    for n in range(n_max + 1):
        rows = n // 2 + 1
        if n == 0:
            table.append(torch.ones_like(r)[None])
            continue
        lower = table[n - 1]
        current = torch.zeros((rows, r.numel()), dtype=r.dtype, device=r.device)
        current[: lower.shape[0]] = lower * r  # R_{n-1}^{m-1}
        if n % 2 == 0:
            current[-1] = lower[-1] * r  # m = 0, where |m - 1| = 1
        if rows > 1:
            current[1:] += lower[: rows - 1] * r - table[n - 2][: rows - 1]
        table.append(current)
    return table


def zernike_basis(
    n_max: int,
    size: int,
    *,
    offset: tuple[float, float] = (0.0, 0.0),
    dtype: torch.dtype = torch.float32,
    device: DeviceLike = None,
) -> Float[Tensor, "k size size"]:
    """Zernike polynomials sampled at the pixel centres of a square window, zero outside its inscribed disk.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    size : int
        Side of the window in pixels; the disk's radius is size / 2 pixels.
    offset : (float, float)
        Centre of the disk minus centre of the window, (row, col) in pixels.
    dtype : torch.dtype
        Type of the result; it is computed in float64.
    device : str or torch.device, optional

    Returns
    -------
    Tensor of shape (k, size, size)
        In OSA/ANSI order; sqrt(2 (n + 1) / (1 + [m = 0])) R_n^|m|(r) times cos(m theta) for m >= 0 and
        sin(|m| theta) for m < 0, with theta counter-clockwise from the direction of the columns.

    Raises
    ------
    InputError
        If `n_max` is negative, or higher than `size` pixels can carry.

    Examples
    --------
    >>> zernike_basis(10, 33).shape
    torch.Size([66, 33, 33])
    """
    k = n_modes(n_max)
    if size < 3 or n_max > size - 1:
        raise InputError(
            f"size must be at least 3 and more than n_max, got size={size}, n_max={n_max}; "
            f"use n_max <= {max(size - 1, 0)}"
        )
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y = -(axis - offset[0])[:, None].expand(size, size) / (size / 2)  # rows point down, angles turn up
    x = (axis - offset[1])[None, :].expand(size, size) / (size / 2)
    r = torch.hypot(x, y).reshape(-1)
    inside = torch.nonzero(r <= 1).squeeze(1)
    theta = torch.atan2(y, x).reshape(-1)[inside]
    table = radial_polynomials(n_max, r[inside])
    basis = torch.zeros((k, size * size), dtype=torch.float64)
    for j, (n, m) in enumerate(orders(n_max).tolist()):
        norm = (2 * (n + 1) / (2 if m == 0 else 1)) ** 0.5
        angular = torch.cos(m * theta) if m >= 0 else torch.sin(-m * theta)
        basis[j, inside] = norm * table[n][(n - abs(m)) // 2] * angular
    return basis.reshape(k, size, size).to(device=device, dtype=dtype)


class ZernikeBasis(nn.Module):
    """Projects patches on the Zernike polynomials up to radial order `n_max`.

    Parameters
    ----------
    n_max : int
        Highest radial order; k = (n_max + 1)(n_max + 2) / 2 real moments.
    size : int
        Side of the patches in pixels.
    subpixel : int
        Fractional positions are honoured to 1 / subpixel of a pixel by shifting the basis, never the counts.
    dtype, device
        As in `zernike_basis`.

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
        dtype: torch.dtype = torch.float32,
        device: DeviceLike = None,
    ) -> None:
        super().__init__()
        if subpixel < 1:
            raise InputError(f"subpixel must be at least 1, got {subpixel}")
        self.n_max, self.size, self.subpixel = n_max, size, subpixel
        self.basis: Tensor
        self.register_buffer("basis", zernike_basis(n_max, size, dtype=dtype, device=device).flatten(1))
        self._shifted: dict[tuple[int, int], Tensor] = {}

    @property
    def orders(self) -> Tensor:
        """The double index (n, m) of every moment, shape (k, 2)."""
        return orders(self.n_max)

    def forward(
        self, patches: Float[Tensor, "n size size"], offsets: Float[Tensor, "n 2"] | None = None
    ) -> Float[Tensor, "n k"]:
        """Moments of the patches: sums of patch times polynomial over the area of the disk.

        Parameters
        ----------
        patches : Tensor of shape (n, size, size)
        offsets : Tensor of shape (n, 2), optional
            True centre minus window centre, (row, col) in pixels.

        Returns
        -------
        Tensor of shape (n, k)

        Raises
        ------
        InputError
            If the patches have another size than the basis.
        """
        if patches.ndim != 3 or tuple(patches.shape[1:]) != (self.size, self.size):
            raise InputError(
                f"patches must have the shape (n, {self.size}, {self.size}), got {tuple(patches.shape)}"
            )
        flat = patches.flatten(1).to(self.basis.dtype)
        area = torch.pi * self.size**2 / 4
        if offsets is None:
            return flat @ self.basis.T / area
        steps = torch.round(offsets * self.subpixel).long()
        moments = flat.new_empty(len(flat), len(self.basis))
        for row, col in torch.unique(steps, dim=0).tolist():  # subpixel^2 groups at most
            group = (steps[:, 0] == row) & (steps[:, 1] == col)
            moments[group] = flat[group] @ self._at(row, col).T / area
        return moments

    def reconstruct(self, moments: Float[Tensor, "n k"]) -> Float[Tensor, "n size size"]:
        """The patches that the moments stand for, zero outside the disk.

        Parameters
        ----------
        moments : Tensor of shape (n, k)

        Returns
        -------
        Tensor of shape (n, size, size)
        """
        return (moments.to(self.basis.dtype) @ self.basis).reshape(-1, self.size, self.size)

    def _at(self, row: int, col: int) -> Tensor:
        key = (row, col)
        if key not in self._shifted:
            offset = (row / self.subpixel, col / self.subpixel)
            shifted = zernike_basis(self.n_max, self.size, offset=offset, dtype=self.basis.dtype)
            self._shifted[key] = shifted.flatten(1).to(self.basis.device)
        return self._shifted[key]
