"""What the report is given of a result; it knows nothing else of where that comes from."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from torchmotif.columns import Columns
from torchmotif.image import Micrograph
from torchmotif.lattice import Displacements, Grains, LatticeStrain, Layers, SiteTable
from torchmotif.motifs import Family
from torchmotif.names import Names
from torchmotif.plane_graph import PlaneGraph

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Shown"]


class Shown(Protocol):
    """The result of one image, such as `torchmotif.MotifResult`, which says what its attributes are."""

    @property
    def image(self) -> Micrograph: ...  # noqa: D102
    @property
    def columns(self) -> Columns: ...  # noqa: D102
    @property
    def labels(self) -> np.ndarray: ...  # noqa: D102
    @property
    def probabilities(self) -> np.ndarray: ...  # noqa: D102
    @property
    def templates(self) -> np.ndarray: ...  # noqa: D102
    @property
    def record(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def moments(self) -> np.ndarray: ...  # noqa: D102
    @property
    def graph(self) -> PlaneGraph: ...  # noqa: D102
    @property
    def whole(self) -> np.ndarray: ...  # noqa: D102
    @property
    def groups(self) -> np.ndarray: ...  # noqa: D102
    @property
    def counts(self) -> np.ndarray: ...  # noqa: D102
    @property
    def n_motifs(self) -> int: ...  # noqa: D102
    @property
    def names(self) -> Names | None: ...  # noqa: D102
    @property
    def motif_names(self) -> list[str | None] | None: ...  # noqa: D102
    @property
    def looks(self) -> dict[str, int] | None: ...  # noqa: D102
    @property
    def sites(self) -> SiteTable: ...  # noqa: D102
    @property
    def families(self) -> list[Family]: ...  # noqa: D102
    def empty_sites(self) -> "pd.DataFrame": ...  # noqa: D102
    @property
    def grains(self) -> Grains: ...  # noqa: D102
    @property
    def layers_if_any(self) -> Layers | None: ...  # noqa: D102
    def strain(self) -> LatticeStrain: ...  # noqa: D102
    def displacements(self) -> Displacements: ...  # noqa: D102
    def polarisation(self) -> Displacements: ...  # noqa: D102
