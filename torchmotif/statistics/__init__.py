"""What counts of assemblies mean: null models, energies of attachment, Ising couplings."""

from torchmotif.statistics.attachment import AssemblyStatistics, assembly_statistics, growth_graph
from torchmotif.statistics.ising import IsingFit, fit_ising, sample_ising
from torchmotif.statistics.null_models import Null, null_labels, shuffled_expectation

__all__ = [
    "AssemblyStatistics",
    "IsingFit",
    "Null",
    "assembly_statistics",
    "fit_ising",
    "growth_graph",
    "null_labels",
    "sample_ising",
    "shuffled_expectation",
]
