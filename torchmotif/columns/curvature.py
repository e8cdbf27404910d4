"""What the curvature of the model does to a fit of few counts: columns seem narrower than they are."""

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns.model import Profiles

__all__ = ["blunting"]


def blunting(
    profile: Profiles,
    intensity: Float[Tensor, " n"],
    covariance: Float[Tensor, "n 3 3"],
    width: Float[Tensor, " 2"],
    shape: tuple[int, int],
) -> Float[Tensor, "h w"]:
    """By how much the fitted image is expected to be sharper than the true one, in a padded image of `shape`.

    Every column follows its own noise, so that a common width fitted with them comes out too small. To second order
    the bias is that of data changed by minus half the trace of the covariance times the second derivatives of the model
    (Cox & Snell 1968, Box 1971); to add that half to the data takes it off (Firth 1993).
    """
    amplitudes = covariance.new_zeros(len(covariance), 3, 3)  # profile along rows, along columns
    amplitudes[:, 1, 0] = covariance[:, 0, 1]
    amplitudes[:, 0, 1] = covariance[:, 0, 2]
    amplitudes[:, 1, 1] = intensity * covariance[:, 1, 2]
    # A Gaussian's second derivative by its centre is the one by its width, over the width.
    amplitudes[:, 2, 0] = intensity * covariance[:, 1, 1] / (2 * width[0])
    amplitudes[:, 0, 2] = intensity * covariance[:, 2, 2] / (2 * width[1])
    return profile.mixed(torch.nan_to_num(amplitudes), shape)
