"""Large fields and batches: images of any size, any number of them, in tiles, resumable, on any number of workers.

Calls of `torchmotif.analysis` with a store.
"""

from torchmotif.analysis import FieldResult, Tracks, batch, load, summary, track
from torchmotif.analysis.analyze import analyze_into as analyze

__all__ = ["FieldResult", "Tracks", "analyze", "batch", "load", "summary", "track"]
