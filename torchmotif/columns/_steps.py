"""Steps of the background: where it begins or ends so suddenly that no smooth background follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns._filters import blur, measured_mean, noise_around, plane_of
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._peaks import running_max
from torchmotif.columns.model import Pair, Tiles

__all__ = ["UPPER", "has_steps", "stepped"]

# Spacings on each side of a pixel: a square of that size holds a column and a gap beside it.
_ACROSS = 0.55
_WIDE = 2.0  # times as much is looked at for steps: the foot of a column a thousand times as bright as the others is none
_SMOOTH = 2.0  # spacings: a background that a blur of this width leaves as it is has no step
_FOLLOWED = 6.0  # spacings: from this width on a blurred step is followed by the background of the fit
_PER_SPACING = 5  # pixels in which steps are looked for
_NOISE = 0.125  # spacings: width of the blur that takes their noise off
# Of the columns' height that such a blur must change at a step. Of fourteen images without steps, simulated ones change by less than
# 0.15, real ones by 0.2 and, with a grain boundary, 0.4; at steps as high as the columns it is 0.45 at most, at five times that 2.
# Taken off everywhere without need, it moves columns by 0.1 to 0.9 of their error in the median, so that the bound is no lower.
# With 0.3 four more of 96 backgrounds (`benchmarks/columns/background_steps.py`) have 0.97, and a colloid, whose density varies by 0.3 to 0.48 of
# its particles' height, loses them.
_HIGH = 0.5
# The same of a crystal whose mean cells are known. At edges as high as the columns, over 40 px, every fifth column is false with 0.5: the hollows of
# the lattice beside them.
_LOW = 0.25
# The same where columns are doubted. Of eighteen simulated crystals of nine kinds without steps (50 and 1 e/px) a blur changes 0.005 to 0.052; with one of half the contrast over 40 px
# 0.11 to 0.23. Real images without steps have up to 0.2, and what is taken off there changes intensities by up to 13 %: it is taken off only if doubted columns go with it.
_LOWEST = 0.03
# Of the mean along contours: spacings of its Gaussian's width, those of the blur that tells where they lead, and of their least radius; samples on
# each side, over two widths. On twelve edges (1 to 40 px wide, straight and round, 10 and 30 times the contrast) what is taken off under columns on the slope is
# wrong by -0.4 to 0.3 of their height in the median with 0.7, by -1 to 0.2 with 1; blurs of 0.7 to 1.5 give the same within 0.05.
_ALONG, _LEADS, _BENT, _SAMPLES = 0.7, 1.0, 2.0, 6
# Heights of the columns by which a slope rises over a spacing, from which on squares see parts of columns as background; and times by which an edge may be
# steeper than its blur: one 10 px wide under columns 13 to 20 px apart is by 3 to 5, one of 3 px by 7 to 9.
_STEEP, _NARROWER = 1.0, 5.0
_CLIPPED = 2
_NO_MORE = 0.01  # of a step: so little of it is not taken off, so that tiles far from it have none
UPPER = 0.97  # share of the pixels that are lower than the columns' tops
# Weight of the total variation in standard deviations of the noise, and steps to its minimum. On ten images with steps of 10 and 30
# times the contrast half the weight or twice the steps move recall and precision by up to 0.03 either way where the spacing is right.
_OF_NOISE, _ITERATIONS = 2.0, 40
_CONVEX = 0.7  # of the least curvature of the squared differences, which the steps may count on


def stepped(
    tiles: Tiles, spacing: float, axes: Pair, *, crystal: bool = False, doubted: bool = False
) -> Tiles:
    """The tiles with the steps of their background, if any has some; its cost depends on the pixels alone.

    Parameters
    ----------
    tiles : Tiles
        Steps that they have are measured anew.
    spacing, axes
        See `ImageModel`.
    crystal : bool
        Whether mean cells are known: between their columns the background varies by less than in a packing without order.
    doubted : bool
        Whether columns were found that are at no place of these, and may be what a low step leaves.

    Returns
    -------
    Tiles
        The step of those that have some is what lies under their columns, less its mean over some spacings; further than that
        from where the background is sudden it is zero, as in the other tiles.
    """
    tiles = replace(tiles, step=None, under=None)
    sudden = _sudden(tiles, spacing, axes, _LOWEST if doubted else _LOW if crystal else _HIGH)
    some = as_index(sudden.flatten(1).any(1))
    if len(some) == 0:
        return tiles
    few = tiles.some(some)
    data = _denoised(few.data, spacing)
    lowest = _under(data, few.measured, spacing, axes)
    away = lowest - _far_mean(lowest, few.measured, spacing, axes)
    near = _around(sudden[some].to(away.dtype), few.shape[1:], spacing, axes)
    near = torch.where(near > _NO_MORE, near, 0.0)
    none = torch.zeros_like(tiles.data)
    return replace(tiles, step=none.index_copy(0, some, away * near), under=none.index_copy(0, some, lowest))


def has_steps(tiles: Tiles, spacing: float, axes: Pair) -> bool:
    """Whether `stepped` finds any, without what these are."""
    return bool(_sudden(tiles, spacing, axes, _HIGH).any())


def _far_mean(
    image: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"], spacing: float, axes: Pair
) -> Float[Tensor, "t h w"]:
    """Mean over so many spacings as the background of the fit follows, of pooled pixels and linear between these."""
    _, h, w = image.shape
    data, share, pool = _pooled(image, measured, spacing, axes)
    mean = measured_mean(data / share.clamp(min=1e-6), share > 0, _FOLLOWED * spacing / pool, axes)
    whole = F.interpolate(mean[:, None], scale_factor=float(pool), mode="bilinear", align_corners=False)
    return whole[:, 0, :h, :w]


def _pooled(
    image: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"], spacing: float, axes: Pair
) -> tuple[Float[Tensor, "t a b"], Float[Tensor, "t a b"], int]:
    """Sums of the measured pixels in squares a fifth of a spacing wide over the pixels of these, the share measured, and the side of the squares."""
    pool = max(1, round(spacing * min(axes) / _PER_SPACING))
    known = measured.to(image.dtype)
    data, share = (F.avg_pool2d(one[:, None], pool, ceil_mode=True)[:, 0] for one in (image * known, known))
    return data, share, pool


def _under(
    data: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"], spacing: float, axes: Pair
) -> Float[Tensor, "t h w"]:
    """What lies under the columns: their opening, and on wide slopes, steeper than their own, that of what the mean along contours leaves."""
    lowest = _opened(data, measured, spacing, axes)
    # Slopes are blurred, not the image: at a border a blur of it would turn its contours.
    whole = running_max(running_max((~measured).float(), 1, -1), 1, -2) == 0
    rise = tuple(
        measured_mean(slope, whole, _LEADS * spacing, axes) for slope in torch.gradient(data, dim=(1, 2))
    )
    contours = _Contours.of(measured, rise, spacing)
    along = contours.mean(data)
    height = _height(data - lowest)[:, None, None]
    steep = torch.gradient(measured_mean(along, measured, _NOISE * spacing, axes), dim=(1, 2))
    fine, coarse = (_steepest(one, spacing) for one in (steep, rise))
    slope = (fine * spacing > _STEEP * height) & (fine < _NARROWER * coarse)
    if not bool(slope.any()):
        return lowest
    # What is higher than the mean is of columns: rows of them along a contour would be ripples of it, and hollows between them.
    for _ in range(_CLIPPED):
        along = contours.mean(torch.minimum(data, along))
    beside = along + _opened(data - along, measured, spacing, axes)
    share = blur(slope.to(data.dtype), _NOISE * spacing, axes).clamp(0, 1)
    return lowest + share * (beside - lowest)


def _height(above: Float[Tensor, "t h w"]) -> Float[Tensor, " t"]:
    """Of the columns' tops over what lies under them."""
    above = above.flatten(1)
    return above.kthvalue(math.ceil(UPPER * above.shape[1]), dim=1).values


