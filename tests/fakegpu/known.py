"""Small functions of which one knows what they ask of a GPU, and what the host waits for in each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["KNOWN", "Given"]


@dataclass
class Given:
    """What the functions take, made before they are counted."""

    x: Tensor  # (4, 4), positive definite, on the device
    v: Tensor  # (4,), 1 to 4
    i: Tensor  # (4,), integers 0 to 3
    host: Tensor  # (4,), on the host
    array: np.ndarray  # (4,)
    device: torch.device

    @classmethod
    def on(cls, device: torch.device) -> "Given":
        """All of it, for a device."""
        v = torch.arange(1.0, 5.0)
        x = torch.outer(v, v) + 50 * torch.eye(4)
        array = np.arange(4.0)
        there = [t.to(device) for t in (x, v, torch.arange(4))]
        # what was made before is on the device where one pretends: here is a tensor of the host
        host = torch.ones(4).cpu()
        host._lies_on_host = True  # type: ignore[attr-defined]
        return cls(*there, host, array, torch.device(device))


def _set(target: Tensor, index: Any, value: Any) -> None:
    target[index] = value


def _of_host(g: Given) -> Tensor:
    """Made on the host and worked on there, in composite functions as well."""
    table = torch.zeros(3, 4)
    table[1, 2] = 4.0
    return torch.einsum("ij,j->i", table, g.host) + torch.from_numpy(g.array)[:3].float()


Function = Callable[[Given], Any]
# Name: function, operations, how many of them are views, waits by kind.
KNOWN: dict[str, tuple[Function, int, int, dict[str, int]]] = {
    # nothing to wait for
    "arithmetic": (lambda g: (g.x * 2 + 1).sqrt(), 3, 0, {}),
    "views": (lambda g: g.x[1:].T[None].expand(2, 4, 3), 4, 4, {}),
    "product": (lambda g: g.x @ g.x, 1, 0, {}),
    "einsum": (lambda g: torch.einsum("ij,ij->i", g.x, g.x), 10, 9, {}),
    "factories": (
        lambda g: (torch.zeros(3, device=g.device), g.x.new_ones(2), torch.zeros_like(g.v)),
        3,
        0,
        {},
    ),
    "full": (lambda g: torch.full((2,), 3.0, device=g.device), 1, 0, {}),
    "where with numbers": (lambda g: torch.where(g.v > 2, g.v, 0.0), 3, 0, {}),
    "tensor of no dimension in arithmetic": (lambda g: g.x * torch.tensor(2.0), 1, 0, {}),
    "index on the device": (lambda g: g.x[g.i], 1, 0, {}),
    "number in a slice": (lambda g: _set(g.v, slice(2, None), 5.0), 2, 1, {}),
    "number in a mask": (lambda g: _set(g.v, g.v > 2, 5.0), 2, 0, {}),
    "repeat_interleave, size known": (lambda g: g.v.repeat_interleave(g.i, output_size=6), 2, 0, {}),
    "repeat_interleave by a number": (lambda g: g.v.repeat_interleave(2), 4, 3, {}),
    "topk": (lambda g: g.v.topk(2).values.median(), 2, 0, {}),
    "quantile": (lambda g: torch.quantile(g.v, 0.5), 16, 2, {}),
    "fft": (lambda g: torch.fft.irfft2(torch.fft.rfft2(g.x)), 2, 0, {}),
    "type": (lambda g: g.x.double().to(torch.float32), 2, 0, {}),
    "to where it is": (lambda g: (g.x.to(g.device), g.host.cpu(), g.x.to(device=g.device)), 0, 0, {}),
    "on the host": (_of_host, 0, 0, {}),
    "device of a tensor": (lambda g: torch.ones(2, device=g.x.device) + g.x.new_zeros(2), 3, 0, {}),
    # values come to the host
    "item": (lambda g: g.x.sum().item(), 2, 0, {"read": 1}),
    "float, int, bool": (lambda g: (float(g.v[0]), int(g.i[1]), bool(g.v[2])), 6, 3, {"read": 3}),
    "if": (lambda g: 1 if (g.v > 2).any() else 0, 3, 0, {"read": 1}),
    "number as index": (lambda g: g.x[g.i[1]], 3, 2, {"read": 1}),
    "end of a slice": (lambda g: g.x[: g.i[2]], 3, 2, {"read": 1}),
    "range": (lambda g: torch.arange(g.i[3], device=g.device), 3, 1, {"read": 1}),
    "tolist": (lambda g: g.v.tolist(), 1, 0, {"read": 1}),
    "cpu and numpy": (lambda g: g.v.cpu().numpy(), 1, 0, {"read": 1}),
    "to the host": (lambda g: g.v.to("cpu", torch.float64) + 1, 1, 0, {"read": 1}),
    "copied to the host": (lambda g: torch.empty(4).copy_(g.v), 1, 0, {"read": 1}),
    "back and forth": (lambda g: g.v.cpu().to(g.v.device) + g.v, 3, 0, {"read": 1, "upload": 1}),
    "not waited for": (lambda g: g.v.to("cpu", non_blocking=True), 1, 0, {}),
    "equal": (lambda g: torch.equal(g.x, g.x), 1, 0, {"read": 1}),
    "allclose": (lambda g: torch.allclose(g.x, g.x), 1, 0, {"read": 1}),
    "in": (lambda g: 3.0 in g.v, 3, 0, {"read": 1}),
    "all elements": (lambda g: [float(value) for value in g.v], 5, 1, {"read": 4}),
    "masked_fill by a tensor": (lambda g: g.v.masked_fill(g.v > 2, g.v[0]), 3, 1, {"read": 1}),
    # how many results are there
    "nonzero": (lambda g: torch.nonzero(g.v), 1, 0, {"size": 1}),
    "where": (lambda g: torch.where(g.v > 2), 3, 1, {"size": 1}),
    "mask as index": (lambda g: g.x[g.x > 60], 2, 0, {"size": 1}),
    "tensor in a mask": (lambda g: _set(g.v, g.v > 3, g.x[0, :1]), 5, 3, {"size": 1}),
    "masked_select": (lambda g: torch.masked_select(g.x, g.x > 60), 2, 0, {"size": 1}),
    "unique": (lambda g: torch.unique(g.i, return_inverse=True), 1, 0, {"size": 1}),
    "bincount": (lambda g: torch.bincount(g.i), 1, 0, {"size": 2}),
    "repeat_interleave": (lambda g: g.v.repeat_interleave(g.i), 2, 0, {"size": 2}),
    # did it succeed
    "eigh": (lambda g: torch.linalg.eigh(g.x), 1, 0, {"check": 1}),
    "eigvalsh": (lambda g: torch.linalg.eigvalsh(g.x), 1, 0, {"check": 1}),
    "solve": (lambda g: torch.linalg.solve(g.x, g.v), 2, 0, {"check": 1}),
    "solve_ex": (lambda g: torch.linalg.solve_ex(g.x, g.v), 1, 0, {}),
    "solve_ex, checked": (lambda g: torch.linalg.solve_ex(g.x, g.v, check_errors=True), 1, 0, {"check": 1}),
    "inv": (lambda g: torch.linalg.inv(g.x), 2, 0, {"check": 1}),
    "inv_ex": (lambda g: torch.linalg.inv_ex(g.x), 1, 0, {}),
    "cholesky": (lambda g: torch.linalg.cholesky(g.x), 2, 0, {"check": 1}),
    "cholesky_ex": (lambda g: torch.linalg.cholesky_ex(g.x), 1, 0, {}),
    "cholesky_solve": (lambda g: torch.cholesky_solve(g.x, g.x), 1, 0, {}),
    "solve_triangular": (lambda g: torch.linalg.solve_triangular(g.x, g.x, upper=True), 1, 0, {}),
    "svd": (lambda g: torch.linalg.svd(g.x), 1, 0, {"check": 2}),
    "qr": (lambda g: torch.linalg.qr(g.x), 1, 0, {}),
    "det": (lambda g: torch.linalg.det(g.x), 1, 0, {}),
    "eigh of many": (lambda g: torch.linalg.eigh(g.x.expand(7, 4, 4)), 2, 1, {"check": 1}),
    # values go to the device
    "to the device": (lambda g: g.host.to(g.device) + g.v, 2, 0, {"upload": 1}),
    "to the device, with type": (lambda g: g.host.to(g.device, torch.float64), 1, 0, {"upload": 1}),
    "to where another is": (lambda g: g.host.to(g.x), 1, 0, {"upload": 1}),
    "tensor": (lambda g: torch.tensor([1.0, 2.0], device=g.device), 0, 0, {"upload": 1}),
    "tensor of one number": (lambda g: torch.tensor(2.0, device=g.device), 0, 0, {"upload": 1}),
    "new_tensor": (lambda g: g.x.new_tensor([1.0, 2.0]), 0, 0, {"upload": 1}),
    "as_tensor of a list": (lambda g: torch.as_tensor([1.0], device=g.device), 0, 0, {"upload": 1}),
    "array": (lambda g: torch.from_numpy(g.array).to(g.device), 1, 0, {"upload": 1}),
    "list as index": (lambda g: g.x[[0, 1]], 1, 0, {"upload": 1}),
    "tensor of the host as index": (lambda g: g.x[torch.tensor([0, 1])], 1, 0, {"upload": 1}),
    "number in an index": (lambda g: _set(g.v, g.i, 5.0), 1, 0, {"upload": 1}),
    "number in an element": (lambda g: _set(g.v, 2, 5.0), 2, 1, {"upload": 1}),
    "copied to the device": (lambda g: g.v.copy_(g.host), 1, 0, {"upload": 1}),
    "where with the host's": (lambda g: torch.where(g.v > 2, g.v, torch.tensor(1.0)), 2, 0, {"upload": 1}),
}
