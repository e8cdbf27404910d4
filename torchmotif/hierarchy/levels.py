"""Levels of the hierarchy: all assemblies of one size, with where they occur."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from torchmotif.errors import InputError
from torchmotif.plane_graph import Code, Corners, Embedding, Shapes, canonical_shapes
from torchmotif.plane_graph.codes import trimmed

__all__ = ["Level", "Occurrences", "build_level"]


@dataclass(frozen=True, eq=False)
class Occurrences:
    """Groups of one size, shape by shape, whatever their labels.

    Attributes
    ----------
    members : array of shape (g, m)
        Nodes of each group in the canonical order of its shape.
    offsets : array of shape (s + 1,)
        Groups of shape i are rows ``offsets[i]:offsets[i + 1]``.
    shape_codes : array of shape (s, c)
        Structure of each shape.
    symmetries : list of arrays of shape (a, m)
        Reorderings of each shape's nodes that lay it onto itself.
    n_labels : int
    """

    members: np.ndarray
    offsets: np.ndarray
    shape_codes: np.ndarray
    symmetries: list[np.ndarray]
    n_labels: int

    @classmethod
    def of(cls, shapes: Shapes, n_labels: int) -> "Occurrences":
        """The pieces of `shapes`, shape by shape."""
        order = np.argsort(shapes.shape, kind="stable")
        offsets = np.searchsorted(shapes.shape[order], np.arange(len(shapes.codes) + 1))
        return cls(shapes.members[order], offsets, shapes.codes, shapes.symmetries, n_labels)

    @property
    def base(self) -> np.ndarray:
        """Weights that turn the labels of a group into one number, its word, shape (m,)."""
        return self.n_labels ** np.arange(self.members.shape[1] - 1, -1, -1, dtype=np.int64)

    @property
    def n_words(self) -> int:
        """Number of words on one shape, before symmetry."""
        return int(self.n_labels ** self.members.shape[1])

    @property
    def per_shape(self) -> np.ndarray:
        """Number of groups of each shape, shape (s,)."""
        return np.diff(self.offsets)

    def keys(self, label_index: np.ndarray) -> np.ndarray:
        """Shape and least word of each group in one number, ``shape * n_words + word``.

        Parameters
        ----------
        label_index : array of shape (n,)
            Labels of all nodes, from 0.

        Returns
        -------
        array of shape (g,)
        """
        letters = label_index[self.members]
        words = letters @ self.base
        for shape, symmetries in enumerate(self.symmetries):
            if len(symmetries) > 1:
                rows = slice(self.offsets[shape], self.offsets[shape + 1])
                words[rows] = (letters[rows] @ self.base[np.argsort(symmetries)].T).min(axis=1)
        keys: np.ndarray = words + np.repeat(np.arange(len(self.symmetries)), self.per_shape) * self.n_words
        return keys

    def aligned(self, label_index: np.ndarray) -> "Occurrences":
        """The same groups, their nodes reordered so that the labels of each spell its least word."""
        members = self.members.copy()
        for shape, symmetries in enumerate(self.symmetries):
            if len(symmetries) > 1:
                rows = slice(self.offsets[shape], self.offsets[shape + 1])
                words = label_index[members[rows]] @ self.base[np.argsort(symmetries)].T
                members[rows] = np.take_along_axis(members[rows], symmetries[words.argmin(axis=1)], axis=1)
        return replace(self, members=members)


@dataclass(frozen=True, eq=False)
class Level:
    """All assemblies of one size: shapes, each with a word of labels.

    Attributes
    ----------
    pieces : Occurrences
        Every connected group of this size, its nodes in the order of its assembly's labels.
    label_names : array of shape (l,)
    keys : array of shape (a,)
        Shape and word of each assembly as one number, the most frequent assembly first.
    counts : array of shape (a,)
        How often each assembly occurs.
    assembly : array of shape (g,)
        The assembly of each group.
    """

    pieces: Occurrences
    label_names: np.ndarray
    keys: np.ndarray
    counts: np.ndarray
    assembly: np.ndarray

    def __len__(self) -> int:
        """Count the assemblies."""
        return len(self.keys)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Level({len(self)} assemblies of {self.size} motifs, {len(self.assembly)} occurrences)"

    @property
    def size(self) -> int:
        """Number of motifs in each assembly."""
        return int(self.pieces.members.shape[1])

    @property
    def shapes(self) -> np.ndarray:
        """Shape of each assembly, shape (a,)."""
        return self.keys // self.pieces.n_words

    @property
    def words(self) -> np.ndarray:
        """Labels of each assembly as places in `label_names`, in canonical order, shape (a, size)."""
        words: np.ndarray = self.keys[:, None] // self.pieces.base % self.pieces.n_labels
        return words

    @cached_property
    def codes(self) -> list[Code]:
        """(labels, structure) of each assembly: equal for two if and only if they match."""
        structures = [trimmed(code) for code in self.pieces.shape_codes]
        labels = self.label_names[self.words].tolist()
        return [(tuple(word), structures[i]) for word, i in zip(labels, self.shapes.tolist(), strict=True)]

    def occurrences(self, assembly: int) -> np.ndarray:
        """Nodes of every occurrence of one assembly, in the order of its labels, shape (count, size)."""
        found: np.ndarray = self.pieces.members[self.assembly == assembly]
        return found

    def find(self, shapes: Shapes, label_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which assemblies some pieces of the same graph are; each must occur at this level.

        Parameters
        ----------
        shapes : Shapes
        label_index : array of shape (n,)

        Returns
        -------
        order : array of shape (p,)
            The pieces, as sorted by shape.
        assembly : array of shape (p,)
            Of each, in that order.
        """
        known = {code.tobytes(): i for i, code in enumerate(self.pieces.shape_codes)}
        shape = np.array([known[code.tobytes()] for code in shapes.codes], np.int64)[shapes.shape]
        order = np.argsort(shape, kind="stable")
        offsets = np.searchsorted(shape[order], np.arange(len(known) + 1))
        pieces = Occurrences(
            shapes.members[order],
            offsets,
            self.pieces.shape_codes,
            self.pieces.symmetries,
            self.pieces.n_labels,
        )
        ranked = np.argsort(self.keys)
        place = np.searchsorted(self.keys, pieces.keys(label_index), sorter=ranked)
        return order, ranked[place]


