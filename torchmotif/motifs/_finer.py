"""Classes of a quantity with known errors: what the motifs' own machinery supports, and no more."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchmotif.errors import InputError
from torchmotif.motifs._groups import Blocks
from torchmotif.motifs._saddles import saddle_ratios
from torchmotif.motifs._split import Split, propose, splits_of
from torchmotif.motifs.detectability import Acquisition, Motifs, Resolution, SplitCriteria

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FinerClasses", "finer_classes"]

_FEWEST = 20  # columns that say nothing of one another, from which classes are looked for
_MIN_SHARE = 0.02  # of a motif's columns that are a class
_MOST = 8  # classes
# Standard errors by which there must be fewer values midway between two classes than in either. Without, a gradient of strain at
# a tenth of the dose was cut in four: fits that share columns err alike, which makes gaps that independent noise does not.
_GAP = 3.0
_SURE = 1.5  # times the usual variance, up to which values are learnt from


@dataclass(frozen=True, eq=False)
class FinerClasses:
    """Classes within a motif.

    Attributes
    ----------
    labels : array of shape (n,), int64
        Class of each column of the result, the most frequent 0; -1 for columns of other motifs, or without a value.
    means, errors : arrays of shape (k, c)
        Mean of the quantity in each class, and its standard error.
    names : tuple of c str
        Of its components.
    independent : float
        Share of the columns that say something of their own: neighbouring fits share columns.
    resolutions : list of Resolution
        How the classes are told apart, one split after the other.
    unresolved : Resolution or None
        The best supported split that was not made, and what it would take.
    reason : str
        Why there are no more classes.
    """

    labels: NDArray[np.int64]
    means: NDArray[np.float64]
    errors: NDArray[np.float64]
    names: tuple[str, ...]
    independent: float
    resolutions: list[Resolution]
    unresolved: Resolution | None
    reason: str

    def __len__(self) -> int:
        """Count the classes."""
        return len(self.means)

    def __repr__(self) -> str:
        """Say how many there are, and why no more."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self)).tolist()
        more = "" if len(self) == 1 else "no more: "  # the reason is that of the next split
        classes = "1 class" if len(self) == 1 else f"{len(self)} classes"
        return f"FinerClasses({classes} of {counts} columns; {more}{self.reason})"

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each class: columns, and the mean of each component with its standard error."""
        import pandas as pd

        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self))
        table: dict[str, Any] = {"class": np.arange(len(self)), "columns": counts}
        for i, name in enumerate(self.names):
            table |= {name: self.means[:, i], f"{name}_error": self.errors[:, i]}
        return pd.DataFrame(table)


def finer_classes(
    field: Any,
    taken: NDArray[np.bool_],
    n: int,
    *,
    components: tuple[int, ...],
    min_evidence: float = 10.0,
    min_detectability: float = 2.0,
    max_valley: float = 0.2,
) -> FinerClasses:
    """Classes of some columns by components of a field, split one after the other by the criteria of the motifs.

    Two Gaussians of one shape, as wide as the errors or wider, must be much likelier than one, lie two standard deviations
    apart, and leave a valley in the density from which the errors have been taken. Splits are learnt on columns whose fits share
    none, since evidence counts independent values.

    Parameters
    ----------
    field : ColumnField
    taken : boolean array of shape (m,)
        Its columns that are to be split.
    n : int
        All columns.
    components : tuple of int
        Of the field.
    min_evidence, min_detectability, max_valley
        As of `MotifClassifier`.

    Returns
    -------
    FinerClasses

    Raises
    ------
    InputError
        If there are too few columns with a value.
    """
    rows, spread = np.flatnonzero(taken), field.covariance
    # At the border of the image errors are larger, and would look like a class of what is far off.
    size = np.einsum("mii->m", spread[rows][:, components][:, :, components])
    learnt = _independent(field, rows[size < _SURE * np.median(size)] if len(rows) else rows)
    if len(learnt) < _FEWEST:
        raise InputError(
            f"motif has {len(rows)} columns with a value, of which {len(learnt)} have neighbours of their own; {_FEWEST} "
            "of these are needed"
        )
    covariance = np.median(spread[rows], axis=0)[np.ix_(components, components)]
    size, axes = np.linalg.eigh(covariance)
    values = field.values[:, list(components)]
    white = torch.from_numpy((values - values[rows].mean(axis=0)) @ (axes / np.sqrt(size)))
    criteria = SplitCriteria(min_evidence, min_detectability, max_valley, _MIN_SHARE)
    least = float(criteria.min_columns(len(learnt)))
    acquisition = Acquisition(criteria, len(learnt), len(learnt), 1.0)
    members, open_ = [rows], [0]
    made: list[tuple[Split, Motifs]] = []
    best_left: tuple[Split, Motifs] | None = None
    reasons: list[str] = []
    while open_ and len(members) < _MOST:
        node = open_.pop(0)
        mine = members[node]
        sample = white[np.intersect1d(mine, learnt)]
        split, why = _supported(sample, criteria, least)
        if split is None:
            continue
        pair = ((node,), (len(members),))
        if why:
            reasons.append(why)
            if best_left is None or split.evidence > best_left[0].evidence:
                best_left = split, pair
            continue
        second = (split.log_odds(white[mine]) > 0).numpy()
        made.append((split, pair))
        members.append(mine[second])
        members[node] = mine[~second]
        open_ += [node, len(members) - 1]
    members.sort(key=lambda part: -len(part))
    labels = np.full(n, -1)
    kernel = np.zeros((len(members), len(field)))
    for number, part in enumerate(members):
        labels[field.columns[part]] = number
        kernel[number, part] = 1.0
    means, of_means = field.average(kernel)
    errors = np.sqrt(np.einsum("kii->ki", of_means))
    reason = reasons[0] if reasons else "the values show no more"
    share = len(learnt) / len(rows)
    every = made if best_left is None else [*made, best_left]
    told = acquisition.resolutions([split for split, _ in every], [pair for _, pair in every])
    left = told[len(made)] if best_left is not None else None
    return FinerClasses(labels, means, errors, field.names, share, told[: len(made)], left, reason)


class _Values(Blocks):
    """Values whose noise is the identity: splits are looked for in all components together, and in each by itself."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(values.float(), [torch.arange(len(values))], values.shape[1])

    @cached_property
    def spaces(self) -> list[tuple[Tensor, Tensor]]:
        """See `Blocks`."""
        variances, axes = torch.linalg.eigh(self.scatter)
        alone = torch.eye(self.used, dtype=axes.dtype)[None]
        each = [(self.scatter[:, i, i, None], alone[:, :, [i]]) for i in range(self.used)]
        return [(variances, axes), *(each if self.used > 1 else ())]


