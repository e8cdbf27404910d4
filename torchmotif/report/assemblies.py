"""The hierarchy: how many assemblies there are, which are frequent, and what energies that stands for."""

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.errors import InputError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.names import NONE
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot.assemblies import groups_drawn, growth_drawn
from torchmotif.report.figures import inline_svg
from torchmotif.statistics import AssemblyStatistics, assembly_statistics

if TYPE_CHECKING:
    import pandas as pd

    from torchmotif.report.shown import Shown


__all__ = ["hierarchy_section"]

_MOST = 4000  # columns that are counted: the null model is drawn many times
_SIZE = 3  # motifs in the largest assemblies
_SAMPLES = 60  # of the null model
_FREQUENT, _RARE = 4, 4  # rows of the table for each size: of all assemblies, and of those with a rare motif
_INCLUSIONS = 8


def hierarchy_section(result: "Shown") -> dict[str, Any]:
    """Levels, frequent assemblies and inclusions of the columns that have a whole patch.

    Those at the image's rim are left out, because their motif is not known, or told from a part of their patch.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    dict
        `note`, which columns were counted or why none could be; `levels`, `rows`, `inclusions`; `atlas` and `growth`,
        pictures or None.
    """
    kept = _middle(result)
    whole, every = int(result.whole.sum()), len(result.whole)
    those = f"the {len(kept):,} nearest to the middle of the image" if whole > len(kept) else "they"
    at_rim = (
        f", and not the {every - whole:,} at its rim or beside what was not measured" if every > whole else ""
    )
    said = f"{whole:,} columns have their whole patch in the image; {those} are counted here{at_rim}"
    section: dict[str, Any] = {"levels": [], "rows": [], "inclusions": [], "atlas": None, "growth": None}
    try:
        graph = (
            result.graph
            if whole == len(kept)
            else PlaneGraph.from_positions(result.columns.positions[kept], _labels(result)[kept])
        )
        hierarchy = MotifHierarchy(_SIZE, corners="none", memory_limit_gb=1.0).fit(graph)
        statistics = assembly_statistics(hierarchy, n_samples=_SAMPLES, n_bootstrap=_SAMPLES)
    except (InputError, ValueError) as error:
        return section | {"note": f"{said}: too few, or too many kinds, to count assemblies ({error})."}
    crystal = _crystal(result)
    chosen = replace(statistics, table=_chosen(statistics.table, crystal))
    return section | {
        "note": f"{said}.",
        "levels": [
            {"size": level.size, "assemblies": len(level), "occurrences": len(level.assembly)}
            for level in hierarchy.levels_
        ],
        "rows": _rows(chosen.table, crystal),
        "inclusions": _inclusions(hierarchy, crystal),
        **_pictures(hierarchy, statistics, chosen, result.looks),
    }


def _labels(result: "Shown") -> np.ndarray:
    """What columns are counted by: their names, or without any their motifs."""
    if result.names is None:
        return result.labels
    return np.where(result.names.words == "", NONE, result.names.words)


def _crystal(result: "Shown") -> set[Any]:
    """Labels of the crystal itself, and of columns with none."""
    if result.names is None:
        return {*result.sites.sublattices, -1}
    hosts = result.names.record.get("hosts", {}).values()
    return {*(hosts or list(result.names.counts)[:2]), NONE}


def _middle(result: "Shown") -> np.ndarray:
    """Columns off the rim, at most so many, nearest to the middle."""
    kept = np.flatnonzero(result.whole)
    if len(kept) <= _MOST:
        return kept
    away = np.abs(result.columns.positions[kept] - np.array(result.image.shape) / 2).max(axis=1)
    return np.sort(kept[np.argsort(away, kind="stable")[:_MOST]])


def _chosen(table: "pd.DataFrame", crystal: set[Any]) -> "pd.DataFrame":
    """The most frequent assemblies of two motifs and more of each size, then the most frequent ones of rare motifs."""
    import pandas as pd

    found = table[(table["count"] > 0) & (table["size"] > 1)]
    rare = pd.Series(
        [not {_plain(one) for one in labels} <= crystal for labels in found["labels"]], found.index
    )
    parts = [found.head(0)]
    for _, part in found.groupby("size"):
        rest = part.iloc[_FREQUENT:]
        parts += [part.head(_FREQUENT), rest[rare[rest.index]].head(_RARE)]
    return pd.concat(parts)


def _pictures(
    hierarchy: MotifHierarchy,
    statistics: AssemblyStatistics,
    chosen: AssemblyStatistics,
    looks: dict[str, int] | None,
) -> dict[str, Any]:
    if len(hierarchy.levels_) < 2:
        return {}
    sizes, columns = len(hierarchy.levels_) - 1, _FREQUENT + _RARE
    legend = 0.1 + 0.2 * math.ceil(len(hierarchy.graph_.label_names) / columns)
    return {
        "atlas": inline_svg(
            "atlas",
            "Assemblies, with count, z-score and energy",
            legend_in=legend,
            **groups_drawn(hierarchy, chosen, n=columns * sizes, numbered=True, looks=looks),
        ),
        "growth": inline_svg(
            "growth", "Energies of assemblies against their size", **growth_drawn(hierarchy, statistics)
        ),
    }


def _rows(table: "pd.DataFrame", crystal: set[Any]) -> list[dict[str, Any]]:
    """What the table says of each assembly."""
    return [
        {
            "motifs": _named(row["labels"], crystal),
            "count": int(row["count"]),
            "expected": row["expected"],
            "z": row["z"],
            "energy": row["energy_kt"],
            "error": row["energy_error_kt"] if np.isfinite(row["energy_error_kt"]) else None,
            "character": row["character"],
        }
        for row in table.to_dict("records")
    ]


def _inclusions(hierarchy: MotifHierarchy, crystal: set[Any]) -> list[dict[str, Any]]:
    """What is embedded in the most frequent motifs."""
    found = hierarchy.inclusions_
    return [
        {"motifs": _named(labels, crystal), "count": int(count)}
        for (labels, _), count in zip(found.codes[:_INCLUSIONS], found.counts, strict=False)
    ]


def _plain(label: Any) -> Any:
    """A name as text, a motif as a number."""
    return str(label) if isinstance(label, str) else int(label)


def _named(labels: tuple[Any, ...], crystal: set[Any]) -> str:
    """Motifs of an assembly with how often each occurs: 2 × motif 0, motif 3; names with what is rare first: V_S pair, Mo."""
    counts = Counter(_plain(label) for label in labels)
    if any(isinstance(label, str) for label in counts):
        order = sorted(counts, key=lambda name: (name in crystal, -counts[name], name))
        many = {
            name: f"{name} pair" if counts[name] == 2 and name not in crystal else f"{counts[name]} × {name}"
            for name in order
        }
        return ", ".join(many[name] if counts[name] > 1 else name for name in order)
    names = {motif: f"motif {motif}" if motif >= 0 else "none" for motif in counts}
    return ", ".join(
        f"{n} × {names[motif]}" if n > 1 else names[motif] for motif, n in sorted(counts.items())
    )
