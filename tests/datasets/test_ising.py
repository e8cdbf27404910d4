import itertools

import numpy as np
import pytest

import torchmotif as tm
from torchmotif.datasets.ising import ising_draw, ising_energy


def snub_square(cells: int) -> tuple[np.ndarray, int]:
    """Neighbour pairs of the snub square tiling on a torus of cells x cells, four sites each."""
    # Sites of a cell about a square, its sides, and the bonds to the cells around it.
    inside = [(0, 1), (1, 2), (2, 3), (3, 0)]
    across = [
        (0, 2, (1, 0)),
        (0, 3, (1, 0)),
        (1, 3, (0, 1)),
        (1, 0, (0, 1)),
        (1, 2, (-1, 0)),
        (2, 3, (0, -1)),
    ]
    pairs = set()
    for i, j in itertools.product(range(cells), repeat=2):
        here = 4 * (i * cells + j)
        for a, b in inside:
            pairs.add(tuple(sorted((here + a, here + b))))
        for a, b, (di, dj) in across:
            there = 4 * ((i + di) % cells * cells + (j + dj) % cells)
            pairs.add(tuple(sorted((here + a, there + b))))
    return np.array(sorted(pairs)), 4 * cells**2


def serial_energies(
    pairs: np.ndarray, sites: int, filled: int, coupling: float, rng: np.random.Generator
) -> float:
    """Mean energy of a long run that exchanges one pair of sites at a time, by recomputing the energy each time."""
    spins = np.where(rng.permutation(sites) < filled, 1, -1)
    energy, total, count = ising_energy(spins, pairs), 0.0, 0
    for step in range(16_000):
        i, j = rng.integers(sites, size=2)
        spins[[i, j]] = spins[[j, i]]
        proposed = ising_energy(spins, pairs)
        if rng.random() < np.exp(coupling * (energy - proposed)):
            energy = proposed
        else:
            spins[[i, j]] = spins[[j, i]]
        if step >= 2000:
            total += energy
            count += 1
    return total / count


@pytest.mark.parametrize("coupling", [-0.3, 0.15, 0.3])
def test_draws_have_the_exact_energy_of_a_small_system(coupling: float) -> None:
    pairs = np.array([(i, (i + k) % 14) for i in range(14) for k in (1, 4)])
    energies = []
    for filled in itertools.combinations(range(14), 6):
        spins = np.full(14, -1)
        spins[list(filled)] = 1
        energies.append(ising_energy(spins, pairs))
    weight = np.exp(-coupling * np.array(energies))
    exact = np.average(energies, weights=weight)
    rng = np.random.default_rng(0)
    drawn = [
        ising_energy(
            np.where(ising_draw(pairs, 14, filling=6 / 14, coupling=coupling, sweeps=15, rng=rng), 1, -1),
            pairs,
        )
        for _ in range(300)
    ]
    assert np.mean(drawn) == pytest.approx(exact, abs=4 * np.std(drawn) / 300**0.5)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", [-0.25, 0.2])
def test_draws_have_the_energy_of_a_long_independent_run(coupling: float) -> None:
    pairs, sites = snub_square(4)
    rng = np.random.default_rng(1)
    filled = round(0.4 * sites)
    reference = serial_energies(pairs, sites, filled, coupling, rng)
    drawn = [
        ising_energy(
            np.where(ising_draw(pairs, sites, filling=0.4, coupling=coupling, sweeps=50, rng=rng), 1, -1),
            pairs,
        )
        for _ in range(60)
    ]
    assert np.mean(drawn) == pytest.approx(reference, abs=5 * np.std(drawn) / 60**0.5)


def test_the_filling_is_kept_and_the_seed_decides() -> None:
    pairs, sites = snub_square(6)
    first, again = (
        ising_draw(pairs, sites, filling=0.3, coupling=0.2, rng=np.random.default_rng(4)) for _ in range(2)
    )
    assert first.sum() == round(0.3 * sites)
    assert (first == again).all()
    for share in (0.0, 1.0):
        assert (
            ising_draw(pairs, sites, filling=share, coupling=0.2, rng=np.random.default_rng(0)).mean()
            == share
        )


def test_coupling_gathers_or_mixes() -> None:
    pairs, sites = snub_square(12)
    energy = {
        k: ising_energy(
            np.where(ising_draw(pairs, sites, filling=0.5, coupling=k, rng=np.random.default_rng(0)), 1, -1),
            pairs,
        )
        for k in (-0.3, 0.0, 0.3)
    }
    assert energy[0.3] < energy[0.0] - 200
    assert energy[-0.3] > energy[0.0] + 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filling": 1.2}, "filling"),
        ({"coupling": np.nan}, "coupling"),
        ({"sites": 0}, "site"),
        ({"sweeps": -1}, "sweeps"),
    ],
    ids=["filling", "coupling", "sites", "sweeps"],
)
def test_bad_input_is_refused(options: dict, message: str) -> None:
    usual = {"sites": 3, "filling": 0.5, "coupling": 0.1, "rng": np.random.default_rng(0)}
    with pytest.raises(tm.errors.InputError, match=message):
        ising_draw(np.array([[0, 1]]), **{**usual, **options})
