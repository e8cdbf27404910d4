import math

import pytest
import torch
from scipy.special import j0

import torchmotif as tm
from torchmotif.zernike import choose_n_max, choose_patch_size


@pytest.mark.parametrize("pixel_size_nm", [0.012, 0.02])
def test_the_patch_reaches_to_the_next_lattice_point(pixel_size_nm: float) -> None:
    specimen = tm.datasets.mose2((300, 300), pixel_size_nm)
    for image in (specimen.image, specimen.draw(0.1, torch.Generator().manual_seed(0))):
        choice = choose_patch_size(image)
        assert choice.distance == pytest.approx(0.3289 / pixel_size_nm, rel=0.05)
        assert choice.size % 2 == 1
        assert abs(choice.size - 2 * choice.distance) <= 1.01
        assert len(choice.radii) == len(choice.profile)


def test_less_dose_leaves_fewer_orders() -> None:
    specimen = tm.datasets.mose2((256, 256))
    choices = [
        choose_n_max(specimen.draw(dose, torch.Generator().manual_seed(1)), 33) for dose in (10.0, 0.1, 0.005)
    ]
    assert choices[0].n_max > choices[1].n_max > choices[2].n_max
    for choice in choices:
        assert choice.power.shape == choice.noise.shape == choice.share.shape
        assert float(choice.share[-1]) == pytest.approx(1)


def test_noise_alone_leaves_no_order() -> None:
    noise = torch.randn(200, 200, generator=torch.Generator().manual_seed(2))
    choice = choose_n_max(noise, 21)
    assert choice.n_max == 0
    assert float((choice.power / choice.noise - 1).abs().max()) < 0.25


def test_noise_has_no_patch_size() -> None:
    with pytest.raises(tm.errors.InputError, match="no regular spacing"):
        choose_patch_size(torch.ones(80, 80) + torch.linspace(0, 1, 80))
    with pytest.raises(tm.errors.InputError, match="no regular spacing"):
        choose_patch_size(torch.ones(40, 50))
    spoilt = torch.ones(80, 80).index_fill(0, torch.tensor([3]), torch.nan)
    for choose in (choose_patch_size, lambda image: choose_n_max(image, 21)):
        with pytest.raises(tm.errors.InputError, match="80 pixels that are not finite"):
            choose(spoilt)
    with pytest.raises(tm.errors.InputError, match="room for a patch"):
        choose_n_max(torch.zeros(20, 20), 33)


@pytest.mark.parametrize("period", [12, 16])
def test_the_profile_of_a_wave_is_a_bessel_function(period: int) -> None:
    phase = 2 * math.pi * torch.arange(160) / period
    choice = choose_patch_size(torch.cos(phase).expand(160, -1))
    known = torch.from_numpy(j0(2 * math.pi * choice.radii.numpy() / period))
    far = choice.radii > 2 * period
    assert float((choice.profile - known)[far].abs().max()) < 0.07
    assert float((choice.profile / known)[far & (known.abs() > 0.15)].mean()) == pytest.approx(1, abs=0.1)
