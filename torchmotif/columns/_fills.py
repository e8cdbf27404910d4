"""Regions of an image that hold no image: constant fill at its border, blank lines, text in bars."""

import math

import numpy as np
import scipy.ndimage as ndi
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SHORTEST", "blank_lines", "filled_region", "grown", "grown_by_one", "islands", "may_fill"]

SHORTEST = 8  # pixels of a run at the border, from which on its value may be that of a fill
_DEPTH = 2  # pixels: least depth of a fill, but for blank lines
_CHANCE = 1e-3  # of any block so uniform in the whole image, where it is the image that has it
_ISLAND = 0.1  # of the largest measured piece: smaller pieces beside it are text in a bar
_HARDLY = 0.05  # chance of a value in the image, up to which pixels that touch a fill of it belong to that
_MOST_PIECES = 9  # of an image, as a mosaic has them; columns on a constant background are more
_CLOSE = 0.2  # of the usual distance of pixels from the fill's value
_PART = 32  # cells: side of the parts of an image in which the share of a value is looked at
_LONGER = 4  # times that a longer run is asked for
# Mean rank of the pixels beside a region among those farther off: a half where a fill cuts the image.
_FADING = 0.3
# Of the side of an image, an edge along a row; and of all edges, those. Of sums of frames: 0.6 to 0.97 and 0.8 to 1.
_LONG, _MOSTLY = 0.5, 0.5
_MOST_BLANK = 0.8  # of the lines have something in them, where the others count as blank
_BLENDED = 0.2  # of the pixels next to a fill lie between it and the image: interpolation has mixed them
_EIGHT = np.ones((3, 3), bool)


def may_fill(image: Tensor, value: float) -> bool:
    """Whether a region of one value may touch the border of an image; if not, `filled_region` finds none.

    Asks, where the image lies, whether there is a run at the border and a block anywhere, as there must be.
    """
    solid = image == value
    run = max(SHORTEST, _needed(_usual_share(solid), image.numel(), 1))
    found = [~torch.isfinite(image).all()]
    for lines in (solid, solid.T):
        if run <= lines.shape[1]:
            found += [lines[:, :run].all(1).any(), lines[:, -run:].all(1).any()]
            until = F.pad(lines[[0, -1]].long().cumsum(1), (1, 0))
            found.append((until[:, run:] - until[:, :-run] == run).any())
    unknown, *runs = torch.stack(found).tolist()
    return unknown or (any(runs) and any(_has_block(lines, run) for lines in (solid, solid.T)))


def _has_block(solid: Tensor, run: int) -> bool:
    """Whether there are runs side by side, as deep as a fill is at least."""
    until = F.pad(solid.int().cumsum(1, dtype=torch.int32), (1, 0))
    whole = until[:, run:] - until[:, :-run] == run
    return bool(whole.unfold(0, _DEPTH, 1).all(2).any())


def _needed(chance: float, pixels: float, cell: int) -> int:
    """Cells of a run so long that an image of so many pixels has none, where they have a value with this chance."""
    if chance >= 1:
        return 1 << 30
    return math.ceil(math.log(pixels / _CHANCE) / -math.log(max(chance, 1e-9)) / (_DEPTH * cell**2))


