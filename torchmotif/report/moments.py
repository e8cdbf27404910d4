"""Moments of the columns: their layout and their spectrum, of a sample where there are many."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from torchmotif.layout import ForceLayout
from torchmotif.noise import moment_variance
from torchmotif.report.figures import InlineSvg, inline_svg
from torchmotif.report.pixels import finite
from torchmotif.zernike import ZernikeBasis

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

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
        Of pixels less a constant.
    """

    index: np.ndarray
    moments: np.ndarray


def sampled_moments(result: "Shown") -> Sample:
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
    return Sample(index, np.asarray(result.moments[index], np.float64))


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
    # As a tensor: of an array scikit-learn asks whether it is a table of one of the packages that are installed, and reads of all of them.
    return np.asarray(ForceLayout(10, random_state=0).fit_transform(torch.from_numpy(features)), np.float64)


def spectrum(result: "Shown", sample: Sample) -> InlineSvg | None:
    """The power of the moments, order by order, as a picture; None without columns.

    Parameters
    ----------
    result : MotifResult
    sample : Sample

    Returns
    -------
    InlineSvg or None
    """
    if len(sample.index) < 2:
        return None
    size, labels = result.templates.shape[-1], result.labels[sample.index]
    basis = ZernikeBasis((math.isqrt(8 * sample.moments.shape[1] + 1) - 3) // 2, size)
    found = result.record.get("found", {})
    gain = found.get("electrons_per_count_of_patches", found.get("electrons_per_count"))
    # What every electron adds to the noise is the same, so the mean patch tells the mean noise.
    counts = np.bincount(labels[labels >= 0], minlength=result.n_motifs)
    noise, dark = None, min(float(finite(result.image).min()), 0.0)
    mean = np.tensordot(counts / max(counts.sum(), 1), result.templates - dark, axes=1).astype(np.float32)
    if gain and counts.any():
        noise = np.asarray(moment_variance(mean[None], basis.basis.numpy(), electrons_per_unit=gain))[0]
    power = np.square(sample.moments.mean(axis=0))
    power[0] = (mean.mean() if counts.any() else 0.0) ** 2  # of the pixels as they are
    return inline_svg(
        "spectrum",
        "Power of the Zernike moments against their radial order",
        orders=basis.orders.numpy(),
        mean=power,
        variance=sample.moments.var(axis=0),
        noise=noise,
    )
