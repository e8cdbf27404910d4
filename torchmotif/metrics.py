"""How well labels agree with the truth: pair counts, mutual information, and the score of every kind of site."""

from typing import Any

import numpy as np

from torchmotif.errors import InputError, InputTypeError

__all__ = ["ami", "ari", "fmi", "site_f1"]


def fmi(truth: Any, labels: Any) -> float:
    """Fowlkes-Mallows index (Fowlkes & Mallows, 1983): geometric mean of pairwise precision and recall.

    Parameters
    ----------
    truth, labels : arrays of shape (n,)
        Noise, -1, counts as one class more.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    InputError
        If they are empty or differ in length.

    Examples
    --------
    >>> fmi([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    from sklearn.metrics import fowlkes_mallows_score

    return float(fowlkes_mallows_score(*_pair(truth, labels)))


def ami(truth: Any, labels: Any) -> float:
    """Adjusted mutual information (Vinh, Epps & Bailey, 2010), normalised by the mean of both entropies.

    Parameters
    ----------
    truth, labels : arrays of shape (n,)
        Noise, -1, counts as one class more.

    Returns
    -------
    float
        1 for the same partition, about 0 by chance.

    Raises
    ------
    InputError
        If they are empty or differ in length.

    Examples
    --------
    >>> ami([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(*_pair(truth, labels)))


def ari(truth: Any, labels: Any) -> float:
    """Adjusted Rand index (Hubert & Arabie, 1985).

    Parameters
    ----------
    truth, labels : arrays of shape (n,)
        Noise, -1, counts as one class more.

    Returns
    -------
    float
        1 for the same partition, about 0 by chance.

    Raises
    ------
    InputError
        If they are empty or differ in length.

    Examples
    --------
    >>> ari([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(*_pair(truth, labels)))


def site_f1(kinds: Any, labels: Any) -> dict[Any, float]:
    """F1 score of every kind of site: shows rare kinds, which indices of whole partitions hide.

    Every motif counts for the kind that most of its columns have (of equal shares, the first kind in sorted order);
    noise counts for none.

    Parameters
    ----------
    kinds : array of shape (n,)
        True kind of site of every column, for example "Mo", "Se2", "V_Se".
    labels : array of shape (n,), integers
        Motif of every column, -1 for noise.

    Returns
    -------
    dict
        For every kind in sorted order its F1 between 0 and 1; 0 where no motif counts for it.

    Raises
    ------
    InputError
        If they are empty or differ in length.

    Examples
    --------
    >>> site_f1(["Mo", "Mo", "V_Se", "V_Se"], [0, 0, 1, -1])
    {'Mo': 1.0, 'V_Se': 0.6666666666666666}
    """
    true, found = _pair(kinds, labels)
    if found.dtype.kind == "U":
        raise InputTypeError("labels must be the numbers of motifs, -1 for noise, got names")
    names, kind = np.unique(true, return_inverse=True)
    motifs, motif = np.unique(found, return_inverse=True)
    table = np.zeros((len(motifs), len(names)), dtype=np.int64)
    np.add.at(table, (motif, kind), 1)
    real = table[motifs >= 0]
    counts_for = real.argmax(axis=1)
    size = np.bincount(counts_for, weights=real.sum(axis=1), minlength=len(names))
    hits = np.bincount(counts_for, weights=real.max(axis=1, initial=0), minlength=len(names))
    scores = 2 * hits / (size + table.sum(axis=0))
    return dict(zip(names.tolist(), scores.tolist(), strict=True))


def _pair(truth: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both as numpy arrays of one length."""
    true, found = (np.asarray(_on_host(each)) for each in (truth, labels))
    if any(each.dtype.kind not in "biufU" for each in (true, found)):
        raise InputTypeError(
            f"the truth and the labels must be numbers or names, got dtypes {true.dtype} and {found.dtype}"
        )
    if any(each.dtype.kind == "f" and not np.isfinite(each).all() for each in (true, found)):
        raise InputError("the truth and the labels must be finite; give columns without a label the label -1")
    if true.ndim != 1 or true.shape != found.shape or len(true) == 0:
        raise InputError(
            "the truth and the labels must be one-dimensional, of one length and not empty, "
            f"got {true.shape} and {found.shape}"
        )
    return true, found


def _on_host(labels: Any) -> Any:
    """A tensor as one that numpy can take; anything else as it is."""
    if not hasattr(labels, "cpu"):
        return labels
    host = labels.detach().cpu()
    return host.double() if host.is_floating_point() else host
