"""Between batches: which columns are columns of the image, and which batches touch."""

from collections.abc import Iterator, Sequence

import numpy as np

from torchmotif.analysis.plan import Batch
from torchmotif.columns._crystal import SEEN, speckle
from torchmotif.columns.grid import keep_at_seams

__all__ = ["rows_to_keep", "touching"]


def rows_to_keep(batches: Sequence[Batch]) -> tuple[list[np.ndarray], dict[int, int]]:
    """For every batch the rows of its part that are columns of the images, ascending.

    Also how many rows of every image were left out as speckle, where any were.
    """
    parts = [batch.load("columns") for batch in batches]
    known = [name for name in ("image", "tile", "owned", *SEEN) if name in parts[0]]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in known}
    image, keep = columns.pop("image"), columns.pop("owned")
    gone: dict[int, int] = {}
    for one in {image.number: image for batch in batches for image in batch.images}.values():
        if "intensities" not in columns:  # positions were given
            continue
        survey, model = one.survey, one.survey.model
        here = slice(*np.searchsorted(image, [one.number, one.number + 1]))
        mine = {name: values[here] for name, values in columns.items()}
        if len(survey.grid) > 1:
            keep[here] = keep_at_seams(
                survey.grid,
                mine["tile"],
                mine["positions"],
                mine["intensities"],
                keep[here],
                spacing=model.spacing,
                axes=model.axes,
            )
        rows = here.start + np.flatnonzero(keep[here])
        kept = {name: values[rows] for name, values in columns.items()}
        none = speckle(kept, model.spacing, model.axes, survey.shape)
        keep[rows[none]] = False
        gone |= {one.number: int(none.sum())} if none.any() else {}
    edges = np.cumsum([len(part["owned"]) for part in parts])[:-1]
    return [np.flatnonzero(part) for part in np.split(keep, edges)], gone


def touching(batch: Batch, batches: Sequence[Batch], of: dict[int, list[int]]) -> Iterator[int]:
    """The batches with tiles that touch those of one, in the same image."""
    grid = batch.survey.grid
    for place, image in enumerate(batch.images):
        around = {other for at, number in batch.tiles if at == place for other in grid.around(number)}
        for i in of[image.number]:
            other = batches[i]
            if any(other.images[at] == image and number in around for at, number in other.tiles):
                yield i
