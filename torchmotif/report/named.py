"""The section on names: how many columns have which, what tells them, what they are made of."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["names_section"]


def names_section(result: "Shown") -> dict[str, Any] | None:
    """Numbers of each name, and the composition; None where columns have no names.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    dict or None
        `how`, a sentence; `counted`, why names and motifs have other numbers, or ""; `rows` of the table; `elements`, of the composition; `unnamed`, columns without a name.
    """
    names = result.names
    if names is None:
        return None
    record = names.record
    how = "Names came from a few examples of each kind."
    if record.get("formula"):
        gamma, error = record["gamma"]
        hosts = ", ".join(dict.fromkeys(record["hosts"].values()))
        dopants = f" with {', '.join(record['dopants'])}" if record["dopants"] else ""
        how = (
            f"Names came from the composition {record['formula']}{dopants}: sublattices hold {hosts}, and intensities go with "
            f"Z^{gamma:.2f} ± {error:.2f}."
        )
    how = " ".join([how, *(f"{note[0].upper()}{note[1:]}." for note in names.notes)])
    return {
        "how": how,
        "counted": _counted(result),
        "rows": record.get("table", []),
        "elements": names.composition.to_dict("records"),
        "unnamed": int((names.columns < 0).sum()),
    }


def _counted(result: "Shown") -> str:
    """Why the numbers of names are others than those of motifs; nothing where they are not."""
    names, columns = result.names, result.columns
    if names is None:
        return ""
    named, parts = names.columns >= 0, []
    flags = [one for one in (columns.is_rim, columns.is_saturated) if one is not None]
    cut = np.any([np.asarray(one, bool) for one in flags], axis=0) if flags else np.zeros(len(named), bool)
    left_out = int((named & cut).sum()) if names.record.get("formula") else 0
    if left_out:
        parts.append(
            f"leaves out {left_out:,} named columns cut off by the image's border or by saturation, which motifs count"
        )
    none, empty = int((named & (result.labels < 0)).sum()), len(names.empty)
    held = [f"{none:,} columns that are in no motif"] * bool(none)
    held += [f"{empty:,} sites without a column"] * bool(empty)
    if held:
        parts.append(f"holds {' and '.join(held)}")
    return f"Numbers differ from those of motifs: the table {', and '.join(parts)}." if parts else ""
