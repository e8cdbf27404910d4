"""Means and scatter of the rows of a matrix: whole, chunk by chunk, or as products that never form a matrix."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._eigen import leading, leading_of

__all__ = ["Scatter", "leading_of_columns", "leading_of_rows", "mean_of"]

_CHUNK_BYTES = 32 << 20  # of rows that are centred at a time
_CACHE_BYTES = 1 << 20  # of rows that are multiplied twice while they lie in a CPU's cache
# Of the largest variance: less is lost in a matrix of products.
_FAINTEST = {torch.float32: 1e-4, torch.float64: 1e-9}

Pairs = tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]  # squares and directions


class Scatter:
    """Number, mean and scatter matrix of the rows seen so far, added up in float64."""

    def __init__(self, d: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(d, dtype=torch.float64, device=device)
        self.matrix = torch.zeros((d, d), dtype=torch.float64, device=device)

    def add(self, rows: Float[Tensor, "n d"]) -> "Scatter":
        """Take in more rows, by the pairwise rule of Chan, Golub & LeVeque (1979)."""
        for part in _chunks(rows, _CHUNK_BYTES):
            mean = part.mean(dim=0, dtype=torch.float64)
            step = mean - self.mean
            total = self.count + len(part)
            # Once centred, single precision is as good as the data.
            self.matrix += _products(part - mean.to(part))
            self.matrix.addr_(step, step, alpha=self.count * len(part) / total)
            self.mean += step * (len(part) / total)
            self.count = total
        return self


def mean_of(rows: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """The mean row, added up in float64."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for part in _chunks(rows, _CHUNK_BYTES):
        total += part.mean(dim=0, dtype=torch.float64) * (len(part) / len(rows))
    return total


def leading_of_rows(
    rows: Float[Tensor, "n d"], mean: Float[Tensor, " d"], count: int
) -> tuple[Pairs, float] | None:
    """Leading eigenpairs of the scatter of many rows of many features, and its trace, by products with the rows alone.

    None where the iteration does not settle.
    """
    centre = mean.to(rows)
    nbytes = _CACHE_BYTES if rows.device.type == "cpu" else _CHUNK_BYTES

    def times(block: Tensor) -> Tensor:
        result = torch.zeros_like(block)
        for part in _chunks(rows, nbytes):
            centred = part - centre
            result.addmm_(centred.T, centred @ block)
        return result

    found = leading(times, rows.shape[1], count, rows)
    if found is None:
        return None
    trace = sum(
        torch.linalg.vector_norm(part - centre, dtype=torch.float64) ** 2
        for part in _chunks(rows, _CHUNK_BYTES)
    )
    return (found[0], found[1].T), float(trace)


def leading_of_columns(centred: Float[Tensor, "n d"], count: int) -> tuple[Pairs, float] | None:
    """The same for fewer rows than features, from the matrix of the rows' products with each other.

    None where the iteration does not settle, or where the last component is so faint that the squares have lost it.
    """
    matrix = _products(centred.T)
    trace = float(matrix.diagonal().double().sum())
    found = leading_of(matrix, count) if math.isfinite(trace) else None
    if found is None or not bool(found[0][-1] > _FAINTEST[matrix.dtype] * found[0][0]):
        return None
    squares, vectors = found
    directions, factor = torch.linalg.qr(centred.T @ vectors)  # nearly orthogonal; now they are
    return (squares, (directions * factor.diagonal().sign()).T), trace


def _products(rows: Float[Tensor, "n d"]) -> Float[Tensor, "d d"]:
    """rows.T @ rows. On a CPU by numpy, which sees that both factors are one matrix and does half the work."""
    if rows.device.type != "cpu":
        return rows.T @ rows
    array = rows.numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # found by the caller
        return torch.from_numpy(array.T @ array)


def _chunks(rows: Tensor, nbytes: int) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = rows.split(max(32, nbytes // (rows.shape[1] * rows.element_size())))
    return parts
