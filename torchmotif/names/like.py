"""like: names of all columns from a few examples of each kind, by a mixture in moment space."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from torchmotif.errors import InputError
from torchmotif.names import doubts
from torchmotif.names._kinds import fit_kinds, foreign_by_intensity
from torchmotif.names._starts import BEYOND_NOISE, start_from, turned, turns_of, within_motifs
from torchmotif.names.examples import Examples, Features
from torchmotif.names.names import Names, likeliest

__all__ = ["name_like", "without_scatter"]

Floats = NDArray[np.float64]

_TOLD = 0.5  # standard deviations of one column by which kinds must differ along a direction of their own
_PASSES = 2  # with the coordinates of what the examples are, then of what all columns like them are
_SAME_SIZE = 0.02  # of a patch: by how much those of two images may differ


@dataclass(frozen=True, eq=False)
class _Space:
    """Coordinates in which columns of one kind scatter by 1, without those that hold noise alone."""

    centre: Floats  # (k,)
    axes: Floats  # (k, q)

    def of(self, values: Floats) -> Floats:
        """Coordinates of feature vectors."""
        return np.asarray((values - self.centre) @ self.axes)


class _Learnt(NamedTuple):
    """What the kinds are in an image."""

    means: Floats  # (j, k): features of each
    of_kind: Floats  # (n, j + 1): probability of every column to be of each kind, and last of none
    contrast: Floats  # (j, j): distance between the kinds in standard deviations of one column, inf from each to itself
    alone: (
        Floats  # (m, j + 1): as `of_kind`, of the m columns that are examples, if they were not known to be
    )


def name_like(
    features: Features,
    positions: Floats,
    labels: NDArray[np.int64],
    examples: Examples,
    own: NDArray[np.int64],
) -> Names:
    """Name columns by examples.

    Every kind, and every motif that no example is of, is a Gaussian in the space of moments and intensity; all scatter alike,
    and lie in the orientations that the crystal has. Their means start from the examples and are learnt from all columns.

    Parameters
    ----------
    features : Features
        Of the columns to name.
    positions : array of shape (n, 2), float64
        Where they are, (row, col) in pixels: what is said of examples names them.
    labels : array of shape (n,), int
        Their motifs.
    examples : Examples
    own : array of shape (n,), int
        Kind of the columns that are examples themselves, -1 of all others.

    Returns
    -------
    Names

    Raises
    ------
    InputError
        If the examples are of patches of another size.
    """
    if (
        abs(features.size / examples.size - 1) > _SAME_SIZE
        or features.values.shape[1] != examples.features.shape[1]
    ):
        raise InputError(
            f"examples: their patches are {examples.size:.3g} wide, those here {features.size:.3g}; analyse both images "
            "with the same patch_size, or together as a list"
        )
    whole = np.asarray(np.isfinite(features.values).all(axis=1))
    learnt = _learnt(features.values[whole], labels[whole], examples, own[whole])
    return _names(learnt, whole, examples, own, positions)


def without_scatter(
    features: Features,
    positions: Floats,
    labels: NDArray[np.int64],
    examples: Examples,
    own: NDArray[np.int64],
    *,
    where: str = "",
) -> Examples:
    """Examples as other images are to know them: each is as the mean of all columns of its kind in its own image.

    What a column shows beyond that is the noise and the soil of its image. In another image, where they are less, it would be
    taken for what sets kinds apart: V_Se of TiWSe2 (11, ADF2) scatter by 0.12, of which two in five examples lie at the
    brightness of half empty sites of 25, where V_Se scatter by 0.06.

    Parameters
    ----------
    features : Features
        Of all columns of the image that the examples are of.
    positions : array of shape (n, 2), float64
        Where they are, (row, col) in pixels.
    labels : array of shape (n,), int
        Their motifs.
    examples : Examples
    own : array of shape (n,), int
        Kind of the columns that are examples, -1 of all others.
    where : str
        Said of the examples where they are doubtful, such as " of image 2".

    Returns
    -------
    learnt : Examples
        With what is doubtful about them here, which no other image can show.
    """
    whole = np.asarray(np.isfinite(features.values).all(axis=1))
    learnt = _learnt(features.values[whole], labels[whole], examples, own[whole])
    given = whole & (own >= 0)
    said = [
        *doubts.of_contrast(examples.kinds, learnt.contrast, where),
        *doubts.of_examples(examples.kinds, own[given], positions[given], learnt.alone, where),
    ]
    of_one = learnt.of_kind.sum(axis=0)[:-1] / np.bincount(examples.kind, minlength=len(examples.kinds))
    return replace(examples, features=learnt.means[examples.kind], columns=of_one[examples.kind], doubts=said)


def _learnt(values: Floats, motif: NDArray[np.int64], examples: Examples, own: NDArray[np.int64]) -> _Learnt:
    """Learn what the kinds are from all columns of an image, which start from the examples."""
    turns = turns_of(values, motif)
    within = within_motifs(values, motif, turns)
    starts = start_from(examples, values, motif, within, turns)
    kinds, every, weight = len(examples.kinds), starts.means, starts.weight
    for _ in range(_PASSES):
        noise = np.sqrt(starts.scatter / np.maximum(weight, starts.columns))
        space = _space(values, within, every, noise, turns)
        foreign = foreign_by_intensity(values[:, -1], every[:, -1], float(np.sqrt(within[-1, -1])))
        at, copies = (np.stack([space.of(turned(one, angle)) for angle in turns]) for one in (values, every))
        fitted = fit_kinds(at, space.of(every), copies, weight, own=own, foreign=foreign)
        every, weight = _relearnt(values, fitted.probabilities, turns, every, weight)
    of_kind, alone = (
        np.concatenate([one[:, :kinds], one[:, kinds:].sum(axis=1, keepdims=True)], axis=1)
        for one in (fitted.probabilities.sum(axis=0), fitted.alone)
    )
    return _Learnt(every[:kinds], of_kind, np.sqrt(fitted.apart[:kinds, :kinds]), alone)


def _space(values: Floats, within: Floats, starts: Floats, noise: Floats, turns: list[float]) -> _Space:
    """Coordinates that tell kinds apart, and intensity: what else varies around columns makes them no other kind."""
    scale, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(scale)
    centre = np.mean([turned(values, angle).mean(axis=0) for angle in turns], axis=0)
    copies = [(turned(values, angle) - centre) @ white for angle in turns]
    size, directions = np.linalg.eigh(sum(one.T @ one for one in copies) / (len(turns) * len(values)))
    kept = directions[
        :, size > (1 + np.sqrt(values.shape[1] / len(values))) ** 2
    ]  # beyond what noise alone reaches
    between = np.concatenate([(turned(starts, angle) - centre) @ white for angle in turns])
    between = between - between.mean(axis=0)
    told = between @ kept @ kept.T
    rest = between - told
    # Kinds too rare to be in `kept`.
    beyond = np.where(np.linalg.norm(rest, axis=1) > BEYOND_NOISE * np.tile(noise, len(turns)), 1.0, 0.0)
    # As long as what tells the kinds; one kind without anything beside it is told from outliers by its intensity.
    intensity = white[-1:] / np.linalg.norm(white[-1]) * (np.linalg.norm(told, axis=1).max() or 1.0)
    _, strength, right = np.linalg.svd(
        np.concatenate([told + beyond[:, None] * rest, intensity]), full_matrices=False
    )
    return _Space(centre, white @ right[strength > _TOLD].T)


def _relearnt(
    values: Floats, found: Floats, turns: list[float], means: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Means of all columns by their probability of being each, and how many columns those are."""
    parts = len(means)
    taken = found[..., :parts].sum(axis=(0, 1))
    sums = sum(found[g, :, :parts].T @ turned(values, angle) for g, angle in enumerate(turns))
    return (weight[:, None] * means + sums) / (weight + taken)[:, None], weight + taken


