"""Truncated, bit-flipped and patched microscope files: each must give a clear error or an image that agrees with the file.

python benchmarks/robustness/fuzz_readers.py 1000 --seed 0                     files made here
python benchmarks/robustness/fuzz_readers.py 1000 --data $TORCHMOTIF_DATA      and mutants of real ones

Mutants are read in processes of their own with a limit of memory and of time, so that a crash, a hang or a memory blow-up
is seen. Whatever fails is kept in the folder --keep, and the exit status is 1.
"""

import argparse
import io
import json
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

RAMP = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
MEMORY = 1 << 30  # bytes that reading may take beyond what the imports took
SECONDS = 20
REAL = (
    "TiWSe2_1028_25_ADF2.dm4",
    "TEMUL_PTO-SRO_supercrystal.hspy",
    "WS2Te2_cut.tif",
    "SciLink_MoS2_Exp-000-2.npz",
)


def dm(version: int) -> bytes:
    """A Gatan file with the tags that readers need; version 3 or 4."""
    long = ">q" if version == 4 else ">i"

    def number(value: int) -> bytes:
        return struct.pack(long, value)

    def tag(kind: int, name: str, body: bytes) -> bytes:
        size = struct.pack(">q", len(body)) if version == 4 else b""
        return struct.pack(">BH", kind, len(name)) + name.encode() + size + body

    def group(name: str, *members: bytes) -> bytes:
        return tag(20, name, b"\1\0" + number(len(members)) + b"".join(members))

    def value(name: str, type_of: tuple[int, ...], data: bytes) -> bytes:
        return tag(21, name, b"%%%%" + number(len(type_of)) + b"".join(map(number, type_of)) + data)

    def ulong(name: str, what: int) -> bytes:
        return value(name, (5,), struct.pack("<I", what))

    def real(name: str, what: float) -> bytes:
        return value(name, (6,), struct.pack("<f", what))

    def text(name: str, what: str) -> bytes:
        return value(name, (20, 4, len(what)), what.encode("utf-16-le"))

    axis = group("", real("Origin", 0.0), real("Scale", 0.02), text("Units", "nm"))
    brightness = group("Brightness", real("Origin", 0.0), real("Scale", 1.0), text("Units", ""))
    image = group(
        "ImageData",
        group("Calibrations", brightness, group("Dimension", axis, axis)),
        value("Data", (20, 4, RAMP.size), RAMP.astype("<u2").tobytes()),
        ulong("DataType", 10),
        group("Dimensions", ulong("", RAMP.shape[1]), ulong("", RAMP.shape[0])),
        ulong("PixelDepth", 2),
    )
    clip = value("Clip", (15, 0, 4, 0, 3, 0, 3, 0, 3, 0, 3), struct.pack("<4i", 0, 0, 40, 48))
    tags = group("ImageTags", clip, group("DigiScan", real("Sample Time", 8.0)))
    list_ = group("ImageList", group("", image, tags, text("Name", "scan")))
    root = b"\1\0" + number(1) + list_
    return struct.pack(">i", version) + number(len(root) + 4) + struct.pack(">i", 1) + root + bytes(8)


def hspy(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"file_format": "HyperSpy", "file_format_version": "3.3"})
        group = file.create_group("Experiments/scan")
        group.create_dataset("data", data=RAMP, chunks=(20, 24), compression="gzip")
        for i, (name, size) in enumerate(zip("yx", RAMP.shape, strict=True)):
            values = {
                "name": name,
                "scale": 0.2,
                "offset": 0.0,
                "size": size,
                "units": "Å",
                "navigate": False,
            }
            group.create_group(f"axis-{i}").attrs.update(
                {**values, "_type": "UniformDataAxis", "is_binned": False}
            )
        for name in ("metadata", "original_metadata", "learning_results"):
            group.create_group(name)
        group["metadata"].create_group("General").attrs["title"] = "scan"


