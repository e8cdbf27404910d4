"""The self-check of a result: what of it cannot be right, each with a remedy. Cheap, and always on."""

import math
from collections.abc import Callable

import numpy as np

from torchmotif.analysis.gaps import share_of_gaps
from torchmotif.analysis.looked import Looked
from torchmotif.analysis.plan import Image
from torchmotif.analysis.uneven import doubts_of_uneven
from torchmotif.columns._mean_cell import nearest_sites

__all__ = ["findings", "odd_distance"]

_FEW, _FEWER = 30, 12  # columns, below which no share is judged; and where hardly any may be supported
# The spacing over the distances of nearest columns, all but the outermost tenth at either end.
_NEAREST = (0.85, 1.25)
_OTHER = 1.3  # times the spacing that was given, or less: the square root of 2 between a lattice and its centred one is beyond
# Of the columns that no neighbours support, and the interquartile range over median of their nearest distances. Colloids, which have
# no lattice, keep distances to 0.12 to 0.16; speckle has 0.18 to 0.31. Of the pentagonal oxide 0.15 to 0.5 have no support, of speckle, colloids and single
# atoms under the probe 0.86 to 1.
_WITHOUT_LATTICE, _UNEVEN = 0.7, 0.17
# Standard deviations of the intensity: of fifteen colloids nine have 14 to 37 in the lowest tenth and a recall of 0.81 to 0.95, six have
# 4 to 8 and 0.21 to 0.74.
_STANDS_OUT = 10.0
_GAPS = 0.2  # of the places that the lattice implies, that hold no column
_MISFIT = 4.0  # median of the squared residual under columns over its expected variance
# Of what repeats in the image, left over by its columns. Simulated specimens of thirteen kinds at relative doses 10 to 0.05 have up to 0.005, real
# images up to 0.05, whose columns are no Gaussians; twisted bilayers, of which half of the columns are found, 0.06 to 0.8.
_UNEXPLAINED = 0.06
# Of the columns, where they have no lattice: colloids of which 0.95 and 0.93 are found have 0.03 and 0.054, of which 0.89 and 0.90 are,
# 0.054 and more.
_MISSED = 0.05
# Of the columns, and interquartile range over median of their nearest distances: twisted bilayers have 0.09 to 0.49 and 0.16 to 0.36, other simulated
# crystals up to 0.24 and 0.05 (the oxide 0 and 0.37), thirteen real images up to 0.23 and 0.11.
_OVERLAPPING, _AT_ALL_DISTANCES = 0.08, 0.15
# Of the image, far from all columns though as bright: of three grains at 1/100 of the dose, nearly all found, 0 to 0.09, at 1/200 and 1/250 0.15 to 0.93.
_AS_BRIGHT = 0.15
_EMPTY = 0.75  # of the image without columns, or unmeasured
_A_CRYSTAL = 0.9  # of the columns, supported by their neighbours
_NO_MOTIF = 0.5  # of the columns with a whole patch
# Between projected atomic columns that a microscope resolves there are 0.0405 nm (GaN along [212], Morishita et al., 2018) to some nm (guests of a
# framework). Nothing but a sentence depends on it: it tells pm that were given as nm from a true size, whatever the magnification.
_CLOSEST_NM, _FARTHEST_NM = 0.03, 5.0
_MEANT = {"angstrom": 0.1, "pm": 1e-3}  # nm, units that are most often left out


def findings(looked: Looked) -> list[str]:
    """What of a result is doubtful, in sentences that say what to do; none where nothing is."""
    checks: tuple[Callable[[Looked], str | None], ...] = (
        _stated_pixel,
        _polarity,
        _spacing,
        _given_spacing,
        _lattice,
        _faint,
        _gaps,
        _residual,
        _left_over,
        _missed,
        _not_searched,
        _doubtful,
        _hidden,
        _close,
    )
    uneven = doubts_of_uneven(looked.rest, guided=bool(looked.image.survey.model.cells))
    every = [*(check(looked) for check in checks), *uneven, _extent(looked), _motifs(looked)]
    return [said for said in every if said]


