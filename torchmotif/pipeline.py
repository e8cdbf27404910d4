"""analyze(): the whole way from an image to its motifs."""

import hashlib
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import torch

from torchmotif._arrays import DeviceLike, as_tensor
from torchmotif._files import plain
from torchmotif.columns import Columns, fill_invalid, find_columns
from torchmotif.errors import InputError, TorchMotifWarning
from torchmotif.image import Micrograph, as_micrograph
from torchmotif.motifs import MotifClassifier
from torchmotif.noise import suspected_offset
from torchmotif.patches import extract_patches, first_shell, inside, offsets
from torchmotif.result import MotifResult

__all__ = ["analyze"]

_VERSIONS = (
    "torchmotif",
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "tifffile",
    "pandas",
    "matplotlib",
)


def analyze(
    image: Any,
    *,
    spacing: float | None = None,
    threshold: float | None = None,
    polarity: Literal["bright", "dark"] = "bright",
    patch_size: int | None = None,
    n_max: int = 10,
    n_motifs: int | None = None,
    equivalence: Literal["rotation", "euclidean"] | None = None,
    random_state: int = 0,
    device: DeviceLike = None,
    progress: bool = True,
) -> MotifResult:
    """Find the columns of an image and sort them into motifs.

    Parameters
    ----------
    image : Micrograph, HyperSpy signal, or array of shape (h, w)
        Pixels that are not finite are taken as the mean of the finite ones, and a warning says so.
    spacing, threshold, polarity
        Of the columns, see `find_columns`.
    patch_size : int, optional
        Side of the patch around each column in pixels; by default it holds the first shell of neighbours.
    n_max : int
        Highest radial order of the Zernike moments; at most half the patches' side is used, and then the record says so.
    n_motifs : int, optional
        Number of motifs; by default it is found.
    equivalence : {"rotation", "euclidean"}, optional
        Whether a motif turned, or turned and mirrored, is the same motif, as in the grains of a polycrystal.
    random_state : int
        Same seed, same machine: same result.
    device : str or torch.device, optional
        Where to compute, for example "cuda"; by default where the image is.
    progress : bool
        Show a bar on a terminal or in a notebook.

    Returns
    -------
    MotifResult

    Raises
    ------
    InputError
        If the image has no columns, or none of them has a whole patch in it.

    Examples
    --------
    >>> import torchmotif as tm
    >>> specimen = tm.datasets.mose2((256, 256), vacancy_rate=0.0)
    >>> tm.analyze(specimen.draw(), progress=False).n_motifs
    2
    """
    parameters = {
        "spacing": spacing,
        "threshold": threshold,
        "polarity": polarity,
        "patch_size": patch_size,
        "n_max": n_max,
        "n_motifs": n_motifs,
        "equivalence": equivalence,
        "random_state": random_state,
        "device": None if device is None else str(device),
    }
    micrograph = as_micrograph(image)
    stages = _Stages(progress)
    with stages("columns"):
        scan = micrograph.replace(as_tensor(micrograph.data, device=device).detach())
        data, notes = _filled(scan.data)
        columns = find_columns(scan, spacing=spacing, threshold=threshold, polarity=polarity)
        if len(columns) == 0:
            raise InputError(
                "image: no atomic columns stand out of its noise; set spacing, or polarity='dark' for a "
                "bright-field image"
            )
    with stages("patches"):
        size = patch_size if patch_size is not None else first_shell(columns.spacing)
        patches, shifts, whole = _patches(data, columns.positions, size)
    with stages("motifs"):
        gain, dark = None, None
        if micrograph.electrons_per_pixel is not None:
            dark = min(float(data.min()), 0.0)
            gain = micrograph.electrons_per_pixel / max(float(data.mean()) - dark, 1e-30)
        classifier = MotifClassifier(
            n_motifs,
            n_max=n_max,
            electrons_per_count=gain,
            offset=dark,
            equivalence=equivalence,
            random_state=random_state,
        )
        classifier.fit(patches, shifts)
    count = len(columns)
    inner = whole.cpu().numpy()
    labels = _of_all(inner, classifier.labels_, -1)
    angles = np.where(labels < 0, np.nan, _of_all(inner, classifier.angles_, 0.0))
    mirrored = _of_all(inner, classifier.mirrored_, fill=False)
    rim = int((~inner).sum())
    if rim:
        notes.append(f"{rim} of {count} columns lie at the rim, without a whole patch: they are in no motif")
    if n_motifs is not None and classifier.n_motifs_ < n_motifs:
        notes.append(f"only {classifier.n_motifs_} of the {n_motifs} motifs asked for differ at all")
    if classifier.basis_.n_max < n_max:
        notes.append(f"moments to order {classifier.basis_.n_max}: patches of {size} px carry no more")
    offset = suspected_offset(micrograph.numpy()) if gain is None and polarity == "bright" else None
    if offset is not None:
        notes.append(
            f"the darkest pixels have {offset:.0%} of the mean, which looks like the detector's offset: motifs do not "
            "mind, but the dose is right only after it is subtracted"
        )
    record = _record(micrograph, parameters, stages.timings, notes)
    record["found"] = {
        "spacing_px": columns.spacing,
        "patch_size_px": size,
        "n_columns": count,
        "n_motifs": classifier.n_motifs_,
        "n_max": classifier.basis_.n_max,
        "electrons_per_count": classifier.electrons_per_count_,
        "resolutions": [plain(asdict(one)) for one in classifier.resolutions_],
        "unresolved": [plain(asdict(one)) for one in classifier.unresolved_],
    }
    return MotifResult(
        micrograph,
        _on_host(columns),
        labels,
        _of_all(inner, classifier.probabilities_, 0.0),
        classifier.templates_.cpu().numpy(),
        record,
        angles if equivalence is not None else None,
        mirrored if equivalence == "euclidean" else None,
    )


