"""What a run is made of: the images, what is common to each, the blocks, the parameters."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.columns.parts import Common, measure_common
from torchmotif.errors import InputError, ReadError
from torchmotif.field.engine import device_of_worker, single_threaded
from torchmotif.field.grid import Grid, block_side
from torchmotif.field.sources import Source, digest
from torchmotif.field.store import Work, listed
from torchmotif.zernike import ZernikeBasis

__all__ = ["Job", "Survey", "basis_of", "survey", "unfit", "with_patches"]

_AT_LIMIT = 8  # pixels at the greatest value, from which on it may be a limit
_EQUAL = 0.01  # relative difference of pixel sizes that counts as none


@dataclass(frozen=True)
class Survey:
    """One image as it was found before the work began.

    Attributes
    ----------
    shape : (int, int)
    common : Common
    side : int
        Of the blocks in pixels.
    digests : list of str
        Checksum of every block's core.
    patch_size : int
        Side of the patches, in pixels of the image all patches are brought to the scale of.
    zoom : float
        Pixels of this image per pixel of a patch: 1 unless images of other pixel sizes are learnt together with it.
    level, gain : float
        Moments are those of (pixels - level) * gain.
    """

    shape: tuple[int, int]
    common: Common
    side: int
    digests: list[str]
    patch_size: int = 0
    zoom: float = 1.0
    level: float = 0.0
    gain: float = 1.0

    @property
    def fingerprint(self) -> str:
        """Checksum of the pixels."""
        return hashlib.blake2b("".join(self.digests).encode(), digest_size=16).hexdigest()

    @property
    def grid(self) -> Grid:
        """The blocks, seen with enough around them for filter, fit and patches."""
        patch = int(self.patch_size * self.zoom / 2) + 3
        return Grid(self.shape, self.side, max(self.common.margin, patch))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "shape": list(self.shape),
            "common": self.common.as_dict(),
            "side": self.side,
            "digests": self.digests,
            "patch_size": self.patch_size,
            "zoom": self.zoom,
            "level": self.level,
            "gain": self.gain,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Survey":
        """What `as_dict` gave."""
        h, w = values["shape"]
        common = Common.from_dict(values["common"])
        rest = {key: values[key] for key in ("side", "digests", "patch_size", "zoom", "level", "gain")}
        return cls((h, w), common, **rest)


@dataclass(frozen=True)
class Job:
    """What a task needs to know; it travels to the workers."""

    root: Path
    identity: str
    image: int
    source: Source
    survey: Survey
    n_max: int
    device: str | None

    @property
    def work(self) -> Work:
        """Where finished parts go."""
        return Work(self.root, self.identity)

    def name(self, kind: str, block: int) -> str:
        """File name of a part."""
        return f"{kind}-{self.image:05d}-{block:06d}"

    def pixels(self, block: int) -> np.ndarray:
        """The window of a block, after a check that its core is what it was when the run began."""
        found = self.survey.grid[block]
        window = self.source.read(found.window)
        top, left = found.window[:2]
        core = window[found.core[0] - top : found.core[2] - top, found.core[1] - left : found.core[3] - left]
        if digest(core) != self.survey.digests[block]:
            raise ReadError(
                f"{self.source.name} has changed while it was read; start again with restart=True "
                "once nothing writes to it any more"
            )
        return window


def survey(source: Source, parameters: dict[str, Any], known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Look through an image: what its columns have in common, and the checksums of its blocks.

    With what is `known` from an earlier run only the checksums are made.
    """
    shape = source.shape
    if min(shape) < 16:
        raise InputError(f"{source.name} must have at least 16 pixels a side, got {shape}")
    if known is not None and tuple(known["shape"]) == shape:
        digests, _ = _looked_through(source, Survey.from_dict(known).grid, dark=False)
        return known | {"digests": digests}
    options = {
        "axes": _axes(source),
        "dark": parameters["polarity"] == "dark",
        "spacing": parameters["spacing"],
        "threshold": parameters["threshold"],
        "device": device_of_worker(parameters["device"]),
    }
    with single_threaded():
        common = _measured(source, shape, limit=None, **options)
        side = block_side(common.spacing)
        digests, limit = _looked_through(source, Grid(shape, side, 0), dark=options["dark"])
        if limit is not None:
            common = _measured(source, shape, limit=limit, **options)
            if block_side(common.spacing) != side:
                side = block_side(common.spacing)
                digests, _ = _looked_through(source, Grid(shape, side, 0), dark=False)
    return Survey(shape, common, side, digests).as_dict()


def with_patches(
    surveys: list[Survey], sources: list[Source], patch_size: int | None, size_of: Any
) -> list[Survey]:
    """The surveys of images that are learnt together, with patches that show the same area in all of them.

    Raises
    ------
    InputError
        If some have a pixel size and others none, or none has and their spacings differ; if one holds no patch.
    """
    reasons = unfit(surveys, sources, patch_size, size_of)
    if reasons:
        first = next(iter(reasons))
        names = listed([sources[i].name for i, reason in reasons.items() if reason == reasons[first]])
        raise InputError(f"{names}: {reasons[first]}")
    scale, size = _scale(sources), _patch(surveys, sources, patch_size, size_of)
    levels = np.array([one.common.level for one in surveys])
    units = np.array([one.common.scale for one in surveys])
    gains = np.median(units) / units
    if len(surveys) == 1 or all(one.frame is not None for one in sources):
        levels[:], gains[:] = (
            np.median(levels),
            1.0,
        )  # frames of a stack were recorded alike; files may not be
    return [
        replace(one, patch_size=size, zoom=zoom, level=level, gain=gain)
        for one, zoom, level, gain in zip(
            surveys, scale.tolist(), levels.tolist(), gains.tolist(), strict=True
        )
    ]


