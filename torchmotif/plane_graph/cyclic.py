"""Least cyclic arrangement of sequences."""

import numpy as np

__all__ = ["least_cyclic"]


def least_cyclic(sequences: np.ndarray, *, step: int = 1, mirror: bool = True) -> np.ndarray:
    """The least of all rotations of each cyclic sequence, and of its mirror image, in lexicographic order.

    Parameters
    ----------
    sequences : array of shape (n, d) of int
    step : int
        Rotations are by multiples of it: 2 where two kinds of entries alternate.
    mirror : bool
        Whether a sequence counts as the same as its reverse; the entry in the first place then stays there.

    Returns
    -------
    array of shape (n, d)

    Examples
    --------
    >>> import numpy as np
    >>> least_cyclic(np.array([[4, 3, 4, 3, 3]]))
    array([[3, 3, 4, 3, 4]])
    """
    best = sequences.copy()
    for start in (sequences, np.roll(sequences[:, ::-1], 1, axis=1)) if mirror else (sequences,):
        for shift in range(0, sequences.shape[1], step):
            candidate = np.roll(start, -shift, axis=1)
            differ = candidate != best
            first = differ.argmax(axis=1)[:, None]
            less = np.take_along_axis(candidate, first, 1) < np.take_along_axis(best, first, 1)
            best = np.where(less, candidate, best)
    return best
