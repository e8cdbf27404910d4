"""The atlas: the mean patch of every motif, and whether this dose tells it from the others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.plot import motif_style
from torchmotif.report.groups import brightness
from torchmotif.report.pixels import grey, picture

if TYPE_CHECKING:
    from torchmotif.result import MotifResult

__all__ = ["cards", "resolvable"]

_CLEAR = 3.0  # d' from which hardly a column is mistaken: 7 % at equal shares
_NAMED = 6  # motifs that a sentence names


def cards(result: "MotifResult") -> list[dict[str, Any]]:
    """One card for each motif: picture, numbers, and what this dose resolves.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    list of dict
    """
    counts = result.counts
    seen = result.templates[counts > 0]
    limits = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    bright = brightness(result)
    found = []
    for motif in range(result.n_motifs):
        here = result.labels == motif
        has = bool(counts[motif])
        found.append(
            {
                "number": motif,
                "style": motif_style(motif),
                "picture": picture(grey(result.templates[motif], limits)) if has else None,
                "count": int(counts[motif]),
                "share": counts[motif] / max(len(result.labels), 1),
                "probability": float(result.probabilities[here].mean()) if has else None,
                "brightness": float(np.median(bright[here])) if has else None,
                "resolvable": resolvable(result, motif),
            }
        )
    return found


def resolvable(result: "MotifResult", motif: int) -> dict[str, str]:
    """Whether single columns tell a motif from the others at this dose.

    Parameters
    ----------
    result : MotifResult
    motif : int

    Returns
    -------
    dict
        `answer`, a word or two, and `reason`, a sentence.
    """
    if not result.counts[motif]:
        return {"answer": "", "reason": "Every column of it turned out to be unlike it."}
    splits = result.record.get("found", {}).get("resolutions", [])
    own = [split for split in splits if any(motif in side for side in split["motifs"])]
    if not own:
        alone = result.n_motifs == 1
        reason = "There is no other motif." if alone else "The record does not say."
        return {"answer": "", "reason": reason}
    hardest = min(own, key=lambda split: split["detectability"])
    other = next(side for side in hardest["motifs"] if motif not in side)
    distance, dose = hardest["detectability"], hardest["least_relative_dose"]
    reason = f"{distance:.1f} standard deviations of one column from {_motifs(other)}"
    if dose > 1:
        reason += f"; single columns would need {dose:.2g} times this dose"
    elif dose > 0:
        reason += f"; told apart down to {_fraction(dose)} of this dose"
    answer = "yes" if distance >= _CLEAR else "partly" if dose <= 1 else "only in numbers"
    return {"answer": answer, "reason": reason + "."}


def _motifs(numbers: Sequence[int]) -> str:
    """Name motifs in a sentence: motif 3; motifs 1, 2 and 5."""
    names = [str(number) for number in sorted(numbers)]
    if len(names) == 1:
        return f"motif {names[0]}"
    if len(names) > _NAMED:
        return f"{len(names)} other motifs"
    return f"motifs {', '.join(names[:-1])} and {names[-1]}"


def _fraction(dose: float) -> str:
    return f"1/{1 / dose:.0f}" if dose < 0.7 else f"{dose:.0%}"
