"""The search: joint fits of the maxima of a batch of tiles, and what these leave over."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.columns._filters import filter_gain, maxima_density
from torchmotif.columns._fit import Fit
from torchmotif.columns._neighbours import as_index, as_indices, is_near, picked
from torchmotif.columns._pairs import resolve_pairs
from torchmotif.columns._peaks import CLOSEST, maxima
from torchmotif.columns._profiles import window_reach
from torchmotif.columns._start import Moving, Shape, Start
from torchmotif.columns.model import ImageModel, Tiles

__all__ = [
    "FAINTEST",
    "SIGNIFICANT",
    "STEPS",
    "converge",
    "converge_common",
    "fit_tiles",
    "is_rare",
    "is_significant",
    "revised",
    "set_out",
]

SIGNIFICANT = 3.0  # standard deviations of its intensity that a column must stand above nothing
FAINTEST = 0.05  # of the 90th percentile of intensities: no column is fainter
_FALSE_EXTRA = 0.01  # columns that noise may add to those there, in the search of what is left over
_APART = 0.75  # of the spacing: what is left over nearer to a column than this is a misfit of that column
_MEDIAN = 1.75  # median height of the maxima of matched-filtered noise, in standard deviations
# Times that a fit is searched for what it has left over or taken for one, before its end. Where mean cells tell where columns are, and all stand out, two
# do: of 35 simulated and real images of all kinds a third changes no recall by more than 0.005. With two, MoSe2 at 1/50 of the dose has 0.966 instead of 0.972
# without cells, and oxygen in a perovskite, which is held, up to 0.015 less, at the border.
_REVISIONS, _REVISIONS_OF_KNOWN = 3, 2
_ROUGH = 2  # steps after which the residual shows what is missing
STEPS = 9  # at most, to the end
_REASSEMBLED = 2  # steps after which the matrix of those that still move is made anew
_WORSE = 1.02  # of the least misfit: a step that leads to more is halved, in the end taken back
_HALVINGS = 3
_GROWN = 1.05  # times the width for which neighbours were looked for
_NEAR = 0.02  # squared step, in standard deviations, after which a column has converged
# Share by which a step, and a lesson, changes the common width, below which it is learned; the first step of each lesson is no
# measure. Of nineteen images the width is the same to 0.3 % as with all steps. 0.0015 was chosen beside 0.002 on the seeds of
# tests/columns, where 0.002 gave one near neighbour too many; over ten seeds they do not differ (docs/decisions/0111).
_SAME_WIDTH, _SAME_SINCE = 0.0015, 0.002
_FEW = 0.001  # of a tile's columns: so few need not converge
# Of a tile's columns: while so many still move, its background and all its columns are fitted. With 0.1 a real image of implanted
# MoS2 loses its two rarest motifs (12 and 6 columns).
_MANY = 0.02


def set_out(tiles: Tiles, model: ImageModel, start: Start) -> Fit:
    """The fit of a batch of tiles before its first step, with the width and the noise of the model."""
    return Fit(tiles, start, Shape.of(model, FAINTEST, start.positions.device), model.spacing)


def fit_tiles(tiles: Tiles, model: ImageModel, start: Start, *, known: bool) -> Fit:
    """The fit of a batch of tiles from their maxima, with what a first fit leaves over, without what it finds to be nothing.

    Columns that are fixed keep their places and stay. Where all columns are `known` beforehand less is looked for.
    """
    fit = set_out(tiles, model, start)
    faintest, judged = fit.shape.usual * FAINTEST, None
    converge(fit, _ROUGH)
    revisions = _REVISIONS_OF_KNOWN if known else _REVISIONS
    for number in range(revisions):
        start, kept, gone, changes = revised(fit, faintest, judged)
        fit = fit.continued(start, kept, gone)
        if number == revisions - 1:
            break
        judged = converge(fit, _ROUGH, fit.touched & (changes > 0)[fit.tile])
        if judged is None:
            break
    judged = converge(fit, STEPS, fit.touched | fit.moving)
    if judged is not None:
        start, kept, gone, _ = revised(fit, faintest, judged, more=False)
        fit = fit.continued(start, kept, gone)
        converge(fit, STEPS, fit.touched)
    fit.assemble(fit.expected, fit.stale())
    return fit


def converge(fit: Fit, steps: int, active: Bool[Tensor, " n"] | None = None) -> Bool[Tensor, " n"] | None:
    """Steps until they no longer lead far; those that make the fit of a tile worse are taken back there.

    The columns that are `active` are fitted as long as they move, and all of a tile, with its background, as long as many of
    them do. By default all. Returns which columns were fitted, None if there was none to fit.
    """
    moves = torch.ones_like(fit.fixed) if active is None else active
    fitted = torch.zeros_like(moves)
    best, most = fit.state, fit.misfit()
    mask, whole, numbers = _chosen(fit, moves, most < 0)
    local, rest = (0, len(fit)) if active is None else numbers[:2].tolist()
    if local + rest == 0:
        return None
    for number in range(steps):
        if local + rest == 0:
            break
        rows = picked(mask, local + rest) % len(fit)
        moving = Moving(rows, local, whole)
        fitted = fitted.index_fill(0, rows, value=True)
        if number % _REASSEMBLED == 0:
            which = torch.zeros_like(moves).index_fill(0, rows, value=True)
            where = fit.in_tiles(which.long()) > 0
            # To find out which are stale takes an accelerator longer than to make all.
            if rows.device.type != "cpu" and len(rows) == len(fit):
                fit.assemble(fit.expected, None, where)
            else:
                fit.assemble(fit.expected, which & fit.stale(), where)
        if number == 0:
            most = _WORSE * fit.misfit()
        before = fit.state
        far = fit.step(moving)
        moves = torch.zeros_like(moves).index_copy(0, rows, far > _NEAR)
        fit.moving = fit.moving.index_copy(0, rows, far > _NEAR)
        misfit = fit.misfit()
        worse = ~(misfit <= most)
        mask, whole, numbers = _chosen(fit, moves, worse)
        local, rest, wrong = numbers.tolist()
        if wrong:
            misfit = _halved(fit, before, best, most, worse)
            mask, whole, numbers = _chosen(fit, moves | worse[fit.tile], worse)
            local, rest, _ = numbers.tolist()
        better = _WORSE * misfit < most
        most = torch.where(better, _WORSE * misfit, most)
        kept = (better[fit.tile, None], better[fit.tile], better[:, None, None], better.any())
        pairs = zip(kept, fit.state, best, strict=True)
        best = tuple(torch.where(which, new, old) for which, new, old in pairs)  # type: ignore[assignment]
    return fitted


def _chosen(
    fit: Fit, moves: Bool[Tensor, " n"], worse: Bool[Tensor, " t"]
) -> tuple[Bool[Tensor, " n2"], Bool[Tensor, " t"], Int[Tensor, " 3"]]:
    """Columns that move alone, then those of tiles that move as a whole; these tiles; how many of both, and are worse."""
    share = fit.in_tiles(moves.float()) / fit.in_tiles(torch.ones_like(fit.intensity)).clamp(min=1)
    whole = share > _MANY
    alone, every = moves & ((share > _FEW) & ~whole)[fit.tile], whole[fit.tile]
    return torch.cat([alone, every]), whole, torch.stack([alone.sum(), every.sum(), worse.sum()])


def _halved(
    fit: Fit, before: tuple[Tensor, ...], best: tuple[Tensor, ...], most: Tensor, worse: Tensor
) -> Tensor:
    """Halve the step of tiles in which it makes the fit worse, in the end take it back; the misfit then.

    Columns that the image hardly tells apart diverge, and wide ones that overlap with their background.
    """
    still = worse
    for _ in range(_HALVINGS):
        fit.mix(before, 0.5, still)
        still = still & ~(fit.misfit() <= most)
        if not bool(still.any()):
            break
    else:
        fit.mix(best, 1.0, still)
    misfit = fit.misfit()
    # All columns of these tiles are fitted from here on; some may have no matrix yet.
    fit.assemble(fit.expected, worse[fit.tile], worse)
    return misfit


def converge_common(
    fit: Fit, steps: int, usable: Int[Tensor, " p"], *, fresh: bool
) -> tuple[Float[Tensor, ""], bool]:
    """Steps that fit what all columns of one tile have in common as well: their width and, by its `usable` pixels, the noise.

    Returns the upper decile of their intensities, and whether the width is what it was at first. A `fresh` fit sets out from nothing:
    its first covariances mean nothing.
    """
    one = torch.ones_like(fit.usable[:, 0, 0])

    def learn(*, converged: bool) -> Tensor:
        residual = (fit.data - fit.expected).flatten()[usable]
        unknowns = 3 * len(fit) + fit.spline.numel()
        expected = fit.expected.flatten()[usable]
        noise = fit.shape.noise.fitted(expected, residual, unknowns=unknowns, converged=converged)
        n = len(fit)  # every one of them may have turned out to be nothing
        usual = fit.intensity.abs().kthvalue(max(1, round(0.9 * n))).values if n else fit.intensity.sum()
        fit.shape = replace(fit.shape, noise=noise, usual=usual)
        return usual

    first = fit.shape.width
    for number in range(steps):
        learn(converged=False)
        fit.assemble(fit.expected)
        if number >= _ROUGH or not fresh:
            fit.curvature()
        before, most = fit.state, fit.misfit()
        fit.step(widen=len(fit) > 0)  # no column, no width
        for halving in range(_HALVINGS + 1):
            wider = (fit.shape.width / torch.stack([before[3], first]) - 1).abs().amax(dim=1)
            told = torch.cat([fit.misfit(), most, fit.shape.width.max()[None], wider])
            misfit, limit, widest, changed, since = told.tolist()
            fit.shape = replace(fit.shape, widest=widest)
            if window_reach(widest) != fit.reach:
                fit.look()
            # Without the neighbours that overlap now the matrix would not be positive definite.
            if widest > _GROWN * fit.paired:
                fit.find_neighbours()
            if misfit <= limit or halving == _HALVINGS:
                break
            fit.mix(before, 0.5, one)
        if changed < _SAME_WIDTH and number > 0:
            break
    return learn(converged=True), since < _SAME_SINCE


def revised(
    fit: Fit, faintest: Tensor, judged: Bool[Tensor, " n"] | None = None, *, more: bool = True
) -> tuple[Start, Int[Tensor, " k"], Int[Tensor, " g"], Int[Tensor, " t"]]:
    """A fit without what it finds to be nothing, with pairs split or merged and `more` that it leaves over.

    Of columns that are not `judged`, by default none, all stay, and tiles without any stay as they are. Also the numbers of columns
    that are kept and of those that are gone, and how many changes there are in every tile.
    """
    fit.weigh(fit.expected)
    covariance = fit.covariance(draft=True)
    pairs = resolve_pairs(fit, covariance, judged, CLOSEST * fit.spacing)
    judged = torch.ones_like(fit.fixed) if judged is None else judged
    standing = ~pairs.replaced
    keep = standing & (is_significant(fit, covariance, faintest, pairs.resolved) | ~judged | fit.fixed)
    keep &= fit.strongest(standing) | ~judged
    at, tile, new, new_tile = fit.positions, fit.tile, pairs.columns[:, 1:], pairs.tile
    if more:
        open_ = fit.in_tiles(judged.long()) > 0
        found = _left_over(fit, open_, torch.cat([at, new]), torch.cat([tile, new_tile]))
        kept, chosen = as_indices(keep, found[2])
        extra, extra_tile = found[0][chosen], found[1][chosen]
    else:
        kept, extra, extra_tile = as_index(keep), at[:0], tile[:0]
    changes = pairs.changes.index_add(0, extra_tile, torch.ones_like(extra_tile))
    none = torch.zeros_like(extra_tile, dtype=torch.bool)
    no = torch.zeros_like(new_tile, dtype=torch.bool)
    dark = torch.zeros_like(extra[:, 0]).to(fit.intensity.dtype)
    # Those that are new may still lie too near to others; the next revision, or the end of the search, sees to it.
    start = Start(
        torch.cat([at[kept], new, extra]),
        torch.cat([tile[kept], new_tile, extra_tile]),
        torch.cat([fit.intensity[kept], pairs.columns[:, 0].to(dark.dtype), dark]),
        torch.cat([fit.fixed[kept], no, none]),
        torch.cat([pairs.single[kept], ~no, ~none]),
        torch.cat([pairs.resolved[kept], pairs.columns_resolved, none]),
        torch.cat([fit.home[kept], torch.full_like(torch.cat([new, extra]), torch.nan)]),
        fit.spline,
    )
    gone = picked(~keep, len(keep) - len(kept))
    return start, kept, gone, changes


def _left_over(
    fit: Fit, open_: Bool[Tensor, " t"], others: Float[Tensor, "m 2"], other_tile: Int[Tensor, " m"]
) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"], Bool[Tensor, " n"]]:
    """Maxima of the residual, and which are columns: those too near to brighter ones to be maxima themselves; not near to `others`."""
    score = (fit.data - fit.expected) * fit.usable * fit.weights.sqrt()
    at, height, tile = maxima(fit.tiles, score, fit.spacing, fit.shape.axes)
    # Where columns are not quite Gaussian the residual is rougher than noise: then that roughness is the noise.
    roughness = _medians(height, tile, len(fit.data)) / _MEDIAN
    height = height / torch.clamp(roughness, min=filter_gain(fit.spacing))[tile]
    clear = is_rare(fit, height, tile) & open_[tile]
    spread = fit.tiles.spread(at, tile) / fit.axes
    known = fit.tiles.spread(others, other_tile) / fit.axes
    return at, tile, clear & ~is_near(spread, known, _APART * fit.spacing)


def is_rare(fit: Fit, height: Float[Tensor, " n"], tile: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Which maxima of tiles are so many standard deviations high that noise has fewer than a hundredth as many of them as the tile has columns; and higher than two."""
    _, h, w = fit.tiles.shape
    expected = h * w * maxima_density(height, fit.spacing)
    count = fit.in_tiles(torch.ones_like(fit.intensity))
    return (expected <= _FALSE_EXTRA * count[tile]) & (height > 2)


def _medians(values: Float[Tensor, " n"], tile: Int[Tensor, " n"], tiles: int) -> Float[Tensor, " t"]:
    """Median of the positive values in every tile (the lower of two middle ones); 0 where there are none."""
    tile = torch.where(values > 0, tile, tiles)
    order = torch.argsort(values)
    order = order[torch.argsort(tile[order], stable=True)]
    count = torch.zeros(tiles + 1, dtype=torch.long, device=tile.device)
    count = count.index_add_(0, tile, torch.ones_like(tile))[:tiles]
    middle = count.cumsum(0) - count + (count - 1).clamp(min=0) // 2
    found = torch.cat([values[order], values.new_zeros(1)])[middle.clamp(max=len(values))]
    return torch.where(count > 0, found, 0.0)


def is_significant(
    fit: Fit, covariance: Float[Tensor, "n 3 3"], faintest: Tensor, resolved: Bool[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Which columns are bright enough to be there."""
    clear = fit.intensity > SIGNIFICANT * covariance[:, 0, 0].clamp(min=0).sqrt()
    return (clear | resolved) & (fit.intensity > faintest)