def unfit(
    surveys: list[Survey], sources: list[Source], patch_size: int | None, size_of: Any
) -> dict[int, str]:
    """Which images cannot be learnt together with the others, and why; not all need be found at once."""
    uncalibrated = [i for i, one in enumerate(sources) if one.pixel_size_nm is None]
    if 0 < len(uncalibrated) < len(sources):
        return dict.fromkeys(
            uncalibrated,
            "has no pixel size while others have; give pixel_size_nm=, which holds for all, or motifs='each'",
        )
    if uncalibrated:
        spacings = np.array([one.common.spacing for one in surveys])
        usual = _alike(spacings)
        if len(usual) < len(spacings):
            between = f"{spacings[usual].min():.2f} to {spacings[usual].max():.2f}" if len(usual) else ""
            return {
                i: f"has no pixel size, and its columns are {spacings[i]:.2f} px apart, "
                + (f"those of the others {between} px" if between else "unlike those of the others")
                + ": whether their motifs are the same cannot be told; give pixel_size_nm=, or motifs='each'"
                for i in range(len(spacings))
                if i not in usual
            }
    size = _patch(surveys, sources, patch_size, size_of)
    return {
        i: f"patch_size: patches of {size * zoom:.0f} px do not fit in an image of {one.shape[0]} x {one.shape[1]} px"
        for i, (one, zoom) in enumerate(zip(surveys, _scale(sources).tolist(), strict=True))
        if size * zoom > min(one.shape)
    }


def _alike(spacings: np.ndarray) -> list[int]:
    """More than half of the images, whose spacings are within a tenth; none where there are no such."""
    most = max(((spacings >= low) & (spacings <= 1.1 * low) for low in spacings), key=np.sum)
    return np.flatnonzero(most).tolist() if 2 * most.sum() > len(spacings) else []


def _scale(sources: list[Source]) -> np.ndarray:
    """Pixels of each image per pixel of a patch."""
    if any(one.pixel_size_nm is None for one in sources):
        return np.ones(len(sources))
    nm = np.array([float(np.sqrt(np.prod(one.pixel_size_nm))) for one in sources])  # type: ignore[arg-type]
    # The coarsest pixels decide: the others are averaged, none are invented.
    scale: np.ndarray = nm.max() / nm
    scale[np.abs(scale - 1) < _EQUAL] = 1.0
    return scale


def _patch(surveys: list[Survey], sources: list[Source], patch_size: int | None, size_of: Any) -> int:
    """Side of the patches."""
    spacings = np.array([one.common.spacing for one in surveys])
    size: int = (
        patch_size if patch_size is not None else size_of(float(np.median(spacings / _scale(sources))))
    )
    if size < 3:
        raise InputError(f"patch_size must be at least 3 px, got {size}")
    return size


@lru_cache(maxsize=4)
def basis_of(n_max: int, size: int, device: str | None) -> ZernikeBasis:
    """The basis, to half the patches' side at most, with the kernels it has made so far."""
    return ZernikeBasis(min(n_max, size // 2), size, device=device)


def _measured(source: Source, shape: tuple[int, int], **options: Any) -> Common:
    """What is common, from few windows; from more where these show no columns."""
    for per_axis in (3, 8):
        windows = Grid(shape, 512, 0).samples(per_axis)
        try:
            return measure_common([source.read(window) for window in windows], **options)
        except InputError:
            if per_axis == 8 or len(windows) == 1:
                raise
    raise AssertionError  # the loop returns or raises


def _looked_through(source: Source, grid: Grid, *, dark: bool) -> tuple[list[str], float | None]:
    """Checksums of all cores, and the value at which pixels are saturated, None where there is no such limit."""
    digests, tops = [], []
    for number in range(len(grid)):
        core = source.read(grid[number].core)
        digests.append(digest(core))
        tops.append(_top_two(-core.astype(np.float64) if dark else core))
    limit = _limit(tops)
    return digests, None if limit is None else (-limit if dark else limit)


def _top_two(values: np.ndarray) -> list[tuple[float, int]]:
    """The two greatest values that occur, and how often."""
    usual = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if usual.size == 0:
        return []
    top = usual.max()
    at = usual == top
    lower = np.max(usual, where=~at, initial=usual.min())
    return [(float(top), int(at.sum())), (float(lower), int((usual == lower).sum()))]


def _limit(tops: Iterable[list[tuple[float, int]]]) -> float | None:
    """The greatest value where more pixels have it than the next lower one, and not by chance."""
    count: dict[float, int] = {}
    for found in tops:
        for value, times in found:
            count[value] = count.get(value, 0) + times
    ranked = sorted(count, reverse=True)
    if len(ranked) < 2 or count[ranked[0]] < _AT_LIMIT or count[ranked[0]] <= count[ranked[1]]:
        return None
    return ranked[0]


def _axes(source: Source) -> tuple[float, float]:
    if source.pixel_size_nm is None:
        return (1.0, 1.0)
    side = float(np.sqrt(np.prod(source.pixel_size_nm)))
    return side / source.pixel_size_nm[0], side / source.pixel_size_nm[1]
