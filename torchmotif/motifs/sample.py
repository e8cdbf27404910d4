"""Which columns motifs are learnt on, where there are too many to learn on all of them."""

from collections.abc import Callable

import numpy as np

__all__ = ["FIRST", "MOST", "with_unlike"]

MOST = 50_000  # columns that motifs are learnt on
FIRST = 10_000  # of them a first time, to see which columns are unlike all motifs that are common
_MOST_UNLIKE = 2_500  # of them; more would make rare motifs look common


def with_unlike(
    chosen: np.ndarray, unlike: Callable[[np.ndarray], np.ndarray], random_state: int
) -> np.ndarray:
    """A random sample with columns that are unlike the motifs learnt on a part of it.

    A random sample of a million columns has one in twenty, too few of a rare motif to learn it. What is unlike the
    common motifs holds all of those, and is far less. Shares are those of the sample: that of a rare motif is too large.

    Parameters
    ----------
    chosen : array of shape (k,), int
        The random sample, in random order.
    unlike : function
        From the columns that are learnt on first, in order, to those of all columns that turn out to be unlike.
    random_state : int

    Returns
    -------
    array of shape (at most k,), int
        In order; what is unlike takes the place of some of the sample.

    Examples
    --------
    >>> with_unlike(np.array([5, 1, 3]), lambda first: np.array([3, 99]), 0)
    array([ 3,  5, 99])
    """
    rare = unlike(np.sort(chosen[:FIRST]))
    if len(rare) > _MOST_UNLIKE:
        rare = np.random.default_rng(random_state).choice(rare, _MOST_UNLIKE, replace=False)
    return np.union1d(chosen[: len(chosen) - len(rare)], rare)
