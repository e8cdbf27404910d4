"""Tally: what all columns together say, numbers of each kind and atomic per cent of each element, with their errors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchmotif.names._mixture import Fitted
from torchmotif.names.formula import Composition
from torchmotif.names.occupations import Occupation

__all__ = ["Tally"]

Floats = NDArray[np.float64]


class Tally:
    """What all columns together say: numbers of each kind, and of each element."""

    def __init__(self, composition: Composition) -> None:
        self.elements = composition.elements
        self._rows: list[dict[str, Any]] = []
        self._atoms = np.zeros(len(self.elements))
        self._parts: list[tuple[Floats, Floats, Floats]] = []

    def add(self, options: list[Occupation], fitted: Fitted, learnt: NDArray[np.bool_], host: str) -> None:
        """Count the columns of one sublattice."""
        k = len(options)
        p = fitted.probabilities[learnt]
        atoms = np.array([[one.atoms.get(e, 0) for e in self.elements] for one in options], float)
        self._atoms += p[:, :k].sum(axis=0) @ atoms
        self._parts.append((p[:, :k], atoms, fitted.excess))
        variance = np.maximum((p * (1 - p)).sum(axis=0)[:k], np.diag(fitted.excess))
        counts = np.bincount(p.argmax(axis=1), minlength=k + 1)
        # By the noise of both: Mo_S2 and Mo_S are three times as bright as S2, and 2.9 standard errors apart where that has 4.
        sigma = (fitted.scatter[:, None] + fitted.scatter) / 2
        apart = np.abs(fitted.means[:, None] - fitted.means) / sigma
        np.fill_diagonal(apart, np.inf)
        likely = fitted.shares[:k] * len(p) > 0.5
        apart_likely = np.where(likely[None, :], apart, np.inf)
        for i, one in enumerate(options):
            near = apart_likely[i] if np.isfinite(apart_likely[i]).any() else apart[i]
            other = int(near.argmin())
            self._rows.append(
                {
                    "name": one.name,
                    "site": host,
                    "count": int(counts[i]),
                    "expected": float(p[:, i].sum()),
                    "error": float(np.sqrt(max(variance[i], 0.0))),
                    "intensity": float(fitted.means[i] / fitted.means[0]),
                    "contrast": float(near[other]) if np.isfinite(near[other]) else None,
                    "next": options[other].name if k > 1 else None,
                }
            )

    def rows(self) -> list[dict[str, Any]]:
        """The kinds that some columns have, the most frequent first."""
        there = [row for row in self._rows if row["count"] or row["expected"] > 0.5]
        return sorted(there, key=lambda row: -row["expected"])

    def at_percent(self) -> dict[str, list[float]]:
        """Atomic per cent of every element and its standard error."""
        total = self._atoms.sum()
        if not total > 0:
            return {}
        share = self._atoms / total
        variance = np.zeros(len(share))
        for p, atoms, excess in self._parts:
            beyond = atoms - atoms.sum(axis=1)[:, None] * share
            single = ((p @ beyond**2) - (p @ beyond) ** 2).sum(axis=0)
            variance += np.maximum(single, np.einsum("ae,ab,be->e", beyond, excess, beyond))
        errors = np.sqrt(np.maximum(variance, 0.0)) / total
        return {
            e: [100 * float(s), 100 * float(d)] for e, s, d in zip(self.elements, share, errors, strict=True)
        }
