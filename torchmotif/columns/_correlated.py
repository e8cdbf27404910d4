"""By how much more the noise around columns scatters their fits than white noise of the pixels' variance would."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns._fit import Fit
from torchmotif.columns._periodic import incoherent

__all__ = ["correlation"]

# Below which noise counts as white. Columns of the pentagonal oxide, at 10 times the dose, are not quite Gaussian and have no lattice: they leave 1.9. Images that were resampled twice as fine have 5, three times 10,
# crystals on carbon 7 to 19.
_WHITE = 2.0


def correlation(fit: Fit) -> Float[Tensor, ""]:
    """Variance that the noise of one tile adds to what is fitted, over that of white noise: 1 where it is about white.

    By the power spectrum of the residuals at the frequencies that tell the places of columns, over its mean. Orders of the lattice, of which
    columns that are not quite Gaussian leave some, are no noise: the mean logarithm of each ring hardly has them.
    """
    if fit.tiles.step is not None:  # what it leaves is no noise, and has errors of its own: see `OverSteps`
        return fit.data.new_ones(())
    rest = (fit.data - fit.expected) * fit.weights.sqrt()
    _, h, w = rest.shape
    rows, cols = (torch.hann_window(n, periodic=False, dtype=rest.dtype, device=rest.device) for n in (h, w))
    power = torch.fft.rfft2(rest * (rows[:, None] * cols)).abs().square()
    noise = incoherent(power, fit.shape.axes)[0]
    width = fit.shape.width
    fy = torch.fft.fftfreq(h, device=rest.device)[:, None] * width[0]
    fx = torch.fft.rfftfreq(w, device=rest.device)[None] * width[1]
    square = (2 * math.pi) ** 2 * (fy.square() + fx.square())
    told = square * torch.exp(-square)  # information on a place, of a Gaussian's spectrum
    more = (told * noise).sum() / told.sum() / noise.mean()
    return torch.where(more > _WHITE, more, 1.0)
