"""What a run is made of: the images, what is common to each, and the batches of tiles that are worked on together."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchmotif.analysis.sources import Source, digest
from torchmotif.analysis.store import Parts, listed
from torchmotif.columns.grid import GUARD, Grid, tiles_at_once
from torchmotif.columns.model import ImageModel
from torchmotif.columns.unmeasured import Unmeasured
from torchmotif.errors import InputError, ReadError
from torchmotif.patches import first_shell

__all__ = ["Batch", "Image", "Survey", "batches_of", "measured", "unfit", "with_patches"]

_EQUAL = 0.01  # relative difference of pixel sizes that counts as none


@dataclass(frozen=True)
class Survey:
    """One image as it was found before the work began.

    Attributes
    ----------
    shape : (int, int)
    model : ImageModel
        What the columns have in common.
    side : int
        Of the tiles in pixels.
    digests : list of str
        Checksum of every tile's core.
    mean, least : float
        Of the finite pixels.
    invalid : int
        Pixels that are not finite, but for those that a mask leaves out.
    unmeasured : Unmeasured or None
        Pixels that look as if nothing was measured there.
    skewness : float or None
        Of the image towards its columns, where their polarity was given and the image shows the other.
    polarity_unknown : bool
        Whether nothing told the polarity, see `Polarity`.
    shown : float or None
        Spacing that the image shows by itself, where one was given.
    dose_doubts : list of str
        Why its noise says no dose, where that is not known.
    electrons_per_count : float or None
        What `estimate_gain` says of the middle of it, where the dose is not known and the noise tells it.
    offset : float or None
        What `suspected_offset` says of it, where the dose is not known.
    patch_size : int
        Side of the patches, in pixels of the image all patches are brought to the scale of.
    zoom : float
        Pixels of this image per pixel of a patch: 1 unless images of other pixel sizes are learnt together with it.
    level, gain : float
        Moments are those of (pixels - level) * gain.
    """

    shape: tuple[int, int]
    model: ImageModel
    side: int
    digests: list[str]
    mean: float
    least: float
    invalid: int
    unmeasured: Unmeasured | None = None
    skewness: float | None = None
    polarity_unknown: bool = False
    shown: float | None = None
    dose_doubts: list[str] = field(default_factory=list)
    electrons_per_count: float | None = None
    offset: float | None = None
    patch_size: int = 0
    zoom: float = 1.0
    level: float = 0.0
    gain: float = 1.0

    @property
    def fingerprint(self) -> str:
        """Checksum of the pixels."""
        return hashlib.blake2b("".join(self.digests).encode(), digest_size=16).hexdigest()

    @cached_property
    def grid(self) -> Grid:
        """The tiles, seen with enough around them for filter, fit and the patches of what is kept for the seams."""
        beyond = self.patch_size * self.zoom / 2 + GUARD * self.model.spacing
        return Grid(self.shape, self.side, max(self.model.margin, int(beyond) + 3))

    @property
    def dark(self) -> float:
        """Value of a pixel without electrons: 0, or the least where there are negative ones."""
        return min(self.least, 0.0)

    @property
    def reach(self) -> int:
        """Side in pixels of the window that a patch is made of."""
        return int(np.ceil(self.patch_size * self.zoom))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        hidden = None if self.unmeasured is None else self.unmeasured.as_dict()
        return asdict(self) | {"unmeasured": hidden}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Survey":
        """What `as_dict` gave."""
        model = ImageModel.from_dict(values["model"])
        hidden = values.get("unmeasured")
        hidden = None if hidden is None else Unmeasured.from_dict(hidden)
        return cls(**values | {"shape": tuple(values["shape"]), "model": model, "unmeasured": hidden})


@dataclass(frozen=True)
class Image:
    """An image of a run, by its number."""

    number: int
    source: Source
    survey: Survey

    @property
    def stated_gain(self) -> float | None:
        """Electrons that one unit of its pixels stands for, where the image says how many it has."""
        electrons, survey = self.source.electrons_per_pixel, self.survey
        return None if electrons is None else electrons / max(survey.mean - survey.dark, 1e-30)

    @property
    def spacing_nm(self) -> float | None:
        """Distance of its columns, None without a pixel size."""
        nm = self.source.pixel_size_nm
        return None if nm is None else self.survey.model.spacing * float(np.sqrt(np.prod(nm)))


@dataclass(frozen=True)
class Batch:
    """Tiles of one window shape that share one model, worked on together; it travels to the workers.

    Which tiles make a batch is told by the shapes of the images and a constant, by nothing else: products of matrices may
    differ in the last bit with their number of rows.

    Attributes
    ----------
    images : tuple of Image
        Of one shape and with all in common but their pixels.
    tiles : tuple of (int, int)
        Place among the images, and number of the tile in it.
    parts : Work or Memory
        Where what is finished goes.
    n_max : int
        Order of the moments that motifs are told from.
    threshold : float, optional
        Least height of a column.
    device : str, optional
    given : array of shape (n, 2), optional
        Columns in all images, where they are not to be looked for.
    """

    images: tuple[Image, ...]
    tiles: tuple[tuple[int, int], ...]
    parts: Parts
    n_max: int
    threshold: float | None = None
    device: str | None = None
    given: np.ndarray | None = None

    @property
    def survey(self) -> Survey:
        """What the images have in common."""
        return self.images[0].survey

    @property
    def has_hidden(self) -> bool:
        """Whether pixels of the images may not be finite."""
        return any(
            one.survey.invalid or one.survey.unmeasured is not None or one.source.mask is not None
            for one in self.images
        )

    def name(self, kind: str) -> str:
        """File name of a part."""
        first, tile = self.tiles[0]
        return f"{kind}-{self.images[first].number:05d}-{tile:06d}-{len(self.tiles):05d}"

    def load(self, kind: str) -> dict[str, np.ndarray]:
        """A part that is finished."""
        return self.parts.load(self.name(kind))

    def has(self, kind: str) -> bool:
        """Whether a part is finished."""
        return self.parts.has(self.name(kind))

    @cached_property
    def places(self) -> np.ndarray:
        """For every tile the number of its image, its own, its core, and the first (row, col) of its window; (t, 8)."""
        grid = self.survey.grid
        found = [(place, number, grid[number]) for place, number in self.tiles]
        rows = [
            (self.images[place].number, number, *tile.core, *tile.window[:2]) for place, number, tile in found
        ]
        return np.array(rows)

    def pixels(self) -> Tensor:
        """The windows, (t, h, w) float32, after a check that their cores are what they were when the run began."""
        grid, found = self.survey.grid, []
        for place, number in self.tiles:
            image, tile = self.images[place], grid[number]
            part, (top, left, *_) = image.source.part(tile.window), tile.window
            if isinstance(part, np.ndarray):
                core = part[
                    tile.core[0] - top : tile.core[2] - top, tile.core[1] - left : tile.core[3] - left
                ]
                if digest(core) != image.survey.digests[number]:
                    raise ReadError(
                        f"{image.source.name} has changed while it was read; start again with restart=True "
                        "once nothing writes to it any more"
                    )
                with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
                    part = torch.from_numpy(part.astype(np.float32))
            if image.survey.unmeasured is not None:
                part = measured(part, image.survey.unmeasured, tile.window)
            found.append(part.float())
        return torch.stack(found)

    def of_each_image(self) -> list["Batch"]:
        """The batch as one for each image."""
        return [
            replace(
                self, images=(image,), tiles=tuple((0, number) for at, number in self.tiles if at == place)
            )
            for place, image in enumerate(self.images)
        ]


def measured(part: Any, hidden: Unmeasured, box: tuple[int, int, int, int]) -> Any:
    """The pixels of a window as floats, NaN where they were not measured."""
    left_out = hidden.window(box)
    if isinstance(part, Tensor):
        return part.float().masked_fill(torch.from_numpy(left_out).to(part.device), torch.nan)
    return np.where(left_out, np.nan, part.astype(np.result_type(part.dtype, np.float32)))


def batches_of(images: Iterable[Image], groups: Callable[[int], int], **common: Any) -> Iterator[Batch]:
    """The batches of all images in order: of tiles one after the other that fit together.

    `groups` gives the number of the motifs that an image is learnt for; further attributes of `Batch` are common to all.
    """
    kept: list[Image] = []
    tiles: list[tuple[int, int]] = []
    before: Any = None
    for image in images:
        survey = image.survey
        most = tiles_at_once(survey.grid.window, common.get("device") or "cpu")
        scale = (survey.reach, survey.level, survey.gain)
        like = (groups(image.number), survey.shape, survey.model, *scale)
        for number in range(len(survey.grid)):
            if tiles and (like != before or len(tiles) >= most):
                yield Batch(tuple(kept), tuple(tiles), **common)
                kept, tiles = [], []
            if not kept or kept[-1] is not image:
                kept.append(image)
            tiles.append((len(kept) - 1, number))
            before = like
    if tiles:
        yield Batch(tuple(kept), tuple(tiles), **common)


def with_patches(images: Sequence[Image], patch_size: int | None) -> list[Image]:
    """The images that are learnt together, with patches that show the same area in all of them.

    An InputError says that they do not fit together, see `unfit`.
    """
    reasons = unfit(images, patch_size)
    if reasons:
        first = next(iter(reasons))
        names = listed([images[i].source.name for i, reason in reasons.items() if reason == reasons[first]])
        raise InputError(f"{names}: {reasons[first]}")
    scale, size = _scale(images), _patch(images, patch_size)
    levels = np.array([one.survey.model.level for one in images])
    units = np.array([one.survey.model.scale for one in images])
    gains = np.median(units) / units
    stacks = {one.source.stack for one in images}
    if len(images) == 1 or (len(stacks) == 1 and None not in stacks):
        levels[:] = np.median(levels)  # the frames of a stack were recorded alike; files may not be
        gains[:] = 1.0
    each = zip(images, scale.tolist(), levels.tolist(), gains.tolist(), strict=True)
    return [
        replace(one, survey=replace(one.survey, patch_size=size, zoom=zoom, level=level, gain=gain))
        for one, zoom, level, gain in each
    ]


def unfit(images: Sequence[Image], patch_size: int | None) -> dict[int, str]:
    """Which of the images cannot be learnt together with the others, and why; not all need be found at once."""
    uncalibrated = [i for i, one in enumerate(images) if one.source.pixel_size_nm is None]
    if 0 < len(uncalibrated) < len(images):
        return dict.fromkeys(
            uncalibrated,
            "has no pixel size while others have; give pixel_size_nm=, which holds for all, or learn='each'",
        )
    if uncalibrated:
        spacings = _spacings(images)
        usual = _alike(spacings)
        if len(usual) < len(spacings):
            between = f"{spacings[usual].min():.2f} to {spacings[usual].max():.2f}" if len(usual) else ""
            others = f"those of the others {between} px" if between else "unlike those of the others"
            return {
                i: f"has no pixel size, and its columns are {spacing:.2f} px apart, {others}: whether their motifs are "
                "the same cannot be told; give pixel_size_nm=, or learn='each'"
                for i, spacing in enumerate(spacings)
                if i not in usual
            }
    size = _patch(images, patch_size)
    return {
        i: f"patch_size must lie between 3 and the image's shorter side, {min(one.survey.shape)} px: patches of "
        f"{size * zoom:.0f} px do not fit; take a larger image, or set patch_size="
        for i, (one, zoom) in enumerate(zip(images, _scale(images).tolist(), strict=True))
        if size * zoom > min(one.survey.shape)
    }


def _alike(spacings: np.ndarray) -> list[int]:
    """More than half of the images, whose spacings are within a tenth; none where there are no such."""
    most = max(((spacings >= low) & (spacings <= 1.1 * low) for low in spacings), key=np.sum)
    return np.flatnonzero(most).tolist() if 2 * most.sum() > len(spacings) else []


def _spacings(images: Sequence[Image]) -> np.ndarray:
    return np.array([one.survey.model.spacing for one in images])


def _scale(images: Sequence[Image]) -> np.ndarray:
    """Pixels of each image per pixel of a patch."""
    sizes = [one.source.pixel_size_nm for one in images]
    nm = np.array([math.sqrt(math.prod(size)) for size in sizes if size is not None])
    if len(nm) < len(sizes):
        return np.ones(len(sizes))
    # The coarsest pixels decide: the others are averaged, none are invented.
    scale: np.ndarray = nm.max() / nm
    scale[np.abs(scale - 1) < _EQUAL] = 1.0
    return scale


def _patch(images: Sequence[Image], patch_size: int | None) -> int:
    """Side of the patches."""
    return patch_size or first_shell(float(np.median(_spacings(images) / _scale(images))))
