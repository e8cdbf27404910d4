"""Square windows of an image as one batched gather."""

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

__all__ = ["gather_windows", "runs"]


_HUGE = 1 << 22  # bytes from which numpy asks for huge pages


def gather_windows(
    image: Shaped[Tensor, "h w"], start: Int[Tensor, "n 2"], size: int
) -> Shaped[Tensor, "n {size} {size}"]:
    """Windows of `size` pixels whose first pixels are at `start`; all must lie in the image.

    Every row of a window is one contiguous run of memory, so rows are selected, not pixels: 20 times faster than
    indexing pixel by pixel.
    """
    first = (start[:, 0, None] + torch.arange(size, device=image.device)) * image.shape[1] + start[:, 1, None]
    return runs(image, first, size)


def runs(image: Shaped[Tensor, "..."], first: Int[Tensor, "..."], size: int) -> Shaped[Tensor, "... {size}"]:
    """Runs of `size` neighbours in memory, from the given flat indices on."""
    flat = image.contiguous().view(-1)
    every = flat.as_strided((max(flat.numel() - size + 1, 0), size), (1, 1), flat.storage_offset())
    index = first.flatten()
    nbytes = len(index) * size * image.dtype.itemsize
    if image.device.type != "cpu" or image.requires_grad or nbytes < _HUGE:
        return every.index_select(0, index).view(*first.shape, size)
    # Memory as numpy gets it: in huge pages, where the system has them, which are twice as fast to touch first.
    result = torch.from_numpy(np.empty(nbytes, np.uint8)).view(image.dtype).view(len(index), size)
    return torch.index_select(every, 0, index, out=result).view(*first.shape, size)
