"""What a result says as tables: its columns, and its sites without one."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from torchmotif.plot.style import AT_RIM

if TYPE_CHECKING:
    import pandas as pd

    from torchmotif.columns import Columns
    from torchmotif.image import Micrograph
    from torchmotif.lattice import Sites, SiteTable
    from torchmotif.motifs import Family
    from torchmotif.names import Names

__all__ = ["Tables"]


class Tables:
    """The part of a result that lists what it holds."""

    image: "Micrograph"
    columns: "Columns"
    labels: np.ndarray
    probabilities: np.ndarray
    angles: np.ndarray | None
    mirrored: np.ndarray | None
    names: "Names | None"

    if TYPE_CHECKING:

        @property
        def families(self) -> "list[Family]": ...

        @property
        def groups(self) -> np.ndarray: ...

        @property
        def n_motifs(self) -> int: ...

        @property
        def sites(self) -> "SiteTable": ...

        @property
        def _sublattices(self) -> "Sites": ...

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each column: where it is, how bright, which motif.

        Returns
        -------
        pandas.DataFrame
            row_px, col_px; row_nm, col_nm where the image is calibrated; intensity, motif, probability; family, the most
            frequent motif that is the column's turned or mirrored (see `families`), -1 without a motif; site, the motif
            on whose sublattice the column sits, -1 between the sites (see `sites`); at_rim, whether it has no motif because too
            little of its patch is there; angle_deg where motifs were sorted up to rotation, and mirrored where up to mirror
            images too; name, name_probability and other_name, the name that competes, where the columns have names.
        """
        import pandas as pd

        family = np.full(self.n_motifs + 1, -1, dtype=np.int64)  # its last is that of label -1
        for one in self.families:
            family[list(one.motifs)] = one.motifs[0]
        table = self._places(self.columns.positions) | {
            "intensity": self.columns.intensities,
            "motif": self.labels,
            "probability": self.probabilities,
            "family": family[self.labels],
            "site": self._sublattices.columns,
            "at_rim": self.groups == AT_RIM,
        }
        if self.angles is not None:
            table["angle_deg"] = np.degrees(self.angles)
        if self.mirrored is not None:
            table["mirrored"] = self.mirrored
        if self.names is not None:
            table["name"], table["name_probability"] = self.names.words, self.names.probabilities
            table["other_name"] = self.names.competing
        return pd.DataFrame(table)

    def _places(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a table that say where something is."""
        table = {"row_px": positions[:, 0], "col_px": positions[:, 1]}
        if self.image.pixel_size_nm is not None:
            row_nm, col_nm = self.image.pixel_size_nm
            table |= {"row_nm": positions[:, 0] * row_nm, "col_nm": positions[:, 1] * col_nm}
        return table

    def empty_sites(self) -> "pd.DataFrame":
        """Sites within the crystal where no column was found, but for those whose intensity is a full one's; see `sites`.

        Returns
        -------
        pandas.DataFrame
            row_px, col_px; row_nm, col_nm where the image is calibrated; site, the motif whose sublattice it is of;
            brightness, the occupancy: 0 of nothing and 1 of a full site; p_empty, the probability that nothing is there; name
            and name_probability where the result was identified. The darkest of the most frequent sublattice come first.
        """
        import pandas as pd

        here = self.sites.without_column
        table = self._places(self.sites.positions[here]) | {
            "site": self.sites.sublattice[here],
            "brightness": self.sites.occupancy[here],
            "p_empty": self.sites.p_empty[here],
        }
        table |= self._named(self.sites.positions[here])
        return pd.DataFrame(table).sort_values(["site", "brightness"], ignore_index=True)

    def _named(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a table that say the names of empty sites."""
        if self.names is None or self.names.atoms is None:
            return {}
        at = self.names.empty_positions
        if not len(at):
            return {"name": np.full(len(places), ""), "name_probability": np.zeros(len(places))}
        away, nearest = cKDTree(at).query(places)
        known = away < 1e-6
        return {
            "name": np.where(known, self.names.empty_words[nearest], ""),
            "name_probability": np.where(known, self.names.empty_probabilities[nearest], 0.0),
        }
