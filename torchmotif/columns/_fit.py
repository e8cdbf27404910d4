"""The joint fit: all columns of a batch of tiles, and the background under them, by maximum likelihood."""

import math
from copy import copy
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.columns._beside_steps import variance_of_steps
from torchmotif.columns._blocks import Blocks
from torchmotif.columns._equations import (
    Equations,
    Smoothing,
    Unknowns,
    covariance_of,
    inverse3,
    spline_band,
    spline_index,
    squeezed,
)
from torchmotif.columns._filters import blur
from torchmotif.columns._neighbours import Neighbours, strongest_of
from torchmotif.columns._peaks import CLOSEST
from torchmotif.columns._profiles import Profiles, profiles, spline_basis, window_reach
from torchmotif.columns._start import Moving, Shape, Start
from torchmotif.columns.model import Tiles

__all__ = ["Fit"]

_OVERLAP = 5.0  # widths within which two columns share information: at 5, a Gaussian's overlap is 0.2 %
_KNOTS = 4.0  # spacings between the background's knots
_CLOSEST_KNOTS = 16.0  # pixels: nearer ones would only cost time
# Standard deviations of its intensity, neighbours known, below which a column may not be there.
_DOUBTFUL = 6.0
_UNMOVED = 0.01  # widths: where columns moved less, their information changes by a few per cent at most
_FURTHEST = 0.5  # widths that a column moves in one step
# Of the spacing: from half of it on two columns next to each other have no valley between them (Sparrow). With more, the dark
# hollows of a honeycomb diverge with their background in one of six images, with less (0.36) they are held too narrow.
_WIDEST = 0.45
# Of the spacing: columns as wide as this are fitted so many times in their places before they move. On 30 blurred and streaked
# images (0.19 to 0.43 wide) two or none of these steps, with or without the bound, gave the same columns within 0.04.
_WIDE, _LINEAR = 0.3, 2