def ncem(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = RAMP
        for i, (name, size) in enumerate(zip("yx", RAMP.shape, strict=True)):
            axis = group.create_dataset(f"dim{i + 1}", data=0.02 * np.arange(size))
            axis.attrs.update({"name": name, "units": "[n_m]"})


def velox(path: Path) -> None:
    import h5py

    about = {
        "BinaryResult": {
            "PixelSize": {"width": "2e-11", "height": "2e-11"},
            "PixelUnitX": "m",
            "PixelUnitY": "m",
            "Offset": {"x": "0", "y": "0"},
            "Detector": "HAADF",
        },
        "Scan": {"FrameTime": "1"},
        "Detectors": {},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1700000000"}},
        "CustomProperties": {},
    }
    text = np.frombuffer(json.dumps(about).encode().ljust(2000, b"\0"), np.uint8)
    with h5py.File(path, "w") as file:
        version = json.dumps({"format": "Velox", "version": "1.0"}).encode()
        file.create_dataset("Version", data=[version], dtype=h5py.string_dtype())
        group = file.create_group("Data/Image/0a1b2c")
        group["Data"] = RAMP[..., None]
        group["Metadata"] = text[:, None]


def _pixels_hdf5(path: Path, **packed: object) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        node = file.create_dataset("entry/scan", data=RAMP, **packed)
        node.attrs["pixel_size_nm"] = 0.02
        file["entry/again"] = h5py.SoftLink("/entry/scan")


def _matlab73(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        file["scan"] = RAMP.T
        file["scan"].attrs["MATLAB_class"] = np.bytes_("uint16")


def _zspy(path: Path) -> None:
    import zarr

    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs.update({"file_format": "ZSpy", "file_format_version": "3.3"})
    group = root.create_group("Experiments/scan")
    group.create_array("data", data=RAMP, chunks=(20, 24))
    for i, size in enumerate(RAMP.shape):
        axis = {"name": "yx"[i], "scale": 0.02, "units": "nm", "navigate": False, "size": size}
        group.create_group(f"axis-{i}").attrs.update(axis)


def _numbers() -> dict[str, bytes]:
    """As text, and of MATLAB."""
    import scipy.io

    files = {}
    text = io.BytesIO()
    np.savetxt(text, RAMP, fmt="%d")
    files["scan.txt"] = text.getvalue()
    text = io.BytesIO()
    np.savetxt(text, RAMP, fmt="%.2f", delimiter=",")
    files["scan.csv"] = text.getvalue()
    for name, packed in (("scan.mat", False), ("packed.mat", True)):
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"scan": RAMP, "about": {"x": 0.5, "name": "a"}}, do_compression=packed)
        files[name] = buffer.getvalue()
    return files