def odd_distance(image: Image) -> str | None:
    """Whether columns are farther apart, or closer, than those of atoms are; so are particles, superlattices and moire patterns.

    Whoever has measured the pixel size knows: of what a file says this is a note, of what was given beside the image a doubt.
    """
    apart = image.spacing_nm
    if apart is None or _CLOSEST_NM < apart < _FARTHEST_NM:
        return None
    right = {unit: apart * nm for unit, nm in _MEANT.items() if _CLOSEST_NM < apart * nm < _FARTHEST_NM}
    meant = "".join(f"; were it in {unit}, {nm:.3g} nm" for unit, nm in right.items())
    return (
        f"by the pixel size the columns are {apart:.3g} nm apart{meant}; those of atoms are 0.1 to 1 nm apart: see whether its unit is "
        "right (15 pm are 0.015 nm)"
    )


def _stated_pixel(looked: Looked) -> str | None:
    return odd_distance(looked.image) if looked.image.source.is_stated else None


def _polarity(looked: Looked) -> str | None:
    survey = looked.image.survey
    if survey.polarity_unknown:
        return (
            "nothing tells whether the columns are bright or dark, and they were taken to be bright: look at the map, and give polarity='bright' or "
            "polarity='dark'"
        )
    if survey.skewness is None:
        return None
    taken, other = ("dark", "bright") if survey.model.dark else ("bright", "dark")
    return f"columns were taken to be {taken}, and the image looks as if they were {other}: try polarity='{other}'"


def _spacing(looked: Looked) -> str | None:
    nearest = looked.nearest()
    if len(nearest) < _FEW or looked.thinned:
        return None
    model = looked.image.survey.model
    spacing = model.spacing
    # Columns of two layers are at all distances from each other: the spacing is that within a layer. That of a superlattice is between the sites of its cell.
    layered, axes = looked.layered, model.axes
    within = [nearest_sites(cell, axes) for cell in model.cells if layered or cell.antiphase is not None]
    if any(_NEAREST[0] * one <= spacing <= _NEAREST[1] * one for one in within):
        return None
    least, most = np.quantile(nearest, (0.1, 0.9))
    if _NEAREST[0] * least <= spacing <= _NEAREST[1] * most:
        return None
    return (
        f"the spacing of {spacing:.1f} px is not the distance of nearest columns, "
        f"{np.median(nearest):.1f} px: look at the map, and set spacing={np.median(nearest):.1f} if these are right"
    )


def _given_spacing(looked: Looked) -> str | None:
    survey = looked.image.survey
    shown, given = survey.shown, survey.model.spacing
    if shown is None or 1 / _OTHER < shown / given < _OTHER:
        return None
    return (
        f"the image looks as if its columns were {shown:.1f} px apart, not the {given:.1f} px that were given: leave spacing= "
        "out, or look at the map"
    )


def _lattice(looked: Looked) -> str | None:
    if looked.inner.sum() < _FEWER:
        return None
    share = 1.0 - float(looked.supported[looked.inner].mean())
    if share <= _WITHOUT_LATTICE:
        return None
    lower, middle, upper = np.quantile(looked.nearest(), (0.25, 0.5, 0.75))
    if upper - lower <= _UNEVEN * middle:
        return None
    return (
        f"{share:.0%} of the columns have no regular neighbours: they may be noise, or an amorphous support; "
        "look at the map, set spacing= or threshold=, or leave the region out with mask="
    )


def _faint(looked: Looked) -> str | None:
    """Where no lattice tells of columns that are missing, the faintest of those found do."""
    if len(looked.significance) < _FEW or not looked.inner.any():
        return None
    least = float(np.quantile(looked.significance, 0.1))
    if looked.supported[looked.inner].mean() >= 1 - _WITHOUT_LATTICE or least >= _STANDS_OUT:
        return None
    return (
        f"the columns have no lattice, and a tenth of them stand out of the noise by less than {least:.0f} standard deviations: "
        "fainter ones are missing; take an image of a higher dose, or set threshold= to keep the clear ones alone"
    )


def _gaps(looked: Looked) -> str | None:
    if looked.supported.sum() < _FEW:
        return None
    share = share_of_gaps(looked)
    if share <= _GAPS:
        return None
    return (
        f"the lattice has {share:.0%} more places than columns were found: columns may be missing; look at the map, "
        "set spacing= to the distance of the nearest, or a lower threshold="
    )


def _residual(looked: Looked) -> str | None:
    quality = looked.quality[np.isfinite(looked.quality)]
    if len(quality) < _FEW or np.median(quality) <= _MISFIT:
        return None
    return (
        f"the image differs from its columns by {np.sqrt(np.median(quality)):.1f} times its noise: columns may be missing or "
        "taken for one; look at the map, and set spacing= to the distance of the nearest"
    )


