"""The first look at the images: checksums, limits and means of the pixels, and what the columns have in common."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from torchmotif._arrays import as_tensor
from torchmotif._threads import single_threaded
from torchmotif.analysis.engine import Engine, device_of_worker
from torchmotif.analysis.plan import Image, Survey, measured, unfit, with_patches
from torchmotif.analysis.record import known_before
from torchmotif.analysis.sources import Source, digest
from torchmotif.columns.calibrate import calibrate_image
from torchmotif.columns.grid import Grid, tile_side
from torchmotif.columns.model import ImageModel
from torchmotif.columns.pixels import saturation_limit, top_values
from torchmotif.columns.polarity import SKEWED, Polarity, is_bright_field, polarity_of, skewness
from torchmotif.columns.spacing import measured_spacing
from torchmotif.columns.unmeasured import Unmeasured, unmeasured
from torchmotif.errors import InputError
from torchmotif.noise import Gain, gain_or_doubts, suspected_offset
from torchmotif.noise.counted import middle_of

__all__ = ["surveyed"]

_LOOKED_AT = 2048 * 2048  # pixels that tell whether the detector's offset is still in them
_FRAMES = 9  # of a stack, on which what they have in common is measured


def surveyed(
    engine: Engine,
    sources: Sequence[Source],
    options: dict[str, Any],
    started: dict[str, Any] | None,
    model: ImageModel | None = None,
) -> list[Image]:
    """The images that can be analysed, and what is common to each."""
    names, each = [source.name for source in sources], options["learn"] == "each"
    known = known_before(started, names)
    sets: dict[Any, list[int]] = {}
    for i, source in enumerate(sources):
        if known[i] is None:
            shared = source.stack is not None and options["calibration"] == "shared" and not each
            sets.setdefault(("stack", source.stack) if shared or model is not None else i, []).append(i)
    polarity = _polarities(engine, sources, list(sets.values()), options, model)
    stacks = [one for one in sets.values() if len(one) > 1 and sources[one[0]].stack is not None]
    silent = _without_dose(stacks)
    calls = [
        (
            source,
            options | {"polarity": polarity.get(i, options["polarity"]), "tells_dose": i not in silent},
            known[i],
        )
        for i, source in enumerate(sources)
    ]
    looks, reasons = engine.map(look, calls, "survey")
    _share_doses(looks, stacks)
    members = [left for one in sets.values() if (left := [i for i in one if i in looks])]
    together = [([sources[i] for i in one], [looks[i] for i in one], options, model) for one in members]
    measured, failed = engine.map(calibrated, together, "calibration")
    for number, one in enumerate(members):
        if number in failed:
            reasons |= dict.fromkeys(one, failed[number])
        else:
            looks |= zip(one, measured[number], strict=True)
    for i in sorted(reasons):
        engine.fail(names[i], reasons[i])
    images = [Image(i, sources[i], Survey.from_dict(looks[i])) for i in sorted(looks) if i not in reasons]
    ready: list[Image] = []
    for group in [[image] for image in images] if each else [images]:
        good = _fitting(engine, group, options["patch_size"])
        if good:
            ready += with_patches(good, options["patch_size"])
    if not ready:
        raise engine.nothing()
    if model is not None:  # the model is that of another dose
        ready = [replace(one, survey=replace(one.survey, level=one.survey.mean)) for one in ready]
    return ready


def _fitting(engine: Engine, group: list[Image], patch_size: int | None) -> list[Image]:
    """The images of a group that can be learnt together; where that is tolerated, the others are noted."""
    while engine.tolerant and group and (bad := unfit(group, patch_size)):
        for i, reason in bad.items():
            engine.fail(group[i].source.name, reason)
        # Without them others may be bad, too.
        group = [image for i, image in enumerate(group) if i not in bad]
    return group


@single_threaded()  # tens of small steps, each of which would wait for a second thread
def look(source: Source, options: dict[str, Any], known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Look through an image: what `Survey` holds, but for its model, and the greatest values.

    With what is `known` from an earlier run only the checksums are made.
    """
    shape = source.shape
    if min(shape) < 16:
        raise InputError(f"{source.name} must have at least 16 pixels a side, got {shape}")
    if known is not None and tuple(known["shape"]) == shape:
        return known | {"digests": _digests(source, Grid(shape, known["side"], 0))}
    side = tile_side(0.0)
    grid = Grid(shape, side, 0)
    digests, tops, sample = [], [], []
    total, count, least = 0.0, 0, math.inf
    every = math.ceil(math.sqrt(math.prod(shape) / _LOOKED_AT))
    hidden = unmeasured(source.part, shape) if source.find_unmeasured else None
    told = _polarity(source, hidden, options)
    for number in range(len(grid)):
        core = source.read(grid[number].core)
        digests.append(digest(core))
        if hidden is not None:
            core = measured(core, hidden, grid[number].core)
        usual = core[np.isfinite(core)] if core.dtype.kind == "f" else core.ravel()
        with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
            tops.append(top_values(torch.from_numpy(core.astype(np.float32)), dark=told.dark))
        total += float(usual.sum(dtype=np.float64))
        count += usual.size
        least = min(least, float(usual.min())) if usual.size else least
        sample.append(core[::every, ::every].ravel())
    if not count:
        raise InputError("image has no finite pixel: all are NaN or infinite; check how it was exported")
    left_out = 0 if source.mask is None else int(source.mask.sum())
    return {
        "shape": list(shape),
        "side": side,
        "digests": digests,
        "mean": total / count,
        "least": least,
        "invalid": math.prod(shape) - count - left_out - (0 if hidden is None else hidden.count),
        "dark": told.dark,
        "polarity_unknown": told.unknown,
        "measured": told.spacing,
        "unmeasured": None if hidden is None else hidden.as_dict(),
        **_told_by_noise(source, hidden, asked=options["tells_dose"] and not told.dark),
        "offset": None if told.dark or source.electrons_per_pixel is not None else _offset(sample),
        "tops": tops,
    }


