"""Names: what the columns of an image are called, how sure that is, and what they are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CLEAR", "COMPETES", "NONE", "Names", "likeliest"]

NONE = "none"  # what pictures and graphs call columns without a name

CLEAR = 2.0  # standard errors of a column below which two names are hardly told apart

COMPETES = 0.05  # probability from which another name is said beside the first
_NO_PLACES = np.zeros((0, 2))
_NONE = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Names:
    """Names of columns and of empty sites.

    Attributes
    ----------
    kinds : list of str
        All names, such as ``["Mo", "W_Mo", "S2", "V_S"]``.
    columns : array of shape (n,), int64
        The name of each column as its place in `kinds`; -1 has none.
    probabilities : array of shape (n,), float64
        Probability of that name, or of none.
    others : array of shape (n,), int64
        The name that is likeliest after it; -1 for none.
    other_probabilities : array of shape (n,), float64
    empty_positions : array of shape (k, 2), float64
        (row, col) in pixels of sites without a column.
    empty : array of shape (k,), int64
        Their names, such as that of a vacancy of a whole column.
    empty_probabilities : array of shape (k,), float64
    record : dict
        How they were given: `by`, "composition" or "examples"; `atoms`, those of each kind, or None; `table`, columns and what
        tells each kind; of a composition `formula`, `dopants`, `gamma`, `hosts`, `alike`, formulas that fit as well, and
        `composition_at_percent`, `varying`, how many of each name are the host of another thickness; `warnings`; `notes`.
    """

    kinds: list[str]
    columns: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    others: NDArray[np.int64]
    other_probabilities: NDArray[np.float64]
    empty_positions: NDArray[np.float64] = field(default_factory=_NO_PLACES.copy)
    empty: NDArray[np.int64] = field(default_factory=lambda: _NONE.astype(np.int64))
    empty_probabilities: NDArray[np.float64] = field(default_factory=_NONE.copy)
    record: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def none(cls, n: int, record: dict[str, Any]) -> "Names":
        """No name for any of n columns; the record's warnings say why."""
        nothing, zero = np.full(n, -1), np.zeros(n)
        return cls([], nothing, zero, nothing.copy(), zero.copy(), record=record)

    def reordered(self, order: NDArray[np.int64]) -> "Names":
        """The names of the columns in another order, as indexing an array with `order` gives them."""
        of_columns = ("columns", "probabilities", "others", "other_probabilities")
        return replace(self, **{name: getattr(self, name)[order] for name in of_columns})

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.columns)

    def __repr__(self) -> str:
        """Say how many columns have which name."""
        counts = ", ".join(f"{name} {n:,}" for name, n in self.counts.items())
        return f"Names({counts or 'none'}; {int((self.columns < 0).sum()):,} columns without a name)"

    @property
    def warnings(self) -> list[str]:
        """What is doubtful about the names, each with what to do."""
        return list(self.record.get("warnings", []))

    @property
    def notes(self) -> list[str]:
        """What the names do not prove, such as a formula that another one's intensities are as well."""
        return list(self.record.get("notes", []))

    @property
    def atoms(self) -> "dict[str, dict[str, int]] | None":
        """The atoms of each kind, None where names came from examples."""
        found: dict[str, dict[str, int]] | None = self.record.get("atoms")
        return found

    @property
    def counts(self) -> dict[str, int]:
        """Columns and empty sites of each name that has any, the most frequent first."""
        every = np.concatenate([self.columns, self.empty])
        counts = np.bincount(every[every >= 0], minlength=len(self.kinds))
        return {self.kinds[k]: int(counts[k]) for k in np.argsort(-counts, kind="stable") if counts[k]}

    @property
    def words(self) -> np.ndarray:
        """The name of each column, "" for none; shape (n,)."""
        return self._words(self.columns)

    @property
    def empty_words(self) -> np.ndarray:
        """The name of each empty site, shape (k,)."""
        return self._words(self.empty)

    @property
    def competing(self) -> np.ndarray:
        """The name that a column may have as well, "" where it is clear; shape (n,)."""
        return np.where(self.other_probabilities >= COMPETES, self._words(self.others), "")

    def _words(self, which: NDArray[np.int64]) -> np.ndarray:
        return np.array([*self.kinds, ""], np.str_)[which]

    def of_motifs(self, labels: NDArray[np.int64], n_motifs: int) -> list[tuple[str | None, float]]:
        """The name of most columns of each motif, and their share; None where most have none.

        Parameters
        ----------
        labels : array of shape (n,), int
            Motif of each column, below 0 for none.
        n_motifs : int

        Returns
        -------
        list of (str or None, float)
        """
        counts = np.zeros((n_motifs, len(self.kinds) + 1))
        here = np.asarray(labels) >= 0
        np.add.at(counts, (np.asarray(labels)[here], self.columns[here]), 1)
        total = counts.sum(axis=1)
        share = np.divide(counts.max(axis=1), total, out=np.zeros(n_motifs), where=total > 0)
        words = [*self.kinds, None]
        best = counts.argmax(axis=1).tolist()
        return [(words[k] if t else None, float(s)) for k, s, t in zip(best, share, total, strict=True)]

    def looks(self, labels: NDArray[np.int64], n_motifs: int) -> dict[str, int]:
        """The motif whose colour, marker and hatching each name has in pictures, beyond the last one for names that no motif has.

        Parameters
        ----------
        labels, n_motifs
            As for `of_motifs`.

        Returns
        -------
        dict of str to int
            Of the names that are there, the most frequent first.
        """
        found: dict[str, int] = {}
        motifs = np.argsort(-np.bincount(labels[labels >= 0], minlength=n_motifs), kind="stable")
        called = self.of_motifs(labels, n_motifs)
        for motif in motifs.tolist():
            name = called[motif][0]
            if name is not None:
                found.setdefault(name, motif)
        rest = [name for name in self.counts if name not in found]
        found |= {name: n_motifs + place for place, name in enumerate(rest)}
        return {name: found[name] for name in self.counts}

    def table(self) -> "pd.DataFrame":
        """One row for each name: columns and empty sites that have it, the expected number with its standard error, and what tells it.

        Columns that the image's border cuts off are not counted. Errors are of counting alone, as those of `composition`.

        Returns
        -------
        pandas.DataFrame
            name, count, expected, error; contrast, the distance to the likeliest other name in standard errors of a column, and next,
            that name; where names came from a composition, site and intensity (1: that of the host); from examples, their number.
        """
        import pandas as pd

        return pd.DataFrame(self.record.get("table", []))

    @property
    def composition(self) -> "pd.DataFrame":
        """Atomic per cent of each element with the standard error of counting; empty where names came from examples.

        The error holds how many columns there are and how well single ones tell their name. What it does not hold: that intensities may
        not go with Z^gamma, that thickness or dirt passes for atoms, and that of two near names the other may be meant; see `warnings`.
        """
        import pandas as pd

        found = self.record.get("composition_at_percent", {})
        rows = [{"element": e, "at_percent": a, "error": error} for e, (a, error) in found.items()]
        return pd.DataFrame(rows, columns=["element", "at_percent", "error"])


def likeliest(
    probabilities: NDArray[np.float64], numbers: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The two likeliest names of each column, and their probabilities.

    Parameters
    ----------
    probabilities : array of shape (n, k), float64
    numbers : sequence of k int
        The name that each of the k is, as its place in `Names.kinds`; -1 for none.

    Returns
    -------
    names : array of shape (n, 2), int64
    probabilities : array of shape (n, 2), float64
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return np.asarray(numbers)[order], np.take_along_axis(probabilities, order, axis=1)
