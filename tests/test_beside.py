"""Pictures drawn by a second process: the same ones, and nothing of it is left."""

import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.plot import _beside as module
from torchmotif.plot._beside import beside, draw, serve

PATCH = {"templates": np.eye(5)[None], "counts": np.array([7])}


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cores", lambda: 2)


def hidden() -> tm.MotifResult:
    """Without a pixel size, and with pixels that were not measured."""
    specimen = tm.datasets.perovskite((256, 256), random_state=1)
    image = specimen.draw(generator=torch.Generator().manual_seed(1)).numpy().astype(float)
    image[:40] = np.nan
    return tm.analyze(tm.Micrograph(image, mask=np.isnan(image)), progress=False)


def named() -> tm.MotifResult:
    specimen = tm.datasets.mose2((256, 256), vacancy_rate=0.06)
    drawn = specimen.draw(generator=torch.Generator().manual_seed(0))
    return tm.analyze(drawn, progress=False).identify("MoSe2")


@pytest.mark.parametrize("make", [hidden, named])
def test_files_are_the_same_to_the_last_byte(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = make()
    monkeypatch.setattr("torchmotif.report.figures._numbers", count())
    result.save(tmp_path / "here")
    monkeypatch.setattr("torchmotif.report.figures._numbers", count())
    with beside() as second:
        assert second is not None
        result.save(tmp_path / "beside")
        assert second.drawn == 7  # map, motifs, sites; spectrum, symmetry, atlas, growth
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "beside").iterdir())
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "beside" / name).read_bytes(), name


def test_an_error_is_raised_where_the_picture_is_asked_for() -> None:
    with beside() as second:
        assert second is not None
        drawing = draw("motifs", "png", PATCH | {"counts": np.zeros(0, int)})
        with pytest.raises(IndexError):
            drawing.result()
        # and it goes on drawing
        assert draw("motifs", "png", PATCH).result() == draw("motifs", "png", PATCH).result()
        assert second.drawn == 2


def test_a_warning_is_given_where_the_picture_is_asked_for() -> None:
    with beside() as second:
        assert second is not None
        drawing = draw("motifs", "png", PATCH | {"names": ["\u7a7a\u4f4d"]})
        with pytest.warns(UserWarning, match="Glyph"):
            drawing.result()
        assert second.drawn == 0


def test_a_process_that_is_gone_is_done_without() -> None:
    expected = draw("motifs", "png", PATCH).result()
    with beside() as second:
        assert second is not None
        second._process.kill()
        assert draw("motifs", "png", PATCH).result() == expected


@pytest.mark.parametrize("why", ["one core", "no interpreter", "built in"])
def test_without_a_second_process_pictures_are_drawn_here(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "one core":
        monkeypatch.setattr(module, "_cores", lambda: 1)
    else:
        monkeypatch.setattr(sys, "executable", "/no/such/python" if why == "no interpreter" else None)
    with beside() as second:
        assert second is None
        assert draw("motifs", "png", PATCH).result().startswith(b"\x89PNG")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
def test_the_process_has_ended_afterwards(error: Any) -> None:
    def within() -> None:
        with beside() as second:
            seen.append(second)
            for _ in range(3):
                draw("motifs", "png", PATCH)
            if error is not None:
                raise error

    seen: list[Any] = []
    if error is None:
        within()
    else:
        with pytest.raises(error):
            within()
    assert seen[0]._process.returncode is not None
    assert draw("motifs", "png", PATCH).result()  # here, again


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_process_that_hangs_is_not_waited_for_at_the_end() -> None:
    asked = """
import os, signal, time
import numpy as np
from torchmotif.plot import _beside
_beside._cores = lambda: 2
with _beside.beside() as second:
    os.kill(second._process.pid, signal.SIGSTOP)
    big = {"image": np.zeros((1024, 1024)), "positions": np.ones((3, 2)), "labels": np.zeros(3, int), "spacing": 20.0}
    _beside.draw("map", "png", big)
    time.sleep(0.5)  # the pipe is full
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "ended\n"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_an_interrupt_ends_both() -> None:
    code = (
        "import signal, time\nfrom torchmotif.plot import _beside as beside\nbeside._cores = lambda: 2\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which is ignored where a shell has put us behind it
        "with beside.beside() as second:\n print(second._process.pid, flush=True)\n time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    second = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    with pytest.raises(ProcessLookupError):
        os.kill(second, 0)


def test_files_of_the_working_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "matplotlib.py").write_text("open('was_run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with beside() as second:
        assert second is not None
        draw("motifs", "png", PATCH).result()
        assert second.drawn == 1
    assert not (tmp_path / "was_run").exists()


def test_messages_keep_arrays_and_nothing_is_pickled() -> None:
    value = {
        "a": np.arange(6, dtype=np.int16).reshape(2, 3),
        "b": [{"c": np.array(["", "full"]), "d": None}, np.float32(0.1), float("nan"), 0.1 + 0.2],
    }
    found: Any = module._content(module._message(value))
    np.testing.assert_equal(found["a"], value["a"])
    assert found["a"].dtype == np.int16
    assert found["b"][0]["c"].tolist() == ["", "full"]
    assert found["b"][0]["d"] is None
    assert found["b"][1] == np.float32(0.1)
    assert np.isnan(found["b"][2])
    assert found["b"][3] == 0.1 + 0.2
    with pytest.raises(TypeError, match=r"got \w*Path"):
        module._message({"a": Path()})


@pytest.mark.parametrize("logged", [False, True])
def test_what_would_be_seen_here_is_drawn_here(logged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*what: Any) -> Any:
        if logged:  # as matplotlib says that a font is missing
            logging.getLogger("matplotlib.font_manager").warning("findfont: not found")
        else:
            warnings.warn("soon to be gone", DeprecationWarning, stacklevel=1)
        return drawn(*what)

    drawn = module._here
    monkeypatch.setattr(logging.getLogger("matplotlib"), "handlers", [])
    monkeypatch.setattr(module, "_warm_up", lambda: None)
    monkeypatch.setattr(module, "_here", noisy)
    request, answers = io.BytesIO(), io.BytesIO()
    module._write(request, module._message(["motifs", "png", PATCH]))
    request.seek(0)
    serve(request, answers)
    answers.seek(0)
    assert bool(module._read(answers)) != logged


def test_serving_ends_with_the_requests() -> None:
    request, answers = io.BytesIO(), io.BytesIO()
    module._write(request, module._message(["motifs", "png", PATCH]))
    module._write(request, module._message(["no such sheet", "png", {}]))
    request.write(b"half a message")
    request.seek(0)
    serve(request, answers)
    answers.seek(0)
    assert module._read(answers) == draw("motifs", "png", PATCH).result()
    assert module._read(answers) == b""
    assert module._read(answers) is None
