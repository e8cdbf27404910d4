"""Strain within a motif: how each column's first shell differs from the motif's mean shell."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchmotif.errors import InputError
from torchmotif.plane_graph import PlaneGraph

__all__ = ["MeanShells", "Strain", "mean_shells", "shell_strain", "split_motif"]

_ROUNDS = 10
_ALIGNED = 0.5  # mean of the unit vectors of orientation from which a motif counts as oriented
_SAME = 0.99  # a shell laid onto itself with at least this correlation is symmetric


@dataclass(frozen=True, eq=False)
class MeanShells:
    """The mean first shell of each motif.

    Attributes
    ----------
    shells : dict of (label, number of neighbours) to array of shape (d,), complex
        Steps to the neighbours in pixels, counter-clockwise, as x + iy with y up.
    """

    shells: dict[tuple[Any, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Strain:
    """Deformation of the first shell of each node. NaN on the rim, and where the motif has no mean shell.

    Attributes
    ----------
    tensor : array of shape (n, 2, 2)
        Strain V - 1 along (row, col), from the polar decomposition F = V R of the deformation that leads from the mean
        shell to the node's.
    rotation_rad : array of shape (n,)
        Counter-clockwise.
    residual : array of shape (n,)
        Root mean square distance in pixels between the shell and the deformed mean shell.
    """

    tensor: np.ndarray
    rotation_rad: np.ndarray
    residual: np.ndarray


def mean_shells(graph: PlaneGraph) -> MeanShells:
    """The mean first shell of each motif, by generalised Procrustes averaging (Gower 1975).

    Shells of one motif are laid onto one another by rotation and by cyclic order of the neighbours.

    Parameters
    ----------
    graph : PlaneGraph
        With labels.

    Returns
    -------
    MeanShells

    Raises
    ------
    InputError
        If the graph has no labels, or every node is on the rim.
    """
    _check(graph)
    shells = {}
    for label, degree, nodes in _motifs(graph):
        steps = _steps(graph, nodes, degree)
        size = np.linalg.norm(steps, axis=1)
        mean = steps[np.argsort(size)[len(size) // 2]]
        for _ in range(_ROUNDS):
            laid, turn = _laid(steps, mean)
            mean = (laid * turn.conj()[:, None]).mean(axis=0)
        common = turn.mean()  # the mean orientation, where the motif has one
        shells[label, degree] = mean * (common / abs(common) if abs(common) > _ALIGNED else 1)
    return MeanShells(shells)


def shell_strain(graph: PlaneGraph, reference: MeanShells | None = None) -> Strain:
    """Strain, rotation and misfit of the first shell of each node off the rim.

    The deformation is the least-squares map of the mean shell onto the node's shell (Zimmerman et al. 2009). Columns
    with fewer than two neighbours, or too flat a mean shell, have none.

    Parameters
    ----------
    graph : PlaneGraph
        With labels.
    reference : MeanShells, optional
        Where strain is zero; by default the mean shells of this graph. Give those of an unstrained region or
        specimen to see a strain that all columns share.

    Returns
    -------
    Strain

    Raises
    ------
    InputError
        If the graph has no labels, or every node is on the rim.

    Examples
    --------
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> from torchmotif.lattice import mean_shells, shell_strain
    >>> square = np.stack(np.meshgrid(range(8), range(8), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> relaxed = tm.PlaneGraph.from_positions(square, np.zeros(64, int))
    >>> stretched = tm.PlaneGraph.from_positions(square * [1.01, 1], np.zeros(64, int))
    >>> shell_strain(stretched, mean_shells(relaxed)).tensor[9].round(4)
    array([[0.01, 0.  ],
           [0.  , 0.  ]])
    """
    _check(graph)
    reference = mean_shells(graph) if reference is None else reference
    tensor = np.full((len(graph), 2, 2), np.nan)
    rotation, residual = np.full((2, len(graph)), np.nan)
    for label, degree, nodes in _motifs(graph):
        mean = reference.shells.get((label, degree))
        if mean is None:
            continue
        steps = _steps(graph, nodes, degree)
        laid, turn = _laid(steps, mean)
        tensor[nodes], rotation[nodes], residual[nodes] = _deformation(laid, mean, turn)
    return Strain(tensor, rotation, residual)


def split_motif(
    graph: PlaneGraph, strain: Strain, label: Any, *, max_parts: int = 4, random_state: int = 0
) -> np.ndarray:
    """Parts of a motif that differ in strain, by a Gaussian mixture with as many parts as BIC supports.

    For any labelled graph. Of a result of images take `MotifResult.split`, which knows the errors of the positions and cuts no continuum.

    Parameters
    ----------
    graph : PlaneGraph
        With labels.
    strain : Strain
    label : label
        The motif to split.
    max_parts : int
    random_state : int

    Returns
    -------
    array of shape (n,), int
        The part of each node of the motif, from the least to the greatest mean of the trace of the strain; -1 for
        other motifs and nodes without strain.

    Raises
    ------
    InputError
        If no node of the motif has a strain, or `max_parts` is not positive.
    """
    from sklearn.mixture import GaussianMixture

    if max_parts < 1:
        raise InputError(f"max_parts must be at least 1, got {max_parts}")
    nodes = np.flatnonzero((graph.labels == label) & np.isfinite(strain.residual))
    if not len(nodes):
        raise InputError(
            f"label {label!r} has no node with a strain; the labels are {graph.label_names.tolist()}"
        )
    values = strain.tensor[nodes].reshape(-1, 4)[:, [0, 1, 3]]
    scale = values.std() or 1.0
    values = (values - values.mean(axis=0)) / scale
    models = [
        GaussianMixture(k, n_init=3, random_state=random_state).fit(values)
        for k in range(1, min(max_parts, len(nodes)) + 1)
    ]
    best = min(models, key=lambda model: model.bic(values))
    order = np.argsort(np.argsort(best.means_[:, [0, 2]].sum(axis=1)))
    parts = np.full(len(graph), -1)
    parts[nodes] = order[best.predict(values)]
    return parts


def _check(graph: PlaneGraph) -> None:
    if graph.labels is None:
        raise InputError("graph has no labels; use graph.with_labels(labels)")
    if graph.rim.all():
        raise InputError("graph has no node off the rim: no column has its whole first shell")


def _motifs(graph: PlaneGraph) -> list[tuple[Any, int, np.ndarray]]:
    """(label, degree, nodes) of the nodes off the rim with two neighbours or more."""
    inner = np.flatnonzero(~graph.rim & (graph.degrees > 1))
    kinds, which = np.unique(
        np.stack([graph.label_index[inner], graph.degrees[inner]], axis=1), axis=0, return_inverse=True
    )
    names = graph.label_names.tolist()
    return [(names[i], d, inner[which.ravel() == k]) for k, (i, d) in enumerate(kinds.tolist())]


def _steps(graph: PlaneGraph, nodes: np.ndarray, degree: int) -> np.ndarray:
    """Steps to the neighbours, counter-clockwise, as x + iy."""
    step = graph.positions[graph.embedding.rotation[0][nodes, :degree]] - graph.positions[nodes][:, None]
    steps: np.ndarray = step[..., 1] - 1j * step[..., 0]
    return steps


def _laid(steps: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps in the order of the mean shell, and the unit complex number that turns the mean shell onto them.

    Of orders that fit equally well because the mean shell is symmetric, the one with the least turn.
    """
    shifts = (np.arange(len(mean))[:, None] + np.arange(len(mean))) % len(mean)
    fit = steps[:, shifts] @ mean.conj()
    own = np.abs(mean[shifts] @ mean.conj()) / np.linalg.norm(mean) ** 2
    alike = np.flatnonzero(own > _SAME)
    best = np.abs(fit).argmax(axis=1)
    options = (best[:, None] + alike) % len(mean)
    chosen = np.take_along_axis(fit, options, axis=1)
    least = chosen.real.argmax(axis=1)[:, None]
    shift = np.take_along_axis(options, least, axis=1)[:, 0]
    value = np.take_along_axis(chosen, least, axis=1)[:, 0]
    return np.take_along_axis(steps, shifts[shift], axis=1), value / np.maximum(np.abs(value), 1e-300)


def _deformation(
    steps: np.ndarray, mean: np.ndarray, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Strain (n, 2, 2) along (row, col), rotation and residual (n,) of the map from the mean shell."""
    turned = mean * turn[:, None]  # whole turns of the lattice apart, the map is close to one
    source = np.stack([-turned.imag, turned.real], axis=-1)
    target = np.stack([-steps.imag, steps.real], axis=-1)
    gram = np.swapaxes(source, 1, 2) @ source
    flat = np.linalg.cond(gram) > 1e6
    gram[flat] = np.eye(2)
    deformation = np.swapaxes(target, 1, 2) @ source @ np.linalg.inv(gram)
    left, stretch, right = np.linalg.svd(deformation)
    tensor = (left * stretch[:, None, :]) @ np.swapaxes(left, 1, 2) - np.eye(2)
    turned_by = left @ right
    rotation = np.arctan2(turned_by[:, 1, 0], turned_by[:, 0, 0])
    misfit = target - source @ np.swapaxes(deformation, 1, 2)
    residual = np.sqrt((misfit**2).sum(axis=2).mean(axis=1))
    total = np.angle(turn * np.exp(1j * rotation))
    tensor[flat], total[flat], residual[flat] = np.nan, np.nan, np.nan
    return tensor, total, residual
