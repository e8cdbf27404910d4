"""Images that were not measured everywhere: fills around aligned, turned, drift-corrected and stitched ones."""

import math

import numpy as np
import torch
from torch import Tensor

from torchmotif.datasets.specimen import Coverage, Specimen, Truth
from torchmotif.errors import InputError

__all__ = ["with_bar", "with_fill", "with_frames", "with_mosaic"]

_GLYPH = (5, 3)  # strokes of a letter, down and across


def with_fill(
    specimen: Specimen,
    *,
    border: int | tuple[int, int, int, int] = 0,
    rotation_rad: float = 0.0,
    rows: tuple[int, int] | None = None,
    value: float = 0.0,
) -> Specimen:
    """The specimen in an image whose rim, corners or rows hold a constant.

    Parameters
    ----------
    specimen : Specimen
    border : int or (int, int, int, int)
        Pixels at the top, bottom, left and right, as after a shift or in a padded canvas.
    rotation_rad : float
        Angle by which the measured frame, as large as the image, was turned about its middle: the corners are filled.
    rows : (int, int), optional
        First row that was not measured, and the first that was again, as in an aborted scan.
    value : float
        Of the pixels that were not measured, in the unit of `draw`.

    Returns
    -------
    Specimen
        `truth.measured` says which columns lie on measured pixels, `measured` which pixels these are.

    Raises
    ------
    InputError
        If a width is negative, or no pixel is left.

    Examples
    --------
    >>> import torchmotif as tm
    >>> filled = with_fill(tm.datasets.square((64, 64)), border=(8, 0, 0, 0))
    >>> int(filled.draw().data[:8].max())
    0
    """
    top, bottom, left, right = (border,) * 4 if isinstance(border, int) else border
    if min(top, bottom, left, right) < 0:
        raise InputError(f"border must be zero or positive, got {border}")
    row, col = _axes(specimen)
    height, width = specimen.shape
    inside = (row >= top) & (row < height - bottom) & (col >= left) & (col < width - right)
    if rotation_rad != 0:
        middle_row, middle_col = (height - 1) / 2, (width - 1) / 2
        cos, sin = math.cos(rotation_rad), math.sin(rotation_rad)
        down = cos * (row - middle_row) + sin * (col - middle_col)
        along = cos * (col - middle_col) - sin * (row - middle_row)
        inside &= (down.abs() <= height / 2) & (along.abs() <= width / 2)
    if rows is not None:
        inside &= (row < rows[0]) | (row >= rows[1])
    return _covered(specimen, inside.float(), torch.full_like(inside, value, dtype=torch.float32))


def with_mosaic(
    specimen: Specimen,
    fields: tuple[int, int] = (2, 2),
    *,
    shift_px: int = 20,
    value: float = 0.0,
    random_state: int = 0,
) -> Specimen:
    """The specimen in an image stitched from fields that were misplaced: ragged rims and gaps hold a constant.

    Parameters
    ----------
    specimen : Specimen
    fields : (int, int)
        Number of fields down and across, each as large as its share of the image.
    shift_px : int
        By which each field was misplaced at most, along each axis.
    value : float
        As for `with_fill`.
    random_state : int
        Seed of the shifts.

    Returns
    -------
    Specimen
        As `with_fill`.

    Raises
    ------
    InputError
        If there is no field, the shift is negative, or no pixel is left.

    Examples
    --------
    >>> import torchmotif as tm
    >>> bool(with_mosaic(tm.datasets.square((64, 64)), shift_px=4).measured.all())
    False
    """
    if min(fields) < 1 or shift_px < 0:
        raise InputError(
            f"fields must be at least (1, 1) and shift_px not negative, got {fields} and {shift_px}"
        )
    rng = np.random.default_rng(random_state)
    row, col = _axes(specimen)
    height, width = (n / k for n, k in zip(specimen.shape, fields, strict=True))
    inside = torch.zeros(specimen.shape, dtype=torch.bool, device=row.device)
    for i in range(fields[0]):
        for j in range(fields[1]):
            down, along = rng.integers(-shift_px, shift_px + 1, size=2)
            top, left = i * height + down, j * width + along
            inside |= (row >= top) & (row < top + height) & (col >= left) & (col < left + width)
    return _covered(specimen, inside.float(), torch.full_like(inside, value, dtype=torch.float32))


