"""The hierarchy of a field: assemblies counted block by block, each by the block that holds its first column."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchmotif.errors import InputError
from torchmotif.field.plan import Job
from torchmotif.hierarchy.groups import connected_groups
from torchmotif.hierarchy.levels import build_level
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plane_graph.neighbours import delaunay_edges, first_shell, shell_end

__all__ = ["FieldHierarchy", "FieldLevel", "count_assemblies", "end_of_shell"]

_AROUND = 4.0  # spacings that must be known around the columns of an assembly, beside one and a half for each
Code = tuple[tuple[Any, ...], tuple[Any, ...]]


@dataclass(frozen=True, eq=False)
class FieldLevel:
    """All assemblies of one size.

    Attributes
    ----------
    size : int
        Motifs in each.
    codes : list of (labels, structure)
        Equal for two if and only if they match; the most frequent first.
    counts : array of shape (a,)
        How often each occurs.
    """

    size: int
    codes: list[Code]
    counts: np.ndarray

    def __len__(self) -> int:
        """Count the assemblies."""
        return len(self.codes)

    def __repr__(self) -> str:
        """Say how many there are."""
        return (
            f"FieldLevel({len(self)} assemblies of {self.size} motifs, {int(self.counts.sum())} occurrences)"
        )


@dataclass(frozen=True, eq=False)
class FieldHierarchy:
    """Assemblies of motifs of a whole field, as `MotifHierarchy` counts them.

    Attributes
    ----------
    levels_ : list of FieldLevel
        Assemblies of 1, 2, ... motifs.
    """

    levels_: list[FieldLevel]

    @classmethod
    def merged(cls, parts: Sequence[list[list[Any]]]) -> "FieldHierarchy":
        """The sum of what `count_assemblies` gave for the blocks."""
        size = max((len(part) for part in parts), default=0)
        counters: list[Counter[str]] = [Counter() for _ in range(size)]
        for part in parts:
            for counter, level in zip(counters, part, strict=False):
                for code, count in level:
                    counter[code] += count
        levels = []
        for i, counter in enumerate(counters):
            ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
            codes = [_tuples(json.loads(code)) for code, _ in ranked]
            levels.append(FieldLevel(i + 1, codes, np.array([count for _, count in ranked], np.int64)))
        return cls(levels)

    def to_json(self) -> str:
        """The levels as JSON."""
        levels = [
            {
                "size": level.size,
                "assemblies": [
                    {"labels": labels, "structure": structure, "count": int(count)}
                    for (labels, structure), count in zip(level.codes, level.counts, strict=True)
                ],
            }
            for level in self.levels_
        ]
        return json.dumps({"levels": levels})

    @classmethod
    def from_json(cls, text: str) -> "FieldHierarchy":
        """What `to_json` gave."""
        levels = []
        for level in json.loads(text)["levels"]:
            found = level["assemblies"]
            codes = [(_tuples(item["labels"]), _tuples(item["structure"])) for item in found]
            levels.append(
                FieldLevel(level["size"], codes, np.array([item["count"] for item in found], np.int64))
            )
        return cls(levels)


def end_of_shell(job: Job, blocks: Sequence[int]) -> float:
    """Where the first shell of neighbours ends: the median over some blocks, in units of the local spacing."""
    found = []
    for number in blocks:
        points = job.work.load(job.name("labels", number))["positions"]
        if len(points) > 20:
            try:
                found.append(shell_end(points, delaunay_edges(points)))
            except InputError:  # all on one line
                continue
    return float(np.median(found)) if found else 1.4


def count_assemblies(job: Job, blocks: list[int], max_size: int, end: float) -> int:
    """Count the assemblies of some blocks and commit the counts. Returns how many occurrences there are."""
    total = 0
    for number in blocks:
        counts = _counted(job, number, max_size, end)
        job.work.write_json(job.name("assemblies", number), counts)
        total += sum(count for level in counts for _, count in level)
    return total


def _counted(job: Job, number: int, max_size: int, end: float) -> list[list[Any]]:
    """For every size, pairs (code, count) of the assemblies whose first column lies in a block."""
    grid, reach = job.survey.grid, (_AROUND + 1.5 * max_size) * job.survey.common.spacing
    core = np.array(grid[number].core, np.float64)
    points, labels, mine = [], [], []
    for other in grid.around(number):
        part = job.work.load(job.name("labels", other))
        near = ((part["positions"] > core[:2] - reach) & (part["positions"] < core[2:] + reach)).all(axis=1)
        near |= other == number
        points.append(part["positions"][near])
        labels.append(part["labels"][near])
        mine.append(np.full(int(near.sum()), other == number))
    own = np.concatenate(mine)
    at = np.concatenate(points)
    if not own.any() or len(at) < 4:
        return [[] for _ in range(max_size)]
    try:
        delaunay = delaunay_edges(at)
    except InputError:  # all on one line
        return [[] for _ in range(max_size)]
    graph = PlaneGraph(at, first_shell(at, delaunay, end), np.concatenate(labels))
    inner = np.flatnonzero(~graph.rim)
    if not len(inner):
        return [[] for _ in range(max_size)]
    place = np.full(len(at) + 1, -1)
    place[inner] = np.arange(len(inner))
    levels: list[list[Any]] = []
    for groups in connected_groups(place[graph.embedding.rotation[0][inner]], max_size):
        members = inner[groups[own[inner[groups[:, 0]]]]]
        if not len(members):
            levels.append([])
            continue
        level = build_level(
            graph.embedding, members, graph.label_names, graph.label_index, reflections=True, corners="faces"
        )
        pairs = zip(level.codes, level.counts.tolist(), strict=True)
        levels.append([(json.dumps(code), count) for code, count in pairs])
    return levels


def _tuples(value: Any) -> Any:
    """Lists as tuples, as they were before JSON."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
