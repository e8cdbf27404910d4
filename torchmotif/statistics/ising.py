"""The nearest-neighbour Ising model on a plane graph: its couplings from labels, and labels from couplings."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.special import expit

from torchmotif.errors import InputError
from torchmotif.plane_graph import PlaneGraph

__all__ = ["IsingFit", "fit_ising", "sample_ising"]

_STEPS = 50


@dataclass(frozen=True)
class IsingFit:
    """Couplings of H = -J sum s s' - h sum s with s = 1 for the label `up` and -1 for the other.

    Attributes
    ----------
    coupling, field : float
        J and h in kT. A positive coupling draws like labels together.
    coupling_error, field_error : float
        Standard errors.
    up : label
    """

    coupling: float
    field: float
    coupling_error: float
    field_error: float
    up: Any


def fit_ising(graph: PlaneGraph, *, up: Any = None) -> IsingFit:
    """Ising couplings of two labels by maximum pseudolikelihood (Besag 1975).

    Errors are from the sandwich estimator, with the scores of neighbours taken as correlated.

    Parameters
    ----------
    graph : PlaneGraph
        With two different labels.
    up : label, optional
        The label with s = 1, by default the second one.

    Returns
    -------
    IsingFit

    Raises
    ------
    InputError
        If there are not two labels, or they order so well that no finite coupling describes them.

    Examples
    --------
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> from torchmotif.statistics import fit_ising
    >>> square = np.stack(np.meshgrid(range(60), range(60), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> labels = np.random.default_rng(0).integers(2, size=len(square))
    >>> abs(fit_ising(tm.PlaneGraph.from_positions(square, labels)).coupling) < 0.05
    True
    """
    spins, up = _spins(graph, up)
    adjacency = graph.adjacency().astype(np.float64)
    design = np.stack([np.ones(len(spins)), adjacency @ spins], axis=1)
    parameters = np.zeros(2)
    for _ in range(_STEPS):
        probability = expit(2 * design @ parameters)
        residual = (spins + 1) / 2 - probability
        curvature = 4 * (design * (probability * (1 - probability))[:, None]).T @ design
        if np.linalg.cond(curvature) > 1e12:
            break
        step = np.linalg.solve(curvature, 2 * design.T @ residual)
        parameters = parameters + step
        if np.abs(step).max() < 1e-10:
            scores = 2 * design * residual[:, None]
            spread = scores.T @ ((adjacency + eye_array(len(spins))) @ scores)
            inverse = np.linalg.inv(curvature)
            error = np.sqrt(np.maximum(np.diag(inverse @ spread @ inverse), 0))
            return IsingFit(float(parameters[1]), float(parameters[0]), float(error[1]), float(error[0]), up)
    raise InputError("labels are ordered too well: no finite Ising coupling describes them")


def sample_ising(
    graph: PlaneGraph,
    coupling: float,
    field: float = 0.0,
    *,
    n_samples: int = 1,
    sweeps: int = 200,
    random_state: int = 0,
) -> np.ndarray:
    """Independent configurations of the Ising model on a graph, by heat-bath sweeps from random starts.

    Nodes of one colour of a proper colouring are updated at once.

    Parameters
    ----------
    graph : PlaneGraph
    coupling, field : float
        J and h in kT.
    n_samples : int
        Chains, each giving one configuration.
    sweeps : int
        Updates of every node. Close to an ordering transition more are needed.
    random_state : int

    Returns
    -------
    array of shape (n_samples, n), int8
        Spins, 1 and -1.

    Raises
    ------
    InputError
        If `n_samples` or `sweeps` is not positive.
    """
    if n_samples < 1 or sweeps < 1:
        raise InputError(f"n_samples and sweeps must be at least 1, got {n_samples} and {sweeps}")
    random = np.random.default_rng(random_state)
    neighbour = graph.embedding.rotation[0]
    colour = _colouring(neighbour, random)
    adjacency = csr_array(graph.adjacency().astype(np.float32))
    classes = [np.flatnonzero(colour == c) for c in range(int(colour.max(initial=-1)) + 1)]
    rows = [adjacency[nodes] for nodes in classes]
    spins = random.choice(np.array([-1, 1], np.float32), size=(len(graph), n_samples))
    for _ in range(sweeps):
        for nodes, row in zip(classes, rows, strict=True):
            up = expit(2 * (field + coupling * (row @ spins)))
            spins[nodes] = np.where(random.random(up.shape, dtype=np.float32) < up, 1, -1)
    return spins.T.astype(np.int8)


def _spins(graph: PlaneGraph, up: Any) -> tuple[np.ndarray, Any]:
    names = graph.label_names.tolist()
    if len(names) != 2:
        raise InputError(
            f"graph must have two different labels for an Ising model, got {names}; merge others first"
        )
    if up is None:
        up = names[1]
    if up not in names:
        raise InputError(f"up must be one of the labels {names}, got {up!r}")
    return np.where(graph.label_index == names.index(up), 1.0, -1.0), up


def _colouring(neighbour: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A proper colouring: nodes of highest priority among their open neighbours take the least free colour.

    Jones & Plassmann 1993; a table of neighbours (n, d) is filled up with -1.
    """
    colour = np.full(len(neighbour) + 1, -1)  # the last entry stands for no neighbour
    priority = np.append(random.permutation(len(neighbour)), -1)
    palette = np.arange(neighbour.shape[1] + 1)
    open_nodes = np.arange(len(neighbour))
    while len(open_nodes):
        near = neighbour[open_nodes]
        rival = np.where(colour[near] < 0, priority[near], -1).max(axis=1)
        first = priority[open_nodes] > rival
        taken = (colour[near[first]][:, :, None] == palette).any(axis=1)
        colour[open_nodes[first]] = taken.argmin(axis=1)
        open_nodes = open_nodes[~first]
    return colour[:-1]
