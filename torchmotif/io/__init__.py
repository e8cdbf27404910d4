"""Reading micrographs: what is in a file, and one image of it with its calibration."""

from torchmotif.io._contents import contents
from torchmotif.io._dataset import Dataset, StoredArray
from torchmotif.io._read import chosen, read

__all__ = ["Dataset", "StoredArray", "chosen", "contents", "read"]
