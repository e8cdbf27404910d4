"""Moments about centres that lie between pixels: the basis is shifted to them, the counts stay where they are."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import full_precision
from torchmotif._memory import in_batches

__all__ = ["ShiftedKernels", "fill"]

Windows = Callable[[Tensor], Tensor]  # from row numbers (b,) to patches (b, size, size)
# With AVX-512 oneDNN's product, which a convolution with a kernel as large as the patch ends in, was up to twice as fast
# as `mm` on processors that are not Intel's; with AVX2 it takes twice as long.
_ONEDNN_IS_FASTER = torch.backends.cpu.get_cpu_capability() == "AVX512"
_BATCH_BYTES = 8 << 20  # windows gathered at a time on each thread of a CPU: what stays in its cache
_BATCH_WINDOWS = 512  # more gain nothing there
_BATCH_BYTES_OF_ALL_THREADS = 64 << 20
_BATCH_BYTES_ON_ACCELERATOR = 1 << 30
_REMEDY = "choose a smaller size or n_max, or give fewer positions at a time"


def multiply(
    moments: Float[Tensor, "n k"],
    patches: Float[Tensor, "n size size"],
    kernels: Float[Tensor, "k size size"],
) -> None:
    """Set the moments to the sums over the pixels of patch times kernel."""
    n, threads = len(patches), torch.get_num_threads()
    rows, flat = patches.flatten(1), kernels.flatten(1)
    if patches.device.type != "cpu":
        moments.copy_(rows @ flat.T)
    elif _ONEDNN_IS_FASTER and kernels.dtype == torch.float32 and n > 0:
        moments.copy_(F.conv2d(patches[:, None], kernels[:, None]).flatten(1))
    else:
        # As the left factor, kernels take up to a third less time on one thread; in a batch of products, each thread has
        # its own. Within one product MKL would share the few kernels out.
        each = n // threads
        whole = each * threads
        if each:
            products = torch.bmm(flat.expand(threads, -1, -1), rows[:whole].view(threads, each, -1).mT)
            moments[:whole].view(threads, each, -1).copy_(products.mT)
        if whole < n:
            moments[whole:] = (flat @ rows[whole:].T).T


def _batch(kernels: Tensor) -> int:
    """Windows that are gathered and multiplied at a time."""
    of_one = kernels[0].numel() * kernels.element_size()
    if kernels.device.type != "cpu":
        return max(1, _BATCH_BYTES_ON_ACCELERATOR // of_one)
    each = max(1, min(_BATCH_BYTES // of_one, _BATCH_WINDOWS))
    return max(1, min(each * torch.get_num_threads(), _BATCH_BYTES_OF_ALL_THREADS // of_one))


def fill(
    moments: Float[Tensor, "n k"],
    windows: Callable[[int, int], Tensor],
    kernels: Float[Tensor, "k size size"],
) -> None:
    """Write the products of `kernels` with windows, of which the function gives those from one number to another.

    Never in less than the kernels' precision, whatever autocast and TF32 say.
    """

    def some(start: int, stop: int) -> None:
        multiply(moments[start:stop], windows(start, stop), kernels)

    with full_precision(kernels.device.type):
        for _ in in_batches(some, len(moments), _batch(kernels), _REMEDY):
            pass


class ShiftedKernels:
    """Kernels on a grid of offsets, made when they are first needed.

    Parameters
    ----------
    make : function
        From an offset (row, col) in pixels, neither negative, to kernels of shape (k, size, size). Those at no offset lie where
        all shall be.
    mirror : function
        From kernels, and whether `rows` and whether `columns` run the other way, to the kernels at the mirrored offset.
    subpixel : int
        Steps of the grid per pixel.
    """

    def __init__(
        self,
        make: Callable[[tuple[float, float]], Tensor],
        mirror: Callable[..., Tensor],
        subpixel: int,
    ) -> None:
        self.make, self.mirror, self.subpixel = make, mirror, subpixel
        self.reach = (subpixel + 1) // 2  # steps to half a pixel
        self._made: dict[tuple[int, int], Tensor] = {}
        self._bank: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Copies, also those sent to another process, make their kernels anew: all of them weigh megabytes."""
        return self.__dict__ | {"_made": {}, "_bank": None}

    def at(self, step: tuple[int, int]) -> Tensor:
        """The kernels at an offset of `step` / subpixel pixels."""
        if self._bank is not None:
            return self._bank[(step[0] + self.reach) * (2 * self.reach + 1) + step[1] + self.reach]
        if step not in self._made:
            row, column = map(abs, step)
            if step == (0, 0):
                self._made[step] = self.make((0.0, 0.0))
            elif step == (row, column):
                made = self.make((row / self.subpixel, column / self.subpixel))
                self._made[step] = made.to(self.at((0, 0)).device)
            else:  # ten times faster than to make them
                made = self.at((row, column))
                self._made[step] = self.mirror(made, rows=step[0] < 0, columns=step[1] < 0)
        return self._made[step]

    def steps(self, offsets: Float[Tensor, "n 2"]) -> Int[Tensor, "n 2"]:
        """The points of the grid nearest to the offsets."""
        return torch.round(offsets * self.subpixel).long()

    def project(
        self,
        windows: Windows,
        steps: Int[Tensor, "n 2"],
        device: torch.device,
        place: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n k"]:
        """Products of every window with the kernels at its offset.

        Parameters
        ----------
        windows : function
            From row numbers, a tensor (b,) on `device`, to patches (b, size, size).
        steps : Tensor of shape (n, 2)
            Offset of each window. On the host, windows are grouped there; elsewhere no value leaves the device.
        device : torch.device
            Where windows and kernels are.
        place : Tensor of shape (n,), optional
            Where in memory each window begins. On the host, neighbours are then gathered one after the other, which
            spares a fifth of the time.

        Returns
        -------
        Tensor of shape (n, k)
        """
        if steps.device.type != "cpu":
            return self._project_in_blocks(windows, steps)
        number = self._number(steps)
        order = torch.argsort(number if place is None else number * (place.max() + 1) + place, stable=True)
        counts = torch.bincount(number).tolist()
        moments = torch.empty(
            len(steps), self.at((0, 0)).shape[0], dtype=self.at((0, 0)).dtype, device=device
        )
        stop = 0
        for index, rows in enumerate(order.to(device).split(counts)):
            if len(rows):
                start, stop = stop, stop + len(rows)
                kernels = self.at(self._step(index))
                fill(moments[start:stop], lambda i, j, rows=rows: windows(rows[i:j]), kernels)  # type: ignore[misc]
        return moments.index_select(0, torch.argsort(order).to(device))

    def _project_in_blocks(self, windows: Windows, steps: Tensor) -> Tensor:
        """As `project`, without knowing on the host how many windows each offset has.

        Sorted by offset, windows are laid out in blocks that share one offset each; how many blocks that takes at
        most is known beforehand, and the places left over repeat the first window.
        """
        bank, n = self._all(), len(steps)
        batch = _batch(bank[0])
        block = max(1, min(64, batch, n // len(bank)))
        group = self._number(steps)
        order = torch.argsort(group, stable=True)
        counts = torch.zeros(len(bank), dtype=torch.long, device=steps.device)
        counts.index_add_(0, group, torch.ones_like(group))
        blocks = (counts + block - 1) // block
        last_block = torch.cumsum(blocks, 0)
        rank = torch.arange(n, device=steps.device) - (torch.cumsum(counts, 0) - counts)[group[order]]
        place = (last_block - blocks)[group[order]] * block + rank
        n_blocks = n // block + min(len(bank), n)
        row_at = torch.zeros(n_blocks * block, dtype=torch.long, device=steps.device).scatter(0, place, order)
        kernel_at = torch.searchsorted(
            last_block, torch.arange(n_blocks, device=steps.device), right=True
        ).clamp(max=len(bank) - 1)
        at_a_time = max(1, batch // max(block, bank.shape[1]))  # as many kernels as windows are gathered
        row_at = row_at.view(n_blocks, block)

        def some(start: int, stop: int) -> Tensor:
            patches = windows(row_at[start:stop].flatten()).reshape(stop - start, block, -1)
            return torch.bmm(patches, bank[kernel_at[start:stop]].flatten(2).mT)

        with full_precision(bank.device.type):
            parts = list(in_batches(some, n_blocks, at_a_time, _REMEDY))
        return torch.cat(parts).flatten(0, 1)[torch.zeros_like(place).scatter(0, order, place)]

    def _number(self, steps: Tensor) -> Tensor:
        """The points of the grid, counted row by row."""
        shifted = (steps + self.reach).clamp(0, 2 * self.reach)
        return shifted[:, 0] * (2 * self.reach + 1) + shifted[:, 1]

    def _step(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, 2 * self.reach + 1)
        return row - self.reach, column - self.reach

    def _all(self) -> Tensor:
        """Kernels at every offset, (g, k, size, size)."""
        if self._bank is None:
            first, reach = self.at((0, 0)), self.reach
            steps = [
                (row / self.subpixel, column / self.subpixel)
                for row in range(reach + 1)
                for column in range(reach + 1)
            ]
            # Sent there at once, and mirrored there.
            others = torch.stack([self.make(step) for step in steps[1:]]).to(first.device)
            made = torch.cat([first[None], others]).view(reach + 1, reach + 1, *first.shape)
            for axis, mirror in (
                (1, {"rows": False, "columns": True}),
                (0, {"rows": True, "columns": False}),
            ):
                beyond = self.mirror(made.narrow(axis, 1, reach), **mirror)
                made = torch.cat([beyond.flip(axis), made], axis)
            self._bank = made.flatten(0, 1)
            self._made.clear()
        return self._bank
