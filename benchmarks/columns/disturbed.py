"""Columns of crystals drawn at random whose images were disturbed: fills, bars, slopes, hum, clipping, hot pixels, compression and more.

    python benchmarks/columns/disturbed.py [FIRST] [LAST] [--kinds square mx2 ...] [--disturbances hum clipped ...]

Specimens are those of `any_crystal.py`, at 10, 1 and 0.1 of their dose, one disturbance each. Prints recall and precision of every image
in which either is below 0.95, and what the self-check says; then how many are good, bad and warned of, bad and silent, and good
and warned of. Columns count that lie in measured pixels, away from their border.
"""

import argparse
import io
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from any_crystal import EMPTY, KINDS, drawn
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

import torchmotif as tm

GOOD, NEAR, DOSES = 0.95, 0.3, (10.0, 1.0, 0.1)


@dataclass
class Shot:
    """Pixels, the columns' positions in them, and which pixels were measured."""

    pixels: np.ndarray
    truth: np.ndarray
    measured: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.measured = np.ones(self.pixels.shape, bool)

    @property
    def contrast(self) -> float:
        """Range of nine tenths of the pixels."""
        lower, upper = np.percentile(self.pixels, [5, 95])
        return float(upper - lower)

    def filled(self, value: float) -> None:
        """A constant where nothing was measured."""
        self.pixels[~self.measured] = value

    def moved(self, row: np.ndarray, col: np.ndarray, fill: float) -> None:
        """Pixels at other places; what lies outside is not measured."""
        last = np.array(self.pixels.shape) - 1
        self.measured = (row >= 0) & (row <= last[0]) & (col >= 0) & (col <= last[1])
        self.pixels = map_coordinates(self.pixels, [row, col], order=1, mode="nearest")
        self.filled(fill)