def _steepest(rise: Sequence[Tensor], spacing: float) -> Float[Tensor, "t h w"]:
    """The steepest within half a spacing of slopes along rows and columns, per pixel."""
    slope = torch.hypot(*rise)
    for axis in (-1, -2):
        slope = running_max(slope, round(spacing / 2), axis)
    return slope


@dataclass(frozen=True, eq=False)
class _Contours:
    """The contour through each pixel: an arc, whose curvature is the divergence of the direction in which the background rises (Sethian 1999).

    Squares do not tell columns from a background that rises by more than they do: all of their sides that do not lie along its contours see it rise.
    """

    here: Float[Tensor, "1 h w 2"]  # in the coordinates of `grid_sample`
    aside: Float[Tensor, "t h w 2"]  # of a pixel along the contour
    inward: Float[Tensor, "t h w 2"]  # by which it bends over a pixel, to second order
    known: Float[Tensor, "t 1 h w"]
    spacing: float

    @staticmethod
    def of(measured: Bool[Tensor, "t h w"], rise: Sequence[Tensor], spacing: float) -> "_Contours":
        """Contours of a background that rises so much along rows and columns."""
        _, h, w = measured.shape
        down, across = rise
        steepest = torch.stack([across, down]) / torch.hypot(across, down).clamp(
            min=torch.finfo(down.dtype).tiny
        )
        bend = torch.gradient(steepest[0], dim=2)[0] + torch.gradient(steepest[1], dim=1)[0]
        bend = bend.clamp(-1 / (_BENT * spacing), 1 / (_BENT * spacing))
        row, col = (torch.arange(n, device=down.device, dtype=down.dtype) for n in (h, w))
        half = torch.tensor([w, h], device=down.device, dtype=down.dtype) / 2
        here = torch.stack([col.expand(h, w), row[:, None].expand(h, w)], dim=-1)[None]
        aside = torch.stack([-steepest[1], steepest[0]], dim=-1)
        inward = (bend / 2 * steepest).movedim(0, -1)
        known = measured.to(down.dtype)[:, None]
        return _Contours((here + 0.5) / half - 1, aside / half, inward / half, known, spacing)

    @cached_property
    def weight(self) -> Float[Tensor, "t 1 h w"]:
        """Of the measured pixels along each."""
        return self._sum(self.known)

    def mean(self, data: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
        """Mean along the contour through each pixel: columns are spread over it, while an edge, of whatever width, stays as it is."""
        total = self._sum(data[:, None] * self.known) / self.weight.clamp(min=1e-6)
        mean: Tensor = torch.where(self.weight > 0, total, data[:, None])[:, 0]
        return mean

    def _sum(self, image: Float[Tensor, "t 1 h w"]) -> Float[Tensor, "t 1 h w"]:
        total = torch.zeros_like(image)
        for share in torch.linspace(-2, 2, 2 * _SAMPLES + 1).tolist():
            far = share * _ALONG * self.spacing
            grid = torch.add(self.here, self.aside, alpha=far).sub_(self.inward, alpha=far**2)
            total.add_(F.grid_sample(image, grid, align_corners=False), alpha=math.exp(-(share**2) / 2))
        return total


def _sudden(tiles: Tiles, spacing: float, axes: Pair, least: float) -> Bool[Tensor, "t a b"]:
    """Where a blur changes what lies under the columns by more than such a share of their height, in pooled pixels."""
    data, share, pool = _pooled(tiles.data, tiles.measured, spacing, axes)
    data, there, spacing = data / share.clamp(min=0.5), share > 0.5, spacing / pool
    data = blur(data, _NOISE * spacing, axes)
    lowest = _opened(data, there, _WIDE * spacing, axes)
    flat = lowest - plane_of(lowest, there.to(data.dtype))  # whose mean at the border would be beside it
    changed = (
        blur((flat - measured_mean(flat, there, _SMOOTH * spacing, axes)) * there, spacing / 2, axes) * there
    )
    return changed.abs() > least * _height(data - lowest)[:, None, None]


def _around(
    there: Float[Tensor, "t a b"], shape: tuple[int, int], spacing: float, axes: Pair
) -> Float[Tensor, "t h w"]:
    """1 within some spacings of what is there, and beyond it a fall so slow that a smooth background follows."""
    near = F.interpolate(there[:, None], shape)[:, 0]
    for axis in (-1, -2):
        near = running_max(near, round(_FOLLOWED * spacing * axes[axis]), axis)
    return blur(near, _SMOOTH * spacing, axes)


def _opened(
    data: Float[Tensor, "t h w"], measured: Bool[Tensor, "t h w"], spacing: float, axes: Pair
) -> Float[Tensor, "t h w"]:
    """What lies under the columns: the morphological opening (Serra 1982), which leaves straight edges where they are."""
    reach = [max(1, round(_ACROSS * spacing * along)) for along in axes]
    low = torch.where(measured, -data, -torch.inf)
    for axis in (0, 1):
        low = running_max(low, reach[axis], axis - 2)
    # Where no pixel near was measured it is the greatest of none.
    opened = torch.where(torch.isinf(low), low, -low)
    for axis in (0, 1):
        opened = running_max(opened, reach[axis], axis - 2)
    opened = torch.where(torch.isinf(opened), data, opened)
    for axis in (0, 1):
        opened = _to_the_ends(opened, data, reach[axis], axis - 2)
    return opened


def _to_the_ends(
    opened: Float[Tensor, "t h w"], data: Float[Tensor, "t h w"], reach: int, axis: int
) -> Float[Tensor, "t h w"]:
    """An opening that goes on with its slope to both ends of an axis: squares end there, and what rises to an end would lie above it."""
    length = opened.shape[axis]
    if length < 6 * reach:
        return opened
    steps = torch.arange(reach, 0, -1, device=opened.device, dtype=opened.dtype)
    steps = steps.view(-1, *[1] * (-1 - axis))
    for flip in (False, True):
        line, whole = (image.flip(axis) if flip else image for image in (opened, data))
        at, inner = (line.narrow(axis, n * reach, 1) for n in (1, 3))
        further = at + (at - inner) / (2 * reach) * steps
        beside, over = line.narrow(axis, 0, reach), whole.narrow(axis, 0, reach)
        further = torch.maximum(beside, torch.minimum(further, over))
        line = torch.cat([further, line.narrow(axis, reach, length - reach)], dim=axis)
        opened = line.flip(axis) if flip else line
    return opened


def _denoised(data: Float[Tensor, "t h w"], spacing: float) -> Float[Tensor, "t h w"]:
    """Images of least total variation, which have edges but no noise (Rudin, Osher & Fatemi 1992).

    By the accelerated primal-dual steps of Chambolle & Pock (2011), weighted with the noise around each pixel.
    """
    limit = _OF_NOISE * noise_around(data, spacing / 2).sqrt()
    image, ahead = data, data
    down, across = torch.zeros_like(data), torch.zeros_like(data)
    length = limit.mean(dim=(1, 2), keepdim=True)
    dual = 1 / (8 * length)
    for _ in range(_ITERATIONS):
        across = across + dual * F.pad(ahead.diff(dim=2), (0, 1))
        down = down + dual * F.pad(ahead.diff(dim=1), (0, 0, 0, 1))
        shorter = limit / torch.maximum(torch.hypot(down, across), limit)
        down, across = down * shorter, across * shorter
        flow = F.pad(down, (0, 0, 1, 0)).diff(dim=1) + F.pad(across, (1, 0)).diff(dim=2)
        new = (image + length * (flow + data)) / (1 + length)
        slower = (1 + 2 * _CONVEX * length).rsqrt()
        ahead = new + slower * (new - image)
        image, length, dual = new, length * slower, dual / slower
    return image
