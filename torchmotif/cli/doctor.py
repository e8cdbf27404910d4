"""torchmotif doctor: what is installed here, what is missing, and whether it gives what it should."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer

from torchmotif.cli.common import EXIT_CODES, Command, app, echo_json, failing_clearly
from torchmotif.cli.options import Device, Json

__all__ = ["doctor"]

_CORE = (
    "torchmotif",
    "torch",
    "numpy",
    "scipy",
    "scikit-image",
    "scikit-learn",
    "hdbscan",
    "networkx",
    "pandas",
)
# Distribution: the extra that brings it, and what it is for.
_OPTIONAL = {
    "rosettasciio": ("io", "opens dm3, dm4, ser, prz, unf and other files of microscopes"),
    "h5py": ("io", "opens hspy, emd, nxs, h5 and MATLAB 7.3"),
    "hdf5plugin": ("io", "opens HDF5 that is compressed with bitshuffle, LZ4, zstd"),
    "mrcfile": ("io", "opens mrc, map, rec"),
    "imagecodecs": ("io", "opens TIFF that is compressed with LZW, JPEG, zstd"),
    "zarr": ("io", "opens zarr, zspy, OME-Zarr; keeps large fields"),
    "dask": ("field", "several workers for large fields and batches"),
    "filelock": ("field", "keeps two runs off one store"),
    "ase": ("export", "writes structures: CIF, xyz"),
    "pyarrow": ("export", "writes parquet"),
    "anndata": ("anndata", "writes h5ad"),
    "napari": ("napari", "shows motifs on the image"),
}
_SIDE = 256
_NEAR = 0.2  # of the spacing within which a column is found
_APART = 0.05  # px between a column on the CPU and on a device: a tenth of its error at this dose
_ALIKE = 0.99  # share of labels that agree


@app.command(cls=Command, epilog=EXIT_CODES)
def doctor(
    device: Device = None,
    test: Annotated[bool, typer.Option(help="Run the self-test, about ten seconds.")] = True,
    as_json: Json = False,
) -> None:
    r"""Say what is installed, which devices there are, which readers are missing, and test it all on a small specimen.

    \b
    Example: torchmotif doctor
             torchmotif doctor --device cuda --json
    """
    with failing_clearly():
        facts: dict[str, Any] = {
            "python": platform.python_version(),
            "system": platform.platform(terse=True),
            "versions": {name: _version(name) for name in _CORE},
            "devices": _devices(),
            "optional": {
                name: {"version": _version(name), "extra": extra, "use": use}
                for name, (extra, use) in _OPTIONAL.items()
            },
        }
        if not as_json:
            typer.echo(_description(facts))
        if test:
            facts["test"] = _tested(device)
            if not as_json:
                typer.echo(_verdict(facts["test"]))
        if as_json:
            echo_json(facts)
        if test and facts["test"]["faults"]:
            raise typer.Exit(1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> list[dict[str, Any]]:
    """The CPU, and every GPU that torch sees, with their memory in GiB."""
    import torch

    pages = getattr(os, "sysconf", lambda _: 0)  # Windows does not say
    names = getattr(os, "sysconf_names", {})
    total = pages("SC_PHYS_PAGES") * pages("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else 0
    cpu = {"device": "cpu", "name": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads of torch"}
    found: list[dict[str, Any]] = [{**cpu, "memory_gib": round(total / 2**30, 1) or None}]
    for number in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(number)
        memory = round(known.total_memory / 2**30, 1)
        found.append({"device": f"cuda:{number}", "name": known.name, "memory_gib": memory})
    return found


def _tested(device: str | None) -> dict[str, Any]:
    """The same specimen on the CPU and on a device, against the truth and against each other."""
    import numpy as np
    import torch
    from scipy.spatial import cKDTree

    from torchmotif.analysis import analyze
    from torchmotif.datasets import mose2

    other = device or ("cuda" if torch.cuda.is_available() else "cpu")
    specimen = mose2((_SIDE, _SIDE), vacancy_rate=0.0)
    image = specimen.draw(generator=torch.Generator().manual_seed(0))
    results, seconds = {}, {}
    for name in dict.fromkeys(("cpu", other)):
        start = time.perf_counter()
        results[name] = analyze(image, device=name, hierarchy=0, progress=False)
        seconds[name] = round(time.perf_counter() - start, 2)
    columns = results["cpu"].columns
    distance = np.asarray(cKDTree(columns.positions).query(specimen.truth.positions)[0])
    near = distance < _NEAR * columns.spacing
    facts: dict[str, Any] = {
        "columns_found": round(float(near.mean()), 4),
        "motifs": results["cpu"].n_motifs,
        "seconds": seconds,
    }
    faults = []
    if near.mean() < 0.99 or results["cpu"].n_motifs != 2:
        faults.append("the CPU does not find the two motifs of simulated MoSe2")
    if len(results) > 1:
        apart, nearest = map(np.asarray, cKDTree(columns.positions).query(results[other].columns.positions))
        alike = float(np.mean(results["cpu"].labels[nearest] == results[other].labels))
        facts |= {"largest_px": float(apart.max()), "labels_alike": alike}
        if len(columns) != len(results[other].columns) or apart.max() > _APART or alike < _ALIKE:
            faults.append(f"{other} and the CPU differ")
    return facts | {"faults": faults}


def _description(facts: dict[str, Any]) -> str:
    lines = [f"Python {facts['python']} on {facts['system']}", "", "packages"]
    lines += [f"  {name:14s} {there or 'missing'}" for name, there in facts["versions"].items()]
    lines += ["", "devices"]
    for one in facts["devices"]:
        memory = "" if one["memory_gib"] is None else f", {one['memory_gib']} GiB"
        lines.append(f"  {one['device']:14s} {one['name']}{memory}")
    if len(facts["devices"]) == 1:
        lines.append("  no GPU that torch can use")
    lines += ["", "optional packages"]
    for name, known in facts["optional"].items():
        there = known["version"] or f"missing: {_remedy(name, known['extra'])}"
        lines.append(f"  {name:14s} {there}  ({known['use']})")
    return "\n".join(lines)


def _remedy(name: str, extra: str) -> str:
    return f"pip install {name}" if extra == "napari" else f"pip install 'torchmotif[{extra}]'"


def _verdict(test: dict[str, Any]) -> str:
    times = ", ".join(f"{seconds} s on {name}" for name, seconds in test["seconds"].items())
    lines = ["", "self-test: simulated MoSe2, 256 x 256 px"]
    lines.append(f"  {100 * test['columns_found']:.1f} % of the columns, {test['motifs']} motifs, {times}")
    if "largest_px" in test:
        lines.append(
            f"  device against CPU: {test['largest_px']:.2g} px at most, {100 * test['labels_alike']:.1f} % of the labels alike"
        )
    lines += [f"  fault: {fault}" for fault in test["faults"]] or ["  all as it should be"]
    return "\n".join(lines)