def filled_region(
    image: np.ndarray, value: float, share: np.ndarray, outside: np.ndarray, cell: int
) -> np.ndarray | None:
    """The region of one value that touches the border and is no part of the image; None where there is none."""
    solid, pixels = (share == 1) & ~outside, float((~outside).sum()) * cell**2
    run = max(math.ceil(SHORTEST / cell), _needed(_usual_share(torch.from_numpy(share)), pixels, cell))
    for _ in range(_LONGER):
        if run > max(share.shape):
            return None
        lines = (_opened(solid | outside, 1, run) | _opened(solid | outside, run, 1)) & solid
        blocks = (_opened(solid | outside, _DEPTH, run) | _opened(solid | outside, run, _DEPTH)) & solid
        number, _ = ndi.label(lines, _EIGHT)
        touching = np.intersect1d(number[blocks], number[_rim(outside) & lines])
        filled = np.isin(number, touching)
        # More of it within the image: it is its own, such as saturated columns.
        if not len(touching) or blocks.sum() > 2 * (blocks & filled).sum():
            return None
        around = _dilated(filled, run) & ~filled & ~outside
        chance = (share[around].sum(dtype=np.float64) + 1) / (around.sum() + 2)
        longer = _needed(chance, pixels, cell)
        if longer <= run:
            natural = _in_pieces(filled | outside) or (
                not _is_straight(filled, outside) and _fades(image, filled, outside, value)
            )
            return None if natural else _with_tips(filled, solid, chance)
        run = longer
    return None


def _with_tips(filled: np.ndarray, solid: np.ndarray, chance: float) -> np.ndarray:
    """A fill with its narrow ends, where the image hardly has its value."""
    if chance > _HARDLY:
        return filled
    number, _ = ndi.label(solid, _EIGHT)
    return np.isin(number, np.unique(number[filled]))


def _usual_share(share: Tensor) -> float:
    """Share of the pixels that have a value where not all of them do, of most parts of the image."""
    padded = F.pad(
        torch.stack([share.float(), torch.ones_like(share, dtype=torch.float32)]), _to_parts(share)
    )
    sums, counts = padded.unflatten(2, (-1, _PART)).unflatten(1, (-1, _PART)).sum((2, 4)).cpu()
    shares = sums / counts
    mixed = shares[shares < 1]
    return float(mixed.quantile(0.75)) if len(mixed) else 1.0


def _to_parts(cells: Tensor) -> tuple[int, int, int, int]:
    """What fills an image up to whole parts."""
    return 0, -cells.shape[1] % _PART, 0, -cells.shape[0] % _PART