def calibrated(
    sources: Sequence[Source],
    looks: Sequence[dict[str, Any]],
    options: dict[str, Any],
    model: ImageModel | None = None,
) -> list[dict[str, Any]]:
    """What `Survey` holds of some images that have a model in common, which is measured unless it is given."""
    dark = 2 * sum(one["dark"] for one in looks) > len(looks)  # of a stack, as most of its frames
    limit = saturation_limit([top for one in looks if one["dark"] == dark for top in one["tops"]])
    if model is None:
        with single_threaded():
            model = calibrate_image(
                [_reader(sources[i], _hidden_of(looks[i])) for i in _few(len(sources))],
                sources[0].shape,
                axes=_axes(sources[0]),
                dark=dark,
                limit=limit,
                spacing=options["spacing"],
                measured=looks[0]["measured"] if len(looks) == 1 else None,
                guided=options["guided"],
                device=device_of_worker(options["device"]),
            )
    side = tile_side(model.spacing)
    # Where the image itself told the polarity there is nothing to check.
    skewed = None if options["polarity"] == "auto" else _skewness(sources[0], looks[0], model)
    shown = None if options["spacing"] is None else _shown(sources[0], looks[0], model)
    found = []
    for source, one in zip(sources, looks, strict=True):
        survey = {key: value for key, value in one.items() if key not in {"tops", "dark", "measured"}} | {
            "model": model.as_dict(),
            "skewness": skewed,
            "shown": shown,
        }
        if side != one["side"]:
            survey |= {"side": side, "digests": _digests(source, Grid(source.shape, side, 0))}
        found.append(survey)
    return found


def _few(count: int) -> list[int]:
    """Some of so many frames, spread evenly."""
    numbers: list[int] = np.unique(np.linspace(0, count - 1, _FRAMES).round().astype(int)).tolist()
    return numbers


def _without_dose(stacks: Sequence[list[int]]) -> set[int]:
    """The frames that are not asked for their dose: those of a stack have one, which few of them tell."""
    return {i for one in stacks for i in set(one) - {one[few] for few in _few(len(one))}}


def _share_doses(looks: dict[int, dict[str, Any]], stacks: Sequence[list[int]]) -> None:
    """Let all frames of a stack have the doubts that any of them has, and one gain."""
    for one in stacks:
        there = [looks[i] for i in one if i in looks]
        doubts = sorted({doubt for look in there for doubt in look["dose_doubts"]})
        gains = [gain for look in there if (gain := look.get("electrons_per_count")) is not None]
        for look in there:
            look["dose_doubts"] = doubts
            look["electrons_per_count"] = float(np.median(gains)) if gains and not doubts else None


