"""Whether an image has the detector's offset still in it."""

import numpy as np

__all__ = ["suspected_offset"]

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
    finite = np.asarray(pixels, np.float64)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else 0.0
    if mean <= 0:
        return None
    share = float(np.quantile(finite, _DARKEST)) / mean
    return share if share > _LIFTED else None
