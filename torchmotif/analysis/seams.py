"""Between batches: which columns are columns of the image, and which batches touch."""

from collections.abc import Sequence

import numpy as np

from torchmotif._threads import single_threaded
from torchmotif.analysis.plan import Batch
from torchmotif.columns._crystal import SEEN, counting_alone, speckle
from torchmotif.columns.grid import keep_at_seams

__all__ = ["rows_to_keep", "touching"]


# Hundreds of small steps, each of which would wait for a second thread: of 1,258 columns, beside other programs, they take 0.03 s so, and 0.4 to 0.7 s with
# two threads.
@single_threaded()
def rows_to_keep(batches: Sequence[Batch]) -> tuple[list[np.ndarray], dict[int, int]]:
    """For every batch the rows of its part that are columns of the images, ascending.

    Also how many rows of every image were left out as speckle, where any were.
    """
    parts = [batch.load("columns") for batch in batches]
    known = [name for name in ("image", "tile", "owned", *SEEN) if name in parts[0]]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in known}
    image, keep = columns.pop("image"), columns.pop("owned")
    alike: dict[tuple[float, tuple[float, float], tuple[int, int]], list[np.ndarray]] = {}
    gone: dict[int, int] = {}
    for one in {image.number: image for batch in batches for image in batch.images}.values():
        if "intensities" not in columns:  # positions were given
            continue
        survey, model = one.survey, one.survey.model
        here = slice(*np.searchsorted(image, [one.number, one.number + 1]))
        if len(survey.grid) > 1:
            keep[here] = keep_at_seams(
                survey.grid,
                columns["tile"][here],
                columns["positions"][here],
                columns["intensities"][here],
                keep[here],
                spacing=model.spacing,
                axes=model.axes,
            )
        if "position_errors" in columns:
            columns["position_errors"][here] = counting_alone(
                columns["position_errors"][here], model.correlation
            )
        rows = here.start + np.flatnonzero(keep[here])
        alike.setdefault((model.spacing, model.axes, survey.shape), []).append(rows)
    for (spacing, axes, shape), images in alike.items():  # the frames of a stack together
        rows = np.concatenate(images)
        kept = {name: values[rows] for name, values in columns.items()}
        kept["image"] = np.unique(image[rows], return_inverse=True)[1]
        none = rows[speckle(kept, spacing, axes, shape).numpy()]
        keep[none] = False
        gone |= zip(*(each.tolist() for each in np.unique(image[none], return_counts=True)), strict=True)
    edges = np.cumsum([len(part["owned"]) for part in parts])[:-1]
    return [np.flatnonzero(part) for part in np.split(keep, edges)], gone


def touching(batches: Sequence[Batch]) -> list[list[int]]:
    """For every batch the batches, itself among them, that have tiles which touch its own in the same image; ascending."""
    holder = {
        (batch.images[at].number, tile): i for i, batch in enumerate(batches) for at, tile in batch.tiles
    }
    found = []
    for batch in batches:
        grid = batch.survey.grid
        around = {(batch.images[at].number, other) for at, tile in batch.tiles for other in grid.around(tile)}
        found.append(sorted({holder[one] for one in around}))
    return found
