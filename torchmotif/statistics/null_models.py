"""Labels as chance would have put them, and how many assemblies that would make."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy.special import gammaln

from torchmotif.errors import InputError
from torchmotif.hierarchy import Occurrences
from torchmotif.plane_graph import PlaneGraph
from torchmotif.statistics.ising import fit_ising, sample_ising

__all__ = ["Null", "least_words", "null_labels", "orbit_sizes", "shuffled_expectation"]

Null = Literal["shuffled", "ising"]


def null_labels(
    graph: PlaneGraph, null: str, n_samples: int, *, random_state: int = 0, sweeps: int = 200
) -> Iterator[np.ndarray]:
    """Labels of the whole graph under a null model, as places in its `label_names`.

    Parameters
    ----------
    graph : PlaneGraph
    null : {"shuffled", "ising"}
        Labels shuffled with their numbers fixed; or drawn from the Ising model fitted to the graph.
    n_samples : int
    random_state : int
    sweeps : int
        Of the Ising model.

    Yields
    ------
    array of shape (n,)

    Raises
    ------
    InputError
        If the null model is unknown, or an Ising model cannot be fitted.
    """
    if null == "shuffled":
        random = np.random.default_rng(random_state)
        for _ in range(n_samples):
            yield random.permutation(graph.label_index)
    elif null == "ising":
        fit = fit_ising(graph)
        spins = sample_ising(
            graph, fit.coupling, fit.field, n_samples=n_samples, sweeps=sweeps, random_state=random_state
        )
        yield from (spins > 0).astype(np.int64)
    else:
        raise InputError(f"null must be 'shuffled' or 'ising', got {null!r}")


def shuffled_expectation(pieces: Occurrences, keys: np.ndarray, label_counts: np.ndarray) -> np.ndarray:
    """Exact expected counts of assemblies if all labels of the graph were shuffled.

    Every group is equally likely to get each word: the multivariate hypergeometric probability of its letters in
    order, times the number of words that are the same under the shape's symmetries.

    Parameters
    ----------
    pieces : Occurrences
    keys : array of shape (a,)
        Assemblies.
    label_counts : array of shape (l,)
        How often each label occurs in the whole graph.

    Returns
    -------
    array of shape (a,)
    """
    words = keys[:, None] // pieces.base % pieces.n_labels
    letters = (words[:, :, None] == np.arange(pieces.n_labels)).sum(axis=1)
    total, size = label_counts.sum(keepdims=True), np.array([words.shape[1]])
    with np.errstate(divide="ignore"):
        ways = np.where(letters <= label_counts, _log_falling(label_counts, letters), -np.inf).sum(axis=1)
    probability = np.exp(ways - _log_falling(total, size))
    expected: np.ndarray = pieces.per_shape[keys // pieces.n_words] * orbit_sizes(pieces, keys) * probability
    return expected


def orbit_sizes(pieces: Occurrences, keys: np.ndarray) -> np.ndarray:
    """Number of different words that are one assembly under the symmetries of its shape, shape (a,)."""
    sizes = np.ones(len(keys), np.int64)
    for shape in np.unique(keys // pieces.n_words).tolist():
        rows = np.flatnonzero(keys // pieces.n_words == shape)
        variants = np.sort(_variants(pieces, keys[rows], shape), axis=1)
        sizes[rows] = 1 + (np.diff(variants, axis=1) > 0).sum(axis=1)
    return sizes


def least_words(pieces: Occurrences) -> np.ndarray:
    """Keys of all assemblies that labels could make on the shapes that occur, shape (a,)."""
    words = np.arange(pieces.n_words)
    keys = []
    for shape in range(len(pieces.symmetries)):
        least = _variants(pieces, words, shape).min(axis=1) == words
        keys.append(shape * pieces.n_words + words[least])
    return np.concatenate(keys)


def _variants(pieces: Occurrences, keys: np.ndarray, shape: int) -> np.ndarray:
    """Words of assemblies of one shape under each of its symmetries, shape (a, symmetries)."""
    words = keys[:, None] // pieces.base % pieces.n_labels
    variants: np.ndarray = words[:, pieces.symmetries[shape]] @ pieces.base
    return variants


def _log_falling(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Logarithm of n (n - 1) ... (n - k + 1)."""
    falling: np.ndarray = gammaln(n + 1.0) - gammaln(np.maximum(n - k, 0) + 1.0)
    return falling
