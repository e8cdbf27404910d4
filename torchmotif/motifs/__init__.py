"""From patches to motifs, without supervision."""

from torchmotif.motifs._finer import FinerClasses, finer_classes
from torchmotif.motifs._model import Assignment
from torchmotif.motifs.classifier import MotifClassifier
from torchmotif.motifs.detectability import DetectionLimit, Resolution

__all__ = [
    "Assignment",
    "DetectionLimit",
    "FinerClasses",
    "MotifClassifier",
    "Resolution",
    "finer_classes",
]
