"""Which frames of a long stack the self-check looks at: some, and those that are unlike the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from torchmotif.analysis.plan import Batch, Image

__all__ = ["frames_to_look_at", "some_and_unlike"]

# Frames of a stack that are looked at besides those unlike the others: by so many interquartile ranges beyond the quartiles, in
# the number of columns, their misfit, or the share without a motif.
_FRAMES, _UNLIKE = 36, 1.5


def frames_to_look_at(images: Sequence[Image], batches: dict[int, list[Batch]]) -> set[int]:
    """Numbers of the images that are looked at: all, but of a long stack some frames and those that are unlike the others."""
    stacks: dict[Any, list[int]] = {}
    for image in images:
        stacks.setdefault(
            image.number if image.source.stack is None else ("stack", image.source.stack), []
        ).append(image.number)
    chosen: set[int] = set()
    for frames in stacks.values():
        if len(frames) <= _FRAMES:
            chosen |= set(frames)
            continue
        mine = {id(batch): batch for number in frames for batch in batches.get(number, [])}
        seen = _at_a_glance(list(mine.values()), frames)
        chosen |= set(np.array(frames)[some_and_unlike(seen)].tolist())
    return chosen


def some_and_unlike(seen: np.ndarray) -> np.ndarray:
    """Which frames are looked at by what is seen of each at a glance, (frames, numbers): some, and those unlike the others."""
    lower, upper = np.nanquantile(seen, (0.25, 0.75), axis=0)
    beyond = _UNLIKE * (upper - lower)
    chosen: np.ndarray = ~((seen >= lower - beyond) & (seen <= upper + beyond)).all(1)
    chosen[np.linspace(0, len(seen) - 1, _FRAMES).round().astype(int)] = True
    return chosen


def _at_a_glance(batches: Sequence[Batch], frames: Sequence[int]) -> np.ndarray:
    """Of each image the number of its columns, their mean misfit and the share without a motif, shape (frames, 3)."""
    sums = np.zeros((max(frames) + 1, 3))
    for batch in batches:
        known, columns = batch.load("labels"), batch.load("columns")
        misfit = np.nan_to_num(columns.get("fit_quality", np.zeros(len(columns["image"])))[known["rows"]])
        for number, values in enumerate((np.ones(len(misfit)), misfit, known["labels"] < 0)):
            # A batch may hold images of another stack, too.
            sums[:, number] += np.bincount(known["image"], values, len(sums))[: len(sums)]
    count = sums[:, :1]
    seen: np.ndarray = np.concatenate([count, sums[:, 1:] / count.clip(1)], axis=1)[list(frames)]
    return seen