def corpus() -> dict[str, bytes]:
    """A small file of every kind, by name; of a folder "name::member", a file in it."""
    import hdf5plugin
    import imageio.v3 as iio
    import mrcfile
    import tifffile
    import zarr

    def tiff(**options: object) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, RAMP, **options)
        return buffer.getvalue()

    files = {"scan.dm3": dm(3), "scan.dm4": dm(4), "scan.tif": tiff(), "strips.tif": tiff(rowsperstrip=7)}
    files["deflated.tif"] = tiff(compression="zlib", tile=(16, 16), predictor=True)
    files["imagej.tif"] = tiff(imagej=True, resolution=(50.0, 25.0), metadata={"unit": "nm"})
    files["lzw.tif"] = tiff(compression="lzw", predictor=True)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, RAMP.astype(np.float32), compression="zlib", predictor=3, rowsperstrip=16)
    files["float.tif"] = buffer.getvalue()
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, (RAMP % 256).astype(np.uint8), compression="jpeg")
    files["jpeg.tif"] = buffer.getvalue()
    sizes = {
        "PhysicalSizeX": 0.02,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.02,
        "PhysicalSizeYUnit": "nm",
    }
    files["scan.ome.tif"] = tiff(ome=True, metadata={"axes": "YX", **sizes})
    tags = [(65003, "s", 0, "nm", True), (65004, "s", 0, "nm", True)]
    tags += [(65009, "d", 1, 0.02, True), (65010, "d", 1, 0.02, True)]
    files["dm.tif"] = tiff(extratags=tags)
    files |= _numbers()
    files["scan.png"] = iio.imwrite("<bytes>", RAMP, extension=".png")
    for name, save in (("scan.npy", np.save), ("scan.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, RAMP)
        files[name] = buffer.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        for name, write in (("scan.hspy", hspy), ("ncem.emd", ncem), ("velox.emd", velox)):
            write(path / name)
            files[name] = (path / name).read_bytes()
        for name, packed in (
            ("scan.h5", {"chunks": (20, 24), "compression": "gzip"}),
            ("bitshuffle.h5", {"chunks": (20, 24), **hdf5plugin.Bitshuffle()}),
        ):
            _pixels_hdf5(path / name, **packed)
            files[name] = (path / name).read_bytes()
        _matlab73(path / "v73.mat")
        files["v73.mat"] = (path / "v73.mat").read_bytes()
        zarr.create_array(path / "v3.zarr", data=RAMP, chunks=(20, 24))
        _zspy(path / "scan.zspy")
        for folder_ in ("v3.zarr", "scan.zspy"):
            for member in sorted(one for one in (path / folder_).rglob("*") if one.is_file()):
                files[f"{folder_}::{member.relative_to(path / folder_).as_posix()}"] = member.read_bytes()
        with mrcfile.new(path / "signed.mrc") as file:
            file.set_data((RAMP % 200 - 100).astype(np.int8))
        files["signed.mrc"] = (path / "signed.mrc").read_bytes()
        with mrcfile.new(path / "scan.mrc") as file:
            file.set_data(RAMP)
            file.voxel_size = 0.2
        files["scan.mrc"] = (path / "scan.mrc").read_bytes()
    return files


def mutant(whole: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """One damaged copy, and what was done to it."""
    data = bytearray(whole)
    size = len(data)
    # Half of the damage goes where headers are.
    reach = min(size, 2048) if rng.random() < 0.5 else size
    at = int(rng.integers(reach))
    how = str(rng.choice(["cut", "flip", "flip", "flip", "extreme", "zeros", "noise", "drop", "repeat"]))
    if how == "cut":
        del data[int(rng.integers(1, size)) :]
    elif how == "flip":
        for where in rng.integers(reach, size=int(rng.choice([1, 1, 2, 8, 64]))):
            data[where] ^= 1 << int(rng.integers(8))
    elif how == "extreme":
        form = str(rng.choice(["<I", ">I", "<Q", ">Q", "<H", ">H"]))
        top = 1 << 8 * struct.calcsize(form)
        number = int(rng.choice([0, 1, 2])) or top - 1
        number = {1: top // 2, 2: top // 2 - 1}.get(number, number)
        data[at : at + struct.calcsize(form)] = struct.pack(form, number)
    elif how == "zeros":
        length = int(rng.integers(1, 64))
        data[at : at + length] = bytes(min(length, size - at))
    elif how == "noise":
        length = int(rng.integers(1, 64))
        data[at : at + length] = rng.bytes(min(length, size - at))
    elif how == "drop":
        del data[at : at + int(rng.integers(1, 64))]
    else:
        part = data[at : at + int(rng.integers(1, 256))]
        data[at:at] = part
    if whole[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.5:
        _mend_png(data)
    return how, bytes(data)


def _mend_png(data: bytearray) -> None:
    """Checksums that fit the damaged chunks, so that readers go on."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        end = at + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4


def case(sources: dict[str, bytes], number: int, seed: int) -> tuple[str, str, bytes]:
    """Name, damage and bytes of one mutant; the names take turns."""
    kinds = list(dict.fromkeys(name.partition("::")[0] for name in sources))
    kind = kinds[number % len(kinds)]
    members = [name for name in sources if name.partition("::")[0] == kind]
    rng = np.random.default_rng([seed, number])
    name = members[0] if len(members) == 1 else members[int(rng.integers(len(members)))]
    return (name, *mutant(sources[name], rng))


def sources(data: Path | None) -> dict[str, bytes]:
    files = corpus()
    if data is not None:
        files |= {name: (data / name).read_bytes() for name in REAL if (data / name).exists()}
    return files


NEW = {  # formats whose readers came later, for --new
    *(
        "lzw.tif",
        "float.tif",
        "jpeg.tif",
        "scan.ome.tif",
        "dm.tif",
        "scan.txt",
        "scan.csv",
        "scan.mat",
        "packed.mat",
    ),
    *("scan.h5", "bitshuffle.h5", "v73.mat", "v3.zarr", "scan.zspy", "signed.mrc", "scan.mrc"),
    *("scan.hspy", "ncem.emd", "velox.emd"),
}


def place(folder: Path, name: str) -> tuple[Path, Path]:
    """What is read, and the file that is damaged: of a folder, one in it."""
    top, _, member = name.partition("::")
    return folder / top, folder / top / member if member else folder / top


def chosen_sources(arguments: argparse.Namespace) -> dict[str, bytes]:
    """All files, or those of newer formats only."""
    files = sources(arguments.data)
    return {name: data for name, data in files.items() if not arguments.new or name.partition("::")[0] in NEW}


def judge(path: Path, whole: np.ndarray | None = None, shape: tuple[int, ...] | None = None) -> str:
    """What reading the file gives: the name of an error of ours, "image", or what is wrong.

    With `whole`, the file was cut short: an image is right only if all of its pixels are still there. An image of another
    shape than it was is told from the others where no note says that something is amiss.
    """
    from torchmotif._guards import check_unpacked
    from torchmotif.errors import TorchMotifError
    from torchmotif.io import contents, read

    try:
        for item in contents(path):
            check_unpacked(item.data.nbytes, path, 1 << 20 if path.is_dir() else None)
            float(item.data.sum())  # every pixel can be read
        scan = read(path)
    except TorchMotifError as error:
        return (
            f"{type(error).__name__}"
            if str(path) in str(error) or "calib" in str(error)
            else f"! vague: {error}"
        )
    if scan.data.ndim != 2 or scan.data.dtype.kind not in "iuf" or 0 in scan.shape:
        return f"! no image: {scan!r}"
    if whole is not None and path.suffix in {".txt", ".csv"} and not scan.metadata.get("notes"):
        whole = whole[: len(scan.data)]  # text that ends with a row does not say that there were more
    noted = path.suffix in {".txt", ".csv"} and scan.metadata.get("notes")
    if whole is not None and not noted and not np.array_equal(scan.data, whole):
        return "! pixels that the file no longer has"
    if shape is not None and scan.shape != shape and not scan.metadata.get("notes"):
        return "other shape"
    return "image"


def work(first: int, stop: int, arguments: argparse.Namespace) -> None:
    """Judge the mutants from `first` to `stop`, a line of output each; started by `main`, limited."""
    import torchmotif.io  # imports come before the limits

    files, pixels = chosen_sources(arguments), {}
    with tempfile.TemporaryDirectory() as folder:
        for name, whole in files.items():  # the readers' own imports too
            whole_path, member = place(Path(folder), name)
            member.parent.mkdir(parents=True, exist_ok=True)
            member.write_bytes(whole)
        for name in files:
            whole_path, _ = place(Path(folder), name)
            outcome = judge(whole_path)
            assert outcome == "image", (name, outcome)
            pixels[name] = np.array(torchmotif.io.read(whole_path).data)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in range(first, stop):
            name, how, data = case(files, number, arguments.seed)
            path, member = place(Path(folder), name)
            member.write_bytes(data)
            print(json.dumps({"number": number, "name": name, "how": how}), flush=True)
            signal.alarm(SECONDS)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    outcome = judge(path, pixels[name] if how == "cut" else None, pixels[name].shape)
            except Exception as error:  # noqa: BLE001  # is what this looks for
                outcome = f"! {type(error).__name__}: {str(error)[:200]}"
            signal.alarm(0)
            member.write_bytes(files[name])
            print(json.dumps({"outcome": outcome}), flush=True)


def run(arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Judge all mutants; after a crash, go on behind the one that made it."""
    found: list[dict[str, str]] = []
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    while len(found) < arguments.count:
        command = [sys.executable, __file__, str(arguments.count), "--seed", str(arguments.seed)]
        command += ["--new"] * arguments.new
        command += ["--from", str(len(found))] + (["--data", str(arguments.data)] if arguments.data else [])
        done = subprocess.run(
            command, env={**os.environ, **limits}, capture_output=True, text=True, check=False
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if not lines:
            raise SystemExit(f"the worker did not start:\n{done.stderr}")
        pairs = [{**lines[i], **lines[i + 1]} for i in range(0, len(lines) - 1, 2)]
        found += pairs
        if len(lines) % 2:
            why = "hang" if done.returncode == -signal.SIGALRM else f"crash {done.returncode}"
            found.append({**lines[-1], "outcome": f"! {why}"})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of real images")
    parser.add_argument("--keep", type=Path, help="folder for the mutants that failed")
    parser.add_argument("--new", action="store_true", help="formats whose readers came later")
    parser.add_argument("--from", dest="first", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first is not None:
        work(arguments.first, arguments.count, arguments)
        return
    found = run(arguments)
    bad = [item for item in found if item["outcome"].startswith("!")]
    print(
        "| file | mutants | refused | images | of another shape, without a note | failures |\n|---|---|---|---|---|---|"
    )
    for item in found:
        item["kind"] = item["name"].partition("::")[0]
    for name in [*dict.fromkeys(item["kind"] for item in found), "all"]:
        mine = Counter(
            "!" if i["outcome"].startswith("!") else i["outcome"] for i in found if name in {i["kind"], "all"}
        )
        other = mine["other shape"]
        refused = mine.total() - mine["image"] - other - mine["!"]
        print(f"| {name} | {mine.total()} | {refused} | {mine['image']} | {other} | {mine['!']} |")
    files = chosen_sources(arguments) if bad and arguments.keep else {}
    for item in bad:
        print(f"{item['number']} {item['name']} ({item['how']}): {item['outcome']}")
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            name, _, data = case(files, int(item["number"]), arguments.seed)
            (arguments.keep / f"{item['number']}-{name.replace('/', '-')}").write_bytes(data)
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
