"""Which columns motifs are learnt on, where there are too many to learn on all of them."""

import numpy as np

from torchmotif.motifs.detectability import min_columns

__all__ = ["MOST", "with_unlike"]

MOST = 50_000  # columns that motifs are learnt on
_MOST_UNLIKE = 2_500  # of them; more would make rare motifs look common


def with_unlike(
    chosen: np.ndarray, unlike: np.ndarray, min_share: float, random_state: int
) -> np.ndarray | None:
    """A random sample with columns that are unlike the motifs learnt on it; None where these are too few to be a motif.

    A random sample of a million columns has one in twenty, too few of a rare motif to learn it. What is unlike the
    common motifs holds all of those, and is far less. Shares are those of the sample: that of a rare motif is too large.

    Parameters
    ----------
    chosen : array of shape (k,), int
        The random sample, in random order.
    unlike : array of shape (u,), int
        Columns, of all, that fit no motif of that sample.
    min_share : float
        Least share of the sample that is a motif.
    random_state : int

    Returns
    -------
    array of shape (at most k,), int, or None
        In order; what is unlike takes the place of some of the sample.

    Examples
    --------
    >>> with_unlike(np.array([5, 1, 3, 8, 4, 2]), np.array([3, 6, 7, 9, 99]), 0.3, 0)
    array([ 3,  5,  6,  7,  9, 99])
    """
    if len(unlike) < min_columns(min_share, len(chosen)):
        return None
    if len(unlike) > _MOST_UNLIKE:
        unlike = np.random.default_rng(random_state).choice(unlike, _MOST_UNLIKE, replace=False)
    return np.union1d(chosen[: len(chosen) - len(unlike)], unlike)
