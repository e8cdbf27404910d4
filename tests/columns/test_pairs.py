"""One column or two: pairs with one maximum, neighbours that are none, images of unlike columns, and that tiles do not matter."""

import numpy as np
import pytest
import torch
from probes import Scene, dumbbells, honeycomb
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._cell_bins import rendered
from torchmotif.columns._cell_fit import sites_of
from torchmotif.columns._fit import Fit
from torchmotif.columns._noise import Noise
from torchmotif.columns._search import converge
from torchmotif.columns._start import Shape, Start
from torchmotif.columns._trial import one_or_two
from torchmotif.columns.calibrate import calibrate
from torchmotif.columns.model import Tiles
from torchmotif.columns.tiled import columns_of_tiles

LOW = 1 / 50
POISSON = Noise.of((0.0, 1.0, 0.0, 1.0))
DRAWS = 3


def inner(positions: np.ndarray, side: int, margin: float = 18) -> np.ndarray:
    return ((positions > margin) & (positions < side - 1 - margin)).all(axis=1)


def pair(gap: float) -> Scene:
    """Two columns of 90 counts at the low dose altogether, `gap` pixels apart, in the middle of 61 pixels."""
    half = torch.tensor([0.6, 0.8]).double() * gap / 2
    places = torch.stack([30 - half, 30 + half])
    return Scene(places, torch.tensor([2500.0, 2000.0]).double(), 3.0, 0.5, (61, 61))


def evidence(scene: Scene, draws: int) -> np.ndarray:
    """Twice the logarithm of how much likelier two columns than one are, for several draws of a pair."""
    found = []
    for seed in range(draws):
        data = scene.draw(LOW, seed).float()[None]
        tiles = Tiles(data, torch.ones_like(data) > 0, torch.zeros_like(data) > 0)
        shape = Shape(torch.tensor([3.0, 3.0]), 3.0, (1.0, 1.0), POISSON, torch.ones(()), torch.zeros(()))
        start = Start.at(torch.tensor([[30.0, 30.0]]).double(), torch.zeros(1, dtype=torch.long))
        fit = Fit(tiles, start, shape, 13.0)
        converge(fit, 9)
        away = torch.tensor([0.0, 2.5, 2.5]).double()
        column = torch.cat([fit.intensity[:, None].double(), fit.positions], dim=1)
        half = column * torch.tensor([0.5, 1, 1]).double()
        two = torch.stack([half - away, half + away], dim=1)
        found.append(one_or_two(fit, torch.tensor([[0]]), two).evidence.item())
    return np.array(found)


def test_pairs_of_few_counts_are_told_from_single_columns() -> None:
    scene = dumbbells()
    truth = scene.positions.numpy()
    kept = inner(truth, scene.shape[0])
    missed = thirds = 0
    for seed in range(DRAWS):
        found = tm.find_columns(scene.draw(LOW, 100 + seed).numpy(), spacing=8.0).positions
        missed += int((cKDTree(found).query(truth[kept])[0] > scene.sigma).sum())
        thirds += int(inner(found, scene.shape[0]).sum() - kept.sum())
    assert missed <= 0.03 * DRAWS * kept.sum()
    assert abs(thirds) <= 0.03 * DRAWS * kept.sum()


def test_single_columns_of_few_counts_stay_single() -> None:
    scene = honeycomb(vacancy=0.0)
    near = every = 0
    for seed in range(DRAWS):
        found = tm.find_columns(scene.draw(LOW, 100 + seed).numpy()).positions
        here = inner(found, scene.shape[0])
        near += int((cKDTree(found).query(found[here], k=2)[0][:, 1] < 3 * scene.sigma).sum())
        every += int(here.sum())
    assert near <= 0.03 * every  # both of a false pair count


@pytest.mark.parametrize("dose", [1.0, 1 / 10])
def test_oval_columns_are_no_pairs(dose: float) -> None:
    scene = honeycomb(vacancy=0.0)
    rows, cols = (torch.arange(160).double() - at[:, None] for at in scene.positions.unbind(1))
    # All columns a third wider along a diagonal, as astigmatism makes them; the width of the fit is along rows and columns.
    along, across = (rows[:, :, None] + cols[:, None]) / 2**0.5, (rows[:, :, None] - cols[:, None]) / 2**0.5
    picture = torch.exp(-(along**2) / (2 * 3.4**2) - across**2 / (2 * 2.6**2)) / (2 * np.pi * 3.4 * 2.6)
    expected = dose * ((scene.intensities[:, None, None] * picture).sum(dim=0) + 0.5)
    found = tm.find_columns(
        torch.poisson(expected, generator=torch.Generator().manual_seed(0)).numpy()
    ).positions
    here = inner(found, 160)
    assert (cKDTree(found).query(found[here], k=2)[0][:, 1] > 2.5 * 3).all()


def uneven(scene: Scene, dose: float, seed: int) -> np.ndarray:
    """An image whose columns are oval, each along an axis of its own, by up to three squared widths: but no pairs."""
    generator = torch.Generator().manual_seed(seed)
    n = len(scene.positions)
    longer = torch.randn(n, 1, 1, generator=generator).double().abs()
    angle = torch.rand(n, 1, 1, generator=generator).double() * np.pi
    rows, cols = (torch.arange(160).double() - at[:, None] for at in scene.positions.unbind(1))
    along = angle.cos() * rows[:, :, None] + angle.sin() * cols[:, None]
    across = angle.cos() * cols[:, None] - angle.sin() * rows[:, :, None]
    variance = scene.sigma**2 * (1 + longer)
    picture = torch.exp(-(along**2) / (2 * variance) - across**2 / (2 * scene.sigma**2))
    picture = picture / (2 * np.pi * scene.sigma * variance.sqrt())
    expected = dose * ((scene.intensities[:, None, None] * picture).sum(dim=0) + scene.background)
    return torch.poisson(expected, generator=generator).numpy()