def _grid(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    row, col = np.mgrid[: shot.pixels.shape[0], : shot.pixels.shape[1]].astype(float)
    return row, col


def _offset(shot: Shot, rng: np.random.Generator) -> None:
    shot.pixels += rng.uniform(0, 20) * shot.contrast


def border(shot: Shot, rng: np.random.Generator) -> None:
    """Zeros at all four sides, as after an alignment."""
    _offset(shot, rng)
    top, bottom, left, right = rng.integers(1, 70, 4)
    shot.measured[:] = False
    shot.measured[top:-bottom, left:-right] = True
    shot.filled(0.0)


def turned(shot: Shot, rng: np.random.Generator) -> None:
    """Turned about the middle, zeros in the corners."""
    _offset(shot, rng)
    angle, middle = rng.uniform(0.03, 0.75), (np.array(shot.pixels.shape) - 1) / 2
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    row, col = _grid(shot)
    there = np.stack([row - middle[0], col - middle[1]], -1) @ turn + middle
    shot.truth = (shot.truth - middle) @ turn.T + middle
    shot.moved(there[..., 0], there[..., 1], 0.0)


def drift(shot: Shot, rng: np.random.Generator) -> None:
    """Sheared and brought back, the wedges at two sides filled with zeros."""
    _offset(shot, rng)
    row, col = _grid(shot)
    shear = rng.uniform(-0.08, 0.08)
    shot.truth = shot.truth - np.array([[0.0, shear]]) * shot.truth[:, :1]
    shot.moved(row, col + shear * row, 0.0)


def mean_fill(shot: Shot, rng: np.random.Generator) -> None:
    """Rows that were not scanned hold the mean of those that were."""
    shot.measured[: rng.integers(10, 120)] = False
    shot.filled(float(shot.pixels[shot.measured].mean()))


def blank_rows(shot: Shot, rng: np.random.Generator) -> None:
    """Rows of zeros."""
    rows = rng.choice(len(shot.pixels), 4, replace=False)
    shot.measured[rows] = False
    shot.filled(0.0)


def bar(shot: Shot, rng: np.random.Generator) -> None:
    """A black bar with a scale and text."""
    first = len(shot.pixels) - rng.integers(20, 50)
    bright = 2 * np.percentile(shot.pixels, 95)
    shot.measured[first:] = False
    shot.filled(0.0)
    shot.pixels[first + 6 : first + 12, 10:90] = bright
    shot.pixels[first + 3 : first + 15 : 3, 120:180:2] = bright


def strip(shot: Shot, rng: np.random.Generator) -> None:
    """A few rows of columns."""
    rows = rng.integers(90, 130)
    shot.pixels, shot.measured = shot.pixels[:rows], shot.measured[:rows]


def step(shot: Shot, rng: np.random.Generator) -> None:
    """A substrate under a part of the image."""
    _, col = _grid(shot)
    edge, width = rng.uniform(0.3, 0.7) * shot.pixels.shape[1], rng.uniform(1, 40)
    risen = 1 / (1 + np.exp(-(col - edge) / (width / 4)))
    shot.pixels += rng.poisson(rng.uniform(1, 30) * shot.contrast * risen)


def patch(shot: Shot, rng: np.random.Generator) -> None:
    """Contamination, round."""
    row, col = _grid(shot)
    away = np.hypot(row - row.mean(), col - col.mean()) - rng.uniform(40, 120)
    shot.pixels += rng.poisson(rng.uniform(1, 8) * shot.contrast / (1 + np.exp(away / rng.uniform(1, 8))))


def slope(shot: Shot, rng: np.random.Generator) -> None:
    """A wedge: the background rises along the columns or to a corner."""
    row, col = (axis / axis.max() for axis in _grid(shot))
    shot.pixels += rng.poisson(
        rng.uniform(1, 20) * shot.contrast * (col if rng.random() < 0.5 else row * col)
    )


def hot(shot: Shot, rng: np.random.Generator) -> None:
    """Single pixels of one value."""
    at = rng.choice(shot.pixels.size, int(rng.uniform(0.0005, 0.004) * shot.pixels.size), replace=False)
    shot.pixels.ravel()[at] = shot.pixels.max() * rng.uniform(3, 100)


def hum(shot: Shot, rng: np.random.Generator) -> None:
    """Something added to whole rows."""
    rows = rng.standard_normal((len(shot.pixels), 1))
    shot.pixels += rng.uniform(0.05, 0.6) * shot.contrast * rows


def streaks(shot: Shot, rng: np.random.Generator) -> None:
    """A random walk added along the rows: a beam that flickers slowly."""
    walk = np.cumsum(rng.standard_normal((len(shot.pixels), 1)), axis=0)
    shot.pixels += rng.uniform(0.02, 0.2) * shot.contrast * walk


def jitter(shot: Shot, rng: np.random.Generator) -> None:
    """Rows that lie beside where they should."""
    row, col = _grid(shot)
    last = col[0, -1]
    moved = np.clip(col + rng.uniform(0.2, 0.6) * rng.standard_normal((len(row), 1)), 0, last)
    shot.pixels = map_coordinates(shot.pixels, [row, moved], order=1)


def inverted(shot: Shot, rng: np.random.Generator) -> None:
    """Columns dark."""
    shot.pixels = shot.pixels.max() * rng.uniform(1, 1.5) - shot.pixels


def eight_bits(shot: Shot, rng: np.random.Generator) -> None:
    """Scaled to 8 bits, some of them cut off."""
    lower, upper = np.percentile(shot.pixels, [rng.uniform(0, 1), 100 - rng.uniform(0, 1)])
    shot.pixels = np.clip(np.round(255 * (shot.pixels - lower) / (upper - lower)), 0, 255)


def clipped(shot: Shot, rng: np.random.Generator) -> None:
    """Cut off at both ends."""
    shot.pixels = np.clip(shot.pixels, *np.percentile(shot.pixels, [2, 100 - rng.uniform(0.5, 10)]))


def units(shot: Shot, rng: np.random.Generator) -> None:
    """Another unit, far from one."""
    shot.pixels = shot.pixels * 10.0 ** rng.integers(-14, 9)


def negative(shot: Shot, rng: np.random.Generator) -> None:
    """A detector's offset taken off: the mean is zero."""
    shot.pixels = (shot.pixels - shot.pixels.mean()) / shot.pixels.std() * rng.uniform(0.1, 1000)


def smooth(shot: Shot, rng: np.random.Generator) -> None:
    """A Gaussian filter."""
    shot.pixels = gaussian_filter(shot.pixels, rng.uniform(0.5, 1.5))


def tail(shot: Shot, rng: np.random.Generator) -> None:
    """The beam's tail: a part of the dose lands far from the probe."""
    far = gaussian_filter(shot.pixels, rng.uniform(8, 20), mode="nearest")
    shot.pixels += rng.uniform(0.2, 1.0) * far


def compressed(shot: Shot, rng: np.random.Generator) -> None:
    """A JPEG."""
    lower, upper = shot.pixels.min(), shot.pixels.max()
    written = io.BytesIO()
    image = Image.fromarray(np.round(255 * (shot.pixels - lower) / (upper - lower)).astype(np.uint8))
    image.save(written, "JPEG", quality=int(rng.integers(40, 95)))
    shot.pixels = np.asarray(Image.open(written)).astype(float)


def gamma(shot: Shot, rng: np.random.Generator) -> None:
    """A display's gamma."""
    shot.pixels = ((shot.pixels - shot.pixels.min()) / np.ptp(shot.pixels)) ** rng.uniform(0.4, 1.0)


DISTURB: dict[str, Callable[[Shot, np.random.Generator], None]] = {
    one.__name__: one
    for one in (border, turned, drift, mean_fill, blank_rows, bar, strip, step, patch, slope, hot, hum, streaks, jitter, inverted,
                eight_bits, clipped, units, negative, smooth, tail, compressed, gamma)
}  # fmt: skip


def shot(number: int, kinds: list[str], disturbances: list[str]) -> tuple[str, Shot]:
    """What it is, and the image."""
    rng = np.random.default_rng(number)
    kind, name, dose = str(rng.choice(kinds)), str(rng.choice(disturbances)), float(rng.choice(DOSES))
    specimen, how = drawn(kind, rng)
    pixels = specimen.draw(dose, torch.Generator().manual_seed(number)).numpy().astype(float)
    filled = np.asarray(specimen.truth.kinds).astype(str) != EMPTY
    taken = Shot(pixels, np.asarray(specimen.truth.positions)[filled])
    DISTURB[name](taken, rng)
    return f"{kind} {how}, {name}, dose {dose:g}", taken


def scored(taken: Shot) -> tuple[float, float, list[str], int]:
    """Recall, precision, warnings, and motifs."""
    apart = float(np.median(cKDTree(taken.truth).query(taken.truth, 2)[0][:, 1]))
    pixel = np.rint(taken.truth).astype(int)
    within = ((pixel >= 0) & (pixel < taken.pixels.shape)).all(axis=1)
    depth = distance_transform_edt(np.pad(taken.measured, 1))[1:-1, 1:-1]
    counted = taken.truth[within][depth[tuple(pixel[within].T)] > max(2.0, 0.25 * apart)]
    try:
        result = tm.analyze(taken.pixels.astype(np.float32), progress=False)
    except tm.errors.InputError as error:
        return 0.0, 0.0, [f"refused: {error}"], 0
    found = np.asarray(result.columns.positions)
    if not len(found):
        return 0.0, 0.0, result.warnings, 0
    recall = (cKDTree(found).query(counted)[0] < NEAR * apart).mean()
    # The truth ends with the outermost pixels' centres, where a column is half in the image.
    inside = found[((found > 0.5) & (found < np.array(taken.pixels.shape) - 1.5)).all(axis=1)]
    precision = (cKDTree(taken.truth).query(inside)[0] < NEAR * apart).mean() if len(inside) else 0.0
    return float(recall), float(precision), result.warnings, int(result.labels.max()) + 1


def results(
    first: int, last: int, kinds: Sequence[str] = tuple(KINDS), disturbances: Sequence[str] = tuple(DISTURB)
) -> Iterator[tuple[str, str]]:
    """Of every draw its group, good or bad, silent or warned of, and a line about it."""
    for number in range(first, last):
        said, taken = shot(number, list(kinds), list(disturbances))
        start = time.process_time()
        recall, precision, warned, motifs = scored(taken)
        good = recall >= GOOD and precision >= GOOD
        group = ("good" if good else "bad") + (" and warned of" if warned else " and silent")
        yield (
            group,
            (
                f"{number} {group}: {said}: recall {recall:.3f}, precision {precision:.3f}, {motifs} motifs, "
                f"{time.process_time() - start:.1f} s: {'; '.join(one[:90] for one in warned)}"
            ),
        )


def main() -> None:
    """Draw, disturb, find, score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", nargs="?", type=int, default=0)
    parser.add_argument("last", nargs="?", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--disturbances", nargs="+", default=list(DISTURB), choices=list(DISTURB))
    parser.add_argument("--all", action="store_true", help="print the good and silent ones too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")

    count: Counter[str] = Counter()
    for group, line in results(given.first, given.last, given.kinds, given.disturbances):
        count[group] += 1
        if given.all or group != "good and silent":
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    sys.stdout.write(", ".join(f"{group}: {number}" for group, number in sorted(count.items())) + "\n")


if __name__ == "__main__":
    main()
