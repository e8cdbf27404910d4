"""The hierarchy of a field: assemblies counted batch by batch, each by the batch that holds its first column."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchmotif.analysis.plan import Batch
from torchmotif.errors import InputError
from torchmotif.hierarchy.groups import connected_groups
from torchmotif.hierarchy.levels import build_level
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plane_graph.neighbours import delaunay_edges, first_shell, shell_end

__all__ = ["HOLE", "FieldHierarchy", "FieldLevel", "count_assemblies", "end_of_shell", "merged"]

_AROUND = 4.0  # spacings that must be known around the columns of an assembly, beside one and a half for each
# Where pixels were not measured, faces with more corners are holes: what lies in them is not known. Larger ones would also
# not be seen as a whole by one batch.
HOLE = 12
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
    def from_json(cls, text: str) -> "FieldHierarchy":
        """What `merged` gave."""
        return cls([_level(level["size"], level["assemblies"]) for level in json.loads(text)["levels"]])


def _level(size: int, found: list[dict[str, Any]]) -> FieldLevel:
    codes = [(_tuples(item["labels"]), _tuples(item["structure"])) for item in found]
    return FieldLevel(size, codes, np.array([item["count"] for item in found], np.int64))


def merged(parts: Sequence[list[list[Any]]]) -> str:
    """The sum of what was counted of an image in every batch of it, as JSON."""
    levels: list[Counter[str]] = [Counter() for _ in range(max(map(len, parts), default=0))]
    for part in parts:
        for counter, level in zip(levels, part, strict=False):
            for code, count in level:
                counter[code] += count
    found = []
    for size, counter in enumerate(levels, start=1):
        ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
        every = [(*json.loads(code), count) for code, count in ranked]
        assemblies = [{"labels": one[0], "structure": one[1], "count": one[2]} for one in every]
        found.append({"size": size, "assemblies": assemblies})
    return json.dumps({"levels": found})


def end_of_shell(batches: Sequence[Batch], image: int) -> float:
    """Where the first shell of neighbours ends in an image of many batches: the median over those, in local spacings."""
    found = []
    for batch in batches:
        points = _known(batch, image)[0]
        if len(points) > 20:
            try:
                found.append(shell_end(points, delaunay_edges(points)))
            except InputError:  # all on one line
                continue
    return float(np.median(found)) if found else 1.4


def count_assemblies(batch: Batch, others: Sequence[Batch], max_size: int, ends: dict[int, float]) -> int:
    """Count the assemblies of a batch and commit the counts. Returns how many images it has.

    The others are, in order and itself among them, all with tiles that touch its own. `ends` says where the first shell
    ends in images that lie in more than one batch.
    """
    counts = {}
    for image in batch.images:
        mine = [other for other in others if image.number in {one.number for one in other.images}]
        parts = [_near(other, image.number, batch, max_size) for other in mine]
        at, labels, own = (np.concatenate(values) for values in zip(*parts, strict=True))
        counts[str(image.number)] = _counted(
            at, labels, own, max_size, ends.get(image.number), hole=HOLE if batch.has_hidden else None
        )
    batch.parts.write_json(batch.name("assemblies"), counts)
    return len(counts)


def _known(batch: Batch, image: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and motifs of the columns of one image that have a whole patch: those whose motif is known."""
    part = batch.load("labels")
    here = part["whole"] & (part["image"] == image)
    return part["positions"][here], part["labels"][here]


def _near(other: Batch, image: int, batch: Batch, max_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is known of one batch near the tiles of another in an image, and whether that is itself."""
    at, labels = _known(other, image)
    own = np.full(len(at), other.name("") == batch.name(""))
    cores = batch.places[batch.places[:, 0] == image, 2:6]
    reach = (_AROUND + 1.5 * max_size) * batch.survey.model.spacing
    near = (at > cores[:, :2].min(axis=0) - reach) & (at < cores[:, 2:].max(axis=0) + reach)
    kept = own | near.all(axis=1)
    return at[kept], labels[kept], own[kept]


def _counted(
    at: np.ndarray,
    labels: np.ndarray,
    own: np.ndarray,
    max_size: int,
    end: float | None,
    *,
    hole: int | None,
) -> list[list[Any]]:
    """For every size, pairs (code, count) of the assemblies whose first column is one's own."""
    levels: list[list[Any]] = [[] for _ in range(max_size)]
    if not own.any() or len(at) < 4:
        return levels
    try:
        graph = PlaneGraph(at, first_shell(at, delaunay_edges(at), end), labels, max_face=hole)
    except InputError:  # all on one line
        return levels
    inner = np.flatnonzero(~graph.rim)
    place = np.full(len(at) + 1, -1)
    place[inner] = np.arange(len(inner))
    for i, groups in enumerate(connected_groups(place[graph.embedding.rotation[0][inner]], max_size)):
        members = inner[groups[own[inner[groups[:, 0]]]]]
        if len(members):
            names, index = graph.label_names, graph.label_index
            level = build_level(graph.embedding, members, names, index, reflections=True, corners="faces")
            pairs = zip(level.codes, level.counts.tolist(), strict=True)
            levels[i] = [(json.dumps(code), count) for code, count in pairs]
    return levels


def _tuples(value: Any) -> Any:
    """Lists as tuples, as they were before JSON."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
