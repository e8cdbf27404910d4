"""From patches to motifs, without supervision."""

from torchmotif.motifs.classifier import MotifClassifier
from torchmotif.motifs.model import Assignment
from torchmotif.motifs.report import Resolution

__all__ = ["Assignment", "MotifClassifier", "Resolution"]
