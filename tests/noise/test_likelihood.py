import numpy as np
import pytest
import torch
from scipy import stats

import torchmotif as tm


@pytest.fixture
def scene(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    templates = torch.rand(3, 7, 7, generator=generator) * 4
    patches = torch.poisson(templates[torch.arange(30) % 3], generator=generator)
    return patches, templates


def test_the_likelihood_is_that_of_scipy(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    patches, templates = scene
    reference = stats.poisson(templates.numpy()[None]).logpmf(patches.numpy()[:, None]).sum((2, 3))
    assert np.allclose(tm.noise.poisson_log_likelihood(patches, templates), reference, rtol=1e-4)
    own = templates.expand(30, -1, -1, -1)
    assert np.allclose(tm.noise.poisson_log_likelihood(patches, own), reference, rtol=1e-4)
    bare = tm.noise.poisson_log_likelihood(patches, templates, normalised=False)
    assert np.allclose(np.diff(bare, axis=1), np.diff(reference, axis=1), atol=1e-3)


def test_an_electron_where_none_can_be_rules_a_template_out() -> None:
    templates = torch.tensor([[[0.0, 2.0]], [[1.0, 2.0]]])
    value = tm.noise.poisson_log_likelihood(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), templates)
    assert torch.isinf(value).tolist() == [[True, False], [False, False]]


def test_the_oracle_is_as_right_as_it_says(generator: torch.Generator) -> None:
    templates = torch.stack([torch.full((3, 3), 1.0), torch.full((3, 3), 1.5)])
    truth = (torch.rand(40_000, generator=generator) < 0.2).long()
    patches = torch.poisson(templates[truth], generator=generator)
    said = tm.noise.oracle(patches, templates, [0.8, 0.2])
    right = (said.labels == truth).double().mean()
    assert said.expected_accuracy == pytest.approx(float(right), abs=0.01)
    # Two flat classes: the sum of the counts is sufficient, so the error is known exactly.
    k = np.arange(60)
    joint = np.stack([0.8 * stats.poisson(9).pmf(k), 0.2 * stats.poisson(13.5).pmf(k)])
    assert float(right) == pytest.approx(joint.max(0).sum(), abs=0.01)


def test_priors_decide_where_counts_do_not() -> None:
    templates = np.ones((2, 4, 4))
    said = tm.noise.oracle(np.ones((5, 4, 4)), templates, [0.1, 0.9])
    assert isinstance(said.labels, np.ndarray)
    assert (said.labels == 1).all()
    assert np.allclose(said.probabilities, [[0.1, 0.9]])


def test_class_templates_are_means() -> None:
    patches = torch.arange(12.0).reshape(3, 2, 2)
    templates, classes, priors = tm.noise.class_templates(patches, np.array(["b", "a", "b"]))
    assert classes.tolist() == ["a", "b"]
    assert torch.equal(templates, torch.stack([patches[1], (patches[0] + patches[2]) / 2]))
    assert priors.tolist() == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: tm.noise.poisson_log_likelihood(torch.ones(2, 5, 5), torch.ones(3, 4, 4)),
            "templates must have",
        ),
        (
            lambda: tm.noise.poisson_log_likelihood(torch.ones(2, 5, 5), torch.ones(3, 2, 5, 5)),
            "templates must have",
        ),
        (lambda: tm.noise.poisson_log_likelihood(torch.ones(2), torch.ones(3)), "templates must have"),
        (lambda: tm.noise.poisson_log_likelihood(torch.ones(2, 5, 5), -torch.ones(3, 5, 5)), "not negative"),
        (lambda: tm.noise.oracle(torch.ones(2, 5, 5), torch.ones(3, 5, 5), [1, 2]), "3 numbers"),
        (lambda: tm.noise.oracle(torch.ones(2, 5, 5), torch.ones(2, 5, 5), [0, 0]), "priors"),
        (lambda: tm.noise.class_templates(torch.ones(2, 5, 5), ["a"]), "one for each"),
        (lambda: tm.noise.class_templates(torch.ones(0, 5, 5), []), "at least one"),
    ],
    ids=["size", "own", "flat", "negative", "priors", "no-priors", "labels", "none"],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        call()