def _left_over(looked: Looked) -> str | None:
    if looked.rest.unexplained <= _UNEXPLAINED:
        return None
    return (
        f"the columns leave {min(looked.rest.unexplained, 1.0):.0%} of what repeats in the image: some are missing, or lie so close together that several "
        "were taken for one; look at the map, set spacing= to the distance of the nearest, or take an image of higher resolution"
    )


def _missed(looked: Looked) -> str | None:
    """Where no lattice tells of columns that are missing, what is left over does."""
    if not looked.inner.any() or looked.supported[looked.inner].mean() >= 1 - _WITHOUT_LATTICE:
        return None
    if looked.rest.missed <= _MISSED:
        return None
    return (
        f"beside the columns as much is left over as a column has, in places of {looked.rest.missed:.0%} of their number: some were not found; look at "
        "the map, and set spacing= to the distance of the nearest"
    )


def _not_searched(looked: Looked) -> str | None:
    if looked.rest.as_bright <= _AS_BRIGHT:
        return None
    return (
        f"{looked.rest.as_bright:.0%} of the image has no columns though it is as bright as where they are: another grain, whose columns do not stand out, "
        "may be missing; take an image of a higher dose, or more of that grain"
    )


def _doubtful(looked: Looked) -> str | None:
    if not looked.rest.doubtful:
        return None
    return (
        f"at this dose columns of less than about {looked.rest.doubtful:.0%} of the intensity of the brightest are not found, and the mean cell has a trace of "
        "such: light columns may be missing; take an image of a higher dose, or more of the crystal"
    )


def _hidden(looked: Looked) -> str | None:
    hidden = looked.rest.hidden
    if not hidden.places:
        return None
    where = "where the background is dark"
    if hidden.part is not None:
        top, left, bottom, right = hidden.part
        where = f"in rows {top} to {bottom}, columns of pixels {left} to {right},"
    return (
        f"{where} the mean cell shows columns of {hidden.share:.0%} of the intensity of the brightest, of which {hidden.places} were not found: light columns are missing, there at "
        "least; crop the image to that part, or to one domain, and analyse it by itself"
    )


def _close(looked: Looked) -> str | None:
    """Where layers lie on each other, columns of one are found at all distances from those of the other, down to the least that is told apart."""
    if looked.inner.sum() < _FEW or looked.supported[looked.inner].mean() < 1 - _WITHOUT_LATTICE:
        return None
    share = float(looked.overlapping[looked.inner].mean())
    lower, middle, upper = np.quantile(looked.nearest(), (0.25, 0.5, 0.75))
    if share <= _OVERLAPPING or upper - lower <= _AT_ALL_DISTANCES * middle:
        return None
    return (
        f"{share:.0%} of the columns overlap with a neighbour, at uneven distances, as where layers lie on each other: others so close to a column may be "
        "taken for one with it; take an image of higher resolution, and do not rely on what is rare"
    )


def _extent(looked: Looked) -> str | None:
    survey = looked.image.survey
    hidden = 0.0 if survey.unmeasured is None else survey.unmeasured.count / math.prod(survey.shape)
    side = 2 * survey.model.spacing
    occupied = float(len(np.unique(np.floor(looked.positions / side), axis=0)))
    if len(looked.positions) < _FEWER:  # each would take up much more than its own
        occupied = len(looked.positions) / 4
    share = 1.0 - min(occupied * side**2 * math.prod(survey.model.axes) / max(looked.area, 1.0), 1.0)
    crystal = (
        looked.inner.any() and looked.supported[looked.inner].mean() > _A_CRYSTAL
    )  # a particle by itself
    share = 0.0 if crystal else share
    if max(share, hidden) <= _EMPTY:
        return None
    return (
        f"{max(share, hidden):.0%} of the image has no columns or was not measured: crop it to what is of interest, or set "
        "threshold= if columns are missing"
    )


def _motifs(looked: Looked) -> str | None:
    whole = looked.whole
    if whole.sum() < _FEW or (looked.labels[whole] < 0).mean() <= _NO_MOTIF:
        return None
    return f"{(looked.labels[whole] < 0).mean():.0%} of the columns fit no motif: look at the map, and set spacing= or patch_size="