def test_what_most_columns_differ_by_is_no_evidence_for_pairs() -> None:
    scene = honeycomb(vacancy=0.0)
    truth = scene.positions.numpy()
    truth = truth[inner(truth, 160)]
    doubled = 0
    for seed in (1, 2, 3):
        found = tm.find_columns(uneven(scene, 1 / 10, seed)).positions
        doubled += int((cKDTree(found).query(truth, k=2)[0][:, 1] < 2 * scene.sigma).sum())
    assert doubled <= 3  # with the likelihoods taken at their word nine


def test_overdispersion_is_one_where_columns_are_alike() -> None:
    scene = honeycomb(vacancy=0.0)
    for dose in (1.0, LOW):
        assert calibrate([scene.draw(dose, 0).numpy()]).overdispersion < 1.6
    assert calibrate([uneven(scene, 1.0, 1)]).overdispersion > 5


def test_the_evidence_for_two_grows_with_their_distance() -> None:
    one, near, far = (evidence(pair(gap), 8) for gap in (0.0, 5.0, 9.0))
    assert np.median(one) < np.median(near) < np.median(far)
    assert (one < 16).mean() >= 7 / 8
    assert (far > 16).all()


@pytest.mark.parametrize("noise", [POISSON, Noise.of((0.0, 5.0, 2.0, 0.0)), Noise.of((-1.0, 3.0, 1.0, 1.0))])
def test_the_likelihood_is_the_integral_of_the_score(noise: Noise) -> None:
    data = torch.tensor([0.0, 1.0, 7.0]).double()
    for low, high in ((0.002, 0.3), (0.5, 4.0), (3.0, 6.0)):
        m = torch.linspace(low, high, 20_001).double()
        score = (data[:, None] - m) / noise.variance(m)
        integral = torch.trapezoid(score, m, dim=1)
        ends = [noise.likelihood(data, torch.full_like(data, end)) for end in (low, high)]
        torch.testing.assert_close(ends[1] - ends[0], integral, rtol=1e-5, atol=1e-6)


def test_the_likelihood_of_counts_is_that_of_poisson() -> None:
    counts, mean = torch.tensor([0.0, 2.0, 5.0]).double(), torch.tensor([0.5, 3.0]).double()
    ours = POISSON.likelihood(counts, mean[1:]) - POISSON.likelihood(counts, mean[:1])
    poisson = torch.distributions.Poisson
    theirs = poisson(mean[1]).log_prob(counts) - poisson(mean[0]).log_prob(counts)
    torch.testing.assert_close(ours, theirs)


def test_pairs_of_few_counts_are_the_same_in_parts() -> None:
    scene = dumbbells(side=260)
    image = scene.draw(LOW, 5).float()
    model = calibrate([image], spacing=8.0)
    whole = columns_of_tiles(image[None], model)["positions"].numpy()
    cut, reach = 130, model.margin
    halves = torch.stack([image[: cut + reach], image[cut - reach :]])  # of one shape: one batch
    found = columns_of_tiles(halves, model)
    at, tile = found["positions"].numpy(), found["tile"].numpy()
    upper, lower = at[tile == 0], at[tile == 1] + [cut - reach, 0]
    parts = np.concatenate([upper[upper[:, 0] < cut], lower[lower[:, 0] >= cut]])
    # One column or two may be as likely as can be; then a part may say otherwise than the whole.
    assert (cKDTree(whole).query(parts)[0] < 0.5).mean() > 0.97
    assert (cKDTree(parts).query(whole)[0] < 0.5).mean() > 0.97


def test_a_tile_has_the_same_columns_whatever_else_is_in_the_batch() -> None:
    tiles = torch.stack([honeycomb(seed=seed).draw(1 / 10, seed).float() for seed in range(4)])
    model = calibrate(tiles[:2])
    together = columns_of_tiles(tiles, model)
    for number, one in enumerate(tiles):
        alone = columns_of_tiles(one[None], model)
        mine = together["tile"] == number
        torch.testing.assert_close(together["positions"][mine], alone["positions"], atol=0.02, rtol=0)
        torch.testing.assert_close(together["intensities"][mine], alone["intensities"], atol=0.5, rtol=2e-3)


@pytest.mark.parametrize(("apart", "many"), [(2.0, 1), (2.9, 1), (7.0, 2)])
def test_two_of_a_mean_cell_nearer_than_they_are_wide_are_one(apart: float, many: int) -> None:
    width, noise, real = 3.77, 0.02, np.array([[14.5, 0.0], [7.25, 12.56]])
    half = np.linalg.solve(real.T, [0.0, apart / 2])
    cell = rendered(0.5 + np.stack([-half, half]), np.array([64.0, 73.0]), width, (29, 29), real)
    cell += noise * np.random.default_rng(0).standard_normal(cell.shape)
    found = sites_of(cell, np.full(cell.shape, noise**2), real)
    assert len(found.sites) == many
    assert found.strength.sum() == pytest.approx(137.0, rel=0.1)
    assert found.width == pytest.approx(width, rel=0.06)