def _names(
    learnt: _Learnt,
    whole: NDArray[np.bool_],
    examples: Examples,
    own: NDArray[np.int64],
    positions: Floats,
) -> Names:
    """Names by the probability of every kind, and last of none."""
    of_kind = learnt.of_kind
    n, kinds = len(whole), len(examples.kinds)
    first, second = np.full(n, -1), np.full(n, -1)
    p_first, p_second = np.zeros(n), np.zeros(n)
    names, probabilities = likeliest(of_kind, [*range(kinds), -1])
    first[whole], second[whole] = names.T
    p_first[whole], p_second[whole] = probabilities.T
    counts = np.bincount(names[:, 0] + 1, minlength=kinds + 1)[1:]
    nearest, contrast = learnt.contrast.argmin(axis=1), learnt.contrast.min(axis=1)
    rows = [
        {
            "name": name,
            "examples": int((examples.kind == k).sum()),
            "count": int(counts[k]),
            "expected": float(of_kind[:, k].sum()),
            "error": float(np.sqrt((of_kind[:, k] * (1 - of_kind[:, k])).clip(0.0).sum())),
            "contrast": float(contrast[k]) if np.isfinite(contrast[k]) else None,
            "next": examples.kinds[nearest[k]] if np.isfinite(contrast[k]) else None,
        }
        for k, name in enumerate(examples.kinds)
    ]
    here = np.bincount(own[own >= 0], minlength=kinds)
    given = whole & (own >= 0)
    warnings = [
        *examples.doubts,
        *doubts.of_contrast(examples.kinds, learnt.contrast),
        *doubts.of_examples(examples.kinds, own[given], positions[given], learnt.alone),
        *doubts.of_numbers(examples.kinds, counts, here),
    ]
    record = {"by": "examples", "atoms": None, "table": rows, "warnings": warnings}
    return Names(list(examples.kinds), first, p_first, second, p_second, record=record)
