"""What the columns say once they are known: where motifs sit, occupancy, displacement, strain, grains and dislocations."""

from torchmotif.lattice.deformation import LatticeStrain
from torchmotif.lattice.dislocations import Dislocations
from torchmotif.lattice.displacement import Displacements
from torchmotif.lattice.field import ColumnField, Profile
from torchmotif.lattice.grains import Grain, Grains
from torchmotif.lattice.layers import Layers
from torchmotif.lattice.occupancy import SiteTable, occupancy_of
from torchmotif.lattice.sites import Sites, find_sites
from torchmotif.lattice.states import States, learn_states
from torchmotif.lattice.strain import MeanShells, Strain, mean_shells, shell_strain, split_motif

__all__ = [
    "ColumnField",
    "Dislocations",
    "Displacements",
    "Grain",
    "Grains",
    "LatticeStrain",
    "Layers",
    "MeanShells",
    "Profile",
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
