"""What is known of the dose, and how the result was made."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.noise import suspected_offset

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["dose_statement", "offset_of", "provenance", "python_code"]

# What `analyze` takes where nobody says otherwise; such parameters need not stand in the code.
_USUAL = {"polarity": "auto", "guided": True, "n_max": 10, "random_state": 0}


def dose_statement(result: "Shown") -> list[str]:
    """Sentences about the detected electrons, and where that is known from.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    list of str
    """
    found = result.record.get("found", {})
    gain, doubts = found.get("electrons_per_count"), found.get("dose_doubts")
    if doubts:
        reasons = "; ".join(doubts)
        return [
            f"The number of detected electrons is not known: the noise is not that of counted electrons ({reasons}).",
            "Give it with the image: tm.Micrograph(..., electrons_per_pixel=...).",
        ]
    if not gain:
        return ["The number of detected electrons is not known: the noise of this image does not tell it."]
    pixels = np.asarray(result.image.measured(), np.float64)
    finite = pixels[np.isfinite(pixels)]
    mean = (float(finite.mean()) - min(float(finite.min()), 0.0)) * gain if finite.size else 0.0
    known = result.image.electrons_per_pixel is not None
    # The noise of patches holds what columns of one motif differ by, such as thickness.
    patches = gain == found.get("electrons_per_count_of_patches", gain)
    noise = f"as estimated from the noise of the {'patches, too low where columns of one motif vary' if patches else 'image'}"
    source = "as was given with the image" if known else noise
    said = [
        f"{_rounded(mean)} detected electrons per pixel on average, {source} (one count is {gain:.3g} electrons)."
    ]
    offset = offset_of(result)
    if offset is not None:
        left = _rounded(mean * (1 - offset) ** 2)
        doubt = f"The darkest pixels have {offset:.0%} of the mean, which looks like the detector's offset; then the dose is not known"
        remedy = "Subtract the offset to have it right: tm.analyze(scan.replace(scan.data - offset)). Motifs do not change much by it."
        return [
            f"{doubt}: {said[0].removesuffix('.')} if all were electrons, {left} if the darkest pixels have none.",
            remedy,
        ]
    if result.image.pixel_size_nm is not None:
        area = float(np.prod(result.image.pixel_size_nm))
        said.append(f"That is {_rounded(mean / area / 100)} per square ångström.")
    size = result.templates.shape[-1]
    said.append(f"A patch of {size} × {size} pixels holds {_rounded(mean * size**2)} electrons.")
    if not known:
        said.append(
            "The estimate stands and falls with raw counts: images that were filtered, resampled or turned to "
            "8 bits have lost their dose."
        )
    return said


def offset_of(result: "Shown") -> float | None:
    """Share of the mean that the darkest pixels have, where the dose is estimated and that looks like an offset."""
    dark_field = result.record.get("found", {}).get("polarity", "bright") != "dark"
    known = result.image.electrons_per_pixel is not None
    return suspected_offset(result.image.measured()) if dark_field and not known else None


def provenance(result: "Shown") -> dict[str, Any]:
    """Tables and code from which the result can be made again.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    dict
        `warnings`, `notes`, `code`, and `tables`, each with a title and rows of (name, value).
    """
    record = result.record
    tables = [
        ("Parameters", {key: _said(value) for key, value in record.get("parameters", {}).items()}),
        ("Found", _known({k: v for k, v in record.get("found", {}).items() if not isinstance(v, list)})),
        ("Input", _known(record.get("input", {}))),
        ("Metadata of the image", _known(result.image.metadata)),
        (
            "Versions",
            record.get("versions", {}) | {key: record[key] for key in ("platform",) if key in record},
        ),
        ("Seconds", record.get("timings_s", {})),
    ]
    return {
        "created": str(record.get("created") or "").replace("T", " ").replace("+00:00", " UTC"),
        "command": " ".join(str(word) for word in record.get("command", [])),
        "notes": record.get("notes", []),
        "warnings": [*record.get("warnings", []), *(result.names.warnings if result.names else [])],
        "code": python_code(result),
        "tables": [(title, list(rows.items())) for title, rows in tables if rows],
    }


def python_code(result: "Shown") -> str:
    """Python that makes the same result again.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    str
    """
    record, metadata = result.record, result.image.metadata
    source = record.get("input", {}).get("python")
    lines = ["import torchmotif as tm", ""]
    if source:
        lines = ["import torch", "", *lines, *str(source).splitlines()]
    elif metadata.get("path"):
        chosen = {key: metadata[key] for key in ("frame", "dataset") if metadata.get(key) is not None}
        lines.append(f"scan = tm.read({_call(metadata['path'], **chosen)})")
        if metadata.get("pixel_size_given_nm"):
            lines.append(f"scan = tm.Micrograph(scan.data, pixel_size={metadata['pixel_size_given_nm']!r})")
    else:
        lines.append("scan = ...  # the image: an array, or a tm.Micrograph with its pixel size")
    parameters = {
        key: value
        for key, value in record.get("parameters", {}).items()
        if value is not None and value != _USUAL.get(key)
    }
    arguments = "".join(f", {key}={value!r}" for key, value in parameters.items())
    lines.append(f"result = tm.analyze(scan{arguments})")
    named = dict(record.get("named_by", {}))
    if "examples" in named:
        lines.append(f"result = result.like({named['examples']!r})")
    elif named:
        lines.append(f"result = result.identify({_call(named.pop('composition'), **named)})")
    return "\n".join(lines)


def _rounded(value: float) -> str:
    """Three digits, and no power of ten up to millions."""
    return f"{float(f'{value:.3g}'):,.10g}"


def _call(first: Any, **keywords: Any) -> str:
    return ", ".join([repr(first), *(f"{key}={value!r}" for key, value in keywords.items())])


def _known(values: Mapping[str, Any]) -> dict[str, str]:
    return {key: _said(value) for key, value in values.items() if value is not None}


def _said(value: Any) -> str:
    """A value in a line: numbers short, long texts cut."""
    if value is None:
        return "by default"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 300 else text[:297] + "..."
