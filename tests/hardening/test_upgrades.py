"""Results of earlier versions load for ever; tests/data/write_result.py wrote them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

import torchmotif as tm
from torchmotif.analysis._saved import FORMAT

DATA = Path(__file__).parents[1] / "data"
POSITIONS_SUM = {"result_v1": 7468.694144769482}


def test_there_is_a_result_of_every_format() -> None:
    assert sorted(POSITIONS_SUM) == [f"result_v{number}" for number in range(1, FORMAT + 1)]
    assert sum(path.stat().st_size for path in DATA.rglob("result_*/*")) < 300_000


@pytest.mark.parametrize("name", POSITIONS_SUM)
def test_a_kept_result_loads_with_all_that_is_in_it(name: str, tmp_path: Path) -> None:
    result = tm.MotifResult.load(DATA / name)
    assert (result.n_motifs, len(result.columns), result.counts.tolist()) == (2, 65, [17, 15])
    assert result.image.data.dtype == np.uint16
    assert result.image.pixel_size_nm == (0.015, 0.015)
    assert result.image.electrons_per_pixel == 10.0
    assert result.image.metadata["note"] == 'Å, "quotes" & <tags>'
    assert float(result.columns.positions.sum()) == POSITIONS_SUM[name]
    assert hashlib.sha256(result.image.data.tobytes()).hexdigest() == result.record["input"]["pixels_sha256"]
    assert result.record["versions"]["torchmotif"] == "0.1.0.dev0"
    assert result.record["parameters"]["n_max"] == 10
    table = result.to_dataframe()
    assert (table["motif"] >= 0).sum() == 32
    assert len(result.hierarchy.levels_) == 3
    result.save(tmp_path / "again", report=False)
    again = tm.MotifResult.load(tmp_path / "again")
    np.testing.assert_array_equal(again.columns.position_errors, result.columns.position_errors)
    np.testing.assert_array_equal(again.templates, result.templates)
    assert again.record == result.record
