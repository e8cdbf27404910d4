"""From pixels to motifs, one way for an image, a stack and a field: sources, tiles, batches, stages, and what they leave."""

from torchmotif.analysis.analyze import analyze
from torchmotif.analysis.batches import batch, summary
from torchmotif.analysis.field_result import FieldResult, load
from torchmotif.analysis.result import RECORD, MotifResult
from torchmotif.analysis.tracks import Tracks, track

__all__ = ["RECORD", "FieldResult", "MotifResult", "Tracks", "analyze", "batch", "load", "summary", "track"]