def _filled(data: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
    """The pixels, all finite, and what was done to make them so."""
    invalid = int((~torch.isfinite(data)).sum())
    filled = fill_invalid(data)
    if not invalid:
        return filled, []
    note = f"{invalid} of {data.numel()} pixels are not finite; the mean of the others stands in for them"
    warnings.warn(f"image: {note}. Crop the image if that matters.", TorchMotifWarning, stacklevel=3)
    return filled, [note]


def _patches(
    data: torch.Tensor, positions: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Patches, offsets of the true from the window centres, and which columns have a whole patch."""
    if not 3 <= size <= min(data.shape):
        raise InputError(
            f"patch_size must lie between 3 and the image's shorter side, {min(data.shape)} px, got {size} px"
            "; take a larger image, or set patch_size="
        )
    whole = inside(positions, (data.shape[0], data.shape[1]), size)
    kept = positions[whole]
    if len(kept) == 0:
        raise InputError(
            f"patch_size: none of the {len(positions)} columns has a whole patch of {size} px in the image; "
            "set a smaller patch_size=, or take a larger image"
        )
    return extract_patches(data, kept, size), offsets(kept, size), whole


def _of_all(whole: np.ndarray, values: torch.Tensor, fill: float) -> np.ndarray:
    """What is known of the columns with a whole patch, and `fill` for the others."""
    known = values.cpu().numpy()
    result = np.full(len(whole), fill, known.dtype)
    result[whole] = known
    return result


def _on_host(columns: Columns) -> Columns:
    """The columns with numpy arrays in place of tensors."""
    values: dict[str, Any] = {item.name: getattr(columns, item.name) for item in fields(columns)}
    arrays: dict[str, Any] = {
        name: value.cpu().numpy() for name, value in values.items() if isinstance(value, torch.Tensor)
    }
    return replace(columns, **arrays)


def _record(
    micrograph: Micrograph, parameters: dict[str, Any], timings: dict[str, float], notes: list[str]
) -> dict[str, Any]:
    """How a result was made: enough to make it again."""
    pixels = np.ascontiguousarray(micrograph.numpy())
    metadata = micrograph.metadata
    said = metadata.get("notes", [])
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "parameters": parameters,
        "input": {
            "path": metadata.get("path"),
            "file_sha256": metadata.get("sha256"),
            "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
            "shape": list(pixels.shape),
            "dtype": str(pixels.dtype),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "timings_s": timings,
        "notes": [*([said] if isinstance(said, str) else said), *notes],
    }


class _Stages:
    """Times the stages of a run and shows them on a bar."""

    def __init__(self, progress: bool) -> None:
        from tqdm.auto import tqdm

        self.timings: dict[str, float] = {}
        # disable=None: a bar on a terminal and in notebooks, none in logs
        self._bar = tqdm(total=3, disable=None if progress else True, leave=False, unit="stage")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._bar.set_description(name)
        start = time.perf_counter()
        try:
            yield
            self.timings[name] = round(time.perf_counter() - start, 4)
            self._bar.update()
        finally:
            if self._bar.n == self._bar.total or name not in self.timings:
                self._bar.close()
