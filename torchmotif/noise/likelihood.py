"""Poisson likelihood of patches, and the oracle: the best that anyone can do at a dose."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import as_tensor, keeps_digits, like
from torchmotif.errors import InputError

__all__ = ["Oracle", "class_templates", "oracle", "poisson_log_likelihood"]


@keeps_digits
def poisson_log_likelihood(patches: Any, templates: Any, *, normalised: bool = True) -> Any:
    """Log-likelihood of every patch of counts under every template of expected counts.

    Parameters
    ----------
    patches : array of shape (n, ...)
        Counts of electrons, of any number of pixels each.
    templates : array of shape (k, ...) or (n, k, ...)
        Expected electrons per pixel of each class: the same for all patches, or of each patch its own.
    normalised : bool
        Whether to subtract log(counts!), which is the same for all templates of a patch.

    Returns
    -------
    array of shape (n, k), numpy or torch as `patches` came
        -inf where a template expects nothing and an electron was counted.

    Raises
    ------
    InputError
        If the shapes do not fit together, or a template has negative or non-finite values.

    Examples
    --------
    >>> poisson_log_likelihood(torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    tensor([[-1.]])
    """
    data = as_tensor(patches, name="patches")
    means = as_tensor(templates, device=data.device, name="templates")
    shape = tuple(data.shape[1:])
    own = means.ndim == data.ndim + 1
    fits = tuple(means.shape[2 if own else 1 :]) == shape and means.ndim in {data.ndim, data.ndim + 1}
    if data.ndim < 2 or not fits or (own and len(means) != len(data)):
        raise InputError(
            f"templates must have the shape (k, *{shape}) or (n, k, *{shape}) of patches {tuple(data.shape)}, "
            f"got {tuple(means.shape)}"
        )
    if not bool((torch.isfinite(means) & (means >= 0)).all()):
        raise InputError("templates must be finite and not negative: they are expected electrons per pixel")
    counts = data.flatten(1)
    rates = means.flatten(2 if own else 1)
    empty = rates == 0
    logs = torch.where(empty, 0.0, torch.log(torch.where(empty, 1.0, rates)))
    value = _inner(counts, logs) - rates.sum(-1)
    if bool(empty.any()):
        value = value.masked_fill(_inner(counts, empty.to(counts.dtype)) > 0, -torch.inf)
    if normalised:
        value = value - torch.lgamma(counts + 1).sum(1, keepdim=True)
    return like(value, patches)


@keeps_digits
def class_templates(expected: Any, labels: Any) -> tuple[Any, np.ndarray, Any]:
    """The mean expected patch of every class, and how common the class is.

    Parameters
    ----------
    expected : array of shape (n, ...)
        Patches of the expected image, without noise.
    labels : array of shape (n,)
        The true class of each, numbers or strings.

    Returns
    -------
    templates : array of shape (k, ...), numpy or torch as `expected` came
    classes : numpy array of shape (k,)
        What each template is called, sorted.
    priors : array of shape (k,), numpy or torch as `expected` came
        Share of the patches in each class.

    Raises
    ------
    InputError
        If there is no patch, or not one label for each.

    Examples
    --------
    >>> templates, classes, priors = class_templates(torch.ones(3, 2, 2), ["Mo", "Se2", "Mo"])
    >>> classes.tolist(), [round(float(p), 2) for p in priors]
    (['Mo', 'Se2'], [0.67, 0.33])
    """
    data = as_tensor(expected, name="expected")
    names, index = np.unique(np.asarray(labels), return_inverse=True)
    if len(data) == 0 or len(data) != len(index):
        raise InputError(
            f"labels must be one for each of the {len(data)} expected patches, and at least one, got {len(index)}"
        )
    group = torch.as_tensor(index.reshape(-1), device=data.device)
    size = torch.bincount(group, minlength=len(names)).to(data.dtype)
    total = data.new_zeros(len(names), data[0].numel()).index_add_(0, group, data.flatten(1))
    templates = (total / size[:, None]).reshape(len(names), *data.shape[1:])
    return like(templates, expected), names, like(size / len(data), expected)


@dataclass(frozen=True, eq=False)
class Oracle:
    """What the oracle says.

    Attributes
    ----------
    labels : array of shape (n,)
        Index of the most probable class of each patch.
    probabilities : array of shape (n, k)
        Posterior probability of every class.
    """

    labels: Any
    probabilities: Any

    @property
    def expected_accuracy(self) -> float:
        """Mean posterior probability of the chosen class: the share of right labels to expect."""
        return float(
            self.probabilities.max(1).mean()
            if isinstance(self.probabilities, np.ndarray)
            else self.probabilities.amax(1).mean()
        )


@keeps_digits
def oracle(patches: Any, templates: Any, priors: Any = None) -> Oracle:
    """The maximum a posteriori label of each patch, given the true expected patch of every class.

    With the true templates and priors no classifier that sees the patch alone makes fewer errors on average
    (the Bayes classifier; Duda & Hart, 1973). Where a class varies, by sub-pixel offset or strain, its true expected
    patch differs from column to column: give each patch its own templates then.

    Parameters
    ----------
    patches : array of shape (n, ...)
        Counts of electrons.
    templates : array of shape (k, ...) or (n, k, ...)
        Expected electrons per pixel of each class, at the dose of the patches.
    priors : array of shape (k,), optional
        How common each class is; all the same by default.

    Returns
    -------
    Oracle

    Raises
    ------
    InputError
        If the shapes do not fit together, or the priors are not k shares of which one at least is positive.

    Examples
    --------
    >>> templates = torch.tensor([[[2.0]], [[20.0]]])
    >>> oracle(torch.tensor([[[1.0]], [[18.0]]]), templates).labels
    tensor([0, 1])
    """
    data = as_tensor(patches, name="patches")
    log_posterior = as_tensor(poisson_log_likelihood(data, templates, normalised=False)).double()
    k = log_posterior.shape[1]
    if priors is not None:
        shares = as_tensor(priors, device=data.device, dtype=torch.float64, name="priors")
        if tuple(shares.shape) != (k,) or not bool((shares >= 0).all()) or not bool(shares.sum() > 0):
            raise InputError(f"priors must be {k} numbers of at least 0, one for each template, got {priors}")
        log_posterior = log_posterior + torch.log(shares / shares.sum())
    labels = log_posterior.argmax(1)
    return Oracle(like(labels, patches), like(torch.softmax(log_posterior, 1), patches))


def _inner(counts: Tensor, other: Tensor) -> Tensor:
    """Inner products (n, k) of counts (n, p) with (k, p), or with (n, k, p) of each patch its own."""
    return counts @ other.T if other.ndim == 2 else torch.einsum("np,nkp->nk", counts, other)
