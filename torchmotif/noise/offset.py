"""Whether an image has the detector's offset still in it."""

import math

import numpy as np

__all__ = ["suspected_offset"]

_LOOKED_AT = 2048  # pixels of a side; more tell no more, and would be copied
_DARKEST = 0.001  # quantile of the pixels that stands for the darkest
_LIFTED = 0.5  # of the mean; vacuum and the gaps between columns are darker than that where nothing was added


def suspected_offset(pixels: np.ndarray) -> float | None:
    """How bright the darkest pixels of a dark-field image are, where that is too bright to be electrons.

    Parameters
    ----------
    pixels : array
        Of a dark-field image, in any unit.

    Returns
    -------
    float or None
        Share of the mean; None where the darkest pixels are dark.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(9.0, (50, 50))
    >>> suspected_offset(counts), round(suspected_offset(counts + 91), 1)
    (None, 0.9)
    """
    values = np.asarray(pixels)
    values = values[tuple(slice(None, None, math.ceil(side / _LOOKED_AT)) for side in values.shape)]
    finite = values[np.isfinite(values)]
    mean = float(finite.mean(dtype=np.float64)) if finite.size else 0.0
    if mean <= 0:
        return None
    share = float(np.quantile(finite, _DARKEST)) / mean
    return share if share > _LIFTED else None
