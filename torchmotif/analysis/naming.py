"""What results of one image and of several have in common: names from a formula, and from examples."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from torchmotif.errors import InputError
from torchmotif.names import Names, identify_columns
from torchmotif.names.formula import Composition, Dopants

if TYPE_CHECKING:
    from torchmotif.analysis.result import MotifResult

__all__ = ["Naming"]


class Naming:
    """Gives names to the columns of a result."""

    @abstractmethod
    def _with_names(self, name: "Callable[[MotifResult], Names]") -> Self:
        """The same result, whose images have the names that a function gives each."""

    def identify(
        self,
        composition: str,
        *,
        dopants: Dopants = None,
        gamma: float | None = None,
        columns: list[str] | None = None,
    ) -> Self:
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

        def name(result: "MotifResult") -> Names:
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
            )

        return self._with_names(name)
