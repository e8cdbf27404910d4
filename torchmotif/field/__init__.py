"""Large fields and batches: images of any size, any number of them, in tiles, resumable, on any number of workers."""

from torchmotif.field.analyze import analyze
from torchmotif.field.batch import batch, summary
from torchmotif.field.result import FieldResult, load
from torchmotif.field.track import Tracks, track

__all__ = ["FieldResult", "Tracks", "analyze", "batch", "load", "summary", "track"]
