"""What results of one image and of several have in common: names from a formula, and from examples."""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from torchmotif.errors import InputError
from torchmotif.names import Examples, Names, identify_columns
from torchmotif.names.examples import Features, Pointed, example_rows, learn_examples, pointed_at
from torchmotif.names.formula import Composition, Dopants
from torchmotif.names.like import name_like, without_scatter

if TYPE_CHECKING:
    from torchmotif.analysis.result import MotifResult

__all__ = ["Naming"]

Result = TypeVar("Result", bound="Naming")  # beartype knows Self in classes that it decorates only


class Naming:
    """Gives names to the columns of a result."""

    @abstractmethod
    def _with_names(self: Result, name: "Callable[[int, MotifResult], Names]") -> Result:
        """The same result, whose images have the names that a function gives each of their numbers and results."""

    @abstractmethod
    def _image_result(self, image: str | None) -> "tuple[int, MotifResult]":
        """Number and result of the image of a name or number, the first for None; an InputError says that there is none."""

    def identify(  # noqa: PYI019
        self: Result,
        composition: str,
        *,
        dopants: Dopants = None,
        gamma: float | None = None,
        columns: list[str] | None = None,
    ) -> Result:
        """The same result, whose columns have names by what the specimen is made of.

        Sublattices are matched to columns of atoms by their intensities, which go with Z^gamma in annular dark field images;
        then each column to the host, a vacancy ("V_S", "V_S2"), an antisite ("Mo_S2"), a dopant ("W_Mo") or an adatom ("Mo+S")
        on its site, and to an interstitial ("S_i") between them, by its intensity and its error.

        Parameters
        ----------
        composition : str
            Chemical formula such as "MoS2", "SrTiO3" or "W0.3Mo0.7S2".
        dopants : sequence of str, or mapping of str to str, optional
            Foreign elements that may be there. A metal may take the place of any metal, a non-metal of any non-metal; a
            mapping says of which element: ``{"W": "Mo"}``.
        gamma : float, optional
            Exponent of Z, from 1 to 2; by default it is fitted between 1.3 and 2.
        columns : list of str, optional
            The columns along the beam where they are known, such as ``["Sr", "TiO", "O"]``; by default those of one element,
            and of a heavier one with O, N, F or another light one.

        Returns
        -------
        MotifResult or FieldResult
            With `names`; of several images, one to which the formula does not fit has none, and a warning says so.

        Raises
        ------
        InputError
            If the formula is none, or the image is a bright field one.
        CompositionError
            If the formula does not fit the image.

        Examples
        --------
        >>> import torchmotif as tm
        >>> scan = tm.datasets.mose2((256, 256)).draw()
        >>> result = tm.analyze(scan, progress=False).identify("MoSe2")
        >>> sorted(result.names.counts)[:3]
        ['Mo', 'Se2', 'V_Se']
        """
        Composition.parse(composition, dopants)  # before any image is read

        def name(_: int, result: "MotifResult") -> Names:
            if result.record.get("found", {}).get("polarity") == "dark":
                raise InputError(
                    "composition: columns of a bright field image do not go with Z^gamma; give examples with like()"
                )
            return identify_columns(
                result.image.measured(),
                result.columns,
                result.sites,
                composition,
                dopants=dopants,
                gamma=gamma,
                stacks=columns,
                pixel_size_nm=result.image.pixel_size_nm,
            )

        return self._with_names(name)

    def like(self: Result, examples: Any) -> Result:  # noqa: PYI019
        """The same result, whose columns have names by a few examples of each kind.

        Kinds are Gaussians in the space of Zernike moments and intensity, in all orientations that the crystal has; what they
        start from are the examples, and what they are is learnt from all columns. Columns that are like none have no name.

        Parameters
        ----------
        examples : mapping of str to sequence of (row, col), path, or Examples
            Places in pixels, three to five of each kind: ``{"V_S": [(120.5, 88.0), ...], "S2": [...]}``; a CSV file with columns
            name, row_px, col_px, and image where there are several; or what `examples` learnt of another result. Of several
            images, places without an image are in the first.

        Returns
        -------
        MotifResult or FieldResult
            With `names`.

        Raises
        ------
        InputError
            If no column is where an example is said to be, or it has no whole patch; a file's line is named.

        Examples
        --------
        >>> import torchmotif as tm
        >>> specimen = tm.datasets.mose2((256, 256))
        >>> result = tm.analyze(specimen.draw(), progress=False)
        >>> inner = (abs(specimen.truth.positions - 128) < 90).all(1).numpy()
        >>> places = {
        ...     kind: specimen.truth.positions[inner & (specimen.truth.kinds == kind)][:4] for kind in ("Mo", "Se2", "V_Se")
        ... }
        >>> sorted(result.like(places).names.counts)
        ['Mo', 'Se2', 'V_Se']
        """
        if isinstance(examples, Examples):
            known = examples

            def like_others(_: int, result: "MotifResult") -> Names:
                return _like(result, known, np.full(len(result.columns), -1))

            return self._with_names(like_others)
        pointed = self._pointed(examples)

        def name(number: int, result: "MotifResult") -> Names:
            # As they are in their own image, and as others are to know them elsewhere.
            known = Examples.joined([one.own if n == number else one.learnt for n, one in pointed.items()])
            own = np.full(len(result.columns), -1)
            if number in pointed:
                here = pointed[number]
                own[here.rows] = [known.kinds.index(here.own.kinds[k]) for k in here.own.kind]
            return _like(result, known, own)

        return self._with_names(name)

    def examples(self, places: Any) -> Examples:
        """What is learnt of a few examples of each kind, to be looked for in other results with `like`.

        Of each kind that is the mean of all columns of this result that are like its examples, not of these alone.

        Parameters
        ----------
        places : mapping of str to sequence of (row, col), or path
            As `like`.

        Returns
        -------
        Examples of `torchmotif.names`

        Raises
        ------
        InputError
            As `like`.
        """
        return Examples.joined([one.learnt for one in self._pointed(places).values()])

    def _pointed(self, places: Any) -> "dict[int, _Pointed]":
        """The examples of each image that has any, by its number."""
        return {
            n: _Pointed(self._image_result(str(n))[1], here) for n, here in self._by_image(places).items()
        }

    def _by_image(self, places: Any) -> dict[int, list[Pointed]]:
        """Places by the number of their image."""
        found: dict[int, list[Pointed]] = {}
        numbers: dict[str | None, int] = {}
        for one in pointed_at(places):
            if one.image not in numbers:
                try:
                    numbers[one.image] = self._image_result(one.image)[0]
                except InputError as error:
                    raise InputError(f"{one.where}: {error}") from error
            found.setdefault(numbers[one.image], []).append(one)
        return found


class _Pointed:
    """The examples of one image."""

    def __init__(self, result: "MotifResult", places: list[Pointed]) -> None:
        rows = example_rows(places, result.columns, result.whole)
        self._features, self._labels = _features(result), result.labels
        self._positions = np.asarray(result.columns.positions)
        self._image = places[0].image
        self.rows = np.unique(rows)
        self.own = learn_examples(self._features, places, rows)

    @cached_property
    def learnt(self) -> Examples:
        """As other images are to know them."""
        own = np.full(len(self._labels), -1)
        own[self.rows] = self.own.kind
        where = "" if self._image is None else f" of image {self._image}"
        return without_scatter(self._features, self._positions, self._labels, self.own, own, where=where)


def _like(result: "MotifResult", known: Examples, own: NDArray[np.int64]) -> Names:
    return name_like(_features(result), np.asarray(result.columns.positions), result.labels, known, own)


def _features(result: "MotifResult") -> Features:
    size = result.templates.shape[-1] * float(result.record.get("found", {}).get("zoom", 1.0))
    nm = result.image.pixel_size_nm
    side = size if nm is None else size * (nm[0] * nm[1]) ** 0.5
    return Features.of(result.moments, result.columns.intensities, side)
