"""Pixels on their way to the page: made finite, smaller, grey, and a picture."""

import base64
import io

import numpy as np

from torchmotif.image import Micrograph

__all__ = ["finite", "grey", "picture", "shrunk"]

_LOSSLESS = 1_500_000  # bytes; larger pictures are stored as JPEG


def finite(image: Micrograph) -> np.ndarray:
    """The pixels as float32, the mean of the others in place of those that are not finite."""
    pixels = image.measured().astype(np.float32)
    known = np.isfinite(pixels)
    return pixels if known.all() else np.where(known, pixels, pixels[known].mean() if known.any() else 0)


def shrunk(image: np.ndarray, factor: int) -> np.ndarray:
    """Means over blocks of factor x factor pixels; what is left over at the right and the bottom is cut off."""
    pixels = np.asarray(image, np.float32)
    if factor == 1:
        return pixels
    height, width = (side // factor for side in pixels.shape)
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.asarray(blocks.mean(axis=(1, 3)))


def grey(image: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Values from black to white in a byte, by default all but the outermost 0.2 %."""
    finite = image[np.isfinite(image)]
    if limits is None:
        limits = tuple(np.percentile(finite, (0.2, 99.8)).tolist()) if finite.size else (0.0, 1.0)
    low, high = limits
    scaled = (np.nan_to_num(image, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-30)
    return np.asarray(255 * scaled.clip(0, 1) + 0.5).astype(np.uint8)


def picture(pixels: np.ndarray) -> str:
    """A picture of bytes as a data URI: PNG, or JPEG where that is much smaller."""
    data, kind = _encoded(pixels, "png"), "png"
    if len(data) > _LOSSLESS:
        data, kind = _encoded(pixels, "jpeg", quality=90), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _encoded(pixels: np.ndarray, kind: str, **options: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
