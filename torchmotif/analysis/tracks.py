"""track(): columns followed from frame to frame, and how often one motif becomes another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from torchmotif._arrays import as_positions
from torchmotif.analysis.field_result import FieldResult
from torchmotif.columns import Columns
from torchmotif.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tracks", "track"]

_REACH = 0.5  # of the nearest neighbours' distance: further, a column could as well be its neighbour
_DENSEST = 4_000_000  # entries of the cost matrix of one cluster
_ROUNDS = 4  # of drift and assignment, each with what the other gave


@dataclass(frozen=True, eq=False)
class Tracks:
    """Columns of a time series, joined over its frames.

    Attributes
    ----------
    tracks : list of arrays of shape (n_i,), int64
        For each frame the track of every column, numbered from 0.
    drift : array of shape (frames, 2)
        Shift (row, col) in pixels of every frame against the first.
    positions : list of arrays of shape (n_i, 2)
    labels : list of arrays of shape (n_i,), or None
        Motifs.
    """

    tracks: list[np.ndarray]
    drift: np.ndarray
    positions: list[np.ndarray]
    labels: list[np.ndarray] | None

    @property
    def n_tracks(self) -> int:
        """Number of tracks."""
        return 1 + max((int(track.max()) for track in self.tracks if len(track)), default=-1)

    @property
    def lengths(self) -> np.ndarray:
        """Frames in which each track has a column, shape (n_tracks,)."""
        return np.bincount(np.concatenate(self.tracks), minlength=self.n_tracks)

    def transitions(self, n_motifs: int | None = None) -> np.ndarray:
        """How often a column of one motif has another in the next frame.

        Parameters
        ----------
        n_motifs : int, optional
            By default as many as occur.

        Returns
        -------
        array of shape (n_motifs + 1, n_motifs + 1), int64
            From row to column; the last of each stands for no motif.

        Raises
        ------
        InputError
            If no labels were given, or there are more motifs.
        """
        if self.labels is None:
            raise InputError("labels are needed to count transitions: give them to track")
        most = max((int(label.max()) for label in self.labels if len(label)), default=-1) + 1
        count = most if n_motifs is None else n_motifs
        if count < most:
            raise InputError(f"n_motifs must be at least {most}, the number in labels, got {count}")
        table = np.zeros((count + 1, count + 1), np.int64)
        for i in range(len(self.tracks) - 1):
            _, first, second = np.intersect1d(
                self.tracks[i], self.tracks[i + 1], assume_unique=True, return_indices=True
            )
            np.add.at(table, (self.labels[i][first], self.labels[i + 1][second]), 1)  # -1 is the last
        return table

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each column of each frame: frame, track, row_px, col_px, motif."""
        import pandas as pd

        at = np.concatenate(self.positions)
        frames = np.repeat(np.arange(len(self.tracks)), [len(track) for track in self.tracks])
        table: dict[str, Any] = {
            "frame": frames,
            "track": np.concatenate(self.tracks),
            "row_px": at[:, 0],
            "col_px": at[:, 1],
        }
        if self.labels is not None:
            table["motif"] = np.concatenate(self.labels)
        return pd.DataFrame(table)


def track(
    frames: FieldResult | Sequence[Any],
    labels: Sequence[Any] | None = None,
    *,
    max_distance: float | None = None,
    max_gap: int = 0,
    correct_drift: bool = True,
) -> Tracks:
    """Follow columns from frame to frame.

    Pairs of columns at most `max_distance` apart are joined so that the sum of their squared distances is least
    (the assignment problem, solved in each cluster of pairs by itself). The drift of a frame is the median shift of the
    pairs; where it is more than half the columns' distance per frame, a lattice looks the same and nobody can tell.

    Parameters
    ----------
    frames : FieldResult, or sequence of Columns or arrays of shape (n_i, 2)
        A store of a stack whose motifs were learnt together, or columns or positions in pixels for every frame.
    labels : sequence of arrays of shape (n_i,), optional
        Motifs, where `frames` are positions.
    max_distance : float, optional
        In pixels; by default half the median distance between nearest columns.
    max_gap : int
        Frames for which a column may be missing and still be the same.
    correct_drift : bool

    Returns
    -------
    Tracks

    Raises
    ------
    InputError
        If there is no frame, or the arguments do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> lattice = np.stack(np.meshgrid(range(5), range(5), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> followed = track([lattice, lattice + 1.5], [np.zeros(25, int), np.ones(25, int)])
    >>> followed.n_tracks, followed.transitions().tolist()
    (25, [[0, 25, 0], [0, 0, 0], [0, 0, 0]])
    """
    if isinstance(frames, FieldResult):
        if labels is not None:
            raise InputError("labels come from the store; give them with positions only")
        if len(frames.record["motif_groups"]) > 1:
            raise InputError(
                "frames: the motifs of this store were learnt for each image by itself, so that their numbers do not "
                "mean the same; analyse with learn='together', or give positions, "
                "[result.positions[result.rows(i)] for i in ...], to follow columns alone"
            )
        rows = [frames.rows(i) for i in range(len(frames.images))]
        labels = [frames.labels[row] for row in rows]
        frames = [frames.positions[row] for row in rows]
    if isinstance(frames, Columns) or getattr(frames, "ndim", 3) == 2:
        raise InputError(
            "frames must be a sequence with the columns of every frame, got those of one: give [columns]"
        )
    points = [
        as_positions(getattr(frame, "positions", frame), device="cpu", name="frames").numpy()
        for frame in frames
    ]
    if not points:
        raise InputError("frames is empty: at least one frame is needed")
    known = None if labels is None else _labels(labels, points)
    if max_gap < 0:
        raise InputError(f"max_gap must not be negative, got {max_gap}")
    reach = max_distance if max_distance is not None else _reach(points)
    if not reach > 0:
        raise InputError(f"max_distance must be positive, got {max_distance}")
    drift, tracks = np.zeros((len(points), 2)), [np.arange(len(points[0]))]
    # Of every track that may go on: its number, where it was last, in the first frame's pixels, and in which frame.
    number, place, frame = tracks[0], points[0], np.zeros(len(points[0]), np.int64)
    count = len(number)
    for i, at in enumerate(points[1:], start=1):
        drift[i], first, second = _joined(place, at, drift[i - 1], reach, correct_drift)
        mine = np.full(len(at), -1)
        mine[second] = number[first]
        new = np.flatnonzero(mine < 0)
        mine[new] = count + np.arange(len(new))
        count += len(new)
        tracks.append(mine)
        waiting = np.setdiff1d(np.flatnonzero(i - frame <= max_gap), first)
        number = np.concatenate([mine, number[waiting]])
        place = np.concatenate([at - drift[i], place[waiting]])
        frame = np.concatenate([np.full(len(at), i), frame[waiting]])
    return Tracks(tracks, drift, points, known)


