"""From patches to motifs, without supervision."""

from torchmotif.motifs.classifier import MotifClassifier
from torchmotif.motifs.report import Resolution

__all__ = ["MotifClassifier", "Resolution"]
