"""From pixels to motifs, one way for an image, a stack and a field: sources, tiles, batches, stages, and what they leave."""

from torchmotif.analysis.analyze import analyze
from torchmotif.analysis.result import RECORD, MotifResult

__all__ = ["RECORD", "MotifResult", "analyze"]