def with_frames(
    specimen: Specimen,
    frames: int = 10,
    *,
    drift_px: tuple[float, float] = (24.0, 16.0),
    value: float = 0.0,
) -> Specimen:
    """The specimen in the mean of frames that drifted, aligned in a padded canvas: fewer frames cover the margins.

    Parameters
    ----------
    specimen : Specimen
        As the canvas shows it.
    frames : int
        Number of frames.
    drift_px : (float, float)
        (row, col) from the first frame to the last; frames are smaller than the canvas by so much.
    value : float
        Of the pixels that no frame covers.

    Returns
    -------
    Specimen
        As `with_fill`; where only some frames cover a pixel, it has their share of the electrons and of the detector's
        offset.

    Raises
    ------
    InputError
        If there are fewer than two frames, or no pixel is left.

    Examples
    --------
    >>> import torchmotif as tm
    >>> float(with_frames(tm.datasets.square((64, 64)), 4).coverage.share[0, 0])
    0.25
    """
    if frames < 2:
        raise InputError(f"frames must be at least 2, got {frames}")
    row, col = _axes(specimen)
    share = torch.zeros(specimen.shape, device=row.device)
    down, along = (abs(round(d)) for d in drift_px)
    height, width = specimen.shape[0] - down, specimen.shape[1] - along
    for passed in np.linspace(0, 1, frames):
        top, left = (
            round(length * (passed if d > 0 else 1 - passed))
            for length, d in zip((down, along), drift_px, strict=True)
        )
        share += ((row >= top) & (row < top + height) & (col >= left) & (col < left + width)).float() / frames
    return _covered(specimen, share, torch.full_like(share, value))


def with_bar(
    specimen: Specimen, rows: int = 40, *, value: float = 0.0, ink: float = 255.0, random_state: int = 0
) -> Specimen:
    """The specimen in an image with a bar of letters at its bottom, as microscopes write them.

    Parameters
    ----------
    specimen : Specimen
    rows : int
        Height of the bar in pixels.
    value, ink : float
        Of the bar, and of the letters.
    random_state : int
        Seed of the letters.

    Returns
    -------
    Specimen
        As `with_fill`.

    Raises
    ------
    InputError
        If the bar has fewer than 10 rows, or no pixel is left.

    Examples
    --------
    >>> import torchmotif as tm
    >>> with_bar(tm.datasets.square((64, 64)), 20).draw().data[-20:].unique().tolist()
    [0.0, 255.0]
    """
    if rows < 10:
        raise InputError(f"rows must be at least 10, got {rows}")
    height, width = specimen.shape
    row, _ = _axes(specimen)
    stroke = max(1, (rows - 4) // (_GLYPH[0] + 1))
    letters = max(1, (width - 4) // ((_GLYPH[1] + 1) * stroke))
    strokes = np.zeros((_GLYPH[0], letters * (_GLYPH[1] + 1)))
    rng = np.random.default_rng(random_state)
    strokes.reshape(_GLYPH[0], letters, _GLYPH[1] + 1)[:, :, :-1] = (
        rng.random((_GLYPH[0], letters, _GLYPH[1])) < 0.6
    )
    text = np.kron(strokes, np.ones((stroke, stroke)))[: rows - 4, : width - 4]
    drawn = torch.full(specimen.shape, value, device=row.device)
    top = height - rows + 2
    drawn[top : top + text.shape[0], 2 : 2 + text.shape[1]] += (ink - value) * torch.as_tensor(text).to(drawn)
    return _covered(specimen, (row < height - rows).expand(specimen.shape).float(), drawn)


def _axes(specimen: Specimen) -> tuple[Tensor, Tensor]:
    """Rows (h, 1) and columns (1, w) of the image."""
    height, width = specimen.shape
    device = specimen.truth.positions.device
    return torch.arange(height, device=device)[:, None], torch.arange(width, device=device)[None]


def _covered(specimen: Specimen, share: Tensor, value: Tensor) -> Specimen:
    """The specimen measured only where these frames and those before cover it."""
    before = specimen.coverage
    if before is not None:
        value = torch.where(share > 0, before.value, value)
        share = share * before.share
    if not bool((share > 0).any()):
        raise InputError("no pixel of the image is left; fill less of it")
    truth = specimen.truth
    row, col = truth.positions.round().long().unbind(1)
    last_row, last_col = specimen.shape[0] - 1, specimen.shape[1] - 1
    seen = share[row.clamp(0, last_row), col.clamp(0, last_col)] > 0
    known = Truth(
        truth.positions,
        truth.kinds,
        truth.classes,
        species=truth.species,
        grains=truth.grains,
        strain=truth.strain,
        more=truth.more,
        measured=truth.measured & seen.cpu().numpy(),
    )
    return Specimen(specimen.scene, known, coverage=Coverage(share, value))
