"""Between batches: which columns are columns of the image, and which batches touch."""

from collections.abc import Iterator, Sequence

import numpy as np

from torchmotif.analysis.plan import Batch
from torchmotif.columns.grid import keep_at_seams

__all__ = ["rows_to_keep", "touching"]


def rows_to_keep(batches: Sequence[Batch]) -> list[np.ndarray]:
    """For every batch the rows of its part that are columns of the images, ascending."""
    names = ("image", "tile", "positions", "owned")
    parts = [batch.load("columns") for batch in batches]
    image, tile, positions, keep = (np.concatenate([part[name] for part in parts]) for name in names)
    for one in {image.number: image for batch in batches for image in batch.images}.values():
        survey = one.survey
        if len(survey.grid) > 1 and "intensities" in parts[0]:
            here = slice(*np.searchsorted(image, [one.number, one.number + 1]))
            keep[here] = keep_at_seams(
                survey.grid,
                tile[here],
                positions[here],
                np.concatenate([part["intensities"][part["image"] == one.number] for part in parts]),
                keep[here],
                spacing=survey.model.spacing,
                axes=survey.model.axes,
            )
    edges = np.cumsum([len(part["owned"]) for part in parts])[:-1]
    return [np.flatnonzero(part) for part in np.split(keep, edges)]


def touching(batch: Batch, batches: Sequence[Batch], of: dict[int, list[int]]) -> Iterator[int]:
    """The batches with tiles that touch those of one, in the same image."""
    grid = batch.survey.grid
    for place, image in enumerate(batch.images):
        around = {other for at, number in batch.tiles if at == place for other in grid.around(number)}
        for i in of[image.number]:
            other = batches[i]
            if any(other.images[at] == image and number in around for at, number in other.tiles):
                yield i
