"""Patches per second of every stage, and the accuracy that the time buys, beside what a user would otherwise take.

pytest benchmarks --device cpu --benchmark-json=cpu.json        some minutes; --full for 100,000 patches and all doses
pytest benchmarks --device cpu --full -k "100000-1 or peak"      a part of it; several parts make one run, give all to throughput.py
pytest benchmarks -m gpu --device cuda --benchmark-json=cuda.json
OMP_NUM_THREADS=1 pytest benchmarks --device cpu --benchmark-timer=time.process_time --benchmark-json=cpu.json
                                                                processor time of one thread, where others share the machine
python benchmarks/throughput.py cpu.json cuda.json              tables and plot in archive/throughput.md

Patches are cut from simulated MoSe2 (expected image tiled to hold enough columns, then drawn at the dose). What a stage
costs does not depend on the values in the patches, save for clustering: only that is measured at every dose by default.
On a GPU everything is on the device beforehand, and the clock stops when the device is done.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

import torchmotif as tm
from torchmotif.metrics import ami

try:  # the extra `bench`
    import mahotas
    from mtflearn.features import KeyPoints, ZPs
except ImportError:
    mahotas = ZPs = None

pytestmark = pytest.mark.filterwarnings("default")
ORDERS = {33: 10, 65: 20}  # radial order for each side of the patches
DOSES = (1.0, 1 / 10, 1 / 50, 1 / 200)
COMPONENTS = 20
SEED = 0
MAHOTAS = 50  # patches: it takes one at a time


@dataclass(frozen=True)
class Field:
    """Columns of a drawn image; `classes` is the truth."""

    image: Tensor
    positions: Tensor
    offsets: Tensor
    patches: Tensor
    classes: np.ndarray


@cache
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((1024, 1024), vacancy_rate=0.06, random_state=SEED)


@lru_cache(1)  # of 100,000 patches of 65 px one is enough
def field(n: int, size: int, dose: float, device: str) -> Field:
    """The first `n` columns of as many tiles as it takes."""
    one = specimen()
    whole = tm.patches.inside(one.truth.positions, one.shape, size)
    at, classes = one.truth.positions[whole], one.truth.classes[whole.numpy()]
    side = math.ceil(math.sqrt(n / len(at)))
    generator = torch.Generator().manual_seed(SEED)
    expected = torch.as_tensor(one.image.data).float() * dose
    image = torch.poisson(expected.repeat(side, side), generator=generator)
    corner = torch.cartesian_prod(torch.arange(side), torch.arange(side)) * one.shape[0]
    positions = (corner[:, None] + at).reshape(-1, 2)[:n].contiguous()
    image, positions = image.to(device), positions.to(device)
    patches = tm.extract_patches(image, positions, size)
    labels = np.tile(classes, side**2)[:n]
    return Field(image, positions, tm.patches.offsets(positions, size), patches, labels)


@cache
def basis(size: int, device: str) -> tm.ZernikeBasis:
    return tm.ZernikeBasis(ORDERS[size], size, device=device)


def kmeans(features: Any, k: int) -> np.ndarray:
    values = features.cpu().numpy() if isinstance(features, Tensor) else features
    return KMeans(k, n_init=4, random_state=SEED).fit_predict(values)


def keypoints(f: Field, size: int) -> Any:
    return KeyPoints(f.positions.numpy()[:, ::-1], f.image.numpy(), size).extract_patches()


Call = Callable[[], Any]


def _numpy_projection(f: Field, size: int, device: str) -> Call:
    kernels, flat = basis(size, device).basis.cpu().numpy(), f.patches.flatten(1).numpy()
    return lambda: flat @ kernels.T


@cache
def _motif_learn_basis(size: int) -> Any:
    return ZPs(ORDERS[size], size)


def _motif_learn_projection(f: Field, size: int) -> Call:
    patches = f.patches.numpy()
    return lambda: _motif_learn_basis(size).transform(patches).data


def _transform(model: Any, features: Any) -> Call:
    model.fit(features[:2000])
    return lambda: model.transform(features)


# Stage and who does it: a function of field, size and device that gives the call that is timed.
STAGES: dict[str, dict[str, Callable[[Field, int, str], Call]]] = {
    "extraction": {
        "torchmotif": lambda f, s, _: lambda: tm.extract_patches(f.image, f.positions, s),
        "motif-learn": lambda f, s, _: lambda: keypoints(f, s),
    },
    "projection": {
        "torchmotif": lambda f, s, d: lambda: basis(s, d)(f.patches),
        "torchmotif, from the image": lambda f, s, d: lambda: basis(s, d).project(f.image, f.positions),
        "numpy": _numpy_projection,
        "motif-learn": lambda f, s, _: _motif_learn_projection(f, s),
        "mahotas": lambda f, s, _: (
            lambda: [
                mahotas.features.zernike_moments(p, s / 2, ORDERS[s]) for p in f.patches[:MAHOTAS].numpy()
            ]
        ),
    },
    "PCA fit": {
        "torchmotif": lambda f, _, __: lambda: tm.PCA(COMPONENTS).fit(f.patches.flatten(1)),
        "scikit-learn": lambda f, _, __: (
            lambda: PCA(COMPONENTS, random_state=SEED).fit(f.patches.flatten(1).numpy())
        ),
    },
    "PCA transform": {
        "torchmotif": lambda f, _, __: _transform(tm.PCA(COMPONENTS), f.patches.flatten(1)),
        "scikit-learn": lambda f, _, __: _transform(
            PCA(COMPONENTS, random_state=SEED), f.patches.flatten(1).numpy()
        ),
    },
}
CLUSTERING: dict[str, Callable[[Field, int, str], Callable[[], Any]]] = {
    "MotifClassifier": lambda f, s, _: (
        lambda: tm.MotifClassifier(n_max=ORDERS[s]).fit_predict(f.patches, f.offsets)
    ),
    "Zernike, k-means": lambda f, s, d: lambda: kmeans(basis(s, d)(f.patches), len(set(f.classes))),
    "PCA, k-means": lambda f, _, __: (
        lambda: kmeans(tm.PCA(COMPONENTS).fit_transform(f.patches.flatten(1)), len(set(f.classes)))
    ),
    "scikit-learn PCA, k-means": lambda f, _, __: (
        lambda: kmeans(
            PCA(COMPONENTS, random_state=SEED).fit_transform(f.patches.flatten(1).numpy()),
            len(set(f.classes)),
        )
    ),
    "motif-learn Zernike, k-means": lambda f, s, _: (
        lambda: kmeans(_motif_learn_projection(f, s)(), len(set(f.classes)))
    ),
}
HOST_ONLY = ("numpy", "motif-learn", "mahotas", "scikit-learn")


def work(stage: str, n: int, size: int) -> tuple[float, float]:
    """Floating-point operations and bytes moved, at least."""
    d, k = size**2, (ORDERS[size] + 1) * (ORDERS[size] + 2) // 2
    flops, numbers = {
        "extraction": (0, 2 * n * d),
        "projection": (2 * n * d * k, n * d + k * d + n * k),
        # the symmetric product, or sixteen products of all rows with as many vectors as components
        "PCA fit": (n * d * min(n, d, 32 * COMPONENTS), n * d),
        "PCA transform": (2 * n * d * COMPONENTS, n * d + COMPONENTS * (n + d)),
    }[stage]
    return float(flops), 4.0 * numbers


def timed(benchmark: Any, call: Call, device: str, rounds: int, *, warm: bool = True, **facts: Any) -> Any:
    """Time a call after a warm-up (what takes long needs none); what it gave."""

    def finished() -> Any:
        result = call()
        if device != "cpu":
            torch.cuda.synchronize(device)
        return result

    benchmark.extra_info.update(device=device, threads=torch.get_num_threads(), seed=SEED, **facts)
    if device != "cpu":
        benchmark.extra_info["gpu"] = torch.cuda.get_device_name(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: Any = benchmark.pedantic(finished, rounds=rounds, warmup_rounds=int(warm and rounds > 1))
    return result


def skip_unless_it_can(who: str, device: str, *, full: bool, large: bool) -> None:
    if large and not full:
        pytest.skip("large: give --full")
    if who.startswith(HOST_ONLY) and device != "cpu":
        pytest.skip(f"{who} has no GPU side")
    if (who.startswith("motif-learn") and ZPs is None) or (who == "mahotas" and mahotas is None):
        pytest.skip(f"{who} is not installed: pip install 'torchmotif[bench]'")


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


@pytest.mark.benchmark(group="peak")
def test_peak_sgemm(benchmark: Any, device: str) -> None:
    """What the device can do: the roof over all others."""
    a = torch.rand(2048, 2048, device=device)
    timed(benchmark, lambda: a @ a, device, 9, stage="sgemm", who="torch", flops=2 * 2048.0**3)


@pytest.mark.benchmark(group="peak")
def test_peak_copy(benchmark: Any, device: str) -> None:
    a, b = torch.rand(2**26, device=device), torch.empty(2**26, device=device)
    timed(benchmark, lambda: b.copy_(a), device, 9, stage="copy", who="torch", bytes=2 * 4 * 2.0**26)


@pytest.mark.parametrize("size", ORDERS)
@pytest.mark.parametrize("who", ["torchmotif", "motif-learn"])
@pytest.mark.benchmark(group="basis")
def test_basis(benchmark: Any, device: str, who: str, size: int) -> None:
    skip_unless_it_can(who, device, full=True, large=False)
    make = (lambda: tm.zernike_basis(ORDERS[size], size, device=device)) if who == "torchmotif" else None
    call = make or (lambda: ZPs(ORDERS[size], size))
    timed(benchmark, call, device, 7, stage="basis", who=who, size=size)


CASES = [
    pytest.param(stage, who, size, n, dose, id=f"{stage}-{who}-{size}px-{n}-{dose:g}")
    for size in ORDERS
    for n in (1_000, 10_000, 100_000)
    for dose in DOSES  # all that is done with one field comes together
    for stage, makers in STAGES.items()
    for who in makers
    if who != "mahotas" or n == 1_000
]


@pytest.mark.parametrize(("stage", "who", "size", "n", "dose"), CASES)
@pytest.mark.benchmark(group="stages")
def test_stage(
    *, benchmark: Any, device: str, full: bool, stage: str, who: str, size: int, n: int, dose: float
) -> None:
    skip_unless_it_can(who, device, full=full, large=n > 10_000 or dose < 1)
    call = STAGES[stage][who](field(n, size, dose, device), size, device)
    count = MAHOTAS if who == "mahotas" else n
    flops, moved = work(stage, count, size)
    facts = {
        "stage": stage,
        "who": who,
        "size": size,
        "n": count,
        "dose": dose,
        "flops": flops,
        "bytes": moved,
    }
    rounds = 5 if n <= 1_000 and who != "mahotas" else 3
    # Memory that nobody had before costs more than the gathering; who comes first would pay it for the others.
    timed(benchmark, call, device, rounds, warm=n <= 10_000 or stage == "extraction", **facts)


@pytest.mark.parametrize("dose", DOSES, ids=lambda dose: f"1/{1 / dose:.0f}")
@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("size", ORDERS)
@pytest.mark.parametrize("who", CLUSTERING)
@pytest.mark.benchmark(group="motifs")
def test_motifs(*, benchmark: Any, device: str, full: bool, who: str, size: int, n: int, dose: float) -> None:
    """From patches to labels: features and clustering together, and how right the labels are."""
    skip_unless_it_can(who, device, full=full, large=n > 10_000 or (size > 33 and n > 1_000))
    f = field(n, size, dose, device)
    call = CLUSTERING[who](f, size, device)
    facts = {"stage": "motifs", "who": who, "size": size, "n": n, "dose": dose}
    labels = timed(benchmark, call, device, 1 if who == "MotifClassifier" or n > 1_000 else 3, **facts)
    benchmark.extra_info["ami"] = ami(f.classes, labels)