def build_level(
    embedding: Embedding,
    groups: np.ndarray,
    label_names: np.ndarray,
    label_index: np.ndarray,
    *,
    reflections: bool,
    corners: Corners,
) -> Level:
    """Sort groups of one size into assemblies.

    Parameters
    ----------
    embedding : Embedding
    groups : array of shape (g, m)
        Nodes of connected groups.
    label_names : array of shape (l,)
    label_index : array of shape (n,)
    reflections : bool
        Whether an assembly matches its mirror image.
    corners : {"none", "gaps", "faces"}
        What of the graph around a group must match.

    Returns
    -------
    Level

    Raises
    ------
    InputError
        If the shapes and labels are too many for one number each.
    """
    size, n_labels = groups.shape[1], len(label_names)
    shapes = canonical_shapes(embedding, groups, reflections=reflections, corners=corners)
    if n_labels**size * max(len(shapes.codes), 1) >= 2**62:
        raise InputError(
            f"max_size must be smaller with {n_labels} labels, got {size}; or merge rare labels first"
        )
    pieces = Occurrences.of(shapes, n_labels).aligned(label_index)
    keys, assembly, counts = np.unique(pieces.keys(label_index), return_inverse=True, return_counts=True)
    ranked = np.argsort(-counts, kind="stable")
    return Level(pieces, label_names, keys[ranked], counts[ranked], np.argsort(ranked)[assembly])
