"""What the columns say once they are known: where motifs sit, how far sites are occupied, and the strain between neighbours."""

from torchmotif.lattice.occupancy import SiteTable, occupancy_of
from torchmotif.lattice.sites import Sites, find_sites
from torchmotif.lattice.states import States, learn_states
from torchmotif.lattice.strain import MeanShells, Strain, mean_shells, shell_strain, split_motif

__all__ = [
    "MeanShells",
    "SiteTable",
    "Sites",
    "States",
    "Strain",
    "find_sites",
    "learn_states",
    "mean_shells",
    "occupancy_of",
    "shell_strain",
    "split_motif",
]