def _opened(region: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """The union of all rectangles of a size that fit into a region."""
    values = region.astype(np.uint8)
    for size, axis in ((rows, 0), (cols, 1)):
        if size > 1:
            values = ndi.minimum_filter1d(values, size, axis, mode="constant", cval=0)
    for size, axis in ((rows, 0), (cols, 1)):
        if size > 1:
            # The mirrored window, which differs for even sizes.
            values = ndi.maximum_filter1d(values, size, axis, mode="constant", cval=0, origin=-1 + size % 2)
    return values > 0


def _dilated(region: np.ndarray, reach: int) -> np.ndarray:
    values = region.astype(np.uint8)
    for axis in (0, 1):
        values = ndi.maximum_filter1d(values, 2 * reach + 1, axis)
    return values > 0


def _rim(outside: np.ndarray) -> np.ndarray:
    """Cells at the border, or next to what is outside."""
    rim = ndi.binary_dilation(outside, _EIGHT)
    rim[[0, -1], :] = True
    rim[:, [0, -1]] = True
    return rim


def _in_pieces(outside: np.ndarray) -> bool:
    """Whether the image falls into pieces, as columns on a constant background and electrons in vacuum do."""
    number, _, bar = _pieces(outside)
    return len(np.unique(number[~outside & ~bar])) > _MOST_PIECES


def islands(outside: np.ndarray) -> np.ndarray:
    """Small pieces in rows, or columns, in which nothing was measured: the text of a bar."""
    _, small, bar = _pieces(outside)
    found: np.ndarray = small & bar
    return found


def _pieces(outside: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of the piece that each pixel is in, where it is a small one, and rows and columns without a large one."""
    number, count = ndi.label(~outside, _EIGHT)
    sizes = np.bincount(number.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = (sizes >= _ISLAND * sizes.max())[number] & ~outside
    bar = ~large.any(1)[:, None] | ~large.any(0)[None, :]
    return number, ~outside & ~large, bar


def _is_straight(filled: np.ndarray, outside: np.ndarray) -> bool:
    """Whether most of a region's edge lies along few rows and columns, as that of frames does and of no dark gap.

    Beside such a region an image may fade: the fewer frames cover it, the nearer it comes to zero.
    """
    along = edges = 0
    for region, beyond in ((filled, outside), (filled.T, outside.T)):
        edge = (region[1:] != region[:-1]) & ~beyond[1:] & ~beyond[:-1]
        of_rows = edge.sum(1)
        edges += int(of_rows.sum())
        along += int(of_rows[of_rows > _LONG * region.shape[1]].sum())
    return along > _MOSTLY * edges


def _fades(image: np.ndarray, filled: np.ndarray, outside: np.ndarray, value: float) -> bool:
    """Whether an image comes near to a value, the nearer the closer its pixels lie to a region of that value."""
    one, three, six, ten = (_dilated(filled, reach) for reach in (1, 3, 6, 10))
    near, far = (np.abs(image[ring & ~outside] - value) for ring in (three & ~one, ten & ~six))
    if len(near) < 16 or len(far) < 16:
        return False
    order = np.sort(far)
    rank = (np.searchsorted(order, near, "left") + np.searchsorted(order, near, "right")) / (2 * len(far))
    close = np.quantile(near, 0.1) < _CLOSE * np.median(far)
    return bool(close and rank.mean() < _FADING)


def grown(image: np.ndarray, filled: np.ndarray, value: float) -> np.ndarray:
    """A fill with the pixels beside it that interpolation has mixed with it."""
    for _ in range(3):
        edge = ndi.binary_dilation(filled, _EIGHT) & ~filled
        beyond = _dilated(filled, 5) & ~_dilated(filled, 3)
        usual = image[beyond & np.isfinite(image)]
        beside = image[edge & np.isfinite(image)]
        if len(usual) < 16 or len(beside) < 16:
            return filled
        low, high = np.quantile(usual, (0.02, 0.98))
        if (value <= low) == (value >= high):  # within the image's range nothing is to be seen of it
            return filled
        between = (beside > value) & (beside < low) if value < low else (beside < value) & (beside > high)
        if between.mean() < _BLENDED:
            return filled
        filled = filled | edge
    return filled


def blank_lines(image: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Rows and columns whose pixels are all equal, and unlike those of the rows or columns beside them."""
    found = np.zeros(image.shape, bool)
    for axis in (0, 1):
        pixels, left_out = (image, outside) if axis == 0 else (image.T, outside.T)
        values = np.where(left_out, np.nan, pixels)
        known_count = np.isfinite(values).sum(1)
        known = known_count >= SHORTEST
        blank = known.copy()
        blank[known] = np.nanmin(values[known], axis=1) == np.nanmax(values[known], axis=1)
        others = np.flatnonzero(known & ~blank)
        if not blank.any() or len(others) < _MOST_BLANK * known.sum():
            continue
        lines = np.flatnonzero(blank)
        level = np.nanmax(values[lines], axis=1)
        at = np.searchsorted(others, lines)
        beside = np.stack([others[(at - 1).clip(0)], others[at.clip(max=len(others) - 1)]])
        near = np.nanmean(np.abs(values[beside] - level[:, None]), axis=(0, 2))
        alike = (values[beside] == level[:, None]).sum(2) / known_count[beside]
        chance = alike.max(0) ** known_count[lines] * len(known)
        some = values[others[:: max(1, len(others) // 64)]]
        usual = np.array([np.nanmean(np.abs(some - one)) for one in level])
        rare = (near > 0.5 * usual) & (chance < _CHANCE)
        (found if axis == 0 else found.T)[lines[rare]] = True
    found &= ~outside
    return found


def grown_by_one(region: np.ndarray) -> np.ndarray:
    """A region with the cells that touch it."""
    return np.asarray(ndi.binary_dilation(region, _EIGHT))
