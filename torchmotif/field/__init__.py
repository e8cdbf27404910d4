"""Large fields and batches: images of any size, any number of them, in tiles, resumable, on any number of workers."""

from torchmotif.field.analyze import analyze
from torchmotif.field.result import FieldResult, load

__all__ = ["FieldResult", "analyze", "load"]