def _labels(labels: Sequence[Any], points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Motifs of every frame, checked; a frame without columns may give them as an empty list."""
    known = [np.asarray(label) for label in labels]
    if [label.shape for label in known] != [(len(at),) for at in points]:
        raise InputError(
            "labels must be a sequence with one array for every frame, a number for every column in it"
        )
    known = [label if len(label) else np.zeros(0, np.int64) for label in known]
    for i, label in enumerate(known):
        if label.dtype.kind not in "iu":
            raise InputError(f"labels must be whole numbers, got {label.dtype} for frame {i}")
        if len(label) and int(label.min()) < -1:
            raise InputError(
                f"labels must be at least -1, which stands for no motif, got {label.min()} in frame {i}"
            )
    return known


def _reach(points: Sequence[np.ndarray]) -> float:
    """Half the median distance between nearest columns."""
    distances = [np.asarray(cKDTree(at).query(at, k=2)[0])[:, 1] for at in points if len(at) > 1]
    if not distances:
        raise InputError("max_distance is needed where no frame has two columns")
    return _REACH * float(np.median(np.concatenate(distances)))


def _joined(
    before: np.ndarray, at: np.ndarray, drift: np.ndarray, reach: float, correct: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drift of a frame, and which columns of what was before are which of it."""
    shift = drift
    first = second = np.zeros(0, np.int64)
    if not len(before) or not len(at):
        return shift, first, second
    for _ in range(_ROUNDS if correct else 1):
        first, second = _assigned(before, at - shift, reach)
        if not correct or not len(first):
            break
        moved = np.median(at[second] - before[first], axis=0)
        settled = np.abs(moved - shift).max() < 1e-3
        shift = moved
        if settled:
            break
    return shift, first, second


def _assigned(a: np.ndarray, b: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of least summed squared distance among those at most `reach` apart, as many as can be made."""
    pairs = cKDTree(a).sparse_distance_matrix(cKDTree(b), reach, output_type="coo_matrix")
    i, j, distance = pairs.row, pairs.col, pairs.data
    alone = (np.bincount(i, minlength=len(a))[i] == 1) & (np.bincount(j, minlength=len(b))[j] == 1)
    first, second = [i[alone]], [j[alone]]
    i, j, distance = i[~alone], j[~alone], distance[~alone]
    graph = coo_array((np.ones(len(i)), (i, len(a) + j)), shape=(len(a) + len(b),) * 2)
    _, cluster = connected_components(graph, directed=False)
    order = np.argsort(cluster[i], kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(cluster[i[order]])) + 1):
        rows, row = np.unique(i[part], return_inverse=True)
        cols, col = np.unique(j[part], return_inverse=True)
        if len(rows) * len(cols) > _DENSEST:
            raise InputError(
                f"max_distance of {reach:.3g} px joins {len(rows)} columns with each other: give less than the "
                "distance between columns"
            )
        far = 1e3 * len(part) * reach**2
        cost = np.full((len(rows), len(cols)), far)
        cost[row, col] = distance[part] ** 2
        chosen = linear_sum_assignment(cost)
        good = cost[chosen] < far
        first.append(rows[chosen[0][good]])
        second.append(cols[chosen[1][good]])
    return np.concatenate(first).astype(np.int64), np.concatenate(second).astype(np.int64)
