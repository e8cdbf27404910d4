"""What lies around and under a crystal: edges, steps and wedges of thickness, contamination, amorphous carbon."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from torchmotif.datasets.probe import Probe
from torchmotif.datasets.render import Window
from torchmotif.datasets.specimen import Specimen
from torchmotif.errors import InputError

__all__ = ["with_carbon", "with_edge", "with_patch", "with_wedge"]

_RISE = 2.5631  # standard deviations between a tenth and nine tenths of a normal distribution


def with_edge(
    specimen: Specimen,
    electrons: float = 50.0,
    *,
    at: float = 0.6,
    angle_rad: float = 0.3,
    edge_px: float = 6.0,
    crystal: Literal["within", "everywhere"] = "within",
) -> Specimen:
    """The specimen with an even background that ends along a line: the edge of a thick crystal, or of a substrate.

    Parameters
    ----------
    specimen : Specimen
    electrons : float
        Per pixel, of the background on the side where it is, at relative dose 1.
    at : float
        Share of the image's extent along `angle_rad` where the background ends.
    angle_rad : float
        Direction in which it ends, counter-clockwise from the direction in which columns count up.
    edge_px : float
        Distance over which it falls from nine tenths to a tenth.
    crystal : {"within", "everywhere"}
        Whether columns end with the background, or go on beyond it.

    Returns
    -------
    Specimen

    Raises
    ------
    InputError
        If the electrons are negative, the edge is not positive, or no column is left.

    Examples
    --------
    >>> import torchmotif as tm
    >>> image = with_edge(tm.datasets.square((64, 64)), angle_rad=0.0).image.data
    >>> bool(image[:, :20].mean() > 50 > image[:, 50:].mean())
    True
    """
    _check_backdrop(electrons, edge_px)
    if crystal not in {"within", "everywhere"}:
        raise InputError(f"crystal must be 'within' or 'everywhere', got {crystal!r}")
    depth = _depth(specimen.shape, at, angle_rad)

    def backdrop(window: Window) -> Tensor:
        return _risen(depth(_grid(window, specimen)), edge_px) * electrons

    if crystal == "everywhere":
        return Specimen(specimen.scene.changed(specimen.scene.layers, backdrop), specimen.truth,
                        coverage=specimen.coverage)  # fmt: skip
    scene = specimen.scene
    layers = [(probe, at_[depth(at_) > 0], weights[depth(at_) > 0]) for probe, at_, weights in scene.layers]
    truth = specimen.truth.some(depth(specimen.truth.positions) > 0)
    if len(truth) == 0:
        raise InputError(f"no column is left on the side of the background, got at={at}")
    return Specimen(scene.changed(layers, backdrop), truth, coverage=specimen.coverage)


def with_patch(
    specimen: Specimen,
    electrons: float = 50.0,
    *,
    centre: tuple[float, float] = (0.5, 0.5),
    radius: float = 0.2,
    edge_px: float = 3.0,
) -> Specimen:
    """The specimen with a round patch of contamination on it.

    Parameters
    ----------
    specimen : Specimen
    electrons : float
        Per pixel, of the patch, at relative dose 1.
    centre : (float, float)
        (row, col) as shares of the image.
    radius : float
        As a share of the image's shorter side.
    edge_px : float
        As for `with_edge`.

    Returns
    -------
    Specimen
        All columns stay; those under the patch have its noise. `truth.more["under_patch"]` says which these are.

    Raises
    ------
    InputError
        If the electrons are negative, or the radius or the edge is not positive.

    Examples
    --------
    >>> import torchmotif as tm
    >>> image = with_patch(tm.datasets.square((64, 64))).image.data
    >>> bool(image[32, 32] > 50 > image[2, 2])
    True
    """
    _check_backdrop(electrons, edge_px)
    if not radius > 0:
        raise InputError(f"radius must be positive, got {radius}")
    middle = [share * length - 0.5 for share, length in zip(centre, specimen.shape, strict=True)]
    outer = radius * min(specimen.shape)

    def depth(at: Tensor) -> Tensor:
        within: Tensor = outer - (at - at.new_tensor(middle)).norm(dim=-1)
        return within

    def backdrop(window: Window) -> Tensor:
        return _risen(depth(_grid(window, specimen)), edge_px) * electrons

    under = (depth(specimen.truth.positions) > -edge_px).cpu().numpy()
    truth = specimen.truth.some(torch.ones_like(specimen.truth.positions[:, 0], dtype=torch.bool))
    truth.more["under_patch"] = under
    return Specimen(
        specimen.scene.changed(specimen.scene.layers, backdrop), truth, coverage=specimen.coverage
    )


def with_wedge(
    specimen: Specimen,
    electrons: float = 20.0,
    *,
    least: float = 0.2,
    angle_rad: float = 0.3,
) -> Specimen:
    """The specimen as a wedge: columns and an even background grow along a direction.

    Parameters
    ----------
    specimen : Specimen
    electrons : float
        Per pixel, of the background at the thick end, at relative dose 1.
    least : float
        Thickness at the thin end over that at the thick end, where columns are as bright as they were.
    angle_rad : float
        Direction of the thick end, counter-clockwise from the direction in which columns count up.

    Returns
    -------
    Specimen
        `truth.more["thickness"]` is the thickness at each column, 1 at the thick end.

    Raises
    ------
    InputError
        If the electrons are negative, or `least` is no share.

    Examples
    --------
    >>> import torchmotif as tm
    >>> thickness = with_wedge(tm.datasets.square((64, 64))).truth.more["thickness"]
    >>> bool(0.2 <= thickness.min() < 0.4 < 0.8 < thickness.max() <= 1.0)
    True
    """
    _check_backdrop(electrons, 1.0)
    if not 0 <= least <= 1:
        raise InputError(f"least must lie between 0 and 1, got {least}")
    thin = _depth(specimen.shape, 0.0, angle_rad)
    extent = _extent(specimen.shape, angle_rad)

    def thickness(at: Tensor) -> Tensor:
        share: Tensor = (-thin(at) / extent).clamp(0, 1)
        return least + (1 - least) * share

    scene = specimen.scene
    layers = [(probe, at, weights * thickness(at)) for probe, at, weights in scene.layers]
    truth = specimen.truth.some(torch.ones_like(specimen.truth.positions[:, 0], dtype=torch.bool))
    truth.more["thickness"] = thickness(truth.positions).cpu().numpy()
    return Specimen(
        scene.changed(layers, lambda window: electrons * thickness(_grid(window, specimen))),
        truth,
        coverage=specimen.coverage,
    )


def with_carbon(
    specimen: Specimen,
    electrons: float = 5.0,
    *,
    at: float | None = None,
    angle_rad: float = 0.3,
    atoms_per_nm2: float = 500.0,
    probe: Probe | None = None,
    random_state: int = 0,
) -> Specimen:
    """The specimen on amorphous carbon: atoms at random places, which the probe makes speckle.

    Parameters
    ----------
    specimen : Specimen
    electrons : float
        Per pixel, of the carbon, at relative dose 1.
    at, angle_rad
        Where the carbon ends, as for `with_edge`; by default nowhere.
    atoms_per_nm2 : float
        The fewer, the rougher the speckle.
    probe : Probe, optional
        By default that of the specimen.
    random_state : int
        Seed of the atoms.

    Returns
    -------
    Specimen
        The atoms of the carbon are not in the truth.

    Raises
    ------
    InputError
        If the electrons are negative, or the density is not positive.

    Examples
    --------
    >>> import torchmotif as tm
    >>> float(with_carbon(tm.datasets.square((64, 64))).image.data.mean().round())
    15.0
    """
    _check_backdrop(electrons, 1.0)
    if not (atoms_per_nm2 > 0 and math.isfinite(atoms_per_nm2)):
        raise InputError(f"atoms_per_nm2 must be positive and finite, got {atoms_per_nm2}")
    scene = specimen.scene
    probe = scene.layers[0][0] if probe is None else probe
    margin = probe.reach_nm / scene.pixel_size_nm
    sides = np.array(scene.shape) + 2 * margin
    per_pixel = atoms_per_nm2 * scene.pixel_size_nm**2
    rng = np.random.default_rng(random_state)
    places = rng.random((rng.poisson(per_pixel * sides.prod()), 2)) * sides - margin - 0.5
    at_ = torch.as_tensor(places, device=specimen.truth.positions.device)
    if at is not None:
        at_ = at_[_depth(scene.shape, at, angle_rad)(at_) > 0]
    layer = (probe, at_, torch.full_like(at_[:, 0], electrons / per_pixel))
    return Specimen(scene.changed([*scene.layers, layer]), specimen.truth, coverage=specimen.coverage)


def _check_backdrop(electrons: float, edge_px: float) -> None:
    if not (electrons >= 0 and math.isfinite(electrons)):
        raise InputError(f"electrons must be zero or positive, got {electrons}")
    if not edge_px > 0:
        raise InputError(f"edge_px must be positive, got {edge_px}")


def _depth(shape: tuple[int, int], at: float, angle_rad: float) -> Callable[[Tensor], Tensor]:
    """How far positions (..., 2) lie within a line across a direction, which runs at a share of the image's extent."""
    away = (-math.sin(angle_rad), math.cos(angle_rad))
    limit = (at - 0.5) * _extent(shape, angle_rad)

    def depth(positions: Tensor) -> Tensor:
        middle = positions.new_tensor([(length - 1) / 2 for length in shape])
        within: Tensor = limit - (positions - middle) @ positions.new_tensor(away)
        return within

    return depth


def _risen(depth: Tensor, edge_px: float) -> Tensor:
    """Share of a background so far within its edge."""
    share: Tensor = torch.special.ndtr(depth * (_RISE / edge_px))
    return share


def _extent(shape: tuple[int, int], angle_rad: float) -> float:
    """Length of the image along a direction."""
    return abs(shape[0] * math.sin(angle_rad)) + abs(shape[1] * math.cos(angle_rad))


def _grid(window: Window, specimen: Specimen) -> Tensor:
    """Positions (h, w, 2) of the pixels of a window."""
    device = specimen.truth.positions.device
    rows = torch.arange(window.row, window.row + window.height, device=device)
    cols = torch.arange(window.col, window.col + window.width, device=device)
    return torch.stack(torch.meshgrid(rows, cols, indexing="ij"), dim=-1).double()