def _supported(sample: Tensor, criteria: SplitCriteria, least: float) -> tuple[Split | None, str]:
    """The best supported split of some values, and why it is not to be made; nothing where it is."""
    if len(sample) < 2 * least:
        return None, ""
    groups = _Values(sample)
    found = propose(groups)
    which = torch.argsort(found.evidence, dim=1, descending=True, stable=True)
    splits = splits_of(groups, found, which)[0][0]
    odds, pairs = found.odds[..., which[0]], found.pairs.at(which)
    second = len(sample) * groups.points.mean(odds.sigmoid())[0]
    saddles = saddle_ratios(groups.points, odds, pairs)[0].tolist()
    smaller = torch.minimum(second, len(sample) - second).tolist()
    large = [
        (one, saddle)
        for one, saddle, size in zip(splits, saddles, smaller, strict=True)
        if size >= least and math.isfinite(one.evidence)
    ]
    if not large:
        return None, ""
    words = []
    for one, saddle in large:
        if one.evidence < criteria.min_evidence:
            words.append(f"the evidence for two is {one.evidence:.0f}, less than {criteria.min_evidence:.0f}")
        elif one.detectability() < criteria.min_detectability:
            words.append(
                f"two would lie {one.detectability():.1f} standard deviations apart, less than {criteria.min_detectability:g}"
            )
        elif saddle > criteria.max_valley or _gap(one, sample) < _GAP:
            words.append("the values are a continuum: there is no valley between two")
        else:
            return one, ""
    return large[0][0], words[0]


def _gap(split: Split, sample: Tensor) -> float:
    """By how many standard errors there are fewer values midway between the means than about the rarer, in a third of the way."""
    first, second = split.means
    direction = split.axes @ (second - first)
    place = (sample @ direction - first @ (second - first)) / (second - first).square().sum()
    middle, low, high = (int(((place - at).abs() < 1 / 6).sum()) for at in (0.5, 0.0, 1.0))
    fewer = min(low, high)
    return float((fewer - middle) / max(fewer + middle, 1) ** 0.5)


def _independent(field: Any, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Columns that are as many as there are independent values, evenly taken: overlapping fits repeat one another."""
    operator = field.operators[0].copy()
    scaled = operator.multiply(np.sqrt(field.variance[:, 0])[None, :]).tocsr()[rows]
    size = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    scaled = scaled.multiply(1 / np.maximum(size, 1e-300)[:, None]).tocsr()
    alike = scaled @ scaled.T
    repeated = float(np.mean(np.asarray(alike.multiply(alike).sum(axis=1)).ravel()))
    step = max(repeated, 1.0)
    count = max(int(len(rows) / step), 1)
    # Evenly over the image, which rows are in the order of: an index that jumps by the golden ratio meets all of it.
    jumps = np.argsort((np.arange(len(rows)) * 0.6180339887498949) % 1.0, kind="stable")
    return np.sort(rows[jumps[:count]])
