"""From patches to motifs, without supervision."""

from torchmotif.motifs._finer import FinerClasses, finer_classes
from torchmotif.motifs._model import Assignment
from torchmotif.motifs.classifier import MotifClassifier
from torchmotif.motifs.detectability import DetectionLimit, Resolution
from torchmotif.motifs.families import Family, find_families

__all__ = [
    "Assignment",
    "DetectionLimit",
    "Family",
    "FinerClasses",
    "MotifClassifier",
    "Resolution",
    "find_families",
    "finer_classes",
]
