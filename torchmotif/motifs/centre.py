"""What the column in the middle of a patch adds to its moments."""

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.zernike import ZernikeBasis

__all__ = ["central_column"]


def central_column(moments: Float[Tensor, " k"], basis: ZernikeBasis) -> Float[Tensor, " k"]:
    """The moments of the central column alone; zero where there is none.

    The column has the shape of what stands above the first minimum of the patch's mean over all angles, where its
    neighbours begin, and the height of the middle above the darkest place of the patch.

    Parameters
    ----------
    moments : Tensor of shape (k,)
        Of a patch, less noise; a constant background does not matter.
    basis : ZernikeBasis
    """
    patch = basis.reconstruct(moments[None].float())[0]
    axis = torch.arange(basis.size, device=patch.device) - (basis.size - 1) / 2
    radius = torch.hypot(axis[:, None], axis[None, :])
    disk = radius < basis.size / 2
    ring = radius.long()
    total = patch.new_zeros(int(ring.max()) + 1).index_add(0, ring.flatten(), patch.flatten())
    mean = (total / torch.bincount(ring.flatten()).clamp(min=1))[: basis.size // 2]
    rises = torch.nonzero(mean.diff() > 0).flatten()
    foot = int(rises[0]) if len(rises) else len(mean) - 1
    rise = mean[0] - mean[foot]
    # Of identical patches nothing is left but rounding.
    if foot == 0 or not bool(rise > 1e-6 * patch.abs().max()):
        return torch.zeros_like(moments)
    height = (mean[0] - patch[disk].min()) / rise
    column = torch.where(ring <= foot, patch - mean[foot], 0.0).clamp(min=0) * height
    alone: Tensor = basis(column[None])[0].to(moments)
    return alone
