"""The section on names: how many columns have which, what tells them, what they are made of."""

from typing import TYPE_CHECKING, Any

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
        `how`, a sentence; `rows` of the table; `elements`, of the composition; `unnamed`, columns without a name.
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
        "rows": record.get("table", []),
        "elements": names.composition.to_dict("records"),
        "unnamed": int((names.columns < 0).sum()),
    }