class Fit:
    """Columns fitted to a batch of tiles: their state, and the steps that improve it.

    Scores are weighted with the variance of each pixel; for counts of electrons that is the Poisson likelihood.
    What happens to a tile does not depend on the other tiles.
    """

    profile: Profiles
    canvas: Float[Tensor, "th2 w2"]  # the columns without the background, padded
    rendered: Float[Tensor, " n"]  # their intensities in it
    background: Float[Tensor, "t h w"]
    expected: Float[Tensor, "t h w"]
    weights: Float[Tensor, "t h w"]
    least: Float[Tensor, " t"]  # information of an intensity that every column has
    blocks: Blocks
    paired: float  # the width for which neighbours were looked for
    touched: Bool[Tensor, " n"]  # by what was changed when the fit was continued
    moving: Bool[Tensor, " n"]  # in the last step that was made of each
    assembled_at: Float[Tensor, "n 2"]  # positions for which the matrix was made; NaN where it was not
    band: Float[Tensor, "t m 49"]
    reach: int

    def __init__(self, tiles: Tiles, start: Start, shape: Shape, spacing: float) -> None:
        self.tiles, self.spacing, self.shape = tiles, spacing, shape
        self.data, self.usable = tiles.data, tiles.usable
        self.unsure = None if tiles.step is None else variance_of_steps(tiles)
        self.positions, self.tile, self.intensity = start.positions, start.tile, start.intensity
        self.fixed, self.single, self.resolved = start.fixed, start.single, start.resolved
        self.home = start.home
        self.immobile = start.fixed  # those that left the tile, too
        step = max(_KNOTS * spacing, _CLOSEST_KNOTS)
        self.rows, self.cols = (spline_basis(length, step, self.data) for length in tiles.shape[1:])
        self.smoothing = Smoothing.of(self.rows, self.cols)
        self.bias: Tensor | float = 0.0
        self.moving = torch.ones_like(self.fixed)
        flat = self.data.new_zeros(tiles.shape[0], self.rows.shape[1], self.cols.shape[1])
        self.spline = flat if start.spline is None else start.spline
        self.band_index = spline_index(self.spline.shape[1:], len(self.data), self.data.device)
        self.find_neighbours()
        self.look()
        if start.spline is None:
            # What to expect of an image before anything is fitted to it: means over about a column.
            self.assemble(blur(self.data, shape.widest))
            self.step(move=False)
            # Columns so wide share much with the background: one solution leaves both far from where they would end, and columns
            # that then move are lost. Of a drift-corrected mean 18 of 199 columns were, and are none with two further ones.
            for _ in range(_LINEAR if shape.widest > _WIDE * spacing else 0):
                self.assemble(self.expected)
                self.step(move=False)
        # The weights of that matrix were not those of the fit: with them corner columns of square crystals are lost.
        self.assembled_at = torch.full_like(self.positions, torch.nan)
        self.weigh(self.expected)

    def continued(self, start: Start, kept: Int[Tensor, " k"], gone: Int[Tensor, " g"]) -> "Fit":
        """The fit without those `gone` of its columns, and after the `kept` ones those of `start` that are new.

        Columns that are new, or were or are next to a change, are `touched` by it; the others keep their matrix.
        """
        fit, before = copy(self), self.next_to(gone)[kept]
        fit.positions, fit.tile, fit.intensity = start.positions, start.tile, start.intensity
        fit.fixed, fit.single, fit.resolved = start.fixed, start.single, start.resolved
        fit.home = start.home
        new = torch.arange(len(kept), len(fit), device=kept.device)
        fit.immobile = torch.cat([self.immobile[kept], fit.fixed[new]])
        fit.find_neighbours()
        fit.touched = fit.next_to(new).index_fill(0, new, value=True)
        fit.touched |= torch.cat([before, fit.fixed.new_zeros(len(new))])
        fit.moving = torch.cat([self.moving[kept], fit.touched[new]])
        fit.canvas = self.canvas.clone()
        self.profile.at(gone).add(fit.canvas, -self.rendered[gone, None, None])
        added = self._profiles(fit.positions[new], fit.tile[new])
        added.add(fit.canvas, fit.intensity[new, None, None])
        fit.profile, fit.rendered = self.profile.at(kept).joined(added), fit.intensity
        fit.expected = fit.profile.crop(fit.canvas) + fit.background
        blocks = [torch.cat([old[kept], old.new_zeros(len(new), *old.shape[1:])]) for old in self.blocks]
        number = torch.full((len(self) + 1,), -1, device=kept.device)
        number = number.index_copy(0, kept, torch.arange(len(kept), device=kept.device))
        same = fit.neighbours.later[: len(kept), :, None] == number[self.neighbours.later[kept]][:, None]
        shared = torch.einsum("nab,nbpq->napq", same.to(fit.data.dtype), self.blocks.shared[kept])
        blocks[1] = torch.cat([shared, shared.new_zeros(len(new), *shared.shape[1:])])
        fit.blocks = Blocks(*blocks)
        at = torch.cat([self.assembled_at[kept], torch.full_like(start.positions[new], torch.nan)])
        fit.assembled_at = torch.where(fit.touched[:, None], torch.nan, at)
        return fit

    def stale(self) -> Bool[Tensor, " n"]:
        """Columns that have no matrix, or have moved since it was made by as much as changes it."""
        moved = (self.positions - self.assembled_at).abs() / self.shape.width.double()
        return ~(moved <= _UNMOVED).all(dim=1)  # NaN is no less than anything

    def next_to(self, rows: Int[Tensor, " k"]) -> Bool[Tensor, " n"]:
        """Which columns share information with some of them."""
        none = torch.zeros(len(self) + 1, dtype=torch.bool, device=rows.device)
        return none.index_fill(0, self.neighbours.every[rows].flatten(), value=True)[:-1]

    def find_neighbours(self) -> None:
        """Look for the columns that share information with each other, or are nearer to each other than columns are."""
        self.paired = self.shape.widest
        at = self.tiles.spread(self.positions, self.tile)
        reach = max(_OVERLAP, CLOSEST * self.spacing * max(self.shape.axes) / self.paired)
        self.neighbours = Neighbours.within(at / self.shape.width.double(), reach)

    def apart(self) -> Float[Tensor, "n l"]:
        """Distances to the neighbours, in widths; none is infinitely far away."""
        at = torch.cat([self.positions, self.positions.new_full((1, 2), torch.inf)])
        away = (self.positions[:, None] - at[self.neighbours.every]) / self.shape.width.double()
        return torch.hypot(away[..., 0], away[..., 1])

    def strongest(self, which: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        """Which of some columns stay if each in turn, from the brightest on, removes those nearer to it than columns are.

        Two whose places are given stay both.
        """
        every, n = self.neighbours.every, len(self)
        near = self.apart() * self.shape.width.prod().sqrt() <= CLOSEST * self.spacing
        near &= ~(self.fixed[:, None] & torch.cat([self.fixed, self.fixed.new_zeros(1)])[every])
        i = torch.arange(n, device=every.device)[:, None].expand_as(every).flatten()
        j = every.clamp(max=n - 1).flatten()
        return which & strongest_of(self.intensity * which, i, j, near.flatten() & which[i] & which[j])

    def _profiles(self, positions: Float[Tensor, "k 2"], tile: Int[Tensor, " k"]) -> Profiles:
        return profiles(positions, tile, self.shape.width, self.tiles.shape, self.reach)

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.positions)

    @property
    def axes(self) -> Float[Tensor, " 2"]:
        """Pixels along (rows, columns) per side of a square pixel of the same area, by the widths of the columns."""
        width = self.shape.width
        return (width / width.prod().sqrt()).double()

    @property
    def spread(self) -> Float[Tensor, "n 2"]:
        """Positions for the search of neighbours, in square pixels."""
        return self.tiles.spread(self.positions, self.tile) / self.axes

    def in_tiles(self, values: Tensor) -> Tensor:
        """Sums of the columns' values in every tile."""
        total = torch.zeros(len(self.data), dtype=values.dtype, device=values.device)
        return total.index_add_(0, self.tile, values)

    def curvature(self) -> None:
        """Allow for the curvature of the model in the steps that follow: the bias correction of Firth (1993).

        Every column follows its own noise, so that a common width fitted with them comes out too small. To second order
        the bias is that of data changed by minus half the trace of the covariance times the second derivatives of the model
        (Cox & Snell 1968, Box 1971); to add that half to the data takes it off.
        """
        every = torch.arange(len(self), device=self.data.device)
        covariance = torch.nan_to_num(covariance_of(*self.information(), self.neighbours, every))
        covariance = covariance * ~self.immobile[:, None, None]  # whose places follow no noise
        width, intensity = self.shape.width, self.intensity
        amplitudes = covariance.new_zeros(len(self), 3, 3)  # profile along rows, along columns
        amplitudes[:, 1, 0], amplitudes[:, 0, 1] = covariance[:, 0, 1], covariance[:, 0, 2]
        amplitudes[:, 1, 1] = intensity * covariance[:, 1, 2]
        # A Gaussian's second derivative by its centre is the one by its width, over the width.
        amplitudes[:, 2, 0] = intensity * covariance[:, 1, 1] / (2 * width[0])
        amplitudes[:, 0, 2] = intensity * covariance[:, 2, 2] / (2 * width[1])
        canvas = self.profile.canvas()
        self.profile.add(canvas, amplitudes)
        self.bias = self.profile.crop(canvas)

    def look(self, moving: Moving | None = None) -> None:
        """Bring the model image up to date after some columns, or all, and the background have changed."""
        if moving is None:
            self.reach = window_reach(self.shape.widest)
            self.profile = self._profiles(self.positions, self.tile)
            self.canvas = self.profile.canvas()
            self.profile.add(self.canvas, self.intensity[:, None, None])
        else:
            rows, alone = moving.rows, moving.rows[: moving.local]
            new = self._profiles(self.positions[rows], self.tile[rows])
            by_tile = self.canvas.view(len(self.data), -1, self.canvas.shape[1])
            self.canvas = by_tile.masked_fill(moving.whole[:, None, None], 0.0).flatten(0, 1)
            self.profile.at(alone).add(self.canvas, -self.rendered[alone, None, None])
            self.profile = self.profile.replaced(rows, new)
            new.add(self.canvas, self.intensity[rows, None, None])
        self.rendered = self.intensity
        smooth = squeezed(self.rows.mT, self.spline, self.cols.mT)
        given = [one for one in (self.tiles.step, self.tiles.beyond) if one is not None]
        self.background = sum(given, smooth)
        self.expected = self.profile.crop(self.canvas) + self.background

    def variance(self, expected: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
        """Of the pixels: their noise, and what steps of the background are wrong by."""
        noise = self.shape.noise.variance(expected)
        return noise if self.unsure is None else noise + self.unsure

    def weigh(self, expected: Float[Tensor, "t h w"], where: Tensor | None = None) -> None:
        """Weights of the pixels, in some tiles or in all."""
        weights = self.usable / self.variance(expected)
        self.weights = weights if where is None else torch.where(where[:, None, None], weights, self.weights)
        # A millionth of what the pixels can say of an intensity.
        usual, least = (
            self.shape.usual,
            self.weights.flatten(1).amax(1) / (4e6 * math.pi * self.shape.width.prod()),
        )
        self.least = torch.where(usual > 0, torch.maximum(least, usual**-2), least)

    def assemble(
        self,
        expected: Float[Tensor, "t h w"],
        which: Bool[Tensor, " n"] | None = None,
        where: Bool[Tensor, " t"] | None = None,
    ) -> None:
        """Weights and matrix for the state as it is, of some columns and tiles or of all; they serve for several steps."""
        self.weigh(expected, where)
        padded = self.profile.pad(self.weights)
        band = spline_band(self.weights, self.rows, self.cols)
        if which is None:
            rows = torch.arange(len(self), device=self.data.device)
            self.blocks, self.band, self.assembled_at = self._blocks_of(rows, padded), band, self.positions
            return
        # What two neighbours share is kept with the first of them.
        wanted = torch.cat([which, which.new_zeros(1)])
        rows = torch.nonzero(which | wanted[self.neighbours.later].any(1))[:, 0]
        pairs = zip(self.blocks, self._blocks_of(rows, padded), strict=True)
        self.blocks = Blocks(*(old.index_copy(0, rows, one) for old, one in pairs))
        self.band = band if where is None else torch.where(where[:, None, None], band, self.band)
        self.assembled_at = torch.where(which[:, None], self.positions, self.assembled_at)

    def everything(self) -> Moving:
        """All columns of all tiles."""
        every = torch.arange(len(self), device=self.data.device)
        return Moving(every, 0, torch.ones_like(self.data[:, 0, 0], dtype=torch.bool))

    def step(
        self, moving: Moving | None = None, *, move: bool = True, widen: bool = False
    ) -> Float[Tensor, " k"]:
        """One Gauss-Newton step of the quasi-likelihood: of intensities and background, and what else may change.

        Returns how far the step led each column, squared, in standard deviations; those at the border or too faint to be
        there count as 0.
        """
        moving = moving or self.everything()
        picked = moving.rows
        equations, right = self._equations(picked, move=move, widen=widen, free=moving.whole)
        columns, spline, width = equations.unknowns.split(equations.solve(right))
        far = (equations.unknowns.split(right)[0] * columns).sum(dim=1)
        positions, intensity = self.positions[picked], self.intensity[picked] + columns[:, 0]
        if move:  # columns that are fixed have no shift
            limit = _FURTHEST * self.shape.width.mean()
            length = columns[:, 1:].norm(dim=1, keepdim=True).clamp(min=1e-12)
            shorter = (limit / length).clamp(max=1)
            intensity = self.intensity[picked] + columns[:, 0] * shorter[:, 0]
            moved = positions + (columns[:, 1:] * shorter).double()
            _, h, w = self.tiles.shape
            positions = torch.stack(
                [moved[:, 0].clamp(-0.5, h - 0.5), moved[:, 1].clamp(-0.5, w - 0.5)], dim=1
            )
            outside = (moved != positions).any(dim=1)  # those would go back and forth
            self.immobile = self.immobile.index_copy(0, picked, self.immobile[picked] | outside)
            far = far * ~outside
            # Of which the border cuts off up to a half, and whose place the crystal tells: they stay there, and are fitted anew.
            home = self.home[picked]
            back = outside & torch.isfinite(home[:, 0])
            positions = torch.where(back[:, None], home, positions)
            self.fixed = self.fixed.index_copy(0, picked, self.fixed[picked] | back)
            far = torch.where(back, 1.0, far)
        self.positions = self.positions.index_copy(0, picked, positions)
        self.intensity = self.intensity.index_copy(0, picked, intensity)
        self.spline = self.spline + spline
        if widen:
            factor = (width / self.shape.width).clamp(-0.2, 0.2)
            most = _WIDEST * self.spacing * self.axes.to(factor)
            wider = torch.minimum(self.shape.width * (1 + factor), most)
            self.shape = replace(self.shape, width=wider)  # the windows follow when the host has asked for it
        self.look(moving)
        return far * (intensity.square() * self.blocks.own[picked, 0, 0] > _DOUBTFUL**2)

    @property
    def state(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the steps have reached: positions, intensities, background, width."""
        return self.positions, self.intensity, self.spline, self.shape.width

    def mix(self, state: tuple[Tensor, ...], share: float, where: Bool[Tensor, " t"]) -> None:
        """Go a share of the way to another state, in some tiles."""
        here = where[self.tile]
        # One that a step has led back to its place stays there.
        picked = ((here & ~self.fixed)[:, None], here, where[:, None, None], where.any())
        self.positions, self.intensity, self.spline, width = (
            torch.where(chosen & (new != old), new + share * (old - new), new)
            for chosen, old, new in zip(picked, state, self.state, strict=True)
        )
        self.shape = replace(self.shape, width=width)
        self.look()

    def misfit(self) -> Float[Tensor, " t"]:
        """Mean squared residual over variance in every tile."""
        return ((self.data - self.expected).square() * self.weights).flatten(1).mean(1)

    def covariance(self, *, draft: bool = False) -> Float[Tensor, "n 3 3"]:
        """Of intensity, row and column of every column; a draft is exact for those that may not be there."""
        own, shared = self.information()
        every = torch.arange(len(own), device=own.device)
        if not draft or own.device.type != "cpu":  # to ask an accelerator takes longer
            return covariance_of(own, shared, self.neighbours, every)
        covariance = inverse3(own)
        doubtful = self.intensity < _DOUBTFUL * covariance[:, 0, 0].clamp(min=0).sqrt()
        which = torch.nonzero(doubtful)[:, 0]
        return covariance.index_copy(0, which, covariance_of(own, shared, self.neighbours, which))

    def quality(self) -> Float[Tensor, " n"]:
        """Squared residual over variance, averaged under each column's profile: 1 where only noise is left."""
        excess = (self.data - self.expected).square() * self.weights
        usable = self.usable.to(self.data.dtype)
        total, weight = (self.profile.projected(self.profile.pad(image))[:, 0] for image in (excess, usable))
        return total / weight.clamp(min=1e-6)

    def information(self) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n l 3 3"]]:
        """Fisher information of columns, and of them with their neighbours, at their intensities."""
        scales = self._scales()
        return self._own(self.blocks.own, scales, self.tile), self._shared(scales)

    def _equations(
        self, picked: Tensor, *, move: bool, widen: bool, free: Bool[Tensor, " t"]
    ) -> tuple[Equations, Float[Tensor, " v"]]:
        scales = self._scales()
        scales[:, 1:] *= (~self.immobile & move)[:, None]
        profile, mine, tile = self.profile.at(picked), scales[picked], self.tile[picked]
        n, k, shape = len(picked), 2 * widen, self.spline.shape
        unknowns = Unknowns(n, (shape[0], shape[1], shape[2]), k, tile)
        slopes = self._width_slopes() if widen else []

        def products(image: Tensor) -> Tensor:
            """Of an image with all derivatives of the expected one."""
            columns = profile.projected(profile.pad(image)) * mine
            widths = torch.stack([(image * slope).sum() for slope in slopes]) if k else image.new_zeros(0)
            return unknowns.joined(columns, squeezed(self.rows, image, self.cols), widths)

        own = self._own(self.blocks.own[picked], mine, tile)
        # Neighbours that do not change are none: the first of the zeros.
        number = torch.full((len(self) + 1,), n, device=picked.device)
        number = number.index_copy(0, picked, torch.arange(n, device=picked.device))
        nodes, three = 3 * n + 3, torch.arange(3, device=picked.device)
        index = [
            3 * number[picked, None] + three,
            nodes + self.blocks.nodes[picked],
            (3 * number[self.neighbours.every[picked]][:, :, None] + three).flatten(1),
        ]
        shared = self._shared(scales, picked).permute(0, 2, 1, 3).flatten(2)
        to_nodes = self.blocks.to_nodes[picked] * mine[:, :, None]
        equations = Equations(
            unknowns,
            own,
            torch.cat([own, to_nodes, shared], dim=2),
            torch.cat(index, dim=1),
            to_nodes.shape[2],
            self.band.flatten(0, 1),
            torch.where(self.band_index < 0, 3 * n, nodes + self.band_index),
            self.smoothing,
            free,
            torch.stack([products(self.weights * slope) for slope in slopes])
            if k
            else own.new_zeros(0, sum(unknowns.parts)),
        )
        return equations, products((self.data - self.expected + self.bias) * self.weights)

    def _scales(self) -> Float[Tensor, "n 3"]:
        """A derivative by position is proportional to the intensity, one by intensity is not."""
        return torch.stack([torch.ones_like(self.intensity), self.intensity, self.intensity], dim=1)

    def _own(
        self, own: Float[Tensor, "k 3 3"], scales: Float[Tensor, "k 3"], tile: Int[Tensor, " k"]
    ) -> Float[Tensor, "k 3 3"]:
        """Blocks that can be inverted, and steps that stay sensible.

        Even a column of which the image says nothing has an intensity of the size of the usual ones and lies within
        about half a spacing.
        """
        least = self.least[tile]
        place = torch.full_like(least, (2 / self.spacing) ** 2)
        diagonal = torch.diag_embed(torch.stack([least, place, place], dim=1))
        return torch.addcmul(diagonal, own, scales[:, :, None] * scales[:, None, :])

    def _shared(self, scales: Float[Tensor, "n 3"], picked: Tensor | None = None) -> Float[Tensor, "k l 3 3"]:
        """Blocks of columns with their neighbours; zero for none."""
        table, rows = self.neighbours, slice(None) if picked is None else picked
        other = torch.cat([scales, scales.new_zeros(1, 3)])[table.every[rows]]
        return table.shared(self.blocks.shared, rows) * scales[rows, None, :, None] * other[:, :, None, :]

    def _width_slopes(self) -> list[Float[Tensor, "t h w"]]:
        """Derivatives of the expected image by the widths, of the columns that tell them."""
        slopes = []
        for row, col in ((2, 0), (0, 2)):
            amplitudes = self.data.new_zeros(len(self), 3, 3)
            amplitudes[:, row, col] = self.intensity * self.single
            canvas = self.profile.canvas()
            self.profile.add(canvas, amplitudes)
            slopes.append(self.profile.crop(canvas))
        return slopes

    def _blocks_of(self, rows: Int[Tensor, " k"], padded: Float[Tensor, "th2 w2"]) -> Blocks:
        nowhere = self.positions.new_full((1, 2), -1e6)  # of a neighbour that is none: its Gaussian is 0 here
        later = torch.cat([self.positions, nowhere])[self.neighbours.later[rows]]
        bases = self.rows, self.cols
        blocks = Blocks.of(self.profile.at(rows), later, padded, bases, self.shape.width)
        return blocks._replace(nodes=self.tile[rows, None] * self.spline[0].numel() + blocks.nodes)
