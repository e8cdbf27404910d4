"""Coverage-guided fuzzing of readers and of public functions; needs ``pip install atheris`` (Linux).

python benchmarks/robustness/fuzz_atheris.py dm4 -max_total_time=60           a reader: dm3, dm4, tif, npy, npz, png, hspy, emd, mrc, h5, mat, txt, csv
python benchmarks/robustness/fuzz_atheris.py arrays -max_total_time=60        arrays into public functions
python benchmarks/robustness/fuzz_atheris.py json -max_total_time=60          the record of a saved result

Only errors of ours may come out. What else does ends the run and is kept as crash-... in the working directory.
"""

import logging
import sys
import tempfile
import warnings
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import atheris

HERE = Path(__file__).parent


def load(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reader(ending: str) -> tuple[object, Path]:
    """The function under test, and a folder of files to start from."""
    from torchmotif.errors import TorchMotifError

    folder = Path(tempfile.mkdtemp())
    path = folder / f"scan.{ending}"
    seeds = folder / "seeds"
    seeds.mkdir()
    fuzz = load(HERE / "fuzz_readers.py")
    for name, data in fuzz.corpus().items():
        if name.endswith(f".{ending}"):
            (seeds / name).write_bytes(data)
    with atheris.instrument_imports(
        include=["rsciio", "tifffile", "mrcfile", "torchmotif.io", "torchmotif._guards"]
    ):
        from torchmotif.io import contents

    def test(data: bytes) -> None:
        path.write_bytes(data)
        try:
            for item in contents(path):
                float(item.data.sum())
        except TorchMotifError:
            pass

    return test, seeds


def record() -> tuple[object, Path]:
    from torchmotif._guards import read_json
    from torchmotif.errors import ReadError

    folder = Path(tempfile.mkdtemp())
    (folder / "seeds").mkdir()
    (folder / "seeds" / "run.json").write_text(
        '{"format": 1, "image": {"pixel_size": [0.1, 1e-3]}, "columns": null}'
    )

    def test(data: bytes) -> None:
        (folder / "run.json").write_bytes(data)
        with suppress(ReadError):
            read_json(folder / "run.json")

    return test, folder / "seeds"


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    if what == "arrays":
        tests = load(HERE.parents[1] / "tests" / "hardening" / "test_public_arrays.py")
        test, seeds = tests.anything.hypothesis.fuzz_one_input, None
    elif what == "json":
        test, seeds = record()
    elif what in {"dm3", "dm4", "tif", "npy", "npz", "png", "hspy", "emd", "mrc", "h5", "mat", "txt", "csv"}:
        test, seeds = reader(what)
    else:
        raise SystemExit(__doc__)
    atheris.Setup([sys.argv[0], *sys.argv[2:], *([str(seeds)] if seeds else [])], test)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
