"""What analyses take: every kind of array and file, with its calibration and its frames."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import torch
import writers
import xarray as xr
import zarr
from writers import FORMATS, IMAGE, PIXEL, STACK

import torchmotif as tm
from torchmotif.analysis.sources import Files, as_sources
from torchmotif.errors import InputError
from torchmotif.image import as_micrograph

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _signal(data: np.ndarray, *, lazy: bool) -> Any:
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(data)
    for axis, size in zip(signal.axes_manager.signal_axes[::-1], PIXEL, strict=True):
        axis.units, axis.scale = "nm", size
    signal.metadata.General.title = "HAADF"
    return signal.as_lazy() if lazy else signal


def _labelled(data: np.ndarray, dims: str = "yx", *, lazy: bool = False) -> xr.DataArray:
    steps = {"y": (PIXEL[0], "nm"), "x": (PIXEL[1] * 10, "angstrom"), "t": (1.0, "s")}
    order = ["tyx"[-data.ndim :].index(name) for name in dims]
    turned = data.transpose(order)
    coords = {
        name: (name, steps[name][0] * np.arange(length), {"units": steps[name][1]})
        for name, length in zip(dims, turned.shape, strict=True)
    }
    return xr.DataArray(
        da.from_array(turned) if lazy else turned, dims=list(dims), coords=coords, name="HAADF"
    )


def _labelled_stack(data: np.ndarray) -> xr.DataArray:
    return _labelled(data, "tyx", lazy=True)


def _mapped(data: np.ndarray, folder: Path) -> np.ndarray:
    np.save(folder / "mapped.npy", data)
    mapped: np.ndarray = np.load(folder / "mapped.npy", mmap_mode="r")
    return mapped


KINDS: dict[str, Any] = {  # from pixels and a folder to what is given; and whether it is calibrated
    "numpy": (lambda data, _: data, False),
    "numpy, strided": (lambda data, _: np.repeat(data, 2, axis=-1)[..., ::2], False),
    "numpy, reversed": (lambda data, _: data[..., ::-1].copy()[..., ::-1], False),
    "numpy, other byte order": (lambda data, _: data.astype(">u2"), False),
    "memory map": (_mapped, False),
    "torch": (lambda data, _: torch.from_numpy(data.astype(np.float32)), False),
    "torch, strided": (lambda data, _: torch.from_numpy(data.astype(np.float32).swapaxes(-1, -2).copy()).mT, False),
    "torch, with gradients": (lambda data, _: torch.from_numpy(data.astype(np.float32)).requires_grad_(), False),
    "dask": (lambda data, _: da.from_array(data, chunks=16), False),
    "zarr": (lambda data, folder: zarr.create_array(folder / "a.zarr", data=data, chunks=(16,) * data.ndim), False),
    "HyperSpy": (lambda data, _: _signal(data, lazy=False), True),
    "HyperSpy, lazy": (lambda data, _: _signal(data, lazy=True), True),
    "xarray": (lambda data, _: _labelled(data, "tyx"[-data.ndim :]), True),
    "xarray, turned": (lambda data, _: _labelled(data, "txy"[-data.ndim :]), True),
    "xarray, lazy": (lambda data, _: _labelled(data, "tyx"[-data.ndim :], lazy=True), True),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_or_a_stack_comes_with_its_calibration(tmp_path: Path, kind: str) -> None:
    make, calibrated = KINDS[kind]
    for data in (IMAGE, STACK):
        found = as_sources(
            make(data, tmp_path / str(data.ndim))
            if kind not in {"memory map", "zarr"}
            else make(data, _new(tmp_path, data))
        )
        assert len(found) == (1 if data.ndim == 2 else 3)
        for source, frame in zip(found, np.atleast_3d(data.T).T, strict=True):
            np.testing.assert_array_equal(source.read(), frame)
            np.testing.assert_array_equal(source.read((3, 5, 20, 30)), frame[3:20, 5:30])
            assert source.shape == frame.shape
            assert source.pixel_size_nm == (pytest.approx(PIXEL) if calibrated else None)


def _new(folder: Path, data: np.ndarray) -> Path:
    new = folder / str(data.ndim)
    new.mkdir()
    return new


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"dask", "zarr"}])
def test_single_steps_take_the_same(tmp_path: Path, kind: str) -> None:
    make, calibrated = KINDS[kind]
    scan = as_micrograph(make(IMAGE, tmp_path))
    np.testing.assert_array_equal(scan.numpy(), IMAGE)
    assert scan.pixel_size_nm == (pytest.approx(PIXEL) if calibrated else None)


@pytest.mark.parametrize("form", [form for form in FORMATS if form.stack], ids=lambda form: form.name)
def test_files_are_read_by_the_window_after_a_journey(tmp_path: Path, form: writers.Format) -> None:
    import pickle

    path = tmp_path / form.file
    assert form.stack is not None
    form.stack(path)
    sources = pickle.loads(pickle.dumps(as_sources(path)))  # noqa: S301  # as dask sends them to its workers
    assert [source.frame for source in sources] == [0, 1, 2]
    for source, frame in zip(sources, STACK, strict=True):
        np.testing.assert_array_equal(source.read((3, 5, 20, 30)), frame[3:20, 5:30].astype(form.dtype))
    (one,) = as_sources(path, frame=-1)
    assert (one.frame, one.stack) == (2, None)
    np.testing.assert_array_equal(one.read(), STACK[2].astype(form.dtype))


def test_a_name_that_is_there_is_that_file(tmp_path: Path) -> None:
    for name in ("scan [1].npy", "scan 1.npy"):
        np.save(tmp_path / name, IMAGE)
    found, failures = Files(str(tmp_path / "scan [1].npy")).opened(None)
    assert [source.name for source in found] == ["scan [1].npy"]
    assert not failures
    found, _ = Files(str(tmp_path / "scan [[]*.npy")).opened(None)
    assert [source.name for source in found] == ["scan [1].npy"]


def test_data_set_and_frame_of_many_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", HAADF=IMAGE, BF=IMAGE + 1)
    writers.velox(tmp_path / "b.emd", {"HAADF": STACK, "BF": IMAGE})
    np.save(tmp_path / "c.npy", IMAGE)
    np.savez(tmp_path / "d.npz", DF=IMAGE, BF=IMAGE)
    files = Files(str(tmp_path / "*"), "HAADF")
    found, failures = files.opened(None)
    assert [source.name for source in found] == ["a.npz", *(f"b.emd frame {i}" for i in range(3)), "c.npy"]
    assert [one["name"] for one in failures] == ["d.npz"]
    assert "dataset='HAADF' is not one of those" in failures[0]["reason"]
    assert "taken for 'HAADF'" in found[-1].notes[0]
    found, failures = Files([tmp_path / "b.emd", tmp_path / "c.npy"], "HAADF", 1).opened(None)
    assert [source.name for source in found] == ["b.emd frame 1"]
    assert "single image" in failures[0]["reason"]


def test_a_last_axis_of_one_pixel_is_refused() -> None:
    with pytest.raises(InputError, match=r"give source\[\.\.\., 0\]"):
        as_sources(IMAGE[..., None])
    with pytest.raises(InputError, match="colours"):
        as_sources(np.repeat(IMAGE[..., None], 3, axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda data: _signal(data, lazy=True), _labelled_stack], ids=["HyperSpy", "xarray"]
)
def test_a_stack_with_axes_is_analysed_frame_by_frame(make: Any) -> None:
    specimen = tm.datasets.mose2((160, 160), 0.025, vacancy_rate=0.0)
    generator = torch.Generator().manual_seed(0)
    frames = np.stack([specimen.draw(1.0, generator).numpy() for _ in range(2)])
    result = tm.analyze(make(frames), patch_size=25, n_motifs=2, hierarchy=0, progress=False)
    assert len(result.images) == 2
    assert result.images[0]["pixel_size_nm"] == pytest.approx(PIXEL)


def test_a_stack_as_a_signal_is_no_micrograph() -> None:
    with pytest.raises(InputError, match="one image"):
        tm.Micrograph.from_hyperspy(_signal(STACK, lazy=False))


@pytest.mark.parametrize("scale", [1e16, 1e-7])
def test_a_pixel_size_that_cannot_be_is_left_out_of_signals_and_arrays(scale: float) -> None:
    signal = _signal(IMAGE, lazy=False)
    for axis in signal.axes_manager.signal_axes:
        axis.scale = scale
    steps = {
        name: (name, np.arange(n) * scale, {"units": "nm"}) for name, n in zip("yx", IMAGE.shape, strict=True)
    }
    for image in (signal, xr.DataArray(IMAGE, dims=("y", "x"), coords=steps)):
        assert as_micrograph(image).pixel_size_nm is None
        (source,) = as_sources(image)
        assert source.pixel_size_nm is None
        assert "left out" in source.notes[0]


def test_a_lazy_array_is_worked_out_without_distributed() -> None:
    code = (
        "import sys, dask.array as da\n"
        "from torchmotif._lazy import computed\n"
        "assert computed(da.ones((8, 9), chunks=4)).sum() == 72\n"
        "print('distributed' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
