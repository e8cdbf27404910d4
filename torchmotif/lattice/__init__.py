"""What the columns say once they are known: where motifs sit, and the strain between neighbours."""

from torchmotif.lattice.sites import Sites, brightness_at, find_sites
from torchmotif.lattice.strain import MeanShells, Strain, mean_shells, shell_strain, split_motif

__all__ = [
    "MeanShells",
    "Sites",
    "Strain",
    "brightness_at",
    "find_sites",
    "mean_shells",
    "shell_strain",
    "split_motif",
]
