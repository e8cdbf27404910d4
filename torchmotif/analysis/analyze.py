"""analyze(): images in memory, whose result stays there; fields, stacks and files of any size, into a store."""

import math
from inspect import signature
from numbers import Real
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import torch

from torchmotif._arrays import DeviceLike, as_tensor
from torchmotif._checks import whole_number
from torchmotif.analysis.driver import run
from torchmotif.analysis.field_result import FieldResult
from torchmotif.analysis.result import MotifResult
from torchmotif.analysis.sources import Files, as_sources
from torchmotif.errors import InputError, InputTypeError, MissingDependencyError
from torchmotif.image import Micrograph, as_micrograph, labelled

__all__ = ["analyze", "analyze_into", "checked", "in_bytes"]

_KNOWN: dict[str, tuple[str | None, ...]] = {
    "polarity": ("auto", "bright", "dark"),
    "learn": ("together", "each"),
    "calibration": ("shared", "each"),
    "equivalence": (None, "rotation", "euclidean"),
}


class Options(TypedDict, total=False):
    """Arguments that all ways to analyse images have in common, see `analyze`."""

    spacing: float | None
    threshold: float | None
    polarity: Literal["auto", "bright", "dark"]
    mask: Any
    guided: bool
    patch_size: int | None
    n_max: int
    n_motifs: int | None
    learn: Literal["together", "each"]
    equivalence: Literal["rotation", "euclidean"] | None
    calibration: Literal["shared", "each"]
    hierarchy: int
    random_state: int
    progress: bool


@overload
def analyze(
    image: list[Any] | tuple[Any, ...], *, device: DeviceLike = None, **options: Unpack[Options]
) -> FieldResult: ...
@overload
def analyze(image: Any, *, device: DeviceLike = None, **options: Unpack[Options]) -> MotifResult: ...
def analyze(
    image: Any,
    *,
    spacing: float | None = None,
    threshold: float | None = None,
    polarity: Literal["auto", "bright", "dark"] = "auto",
    mask: Any = None,
    guided: bool = True,
    patch_size: int | None = None,
    n_max: int = 10,
    n_motifs: int | None = None,
    learn: Literal["together", "each"] = "together",
    equivalence: Literal["rotation", "euclidean"] | None = None,
    calibration: Literal["shared", "each"] = "shared",
    hierarchy: int = 3,
    random_state: int = 0,
    device: DeviceLike = None,
    progress: bool = True,
) -> MotifResult | FieldResult:
    """Find the columns of an image, or of several, and sort them into motifs.

    Parameters
    ----------
    image : Micrograph, HyperSpy signal, xarray, or array of shape (h, w); or a stack (frames, h, w) or list of them
        Pixels that are not finite are taken as the mean of the finite ones, and a warning says so.
    spacing, threshold, polarity, mask, guided
        Of the columns, see `find_columns`. A mask is that of every image.
    patch_size : int, optional
        Side of the patch around each column in pixels; by default it holds the first shell of neighbours.
    n_max : int
        Highest radial order of the Zernike moments; at most half the patches' side is used, and then the record says so.
    n_motifs : int, optional
        Number of motifs; by default it is found.
    learn : {"together", "each"}
        Whether the motifs of several images are learnt together or for each by itself.
    equivalence : {"rotation", "euclidean"}, optional
        Whether a motif turned, or turned and mirrored, is the same motif, as in the grains of a polycrystal.
    calibration : {"shared", "each"}
        Whether spacing, width and noise of the columns are measured once for all frames of a stack, on up to nine of them,
        or for each frame by itself, as where it drifts out of focus. Other images have their own.
    hierarchy : int
        Of several images, size of the largest assemblies of motifs that are counted; 0 counts none.
    random_state : int
        Same seed, same machine: same result.
    device : str or torch.device, optional
        Where to compute, for example "cuda"; by default where the image is.
    progress : bool
        Show a bar on a terminal or in a notebook.

    Returns
    -------
    MotifResult
        Of one image; a FieldResult in memory of several.

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
    >>> tm.analyze([specimen.draw(), specimen.draw()], progress=False)[1].n_motifs
    2
    """
    given = locals()  # so that none is forgotten
    several = _are_several(image)
    scan = image if several else as_micrograph(image)
    where = getattr(getattr(scan, "data", scan), "device", None)  # a tensor's, of a micrograph or by itself
    on = device if device is not None or not isinstance(where, torch.device) else where
    options = checked(**{name: given[name] for name in _USUAL} | {"device": on})
    if not several:
        options["hierarchy"] = 0  # counted when it is asked for
    result = run(as_sources(scan, mask=mask), options, progress=progress, workers=1)
    result.record["parameters"] = options | {"device": None if device is None else str(device)}
    return result if several else result.result_of(0, scan)


_USUAL = {
    name: one.default
    for name, one in signature(analyze).parameters.items()
    if name not in {"image", "mask", "progress"}
}


def _are_several(image: Any) -> bool:
    """Whether there are several images: a stack, or a list of what has pixels."""
    if isinstance(image, list | tuple):
        return any(isinstance(one, Micrograph | str | Path) or getattr(one, "ndim", 0) > 1 for one in image)
    named = labelled(image)
    return bool(getattr(image if named is None else named.data, "ndim", 2) == 3)


