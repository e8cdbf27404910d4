"""What is added to whole rows of an image: hum of the mains and flicker of the gun."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["HUM", "LEFT", "hum_of", "left_in_rows", "offsets_of_rows"]

# Waves across a window, of which those from the second on tell what rows have without hum: a taper keeps what is constant along a row out of them.
_WAVES = 5
# Times what the waves beside have, in the median over all frequencies, from which on rows have offsets. Of 147 simulated images without any and 13 real ones it
# is 0.1 to 12 in all rows together, the most where lines were dropped or a crystal lies along the rows; hum of a twentieth of the contrast at 10 e/px has 80 and more.
HUM = 16.0
# Periods per pixel of slow hum: averaged over three rows it has nothing in the median over all frequencies, and one octave slower crystals along the rows have
# as much. Where that, without the lines of columns, is more than HUM, what a fit of single maxima leaves tells: of 23 crystals along rows that drift, without
# hum, at most 1.6 times what waves beside have; of 15 dumbbells and squares under hum of a twentieth to a third of the columns' height, over 1 to 6 rows, 12 to 450.
_SLOW, LEFT = (1 / 20, 1 / 8), 5.0
# Times the median power of what rows have around a frequency that it has where columns in rows are seen, and not hum: of white hum one in a thousand has. At most so
# many waves are told, on a grid so many times finer than the frequencies of the window.
_LINE, _LINES, _FINER = 10.0, 12, 4
# Frequencies on each side around one: a drifting offset has the more power the slower it is, and its slow waves would pass for lines. The lesser of recall and precision
# of grains, dumbbells and rock salt, two draws each, is 0.95 with 12, 0.93 with 40 and 0.92 with all where rows drift, and 0.987, 0.994 and 0.994 under white hum,
# of the spectrum of the rows; by what they differ from one to the next it was not tuned again.
_AROUND = 40
# Blocks that a window's rows are parted into, of at least so many rows: an edge along the rows is in one of them, hum in all. A perovskite that ends along a row,
# 256 px at 10 e/px, has 36 as a whole and below 2 so, and lost a quarter of its columns. In blocks of 64 rows crystals along them with 1 % of noise have 29.
_BLOCKS, _ROWS = 4, 128
# Of the deviation of all pixels, that hum has at least. Crystals along the rows without any noise, as simulations are, have 5e-6 to 0.008 in 128 rows and more; hum of a
# two-hundredth of the contrast, which costs WS2 nothing, has 0.014 to 0.022.
_LEAST = 0.01
_KNOWN = 0.5  # of the pixels of a block, so that it counts
_FEW = 16  # measured pixels of a row, and rows, at least


def hum_of(
    data: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"], *, lines: bool = True
) -> Float[Tensor, " 2"]:
    """Power of what rows differ by, over that of what noise and columns let them differ by, at all frequencies and at slow ones: the greatest of some windows.

    Of a window it is the median of some blocks of rows, the lower one of two; and 0 where rows differ by next to nothing. Columns in rows
    have `lines` at slow frequencies, where hum that drifts has all it has.
    """
    _, h, w = data.shape
    if min(h, w) < 2 * _FEW:
        return data.new_zeros(2)
    column = torch.arange(w, device=data.device, dtype=data.dtype)
    waves = torch.arange(_WAVES + 1, device=data.device, dtype=data.dtype)
    angle = -2 * math.pi / w * waves * column[:, None]
    taper, total = _taper(w, data), _known(measured)
    level = _centred(data, measured)
    real, imaginary = (
        level @ (taper[:, None] * one) / total[..., None] for one in (angle.cos(), angle.sin())
    )
    if not lines:
        real = torch.cat([offsets_of_rows(data, measured), real[..., 1:]], dim=2)
    count = max(1, min(_BLOCKS, h // _ROWS))
    rows = h // count
    ends = _taper(rows, data)
    blocks = torch.complex(real, imaginary)[:, : count * rows].unflatten(1, (count, rows))
    power = torch.fft.fft(blocks * ends[:, None], dim=2).abs().square()
    slow = slice(*(math.ceil(one * rows) for one in _SLOW))
    median = torch.stack([one.median(2).values for one in (power, power[:, :, slow])])
    ratio = median[..., 0] / median[..., 2:].mean(3).clamp(min=torch.finfo(data.dtype).tiny)
    # The median of what white hum has is log 2 of its mean.
    variance = level.square().sum((1, 2)) / measured.sum((1, 2)).clamp(min=1)
    least = _LEAST**2 * math.log(2) * ends.square().sum() * variance
    ratio = torch.where(median[..., 0] > least[:, None], ratio, 0.0)
    known = measured[:, : count * rows].unflatten(1, (count, rows)).float().mean((2, 3)) >= _KNOWN
    of_window: Tensor = torch.where(known, ratio, torch.nan).nanmedian(2).values
    return of_window.nan_to_num().amax(1)


def offsets_of_rows(data: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"]) -> Float[Tensor, "t h 1"]:
    """What rows differ by, but for the few waves that stand out of it.

    Rows are scanned one after the other, so that what changes from one to the next is added to a whole row, and its spectrum is
    smooth; that of columns in rows has lines. These are taken off one after the other, the highest first (Hogbom 1974), and fitted together. They stand
    out of what rows differ by from one to the next, whose spectrum is flat where offsets drift: else the slow waves of drift would be the highest, which
    belong to no column.
    """
    t, h, w = data.shape
    if min(h, w) < 2 * _FEW:
        return torch.zeros_like(data[:, :, :1])
    known = measured.sum(2) >= _FEW
    rows = torch.where(known, _centred(data, measured) @ _taper(w, data) / _known(measured), 0.0).double()
    taper, row = _taper(h, rows), torch.arange(h, device=data.device, dtype=torch.float64)
    steep = torch.arange(_FINER * h // 2 + 1, device=data.device, dtype=torch.float64).square()
    left, waves = rows, rows.new_zeros(t, h, 0)
    for _ in range(_LINES):
        power = torch.fft.rfft(left * taper, _FINER * h, dim=1).abs().square() * steep
        top, index = (power / _usual(power)).max(1)
        line = top > _LINE
        if not bool(line.any()):
            break
        angle = 2 * math.pi / (_FINER * h) * index[:, None] * row
        new = torch.stack([angle.cos(), angle.sin()], dim=2) * (line[:, None] & known)[..., None]
        waves = torch.cat([waves, new], dim=2)
        # A wave that is found again, beside itself, has no equation of its own.
        normal = waves.mT @ waves + 1e-6 * h * torch.eye(waves.shape[2], dtype=rows.dtype, device=rows.device)
        left = rows - (waves @ torch.linalg.solve(normal, waves.mT @ rows[..., None]))[..., 0]
    return (left * known)[..., None].to(data.dtype)


def _usual(power: Float[Tensor, "t k"]) -> Float[Tensor, "t k"]:
    """Median of the power around each frequency."""
    reach = min(_AROUND * _FINER, power.shape[1] - 1)
    around = F.pad(power[:, None], (reach, reach), mode="reflect")[:, 0].unfold(1, 2 * reach + 1, 1)
    return around.median(2).values.clamp(min=torch.finfo(power.dtype).tiny)


def left_in_rows(
    data: Float[Tensor, "t h w"], expected: Float[Tensor, "t h w"], weights: Float[Tensor, "t h w"]
) -> Float[Tensor, "t h 1"]:
    """Offsets that a fit of the columns has left in rows, beside their mean: of columns along the rows it tells them better than their waves do.

    Rows of few pixels that weigh have none.
    """
    total = weights.sum(2, keepdim=True)
    mean: Tensor = ((data - expected) * weights).sum(2, keepdim=True) / total.clamp(min=1e-12)
    known = ((weights > 0).sum(2, keepdim=True) >= _FEW).to(data.dtype)
    usual = (mean * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    return (mean - usual) * known


def _centred(data: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Measured pixels less their mean, and nothing elsewhere."""
    mask = measured.to(data.dtype)
    mean = (data * mask).sum((1, 2), keepdim=True) / mask.sum((1, 2), keepdim=True).clamp(min=1)
    return (data - mean) * mask


def _known(measured: Bool[Tensor, "t h w"]) -> Float[Tensor, "t h"]:
    """The weight of each row, never zero."""
    weight: Tensor = measured.float() @ _taper(measured.shape[2], measured.float())
    return weight.clamp(min=1e-6)


def _taper(length: int, like: Tensor) -> Float[Tensor, " n"]:
    return torch.hann_window(length + 2, periodic=False, dtype=like.dtype, device=like.device)[1:-1]
