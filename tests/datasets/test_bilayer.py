import math

import numpy as np
import pytest
import torch

import torchmotif as tm

A_NM = 0.3160


def test_the_moire_has_its_period() -> None:
    angle, pixel = math.radians(5), 0.03
    truth = tm.datasets.twisted_bilayer_mos2(angle, (512, 512), pixel).truth
    period = A_NM / (2 * math.sin(angle / 2)) / pixel
    registry = torch.as_tensor(truth.more["registry_nm"]).norm(dim=1)
    on_top = truth.positions[(registry < 0.03) & torch.as_tensor(truth.kinds == "Mo")] - 255.5
    distance = on_top.norm(dim=1)
    ring = distance[(distance > 0.5 * period) & (distance < 1.4 * period)]
    assert float(ring.mean()) == pytest.approx(period, rel=0.03)


@pytest.mark.parametrize(
    ("antiparallel", "stackings"),
    [(False, {"AA", "AB", "BA", "SP"}), (True, {"AA'", "AB'", "A'B"})],
    ids=["parallel", "antiparallel"],
)
def test_stacking_is_what_lies_on_what(antiparallel: bool, stackings: set[str]) -> None:
    pixel = 0.02
    truth = tm.datasets.twisted_bilayer_mos2(
        math.radians(2), (900, 900), pixel, antiparallel=antiparallel
    ).truth
    assert set(truth.more["stacking"]) == stackings
    top = truth.more["layer"] == 1
    below = torch.cdist(truth.positions[torch.as_tensor(top)], truth.positions[torch.as_tensor(~top)])
    nearest = below.min(1)
    coincide = (nearest.values < 0.015 / pixel).numpy()
    under = truth.kinds[~top][nearest.indices.numpy()][coincide]
    over, name = truth.kinds[top][coincide], truth.more["stacking"][top][coincide]
    pairs = {(o, u): set(name[(over == o) & (under == u)]) for o in ("Mo", "S2") for u in ("Mo", "S2")}
    if antiparallel:
        assert pairs == {
            ("Mo", "Mo"): {"AB'"},
            ("Mo", "S2"): {"AA'"},
            ("S2", "Mo"): {"AA'"},
            ("S2", "S2"): {"A'B"},
        }
    else:
        assert pairs == {
            ("Mo", "Mo"): {"AA"},
            ("Mo", "S2"): {"AB"},
            ("S2", "Mo"): {"BA"},
            ("S2", "S2"): {"AA"},
        }


@pytest.mark.parametrize(
    ("antiparallel", "grows", "shrinks"), [(False, ("AB", "BA"), ("AA",)), (True, ("AA'",), ("AB'", "A'B"))]
)
def test_relaxation_grows_the_stackings_of_low_energy(
    antiparallel: bool, grows: tuple[str, ...], shrinks: tuple[str, ...]
) -> None:
    rigid, relaxed = (
        tm.datasets.twisted_bilayer_mos2(
            math.radians(2), (900, 900), antiparallel=antiparallel, relaxation=r
        ).truth
        for r in (0.0, 0.8)
    )
    share = [lambda names, t=t: np.isin(t.more["stacking"], names).mean() for t in (rigid, relaxed)]
    assert share[1](grows) > 1.15 * share[0](grows)
    assert share[1](shrinks) < 0.7 * share[0](shrinks)
    assert float(rigid.strain.abs().max()) == 0
    assert 0 < float(relaxed.strain.abs().max()) < 0.05


def test_relaxed_layers_lie_as_their_registry_says() -> None:
    """The registry at a top metal is its place less that of the bottom lattice point it came from."""
    pixel = 0.02
    truth = tm.datasets.twisted_bilayer_mos2(math.radians(1), (600, 600), pixel, relaxation=0.7).truth
    metal = torch.as_tensor(truth.kinds == "Mo")
    top = metal & torch.as_tensor(truth.more["layer"] == 1)
    bottom = metal & torch.as_tensor(truth.more["layer"] == 0)
    middle = (truth.positions - 299.5).norm(dim=1) < 200
    above, below = truth.positions[top & middle], truth.positions[bottom]
    apart = above[:, None] - below
    shortest = apart.norm(dim=2).argmin(1)
    measured = apart[torch.arange(len(above)), shortest].norm(dim=1) * pixel
    said = torch.as_tensor(truth.more["registry_nm"])[top & middle].norm(dim=1)
    assert float((measured - said).abs().quantile(0.95)) < 0.012


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"angle_rad": 1.0}, "angle_rad"),
        ({"relaxation": 1.0}, "relaxation"),
        ({"pixel_size_nm": -1.0}, "pixel_size"),
    ],
    ids=["angle", "relaxation", "pixel"],
)
def test_bad_input_is_refused(options: dict, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.datasets.twisted_bilayer_mos2(**options)
