"""Files made to make readers loop, fill memory, run code or read other files."""

import os
import struct
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import tifffile

import torchmotif as tm
from torchmotif._guards import check_dm, read_json
from torchmotif.errors import ReadError

FUZZ = Path(__file__).parents[2] / "benchmarks" / "robustness" / "fuzz_readers.py"
pytestmark = pytest.mark.skipif(not FUZZ.exists(), reason="the benchmarks are not here")


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = spec_from_file_location("fuzz_readers", FUZZ)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and time are those of Unix")
def test_mutants_are_refused_or_read_and_never_crash(tmp_path: Path) -> None:
    """A small part of `python benchmarks/robustness/fuzz_readers.py 1000`."""
    path = os.pathsep.join(filter(None, (str(FUZZ.parents[1]), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(FUZZ), "65", "--seed", "1"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", [3, 4])
def test_a_dm_file_made_here_is_read(fuzz: ModuleType, tmp_path: Path, version: int) -> None:
    path = tmp_path / f"scan.dm{version}"
    path.write_bytes(fuzz.dm(version))
    scan = tm.read(path)
    np.testing.assert_array_equal(scan.numpy(), fuzz.RAMP)
    assert scan.pixel_size_nm == pytest.approx((0.02, 0.02))


def _dm3(*words: int, tail: bytes = b"") -> bytes:
    """A file of one tag, whose type is told by the words."""
    body = b"%%%%" + struct.pack(f">i{len(words)}i", len(words), *words) + tail
    return struct.pack(">iii", 3, 100, 1) + b"\1\0" + struct.pack(">i", 1) + b"\x15\0\1x" + body


@pytest.mark.parametrize(
    "words",
    [
        (20, 15, 0, 0, 2**31 - 1),  # an array of structures without fields would be made for ever
        (20, 18, 0, 2**31 - 1),  # of empty texts
        (20, 20, 5, 0, 2**31 - 1),  # of empty arrays
        (18, 2**30),
        (20, 5, -4),
        (20, 5, 2**30),
        (15, 0, 2**20),
        (15, 0, 1, 0, 99),
        (77,),
        (),
    ],
)
def test_dm_lengths_that_cannot_be_are_refused(tmp_path: Path, words: tuple[int, ...]) -> None:
    path = tmp_path / "scan.dm3"
    path.write_bytes(_dm3(*words, tail=bytes(64)))
    with pytest.raises(ReadError, match=r"scan\.dm3 may be damaged"):
        tm.read(path)


def test_dm_groups_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.dm3"
    group = b"\x14\0\0\1\0" + struct.pack(">i", 1)
    path.write_bytes(struct.pack(">iii", 3, 100, 1) + b"\1\0" + struct.pack(">i", 1) + 5000 * group)
    with pytest.raises(ReadError, match="nested too deeply"):
        check_dm(path)


def _external(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/other.h5", "/")


def _external_storage(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("raw", (10,), "u1", external=[(str(path.parent / "secret"), 0, 10)])


def _virtual(path: Path) -> None:
    layout = h5py.VirtualLayout((10,), "u1")
    layout[:] = h5py.VirtualSource(str(path.parent / "other.h5"), "raw", (10,))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("virtual", layout)


def _loop(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["Experiments/scan/metadata/a"] = h5py.SoftLink("/Experiments")


def _circle(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["one"], file["other"] = h5py.SoftLink("/other"), h5py.SoftLink("/one")


def _hard_loop(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["Experiments/scan/metadata/a"] = file["Experiments"]


def _huge(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["Experiments/scan/data"]
        file.create_dataset("Experiments/scan/data", (2**20, 2**20), "f8", chunks=(64, 64))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_external, "points to another file"),
        (_external_storage, "in another file"),
        (_virtual, "in another file"),
        (_loop, "within itself"),
        (_circle, "leads back to itself"),
        (_hard_loop, "within itself"),
        (_huge, "fill the memory"),
    ],
)
def test_hostile_hdf5_is_refused(fuzz: ModuleType, tmp_path: Path, spoil: object, message: str) -> None:
    path = tmp_path / "scan.hspy"
    fuzz.hspy(path)
    assert tm.read(path).shape == fuzz.RAMP.shape
    assert callable(spoil)
    spoil(path)
    with pytest.raises(ReadError, match=message):
        tm.read(path)


def test_files_that_unpack_to_very_much_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", image=np.zeros((18_000, 18_000), np.uint8))
    with pytest.raises(ReadError, match="fill the memory"):
        tm.read(tmp_path / "bomb.npz")
    tifffile.imwrite(tmp_path / "bomb.tif", np.zeros((64, 64), np.uint8))
    with tifffile.TiffFile(tmp_path / "bomb.tif", mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(60_000)
    with pytest.raises(ReadError, match=r"fill the memory|missing"):
        tm.read(tmp_path / "bomb.tif")


def test_an_npy_file_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "scan.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**20)}
        )
        file.write(bytes(800))
    with pytest.raises(ReadError, match="damaged"):
        tm.read(tmp_path / "scan.npy")


def test_pickles_in_an_archive_are_never_loaded(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(made),)

    np.savez(tmp_path / "scan.npz", image=np.array([Payload()], dtype=object))
    with pytest.raises(ReadError):
        tm.read(tmp_path / "scan.npz")
    assert not made.exists()


@pytest.mark.parametrize("ending", [".nc", ".zspy", ".msa"])
def test_formats_whose_readers_run_what_the_file_says_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scan{ending}"
    path.write_bytes(b"CDF\1")
    with pytest.raises(ReadError, match="could run code"):
        tm.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.dm4")
    with pytest.raises(ReadError, match="not a file"):
        tm.read(tmp_path / "scan.dm4")


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a": NaN}', '{"a": Infinity}', "", "{", '"\\ud800', "9" * 5000]
)
def test_json_is_taken_strictly(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ReadError, match="cannot be read as JSON"):
        read_json(path)
