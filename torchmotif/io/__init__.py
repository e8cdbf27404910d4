"""Reading micrographs: what is in a file, and one image of it with its calibration."""

from torchmotif.io._contents import contents, reading
from torchmotif.io._dataset import Dataset, StoredArray
from torchmotif.io._read import chosen, frames_of, read

__all__ = ["Dataset", "StoredArray", "chosen", "contents", "frames_of", "read", "reading"]
