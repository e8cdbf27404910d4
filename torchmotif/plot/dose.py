"""How well each motif is still found at lower doses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from torchmotif.plot.figure import axes_or_new, side_legend
from torchmotif.plot.style import motif_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["dose_curves"]


def dose_curves(
    doses: Sequence[float],
    scores: np.ndarray,
    counts: Sequence[int],
    *,
    survives: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """F1 of every motif against relative dose.

    Parameters
    ----------
    doses : sequence of d float
        Relative to the image's own.
    scores : array of shape (d, n_motifs)
        F1 of every motif at every dose.
    counts : sequence of n_motifs int
        Columns in every motif.
    survives : float, optional
        F1 at which a line is drawn.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    axes = axes_or_new(ax, 7.2, 4.2)
    for motif, count in enumerate(counts):
        style = motif_style(motif)
        axes.plot(
            doses,
            np.asarray(scores)[:, motif],
            marker=style.marker,
            color=style.colour,
            mec="black",
            mew=0.3,
            label=f"motif {motif} ({count:,})",
        )
    if survives is not None:
        axes.axhline(survives, color="grey", lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlim(max(doses) * 1.3, min(doses) / 1.3)
    axes.set_xticks(doses, [f"1/{1 / dose:.0f}" for dose in doses], minor=False)
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("dose relative to this image")
    axes.set_ylabel("F1 of the motif")
    side_legend(axes)
    return axes
