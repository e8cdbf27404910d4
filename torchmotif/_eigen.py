"""Leading eigenvectors of positive semidefinite matrices, which are only multiplied with."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["leading", "leading_of", "worth_iterating"]

Pairs = tuple[Float[Tensor, " k"], Float[Tensor, "size k"]]

_BLOCKS = 16  # that must fit into the size, or else a whole decomposition is as fast
_EVERY = 3  # blocks after which convergence is looked at: each time the host waits for the device
_NEARLY = 30.0  # times the tolerance: from there on it is looked at after each block
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}
_SEED = 0
_PROBES, _PROBE_STEPS = 8, 5  # vectors, and multiplications with them, that would show an eigenvalue left out


def worth_iterating(size: int, count: int) -> bool:
    """Whether so few eigenvectors are wanted that `leading` is faster than a whole decomposition.

    Examples
    --------
    >>> worth_iterating(1000, 20), worth_iterating(66, 20)
    (True, False)
    """
    return _BLOCKS * _width(count) <= size


def leading(times: Callable[[Tensor], Tensor], size: int, count: int, like: Tensor) -> Pairs | None:
    """The largest eigenvalues of a matrix, and their vectors, by block Lanczos iteration.

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
    block = torch.linalg.qr(_drawn(like, size, width))[0]
    basis, look = block, _EVERY
    small = torch.zeros(0, 0, dtype=kind, device=like.device)
    for number in range(1, size // (2 * width) + 1):
        image = times(block)
        inner = basis.T @ image
        small = _bordered(small, inner)
        block, factor = torch.linalg.qr(image - basis @ inner)
        for _ in range(2):  # what a vanishing block is made of lies in the basis too
            block, again = torch.linalg.qr(block - basis @ (basis.T @ block))
            factor = again @ factor
        if number == look:
            if not bool(torch.isfinite(small).all()):
                return None
            values, vectors = (part.flip(-1)[..., :count] for part in torch.linalg.eigh(small))
            left = (factor @ vectors[-width:]).norm(dim=0)
            allowed = _TOLERANCE[kind] * values + 50 * torch.finfo(kind).eps * values[0]
            worst = float((left / allowed.clamp(min=torch.finfo(kind).tiny)).max())
            if worst <= 1:
                return values, basis @ vectors
            look += 1 if worst < _NEARLY else _EVERY
        basis = torch.cat([basis, block], dim=1)
    return None


def leading_of(matrix: Float[Tensor, "n n"], count: int) -> Pairs | None:
    """The same of a matrix that is at hand; on a CPU by ARPACK, which takes a third of the time.

    ARPACK's single vector finds equal eigenvalues only by its rounding errors. Where a few more vectors say that
    one is left out, the block iteration does the work.
    """
    if matrix.device.type == "cpu":
        found = _by_arpack(matrix, count)
        if found is not None and _is_all(matrix, *found):
            return found
    return leading(lambda block: matrix @ block, len(matrix), count, matrix)


def _by_arpack(matrix: Tensor, count: int) -> Pairs | None:
    from scipy.sparse.linalg import ArpackError, eigsh

    start = _drawn(matrix, len(matrix), 1).flatten().numpy()
    try:
        values, vectors = eigsh(matrix.numpy(), count, v0=start, tol=_TOLERANCE[matrix.dtype])
    except (ArpackError, ValueError):  # it did not settle, or the matrix is zero or not finite
        return None
    order = values.argsort()[::-1].copy()
    return torch.from_numpy(values[order]), torch.from_numpy(vectors[:, order])


def _is_all(matrix: Tensor, values: Tensor, vectors: Tensor) -> bool:
    """Whether no larger eigenvalue shows beside these."""
    block = _drawn(matrix, len(matrix), _PROBES)
    for _ in range(_PROBE_STEPS):
        block = torch.linalg.qr(block - vectors @ (vectors.T @ block))[0]
        image = matrix @ block
        largest = float(torch.linalg.eigvalsh(block.T @ image)[-1])
        block = image
    kind = matrix.dtype
    return largest <= (1 + _TOLERANCE[kind]) * float(values[-1]) + 50 * torch.finfo(kind).eps * float(
        values[0]
    )


def _drawn(like: Tensor, size: int, width: int) -> Tensor:
    """The same random numbers every time."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn(size, width, generator=generator, dtype=torch.float64).to(like)


def _width(count: int) -> int:
    """Vectors that are multiplied at a time: products with multiples of eight are fastest."""
    return 8 * math.ceil(count / 8)


def _bordered(small: Float[Tensor, "m m"], inner: Float[Tensor, "l b"]) -> Float[Tensor, "l l"]:
    """The projected matrix with the products of one more block, whose last square lies on the diagonal."""
    m = len(small)
    square = (inner[m:] + inner[m:].T) / 2
    return torch.cat([torch.cat([small, inner[:m]], dim=1), torch.cat([inner[:m].T, square], dim=1)])