def analyze_into(
    source: Any,
    store: str | Path,
    *,
    pixel_size_nm: float | tuple[float, float] | None = None,
    tile: int = 2048,
    memory_budget: int | str | None = None,
    workers: int | None = None,
    client: Any = None,
    scheduler: str | None = None,
    device: str | None = None,
    restart: bool = False,
    **options: Unpack[Options],
) -> FieldResult:
    """Find the columns and motifs of images that need not fit into memory.

    The same stages as those of `torchmotif.analyze`, with the same result. What is finished is committed to the store; the
    same call goes on with what was interrupted, and gives the same result to the last bit, whatever the workers.

    Parameters
    ----------
    source : path, array of shape (h, w) or (frames, h, w), Micrograph, or a list of them
        Files are mapped where their format allows it (npy, uncompressed tif, dm3, dm4, ...); zarr and dask arrays are
        read window by window. The frames of a stack are images that are learnt together.
    store : str or Path
        A zarr (version 3) group: new, or one of a run with the same source and parameters.
    pixel_size_nm : float or (float, float), optional
        Length of a pixel along (rows, columns), for sources that do not say it.
    tile : int
        Side in pixels of what a worker does at a time, in whole batches; results do not depend on it.
    memory_budget : int or str, optional
        Bytes for all processes together, such as "3GiB": fewer workers where it is small. It is not applied to the
        workers of `client` or `scheduler`, whose number and memory are their cluster's.
    workers : int, optional
        Processes; by default one for each GPU ("cuda") or core, and none for images up to 2048 x 2048 pixels.
    client : distributed.Client, optional
        Workers of a cluster that is there already; they must see the store and the source under the same names.
    scheduler : str, optional
        Its address instead, such as "tcp://host:8786".
    device : str, optional
        "cuda" shares out the GPUs of each machine among its workers; by default the CPU. A run may go on on another
        device of the same kind.
    restart : bool
        Throw away what the store holds, where it belongs to another source or other parameters.
    options
        All others of `torchmotif.analyze`. Where images have unlike pixel sizes, `patch_size` is in pixels of the coarsest,
        and all patches show the same area.

    Returns
    -------
    FieldResult

    Raises
    ------
    InputError
        If an argument cannot be used, a source has no columns, or the store holds something else.
    ReadError
        If a source cannot be read, or changes while it is read; if the store is of another version.
    OutputError
        If the store cannot be written, the disk is full, or another run is at work in it. What was finished is kept.

    Examples
    --------
    >>> import tempfile
    >>> import torchmotif as tm
    >>> scan = tm.datasets.mose2((256, 256), vacancy_rate=0.0).draw()
    >>> result = tm.field.analyze(scan, tempfile.mkdtemp() + "/field", progress=False)
    >>> result.n_motifs
    2
    """
    if (
        client is not None
        and scheduler is None
        and not (hasattr(client, "submit") and hasattr(client, "ncores"))
    ):
        raise InputTypeError(f"client must be a distributed.Client, got {type(client).__name__}")
    try:
        import filelock  # noqa: F401
        import zarr  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("fields are kept by zarr: pip install 'torchmotif[field]'") from error
    progress, mask = options.pop("progress", True), options.pop("mask", None)
    asked = checked(**options, device=device)
    tile, patch = whole_number("tile", tile, 1), asked["patch_size"] or 16
    if tile < patch:
        raise InputError(f"tile must be larger than a patch, {patch} px at least, got {tile} px")
    tolerant = isinstance(source, Files)  # from batch: what cannot be analysed is listed, not raised
    sources, failures = (
        source.opened(pixel_size_nm, mask) if tolerant else (as_sources(source, pixel_size_nm, mask), [])
    )
    return run(
        sources,
        asked,
        Path(store),
        restart=restart,
        tolerant=tolerant,
        failures=failures,
        tile=tile,
        progress=progress,
        memory_budget=in_bytes(memory_budget),
        workers=None if workers is None else whole_number("workers", workers, 1),
        client=client,
        scheduler=scheduler,
    )


def checked(**given: Any) -> dict[str, Any]:
    """The options of a run, those that are not given by default, checked before any work is done."""
    unknown = given.keys() - _USUAL.keys()
    if unknown:
        raise TypeError(f"analyze has no argument {', '.join(sorted(unknown))}")
    options = {**_USUAL, **given}
    for name, known in _KNOWN.items():
        if options[name] not in known:
            raise InputError(f"{name} must be {' or '.join(map(repr, known))}, got {options[name]!r}")
    for name, low, what in (("spacing", 2, "at least 2 pixels"), ("threshold", 0, "a height of at least 0")):
        if options[name] is not None:
            options[name] = _real(name, options[name], low, what)
    least = {"hierarchy": 0, "n_max": 0, "random_state": 0, "n_motifs": 1, "patch_size": 3}
    for name, low in least.items():
        if options[name] is not None:
            options[name] = whole_number(name, options[name], low)
    if not isinstance(options["guided"], bool):
        raise InputError(f"guided must be True or False, got {options['guided']!r}")
    if options["device"] is not None:
        options["device"] = str(options["device"])
        as_tensor(torch.zeros(1), device=options["device"])  # raises where there is none
    return options


def _real(name: str, value: Any, low: float, what: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) < math.inf:
        raise InputError(f"{name} must be {what}, got {value!r}")
    return value if type(value) in {int, float} else float(value)  # the plan is kept as JSON


def in_bytes(size: int | str | None) -> int | None:
    """A number of bytes, also from text such as "3GiB".

    Raises
    ------
    InputError
        If it is none.

    Examples
    --------
    >>> in_bytes("3GiB") == 3 * 2**30, in_bytes("500 MB")
    (True, 500000000)
    """
    if not isinstance(size, str):
        return size
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(size))
    except (ValueError, OverflowError) as error:
        raise InputError(f"memory_budget must be bytes, or text such as '3GiB', got {size!r}") from error
