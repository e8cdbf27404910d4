"""Feature matrices as scikit-learn asks for them, on the way to tensors."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor
from torchmotif.errors import InputError, InputTypeError

__all__ = ["all_finite", "as_matrix"]


def as_matrix(
    estimator: BaseEstimator, X: Any, *, reset: bool = True, min_samples: int = 1, device: DeviceLike = None
) -> Tensor:
    """A matrix of finite features, float32 or float64, as a tensor.

    Parameters
    ----------
    estimator : BaseEstimator
        Its `n_features_in_` is set, or compared with where `reset` is false.
    X : array of shape (n, d)
        Anything that scikit-learn takes as dense features, or a tensor.
    reset : bool
        Whether the estimator is being fitted.
    min_samples : int
        Rows needed at least.
    device : str or torch.device, optional

    Returns
    -------
    torch.Tensor of shape (n, d)
        float32 stays float32; all other types become float64.

    Raises
    ------
    ValueError, TypeError
        Those of scikit-learn, or InputError and InputTypeError for tensors, if X is no such matrix.
    """
    if not isinstance(X, Tensor):
        checked = validate_data(
            estimator, X, reset=reset, dtype=[np.float64, np.float32], ensure_min_samples=min_samples
        )
        return as_tensor(checked, device=device, dtype=None, name="X")
    if X.ndim != 2 or len(X) < min_samples or X.shape[1] < 1:
        raise InputError(
            f"X must have the shape (n, d) with at least {min_samples} row(s) and one column, "
            f"got {tuple(X.shape)}"
        )
    if X.is_complex():
        raise InputTypeError(f"X must hold real numbers, got dtype {X.dtype}; convert it first")
    if reset:
        estimator.n_features_in_ = X.shape[1]
    elif X.shape[1] != estimator.n_features_in_:
        raise InputError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} was fitted with "
            f"{estimator.n_features_in_}"
        )
    matrix = X.to(device=device, dtype=X.dtype if X.dtype == torch.float32 else torch.float64)
    if not all_finite(matrix):
        raise InputError("X has values that are not finite; drop those rows first")
    return matrix


def all_finite(values: Tensor) -> bool:
    """Whether all values are finite; a finite sum says so without a mask as large as they are.

    Examples
    --------
    >>> all_finite(torch.ones(3)), all_finite(torch.tensor([torch.inf, -torch.inf]))
    (True, False)
    """
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
