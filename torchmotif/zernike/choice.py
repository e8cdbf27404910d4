"""Choice of the patch size and of the highest order from the image itself, with the evidence."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torchmotif._arrays import as_tensor, like, pixels_of
from torchmotif._checks import whole_number
from torchmotif.errors import InputError
from torchmotif.zernike.basis import disk_area
from torchmotif.zernike.indices import orders
from torchmotif.zernike.transform import ZernikeBasis

__all__ = ["OrderChoice", "SizeChoice", "choose_n_max", "choose_patch_size"]

_MOST_PATCHES = 1000
_MOST_ORDERS = 20
_ENOUGH = 0.995  # share of the power above the noise beyond which orders add nothing worth their cost
_PROMINENCE = 0.05  # of the autocorrelation next to zero lag that the highest ring must rise by


class SizeChoice(NamedTuple):
    """A patch size, and what speaks for it.

    Attributes
    ----------
    size : int
        Odd side of the patch in pixels; the disk reaches to the most prominent ring of neighbours.
    distance : float
        Radius in pixels of the most prominent ring of the autocorrelation.
    radii, profile : array of shape (p,)
        Radial mean of the autocorrelation, 1 at its highest, against the radius in pixels.
    """

    size: int
    distance: float
    radii: Any
    profile: Any


class OrderChoice(NamedTuple):
    """A highest order, and what speaks for it.

    Attributes
    ----------
    n_max : int
        The last order that adds more signal than noise.
    power : array of shape (orders,)
        Mean squared moment per order n, in the image's units squared.
    noise : array of shape (orders,)
        What white noise of the image's level gives.
    share : array of shape (orders,)
        Share of all power above the noise that orders 1 to n carry.
    """

    n_max: int
    power: Any
    noise: Any
    share: Any


def choose_patch_size(image: Any) -> SizeChoice:
    """The patch size whose disk reaches to the most prominent ring of neighbours, often one lattice constant away.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)

    Returns
    -------
    SizeChoice
        size is the odd number nearest to two distances.

    Raises
    ------
    InputError
        If the autocorrelation has no ring: the image shows no regular spacing; or if a pixel is not finite.

    Notes
    -----
    Of the circular means of the autocorrelation, without the image's slow background and divided by the overlap, a
    ring's prominence is its height over the lowest value before it.

    Examples
    --------
    >>> import torchmotif as tm
    >>> choose_patch_size(tm.datasets.mose2((256, 256)).image).size
    45
    """
    pixels = pixels_of(image)
    data = _finite(pixels)
    radii, profile = _autocorrelation_profile(data - data.mean())
    inner = profile[1:]  # noise is white: it ends after the zero lag
    rise = inner - torch.cummin(inner, 0).values
    peak = torch.zeros_like(rise, dtype=torch.bool)
    peak[1:-1] = (inner[1:-1] > inner[:-2]) & (inner[1:-1] >= inner[2:])
    rise = torch.where(peak & (radii[1:] >= 2), rise, 0.0)
    # No ring in a few pixels, nor where the image is flat.
    if not len(rise) or not float(rise.max()) > _PROMINENCE * float(inner[0]):
        raise InputError(
            "image shows no regular spacing to choose a patch size from; give the size, "
            "about twice the distance between neighbouring columns in pixels"
        )
    place = int(rise.argmax())
    left, middle, right = (float(v) for v in inner[place - 1 : place + 2])
    vertex = 0.5 * (left - right) / (left - 2 * middle + right)
    distance = float(radii[place + 1]) + vertex * float(radii[1] - radii[0])
    size = 2 * round((2 * distance - 1) / 2) + 1
    return SizeChoice(size, distance, like(radii, pixels), like(profile / profile.max(), pixels))


def choose_n_max(image: Any, size: int, positions: Any = None) -> OrderChoice:
    """The highest radial order that the image's noise leaves anything of.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    size : int
        Side of the patches in pixels.
    positions : array of shape (n, 2), optional
        Where the patches lie; by default on a grid over the image.

    Returns
    -------
    OrderChoice

    Raises
    ------
    InputError
        If no patch of that size fits the image, or `size` is no whole number of at least 3, or a pixel is not finite.

    Notes
    -----
    In a basis that is orthonormal on the pixels white noise gives every moment the same variance, known from the
    image: Poisson noise too, on the mean over patches. Its level is the mean square of the image's
    second differences along both axes (Immerkær, 1996). Orders are taken as long as the mean of their squared moments is more
    than twice that, up to the order by which 99.5 % of the power above the noise is reached, 20 at most.

    Examples
    --------
    >>> import torchmotif as tm
    >>> image = tm.datasets.mose2((256, 256)).draw(generator=torch.Generator().manual_seed(0))
    >>> 6 <= choose_n_max(image, 33).n_max <= 14
    True
    """
    pixels = pixels_of(image)
    data = _finite(pixels)
    size = whole_number("size", size, 3)
    highest = max(2, min(_MOST_ORDERS, size // 2))
    basis = ZernikeBasis(highest, size, orthonormal=True)
    if positions is None:
        rows, columns = (torch.arange(length) for length in data.shape)
        valid = basis.valid_mask((data.shape[0], data.shape[1]))
        step = 1 + math.isqrt(int(valid.sum()) // _MOST_PATCHES)
        grid = torch.cartesian_prod(rows[::step], columns[::step])
        positions = grid[valid[grid[:, 0], grid[:, 1]]]
    moments = basis.project(data, positions, outside="drop").double()
    if len(moments) == 0:
        raise InputError(f"size must leave room for a patch in the image, got {size} for {tuple(data.shape)}")
    curved = data.diff(n=2, dim=0).diff(n=2, dim=1)
    variance = float(curved.square().mean()) / 36 / disk_area(size)
    squares = moments.square().mean(0)
    n = orders(highest)[:, 0]
    counts = torch.bincount(n).double()
    power = torch.bincount(n, squares) / counts
    excess = (power - variance).clamp(min=0)
    noise = torch.full_like(power, variance)
    carried = torch.cumsum((excess * counts).index_fill(0, torch.zeros(1, dtype=torch.long), 0.0), 0)
    share = carried / carried[-1].clamp(min=torch.finfo(torch.float64).tiny)
    enough = int(torch.searchsorted(share, _ENOUGH))
    strong = torch.nonzero(excess[: enough + 1] > variance).flatten()
    n_max = int(strong[-1]) if len(strong) else 0
    return OrderChoice(n_max, *(like(part, pixels) for part in (power, noise, share)))


def _finite(pixels: Any) -> Tensor:
    data = as_tensor(pixels)
    bad = int((~torch.isfinite(data)).sum())
    if bad:
        raise InputError(f"image has {bad} pixels that are not finite; cut them off or fill them in first")
    return data


def _autocorrelation_profile(data: Tensor) -> tuple[Tensor, Tensor]:
    """Radii in steps of half a pixel, and circular means of the autocorrelation over them."""
    h, w = data.shape
    reach = min(h, w) // 2
    window = 2 * (reach // 4) + 1
    smooth = data[None, None]
    for size, pad in (((window, 1), (window // 2, 0)), ((1, window), (0, window // 2))):
        smooth = F.avg_pool2d(smooth, size, 1, pad, count_include_pad=False)
    spectrum = torch.fft.rfft2(data - smooth[0, 0], s=(2 * h, 2 * w))
    correlation = torch.fft.irfft2(spectrum.abs().square(), s=(2 * h, 2 * w))
    axis = torch.arange(-reach, reach + 1)
    overlap = (h - axis.abs())[:, None] * (w - axis.abs())
    correlation = correlation[axis[:, None], axis] / overlap
    which = torch.round(2 * torch.hypot(axis[:, None].double(), axis.double())).long()
    count = torch.bincount(which.flatten()).clamp(min=1)
    profile = torch.bincount(which.flatten(), correlation.double().flatten()) / count
    radii = torch.arange(len(profile)) / 2
    kept = (radii <= reach) & (torch.bincount(which.flatten()) > 0)
    smooth_profile = F.avg_pool1d(F.pad(profile[kept][None], (1, 1), mode="replicate"), 3, 1)[0]
    smooth_profile[0] = profile[0]
    return radii[kept], smooth_profile
