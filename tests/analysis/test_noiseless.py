"""Images without any noise, as simulations are: motifs are what differs, not where columns lie between pixels."""

import numpy as np
import pytest

import torchmotif as tm

SHAPE = (320, 320)
Cell = tuple[tuple[float, float], float, float]  # sides, width of the columns, by how much it is turned
Site = tuple[float, float, float]  # place in the cell, height


def lattice(side: tuple[float, float], width: float, angle: float, *basis: Site) -> np.ndarray:
    """Gaussian columns at places of a rectangular cell, with these heights."""
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    steps = np.stack(np.meshgrid(*[np.arange(-60, 60)] * 2, indexing="ij"), -1).reshape(-1, 2)
    y, x = np.arange(SHAPE[0])[:, None], np.arange(SHAPE[1])[:, None]
    image = np.zeros(SHAPE)
    for row, col, height in basis:
        at = ((steps + np.array([row, col])) * side) @ turn + (3.3, 5.7)
        at = at[((at > -4 * width) & (at < np.array(SHAPE) + 4 * width)).all(1)]
        down, across = (np.exp(-0.5 * ((pixel - at[:, i]) / width) ** 2) for i, pixel in enumerate((y, x)))
        image += height * down @ across.T
    return image


def in_form(image: np.ndarray, form: str) -> np.ndarray:
    """As a simulation gives it, or rounded to the steps of a file."""
    if form == "float":
        return image
    steps, kind = {"8 bits": (255, np.uint8), "16 bits": (65535, np.uint16)}[form]
    return np.round(steps * (image - image.min()) / np.ptp(image)).astype(kind)


PEROVSKITE = ((0.0, 0.0, 1.0), (0.5, 0.5, 0.5), (0.5, 0.0, 0.12), (0.0, 0.5, 0.12))


@pytest.mark.parametrize("form", ["float", "8 bits", "16 bits"])
@pytest.mark.parametrize(
    ("cell", "basis", "motifs"),
    [
        (((22.0, 35.0), 3.1, 0.42), ((0.0, 0.0, 1.0),), 1),
        (((26.0, 26.0), 3.0, 1.02), ((0.0, 0.0, 1.0), (0.5, 0.5, 0.45)), 2),
        (((42.2, 42.2), 2.5, 0.42), PEROVSKITE, 4),
        (((25.0, 25.0), 1.6, 0.35), PEROVSKITE, 4),
    ],
    ids=["rectangular", "two sublattices", "perovskite", "narrow perovskite"],
)
def test_columns_between_pixels_are_no_motifs(
    cell: Cell, basis: tuple[Site, ...], motifs: int, form: str
) -> None:
    result = tm.analyze(in_form(lattice(*cell, *basis), form), progress=False)
    assert len({int(one) for one in result.labels} - {-1}) == motifs
    assert not result.warnings


@pytest.mark.parametrize("form", ["float", "16 bits"])
def test_oxygen_is_found_where_nothing_hides_it(form: str) -> None:
    image = in_form(lattice((22.2, 22.2), 1.94, 0.83, *PEROVSKITE), form)
    columns = tm.find_columns(image)
    expected = 4 * image.size / 22.2**2
    assert len(columns.positions) == pytest.approx(expected, rel=0.06)
