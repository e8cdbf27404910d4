"""Moments of the columns: their layout and their spectrum, of a sample where there are many."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.layout import ForceLayout
from torchmotif.noise import moment_variance
from torchmotif.patches import extract_patches, offsets
from torchmotif.plot import moment_spectrum
from torchmotif.report.figures import bare_figure, inline_svg
from torchmotif.report.pixels import finite
from torchmotif.zernike import ZernikeBasis

if TYPE_CHECKING:
    from torchmotif.result import MotifResult

__all__ = ["Sample", "layout_of", "sampled_moments", "spectrum"]

_MOST = 1500  # columns in the sample
_OF_EACH = 60  # that rare motifs are shown with, where they have so many
_FEWEST = 12  # columns that make a layout


@dataclass(frozen=True, eq=False)
class Sample:
    """Columns that stand for all.

    Attributes
    ----------
    index : array of shape (n,)
        Which of the result's columns.
    moments : array of shape (n, k), float64
    patches : array of shape (n, s, s), float32
        Above the detector's offset.
    basis : ZernikeBasis
    """

    index: np.ndarray
    moments: np.ndarray
    patches: np.ndarray
    basis: ZernikeBasis


def sampled_moments(result: "MotifResult") -> Sample:
    """Moments of columns with a whole patch, drawn so that rare motifs are there as well.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    Sample
    """
    rng = np.random.default_rng(0)
    order = rng.permutation(np.flatnonzero(result.whole))
    labels = result.labels[order]
    kept = np.arange(len(order)) < _MOST
    for motif in np.unique(labels):
        kept[np.flatnonzero(labels == motif)[:_OF_EACH]] = True
    index = np.sort(order[kept])
    image = finite(result.image)
    size = result.templates.shape[-1]
    found = result.record.get("found", {})
    n_max = min(int(found.get("n_max", 10)), size // 2)
    basis = ZernikeBasis(n_max, size, subpixel=4)
    positions = result.columns.positions[index]
    patches = np.asarray(extract_patches(image, positions, size), np.float32) - min(float(image.min()), 0.0)
    moments = np.asarray(basis(patches, offsets(positions, size)), np.float64)
    return Sample(index, moments, patches, basis)


def layout_of(sample: Sample) -> np.ndarray | None:
    """A layout of the sample, shape (n, 2), float64; None where there are too few columns for one.

    Parameters
    ----------
    sample : Sample

    Returns
    -------
    array or None
    """
    if len(sample.index) < _FEWEST:
        return None
    features = sample.moments[:, 1:]  # without the mean, which follows the thickness and what lies on top
    return np.asarray(ForceLayout(10, random_state=0).fit_transform(features), np.float64)


def spectrum(result: "MotifResult", sample: Sample) -> Any:
    """The power of the moments, order by order, as a picture; None without columns.

    Parameters
    ----------
    result : MotifResult
    sample : Sample

    Returns
    -------
    Markup or None
    """
    if len(sample.index) < 2:
        return None
    gain = result.record.get("found", {}).get("electrons_per_count")
    noise = None
    if gain:
        noise = np.asarray(
            moment_variance(sample.patches, sample.basis.basis.numpy(), electrons_per_unit=gain)
        ).mean(axis=0)
    figure = bare_figure(5.6, 3.4)
    moment_spectrum(
        sample.basis.orders.numpy(),
        np.square(sample.moments.mean(axis=0)),
        sample.moments.var(axis=0),
        noise,
        ax=figure.add_subplot(),
    )
    return inline_svg(figure, "Power of the Zernike moments against their radial order")
