"""Pictures: png, jpg, bmp."""

from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.io._dataset import Dataset

__all__ = ["picture"]


def picture(path: Path, **_: Any) -> list[Dataset]:
    """The pixels of a picture; grey ones lose their transparency."""
    import imageio.v3 as iio

    data = np.asarray(iio.imread(path.read_bytes()))
    if data.ndim == 3 and data.shape[-1] == 2:  # grey and alpha
        data = data[..., 0]
    return [Dataset(data, is_rgb=data.ndim == 3 and data.shape[-1] in {3, 4})]
