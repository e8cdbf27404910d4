"""From patches to motifs, without supervision."""

from torchmotif.motifs.classifier import MotifClassifier
from torchmotif.motifs.limit import DetectionLimit
from torchmotif.motifs.model import Assignment
from torchmotif.motifs.report import Resolution

__all__ = ["Assignment", "DetectionLimit", "MotifClassifier", "Resolution"]
