"""Whatever array is given to a public function: it answers, or raises an error of ours."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torchmotif as tm
from torchmotif.errors import TorchMotifError

SIDE, SIZE, N_MAX = 24, 7, 3
MOMENTS = (N_MAX + 1) * (N_MAX + 2) // 2
EXAMPLES = int(os.environ.get("TORCHMOTIF_EXAMPLES", "20"))  # of arrays for every function
RNG = np.random.default_rng(0)
IMAGE = RNG.poisson(20.0, (SIDE, SIDE)).astype(np.float32)
POSITIONS = np.stack(np.meshgrid(np.arange(5.0, 20, 4), np.arange(5.0, 20, 4)), axis=-1).reshape(-1, 2)
PATCHES = tm.extract_patches(IMAGE, POSITIONS, SIZE)
LABELS = np.arange(len(POSITIONS)) % 2
BASIS = tm.ZernikeBasis(N_MAX, SIZE)
VALUES = [0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 1e-45, 5e-324, 1e20, -1e20, 3e38, 1.7e308, np.inf, -np.inf, np.nan]
DTYPES = [
    "f8",
    "f4",
    "f2",
    ">f4",
    "<f8",
    ">i2",
    "u1",
    "i1",
    "i8",
    "u8",
    "u2",
    "?",
    "c8",
    "g",
    "U3",
    "O",
    "M8[s]",
    "S2",
    "V4",
]
FAMILIAR = ["f8", "f4", "f2", ">f4", "i8", "u1", "u2"]

# Name: the function of one array, and the shape that it asks for.
Target = tuple[Callable[[Any], object], tuple[int, ...]]
n = len(POSITIONS)
TARGETS: dict[str, Target] = {
    "Micrograph": (lambda a: np.asarray(tm.Micrograph(a)), (SIDE, SIDE)),
    "Micrograph.pixel_size": (lambda a: tm.Micrograph(IMAGE, a), (2,)),
    "find_columns": (lambda a: tm.find_columns(a, spacing=4.0), (SIDE, SIDE)),
    "find_columns, no spacing": (tm.find_columns, (SIDE, SIDE)),
    "find_columns, mask": (lambda a: tm.find_columns(IMAGE, spacing=4.0, mask=a), (SIDE, SIDE)),
    "extract_patches": (lambda a: tm.extract_patches(a, POSITIONS, SIZE), (SIDE, SIDE)),
    "extract_patches, positions": (lambda a: tm.extract_patches(IMAGE, a, SIZE, rim="pad"), (n, 2)),
    "inside": (lambda a: tm.patches.inside(a, (SIDE, SIDE), SIZE), (n, 2)),
    "offsets": (lambda a: tm.patches.offsets(a, SIZE), (n, 2)),
    "covered": (lambda a: tm.patches.covered(a, (SIDE, SIDE), SIZE), (n, 2)),
    "basis": (BASIS, (n, SIZE, SIZE)),
    "basis, offsets": (lambda a: BASIS(PATCHES, a), (n, 2)),
    "project": (lambda a: BASIS.project(a, POSITIONS), (SIDE, SIDE)),
    "project, positions": (lambda a: BASIS.project(IMAGE, a, outside="mask"), (n, 2)),
    "maps": (BASIS.maps, (SIDE, SIDE)),
    "reconstruct": (BASIS.reconstruct, (n, MOMENTS)),
    "rotate": (lambda a: tm.rotate(a, 0.3), (n, MOMENTS)),
    "rotate, angle": (lambda a: tm.rotate(np.ones((n, MOMENTS)), a), (n,)),
    "to_complex": (tm.zernike.to_complex, (n, MOMENTS)),
    "to_real": (tm.zernike.to_real, (n, 6)),
    "reflect": (tm.reflect, (n, MOMENTS)),
    "invariants": (tm.invariants, (n, MOMENTS)),
    "complete invariants": (lambda a: tm.invariants(a, "complete"), (n, MOMENTS)),
    "rotation_distance": (
        lambda a: tm.rotation_distance(a, np.ones((n, MOMENTS)), mirror=True),
        (n, MOMENTS),
    ),
    "rotational_symmetry": (lambda a: tm.rotational_symmetry(a, (2, 3)), (n, MOMENTS)),
    "mirror_symmetry": (tm.mirror_symmetry, (n, MOMENTS)),
    "rotational_symmetry_map": (lambda a: tm.rotational_symmetry_map(a, BASIS, (2,)), (SIDE, SIDE)),
    "apply_dose": (lambda a: tm.apply_dose(a, 3.0), (SIDE, SIDE)),
    "thin": (lambda a: tm.noise.thin(a, 0.5), (SIDE, SIDE)),
    "estimate_gain": (tm.noise.estimate_gain, (SIDE, SIDE)),
    "anscombe": (tm.noise.anscombe, (SIDE, SIDE)),
    "inverse_anscombe": (tm.noise.inverse_anscombe, (SIDE, SIDE)),
    "MotifClassifier": (lambda a: tm.MotifClassifier(n_max=N_MAX).fit(a), (n, SIZE, SIZE)),
    "MotifClassifier, offsets": (lambda a: tm.MotifClassifier(n_max=N_MAX).fit(PATCHES, a), (n, 2)),
    "PlaneGraph": (tm.PlaneGraph.from_positions, (n, 2)),
    "PlaneGraph, labels": (lambda a: tm.PlaneGraph.from_positions(POSITIONS, a), (n,)),
    "ami": (lambda a: tm.metrics.ami(a, LABELS), (n,)),
    "site_f1": (lambda a: tm.metrics.site_f1(LABELS, a), (n,)),
    "site_f1, kinds": (lambda a: tm.metrics.site_f1(a, LABELS), (n,)),
    "ami, truth": (lambda a: tm.metrics.ami(LABELS, a), (n,)),
    "mirror_symmetry_map": (lambda a: tm.mirror_symmetry_map(a, BASIS), (SIDE, SIDE)),
    "orders": (lambda a: tm.invariants(np.ones((n, 6)), "power", a), (6, 2)),
    "choose_patch_size": (tm.zernike.choose_patch_size, (SIDE, SIDE)),
    "choose_n_max": (lambda a: tm.zernike.choose_n_max(a, SIZE, POSITIONS), (SIDE, SIDE)),
    "KMeans": (lambda a: tm.cluster.KMeans(2).fit_predict(a), (n, 2)),
    "GaussianMixture": (lambda a: tm.cluster.GaussianMixture(2).fit_predict(a), (n, 2)),
    "HDBSCAN": (lambda a: tm.cluster.HDBSCAN().fit_predict(a), (n, 2)),
    "LayoutBlobs": (lambda a: tm.cluster.LayoutBlobs().fit_predict(a), (n, 2)),
    "poisson_log_likelihood": (
        lambda a: tm.noise.poisson_log_likelihood(a, PATCHES[:2] + 1),
        (n, SIZE, SIZE),
    ),
    "moment_variance": (lambda a: tm.noise.moment_variance(a, BASIS), (n, SIZE, SIZE)),
    "analyze": (lambda a: tm.analyze(a, progress=False), (SIDE, SIDE)),
    "PCA": (lambda a: tm.PCA(2).fit_transform(a), (n, 5)),
    "ForceLayout": (lambda a: tm.ForceLayout(n_neighbors=3, n_iter=2).fit_transform(a), (n, 5)),
}
# Feature matrices are checked by scikit-learn, which raises these.
SCIKIT_LEARN = {"PCA", "ForceLayout"}


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """An array of the given shape, or of none that fits; of any type, layout and value."""
    if not draw(st.booleans()):
        shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, SIZE, SIDE]), max_size=4)))
    dtype = np.dtype(draw(st.sampled_from(FAMILIAR if draw(st.booleans()) else DTYPES)))
    values = np.random.default_rng(draw(st.integers(0, 1000))).uniform(0, 20, shape)
    if draw(st.booleans()) and values.size:  # some values that are no ordinary numbers
        for place in draw(st.lists(st.integers(0, values.size - 1), max_size=4)):
            values.flat[place] = draw(st.sampled_from(VALUES))
    elif draw(st.booleans()):
        values = np.full(shape, draw(st.sampled_from(VALUES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = np.asarray(values).astype(dtype)
        except (TypeError, ValueError):
            array = np.zeros(shape, dtype)
    return LAYOUTS[draw(st.sampled_from([*LAYOUTS, "plain"]))](array)


def _locked(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _tensor(array: np.ndarray, dtype: torch.dtype | None = None) -> Any:
    known = (
        array.dtype.kind in ("biuf" if dtype else "biufc")
        and array.dtype.isnative
        and array.dtype.char != "g"
    )
    return torch.from_numpy(np.array(array)).to(dtype) if known else array


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "plain": lambda a: a,
    "reversed": lambda a: a[::-1] if a.ndim else a,
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    "locked": _locked,
    "list": lambda a: a.tolist(),
    "tensor": _tensor,
    "bfloat16": lambda a: _tensor(a, torch.bfloat16),
    "gradient": lambda a: (
        _tensor(a, torch.float32).requires_grad_()
        if a.dtype.kind == "f" and a.dtype.isnative and a.dtype.char != "g"
        else a
    ),
}


def answers(name: str, array: Any) -> None:
    """Call the function; errors of ours are answers too."""
    function, _ = TARGETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function(array)
        except TorchMotifError:
            pass
        except (ValueError, TypeError):
            if name not in SCIKIT_LEARN:
                raise


@pytest.mark.parametrize("name", TARGETS)
def test_any_array_gets_an_answer_or_an_error_of_ours(name: str) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(arrays(TARGETS[name][1]))
    def check(array: Any) -> None:
        answers(name, array)

    check()


@given(
    st.sampled_from(sorted(TARGETS)).flatmap(lambda name: st.tuples(st.just(name), arrays(TARGETS[name][1])))
)
def anything(case: tuple[str, Any]) -> None:
    """For a fuzzer, see benchmarks/robustness/fuzz_atheris.py."""
    answers(*case)
