"""Large fields and batches: images of any size, any number of them, in tiles, resumable, on any number of workers.

Calls of `torchmotif.analysis` with a store.
"""

from torchmotif.analysis.analyze import analyze_into as analyze
from torchmotif.analysis.batches import batch, summary
from torchmotif.analysis.field_result import FieldResult, load
from torchmotif.analysis.tracks import Tracks, track

__all__ = ["FieldResult", "Tracks", "analyze", "batch", "load", "summary", "track"]