def _polarities(
    engine: Engine,
    sources: Sequence[Source],
    sets: Sequence[list[int]],
    options: dict[str, Any],
    model: ImageModel | None,
) -> dict[int, str]:
    """The polarity of the frames of stacks, told by few of them, or by the model; other images tell their own."""
    if options["polarity"] != "auto":
        return {}
    if model is not None:
        return {i: "dark" if model.dark else "bright" for one in sets for i in one}
    stacks = [one for one in sets if len(one) > 1]
    calls = [([sources[one[i]] for i in _few(len(one))], options) for one in stacks]
    told, _ = engine.map(stack_is_dark, calls, "polarity")
    return {i: "dark" if dark else "bright" for number, dark in told.items() for i in stacks[number]}


def stack_is_dark(frames: Sequence[Source], options: dict[str, Any]) -> bool:
    """Whether the columns of most of some frames are dark."""
    dark = 0
    for frame in frames:
        hidden = unmeasured(frame.part, frame.shape) if frame.find_unmeasured else None
        dark += _polarity(frame, hidden, options).dark
    return 2 * dark > len(frames)


def _polarity(source: Source, hidden: Unmeasured | None, options: dict[str, Any]) -> Polarity:
    """Whether columns are dark, as was asked for or as the image says."""
    if options["polarity"] != "auto":
        return Polarity(options["polarity"] == "dark")
    with single_threaded():
        return polarity_of(
            _reader(source, hidden),
            source.shape,
            axes=_axes(source),
            spacing=options["spacing"],
            bright_field=is_bright_field(source.name, *source.metadata.values()),
            device=device_of_worker(options["device"]),
        )


def _told_by_noise(source: Source, hidden: Unmeasured | None, *, asked: bool) -> dict[str, Any]:
    """The gain, or why the noise tells none, where the dose is not known and an image of dark field could tell it."""
    gain: Gain | None = None
    doubts: list[str] = []
    if asked and source.electrons_per_pixel is None:
        box = middle_of(source.shape)
        part = source.read(box)
        if (hidden is None or not hidden.window(box).any()) and np.isfinite(part).all():
            gain, doubts = gain_or_doubts(part)
    told = None if gain is None or doubts else gain.electrons_per_unit
    return {"dose_doubts": doubts, "electrons_per_count": told}


def _skewness(source: Source, look: dict[str, Any], model: ImageModel) -> float | None:
    """Skewness of one window towards columns of the model's polarity, where the image shows those of the other."""
    read = _reader(source, _hidden_of(look))
    window = as_tensor(read(Grid.samples(source.shape, 1)[0]))[None]
    with single_threaded():
        tiles = model.normalised(window)
        skewed = skewness(tiles, model.spacing) if bool(tiles.usable.any()) else 0.0
        told = polarity_of(read, source.shape, axes=model.axes)
        # Where no cell tells, the image must be skewed to the other side; a dense packing of particles, whose gaps are narrower than they, may be.
        other = told.dark != model.dark and (told.by_cell or (skewed < SKEWED and not told.unknown))
    return skewed if other else None


def _shown(source: Source, look: dict[str, Any], model: ImageModel) -> float | None:
    """The spacing that one window shows, where another was given."""
    window = as_tensor(_reader(source, _hidden_of(look))(Grid.samples(source.shape, 1)[0]))[None]
    with single_threaded():
        try:
            return measured_spacing(model.normalised(window), model.axes)
        except InputError:
            return None


def _hidden_of(look: dict[str, Any]) -> Unmeasured | None:
    return None if look["unmeasured"] is None else Unmeasured.from_dict(look["unmeasured"])


def _reader(source: Source, hidden: Unmeasured | None) -> Callable[[tuple[int, int, int, int]], Any]:
    """What reads the pixels of a window, not finite where they were not measured."""
    return source.part if hidden is None else lambda box: measured(source.part(box), hidden, box)


def _digests(source: Source, grid: Grid) -> list[str]:
    return [digest(source.read(grid[number].core)) for number in range(len(grid))]


def _offset(sample: Sequence[np.ndarray]) -> float | None:
    values = np.concatenate(sample)
    side = math.isqrt(len(values))
    return suspected_offset(values[: side * side].reshape(side, side))


def _axes(source: Source) -> tuple[float, float]:
    if source.pixel_size_nm is None:
        return (1.0, 1.0)
    side = float(np.sqrt(np.prod(source.pixel_size_nm)))
    return side / source.pixel_size_nm[0], side / source.pixel_size_nm[1]
