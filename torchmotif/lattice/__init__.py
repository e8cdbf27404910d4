"""What the columns say once they are known: where motifs sit, displacement, strain, grains and dislocations."""

from torchmotif.lattice.deformation import LatticeStrain
from torchmotif.lattice.dislocations import Dislocations
from torchmotif.lattice.displacement import Displacements
from torchmotif.lattice.field import ColumnField, Profile
from torchmotif.lattice.grains import Grain, Grains
from torchmotif.lattice.sites import Sites, brightness_at, find_sites
from torchmotif.lattice.strain import MeanShells, Strain, mean_shells, shell_strain, split_motif

__all__ = [
    "ColumnField",
    "Dislocations",
    "Displacements",
    "Grain",
    "Grains",
    "LatticeStrain",
    "MeanShells",
    "Profile",
    "Sites",
    "Strain",
    "brightness_at",
    "find_sites",
    "mean_shells",
    "shell_strain",
    "split_motif",
]
