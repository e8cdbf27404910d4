"""The atlas: the mean patch of every motif, and whether this dose tells it from the others."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.motifs.detectability import LEAST_DOSE
from torchmotif.plot import motif_style
from torchmotif.report.groups import brightness, fences, motif_title
from torchmotif.report.pixels import grey, picture
from torchmotif.report.provenance import offset_of

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["cards", "occupancy", "resolvable"]

_SURE = 0.98  # mean probability of a motif's columns, from which on their number needs no error
_CLEAR = 3.0  # d' from which few columns are mistaken: 7 % at equal shares
_NAMED = 6  # motifs that a sentence names


def cards(result: "Shown") -> list[dict[str, Any]]:
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
    bright, known_dose = brightness(result), offset_of(result) is None
    families = {motif: _turned(family.motifs, motif) for family in result.families for motif in family.motifs}
    found = []
    for motif in range(result.n_motifs):
        here = result.labels == motif
        has = bool(counts[motif])
        found.append(
            {
                "number": motif,
                "title": motif_title(result, motif),
                "style": motif_style(motif),
                "picture": picture(grey(result.templates[motif], limits)) if has else None,
                "count": int(counts[motif]),
                "share": counts[motif] / max(len(result.labels), 1),
                "probability": float(result.probabilities[here].mean()) if has else None,
                "seat": result.sites.where(motif) if has else None,
                "family": families[motif],
                "expected": _expected(result, motif),
                "odd": _odd(bright[here]),
                "brightness": np.quantile(bright[here], [0.5, 0.05, 0.95]).tolist() if has else None,
                "resolvable": resolvable(result, motif, known_dose=known_dose),
            }
        )
    return found


def _turned(members: Sequence[int], motif: int) -> str:
    """Of which other motifs one is a turned or mirrored copy."""
    others = [other for other in members if other != motif]
    return f"{_motifs(others)} turned" if others else ""


def _expected(result: "Shown", motif: int) -> str:
    """How many columns are of a motif, where their number is known better than which they are."""
    known = result.record.get("found", {}).get("expected_counts") or []
    here, counts = result.labels == motif, result.counts
    # Of a sample, or of several images, these would be other numbers.
    if (
        len(known) != result.n_motifs
        or abs(sum(n for n, _ in known) - result.whole.sum()) > 0.5
        or not counts[motif]
    ):
        return ""
    number, error = known[motif]
    sure = float(result.probabilities[here].mean())
    return f"about {number:,.0f} ± {error:,.0f}, of each known to {sure:.2f}" if sure < _SURE else ""


def occupancy(result: "Shown") -> list[dict[str, Any]]:
    """How many sites of each sublattice are full, partly occupied and empty.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    list of dict
    """
    sites, found = result.sites, []
    for number in np.unique(sites.sublattice[np.isfinite(sites.p_full)]).tolist():
        here = sites.sublattice == number
        fractions = np.unique(np.round(sites.fraction[here & np.isfinite(sites.fraction)], 2))[::-1]
        found.append(
            {
                "sublattice": number,
                "sites": int(here.sum()),
                "full": float(np.nansum(sites.p_full[here])),
                "partial": float(np.nansum(sites.p_partial[here])),
                "empty": float(np.nansum(sites.p_empty[here])),
                "fractions": ", ".join(f"{fraction:.2f}" for fraction in fractions),
            }
        )
    return found


def _odd(values: np.ndarray) -> str:
    """How many columns of a motif are far darker or brighter than the others."""
    if not len(values):
        return ""
    _, low, high = fences(values)
    dark, bright = int((values < low).sum()), int((values > high).sum())
    return ", ".join(f"{n} {word}" for n, word in ((dark, "dark"), (bright, "bright")) if n)


def resolvable(result: "Shown", motif: int, *, known_dose: bool = True) -> dict[str, str]:
    """Whether single columns tell a motif from the others at this dose.

    Parameters
    ----------
    result : MotifResult
    motif : int
    known_dose : bool
        Whether to say down to what dose.

    Returns
    -------
    dict
        `answer`, a word or two, and `reason`, a sentence.
    """
    if not result.counts[motif]:
        return {"answer": "", "reason": "Every column of it turned out to be unlike it."}
    splits = result.record.get("found", {}).get("resolutions", [])
    inside = [split for split in splits if all(list(side) == [motif] for side in split["motifs"])]
    hidden = "".join(f" It may be two motifs: to tell, {_needs(split)}." for split in inside[:1])
    own = [split for split in splits if sum(motif in side for side in split["motifs"]) == 1]
    if not own:
        alone = result.n_motifs == 1
        return {
            "answer": "",
            "reason": ("There is no other motif." if alone else "The record does not say.") + hidden,
        }
    hardest = min(own, key=lambda split: split["detectability"])
    other = next(side for side in hardest["motifs"] if motif not in side)
    distance, dose = hardest["detectability"], hardest["least_relative_dose"]
    reason = f"{distance:.1f} standard deviations of one column from {_motifs(other)}"
    if not hardest.get("resolved", True):
        return {"answer": "no", "reason": f"{reason}; {_needs(hardest)}.{hidden}"}
    if known_dose and dose is not None and 0 < dose <= 1:
        reason += f"; told apart {_down_to(dose)}"
    return {"answer": "yes" if distance >= _CLEAR else "only in numbers", "reason": f"{reason}.{hidden}"}


def _needs(split: Mapping[str, Any]) -> str:
    """What it would take to tell both sides of a split apart."""
    columns, dose = (split.get(key) for key in ("least_columns", "least_relative_dose"))
    needs = (
        [f"about {round(columns, -2):,.0f} columns are needed"] if columns and math.isfinite(columns) else []
    )
    needs += [f"{dose:.2g} times this dose"] if dose and math.isfinite(dose) else []
    return " or ".join(needs) or "another kind of image is needed"


def _motifs(numbers: Sequence[int]) -> str:
    """Name motifs in a sentence: motif 3; motifs 1, 2 and 5."""
    names = [str(number) for number in sorted(numbers)]
    if len(names) == 1:
        return f"motif {names[0]}"
    if len(names) > _NAMED:
        return f"{len(names)} other motifs"
    return f"motifs {', '.join(names[:-1])} and {names[-1]}"


def _down_to(dose: float) -> str:
    """How far the dose may fall, in words."""
    if dose < LEAST_DOSE:
        return f"even at 1/{1 / LEAST_DOSE:.0f} of this dose, where columns are still found"
    return f"down to {f'1/{1 / dose:.0f}' if dose < 0.7 else f'{dose:.0%}'} of this dose"
