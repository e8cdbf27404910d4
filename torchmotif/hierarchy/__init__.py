"""From labelled columns to the larger and larger motifs that they build."""

from torchmotif.hierarchy.composition import Composition, CompositionLevel, compose
from torchmotif.hierarchy.levels import Level, Occurrences
from torchmotif.hierarchy.motif_hierarchy import MotifHierarchy
from torchmotif.hierarchy.surroundings import Coronas, Inclusions, coronas, inclusions, matrix_labels

__all__ = [
    "Composition",
    "CompositionLevel",
    "Coronas",
    "Inclusions",
    "Level",
    "MotifHierarchy",
    "Occurrences",
    "compose",
    "coronas",
    "inclusions",
    "matrix_labels",
]
