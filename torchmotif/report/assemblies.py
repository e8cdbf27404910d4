"""The hierarchy: how many assemblies there are, which are frequent, and what energies that stands for."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.errors import InputError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot import atlas, growth
from torchmotif.report.figures import bare_figure, inline_svg
from torchmotif.report.groups import RIM, membership
from torchmotif.statistics import AssemblyStatistics, assembly_statistics

if TYPE_CHECKING:
    from torchmotif.result import MotifResult

__all__ = ["hierarchy_section"]

_MOST = 4000  # columns that are counted: the null model is drawn many times
_SIZE = 3  # motifs in the largest assemblies
_SAMPLES = 60  # of the null model
_ROWS = 8  # of the table, for each size
_INCLUSIONS = 8


def hierarchy_section(result: "MotifResult") -> dict[str, Any]:
    """Levels, frequent assemblies and inclusions of the columns that have a motif.

    Columns at the image's rim are left out, because their motif is not known.

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
    said = f"Of {len(kept):,} columns with a whole patch in the image"
    section: dict[str, Any] = {"levels": [], "rows": [], "inclusions": [], "atlas": None, "growth": None}
    try:
        graph = PlaneGraph.from_positions(result.columns.positions[kept], result.labels[kept])
        hierarchy = MotifHierarchy(_SIZE, memory_limit_gb=1.0).fit(graph)
        statistics = assembly_statistics(hierarchy, n_samples=_SAMPLES, n_bootstrap=_SAMPLES)
    except (InputError, ValueError) as error:
        return section | {"note": f"{said}: too few, or too many kinds, to count assemblies ({error})."}
    whole = int((membership(result) != RIM).sum())
    note = f"{said}." if whole == len(kept) else f"{said}, those nearest to the middle of {whole:,}."
    return section | {
        "note": note,
        "levels": [
            {"size": level.size, "assemblies": len(level), "occurrences": len(level.assembly)}
            for level in hierarchy.levels_
        ],
        "rows": _rows(statistics),
        "inclusions": _inclusions(hierarchy),
        **_pictures(hierarchy, statistics),
    }


def _middle(result: "MotifResult") -> np.ndarray:
    """Columns off the rim, at most so many, nearest to the middle."""
    kept = np.flatnonzero(membership(result) != RIM)
    if len(kept) <= _MOST:
        return kept
    away = np.abs(result.columns.positions[kept] - np.array(result.image.shape) / 2).max(axis=1)
    return np.sort(kept[np.argsort(away, kind="stable")[:_MOST]])


def _pictures(hierarchy: MotifHierarchy, statistics: AssemblyStatistics) -> dict[str, Any]:
    if len(hierarchy.levels_) < 2:
        return {}
    sizes = len(hierarchy.levels_) - 1
    shown, points = bare_figure(10.5, 2.2 * sizes + 0.4), bare_figure(6.0, 4.2)
    atlas(hierarchy, statistics, n=_ROWS * sizes, numbered=True, figure=shown)
    growth(hierarchy, statistics, ax=points.add_subplot())
    return {
        "atlas": inline_svg(shown, "The most frequent assemblies, with count, z-score and energy"),
        "growth": inline_svg(points, "Energies of assemblies against their size"),
    }


def _rows(statistics: AssemblyStatistics) -> list[dict[str, Any]]:
    """The most frequent assemblies of two motifs and more."""
    table = statistics.table
    table = table[(table["count"] > 0) & (table["size"] > 1)]
    rows = []
    for _, part in table.groupby("size"):
        rows += part.head(_ROWS).to_dict("records")
    return [
        {
            "motifs": _named(row["labels"]),
            "count": int(row["count"]),
            "expected": row["expected"],
            "z": row["z"],
            "energy": row["energy_kt"],
            "error": row["energy_error_kt"] if np.isfinite(row["energy_error_kt"]) else None,
            "character": row["character"],
        }
        for row in rows
    ]


def _inclusions(hierarchy: MotifHierarchy) -> list[dict[str, Any]]:
    """What is embedded in the most frequent motifs."""
    found = hierarchy.inclusions_
    return [
        {"motifs": _named(labels), "count": int(count)}
        for (labels, _), count in zip(found.codes[:_INCLUSIONS], found.counts, strict=False)
    ]


def _named(labels: tuple[Any, ...]) -> str:
    """Motifs of an assembly with how often each occurs: 2 × motif 0, motif 3."""
    counts = Counter(int(label) for label in labels)
    names = {motif: f"motif {motif}" if motif >= 0 else "none" for motif in counts}
    return ", ".join(
        f"{n} × {names[motif]}" if n > 1 else names[motif] for motif, n in sorted(counts.items())
    )
