"""Leading eigenvectors of symmetric matrices that are only multiplied with."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["leading", "worth_iterating"]

_BLOCKS = 16  # that must fit into the size, or else a whole decomposition is as fast
_EVERY = 2  # blocks after which convergence is looked at: each time the host waits for the device
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_SEED = 0


def worth_iterating(size: int, count: int) -> bool:
    """Whether so few eigenvectors are wanted that `leading` is faster than a whole decomposition.

    Examples
    --------
    >>> worth_iterating(1000, 20), worth_iterating(66, 20)
    (True, False)
    """
    return _BLOCKS * _width(count) <= size


def leading(
    times: Callable[[Tensor], Tensor], size: int, count: int, like: Tensor
) -> tuple[Float[Tensor, " k"], Float[Tensor, "size k"]] | None:
    """The largest eigenvalues of a positive semidefinite matrix, and their vectors, by block Lanczos iteration.

    All blocks are kept orthogonal (Golub & Underwood 1977); the first is drawn with a fixed seed, and is at least as wide
    as `count`, so that equal eigenvalues are all found.

    Parameters
    ----------
    times : function
        From a tensor of shape (size, b) to the matrix's product with it.
    size, count : int
        Side of the matrix, and the number of eigenpairs wanted.
    like : torch.Tensor
        Its type and device are those of the results.

    Returns
    -------
    tuple of (tensor of shape (count,), tensor of shape (size, count)) or None
        None where half of all dimensions were searched and the residuals |A v - w v| are not yet below 1e-4 w in single,
        1e-8 w in double precision, or below the rounding errors of the largest eigenvalue.
    """
    width, kind = _width(count), like.dtype
    generator = torch.Generator().manual_seed(_SEED)
    start = torch.randn(size, width, generator=generator, dtype=torch.float64)
    block = torch.linalg.qr(start.to(like))[0]
    basis = block
    small = torch.zeros(0, 0, dtype=kind, device=like.device)
    for number in range(1, size // (2 * width) + 1):
        image = times(block)
        inner = basis.T @ image
        small = _bordered(small, inner)
        # Once before and once after it is scaled: what a vanishing block is made of lies in the basis too.
        block, factor = torch.linalg.qr(image - basis @ inner)
        block, again = torch.linalg.qr(block - basis @ (basis.T @ block))
        if number * width >= 2 * count and number % _EVERY == 0:
            if not bool(torch.isfinite(small).all()):
                return None
            values, vectors = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(small.double()))
            left = (again @ factor).double() @ vectors[-width:]
            rounding = 50 * torch.finfo(kind).eps * values[0]
            if bool((left.norm(dim=0) <= _TOLERANCE[kind] * values + rounding).all()):
                return values.to(kind), basis @ vectors.to(kind)
        basis = torch.cat([basis, block], dim=1)
    return None


def _width(count: int) -> int:
    """Vectors that are multiplied at a time: products with multiples of eight are fastest."""
    return 8 * math.ceil(count / 8)


def _bordered(small: Float[Tensor, "m m"], inner: Float[Tensor, "l b"]) -> Float[Tensor, "l l"]:
    """The projected matrix with the products of one more block, whose last square lies on the diagonal."""
    m = len(small)
    square = (inner[m:] + inner[m:].T) / 2
    return torch.cat([torch.cat([small, inner[:m]], dim=1), torch.cat([inner[:m].T, square], dim=1)])
