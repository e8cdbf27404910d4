"""All connected groups of nodes up to a size, each exactly once, and how many to expect."""

import numpy as np

from torchmotif.errors import InputError

__all__ = ["connected_groups", "estimate_groups"]

_CELLS = 30_000_000  # entries of the largest table at a time
_PROBES = 2000


class _Growth:
    """Enumeration of connected groups (ESU, Wernicke 2006), many groups at once.

    A group grows by a node of its extension, and passes on the rest of the extension and those neighbours of the new
    node that come after the root and touch the group nowhere else. So each group is reached in one way only.

    Parameters
    ----------
    neighbours : array of shape (n, d)
        Filled up with -1.
    """

    def __init__(self, neighbours: np.ndarray) -> None:
        self.neighbours = neighbours

    def roots(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Groups of one node, and their extensions."""
        near = self.neighbours[nodes]
        return nodes[:, None], np.where(near > nodes[:, None], near, -1)

    def grown(
        self, group: np.ndarray, extension: np.ndarray, row: np.ndarray, slot: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Groups with node `slot` of extension `row` added, and their extensions."""
        members, added = group[row], extension[row, slot]
        left = np.where(np.arange(extension.shape[1]) > slot[:, None], extension[row], -1)
        near = self.neighbours[added]
        touched = np.concatenate(
            [members, self.neighbours[members].reshape(len(row), members.shape[1] * near.shape[1])], axis=1
        )
        fresh = (near > members[:, :1]) & ~(near[:, :, None] == touched[:, None, :]).any(axis=2)
        reach = np.concatenate([left, np.where(fresh, near, -1)], axis=1)
        width = int((reach >= 0).sum(axis=1).max(initial=0))
        packed = np.take_along_axis(reach, np.argsort(reach < 0, axis=1, kind="stable"), axis=1)[:, :width]
        return np.concatenate([members, added[:, None]], axis=1), packed


def connected_groups(neighbours: np.ndarray, size: int) -> list[np.ndarray]:
    """Connected groups of 1, 2, ... `size` nodes.

    Parameters
    ----------
    neighbours : array of shape (n, d)
        Neighbours of each node, filled up with -1.
    size : int

    Returns
    -------
    list of arrays of shape (g, m), int32, for m = 1 ... size

    Examples
    --------
    >>> import numpy as np
    >>> path = np.array([[1, -1], [0, 2], [1, -1]])
    >>> [len(groups) for groups in connected_groups(path, 3)]
    [3, 2, 1]
    """
    growth = _Growth(neighbours.astype(np.int32))
    found: list[list[np.ndarray]] = [[] for _ in range(size)]
    group, extension = growth.roots(np.arange(len(neighbours), dtype=np.int32))
    found[0].append(group)
    stack = [(group, extension)]
    while stack:
        group, extension = stack.pop()
        length = group.shape[1] + 1
        if length > size:
            continue
        row, slot = np.nonzero(extension >= 0)
        entries = neighbours.shape[1] * (neighbours.shape[1] + 1) * length
        for part in np.array_split(np.arange(len(row)), len(row) * entries // _CELLS + 1):
            grown, reach = growth.grown(group, extension, row[part], slot[part])
            found[length - 1].append(grown)
            if length < size and len(grown):
                stack.append((grown, reach))
    empty = [np.zeros((0, m + 1), np.int32) for m in range(size)]
    return [np.concatenate([none, *some]) for none, some in zip(empty, found, strict=True)]


def estimate_groups(neighbours: np.ndarray, size: int, *, random_state: int = 0) -> np.ndarray:
    """Estimated number of connected groups of 1, 2, ... `size` nodes, by random descents (Knuth 1975).

    Parameters
    ----------
    neighbours : array of shape (n, d)
    size : int
    random_state : int

    Returns
    -------
    array of shape (size,)

    Raises
    ------
    InputError
        If there is no node.
    """
    if not len(neighbours):
        raise InputError("graph has no node to group")
    random = np.random.default_rng(random_state)
    growth = _Growth(neighbours.astype(np.int32))
    group, extension = growth.roots(random.integers(len(neighbours), size=_PROBES).astype(np.int32))
    weight = np.full(_PROBES, float(len(neighbours)))
    expected = [weight.mean()]
    for _ in range(size - 1):
        choices = (extension >= 0).sum(axis=1)
        weight = weight * choices
        expected.append(weight.mean())
        if not choices.any():
            break
        order = np.argsort(extension < 0, axis=1, kind="stable")
        pick = (random.random(_PROBES) * choices).astype(np.int64)
        slot = np.take_along_axis(order, pick[:, None], axis=1)[:, 0]
        alive = np.flatnonzero(choices)
        slot, weight = slot[alive], weight[alive]
        group, extension = growth.grown(group, extension, alive, slot)
        # descents that ended early stay in the mean with weight zero
        weight = np.concatenate([weight, np.zeros(_PROBES - len(weight))])
        lost = _PROBES - len(group)
        group = np.concatenate([group, np.repeat(group[:1], lost, axis=0)])
        extension = np.concatenate([extension, np.full((lost, extension.shape[1]), -1, np.int32)])
    return np.pad(np.array(expected), (0, size - len(expected)))
