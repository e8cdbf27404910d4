"""Principal components of feature matrices, also of those that do not fit in memory."""

from collections.abc import Iterable
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor, like
from torchmotif._matrix import as_matrix
from torchmotif.errors import InputError

__all__ = ["PCA"]

_CHUNK_BYTES = 32 << 20  # of rows that are turned into float64 at a time


class PCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Principal component analysis, whole or in batches.

    Parameters
    ----------
    n_components : int, optional
        Components that are kept; by default all of them, min(n, d).
    device : str or torch.device, optional
        Where to compute; by default where the data are.

    Attributes
    ----------
    components_ : array of shape (n_components, d)
        Unit vectors, the direction of largest variance first; the largest entry of each is positive.
    explained_variance_ : array of shape (n_components,)
        Variance along each, with n - 1 in the denominator.
    explained_variance_ratio_ : array of shape (n_components,)
        The same as a share of the whole variance.
    singular_values_ : array of shape (n_components,)
        Of the centred data.
    mean_ : array of shape (d,)
    n_components_, n_samples_seen_, n_features_in_ : int

    Raises
    ------
    InputError
        If more components are asked for than the data have, or the data are no finite matrix.

    Notes
    -----
    Means and the scatter of chunks are added up in float64 by the pairwise rule of Chan, Golub & LeVeque (1979), so
    batches give what the whole gives. Memory is that of one d x d matrix, whatever the number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 5)) * [5, 1, 1, 1, 1]
    >>> PCA(2).fit_transform(X).shape
    (100, 2)
    >>> PCA(2).fit_batches(X[start : start + 10] for start in range(0, 100, 10)).n_samples_seen_
    100
    """

    _scatter: "_Scatter | None"

    def __init__(self, n_components: int | None = None, *, device: DeviceLike = None) -> None:
        self.n_components = n_components
        self.device = device

    def __sklearn_tags__(self) -> Tags:
        """Say to scikit-learn that both precisions are kept."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> "PCA":  # noqa: ARG002
        """Find the components of a matrix.

        Parameters
        ----------
        X : array of shape (n, d)
        y : ignored

        Returns
        -------
        PCA
            Itself.
        """
        matrix = as_matrix(self, X, min_samples=2, device=self.device)
        self._check_count(min(matrix.shape))
        self._scatter = None
        if (
            len(matrix) < matrix.shape[1]
        ):  # fewer rows than features: their scatter would be the larger matrix
            rows = matrix.double()
            mean = rows.mean(dim=0)
            _, singular, directions = torch.linalg.svd(_in_range(rows - mean), full_matrices=False)
            self._keep(len(matrix), mean, _in_range(singular**2), directions, X)
        else:
            self._decompose(_Scatter(matrix.shape[1], matrix.device).add(matrix), X)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> "PCA":  # noqa: ARG002
        """Take in one more batch of rows; what `fit` has seen is forgotten first.

        Parameters
        ----------
        X : array of shape (n, d)
            Until there are as many rows as components, fewer components are kept.
        y : ignored

        Returns
        -------
        PCA
            Itself.
        """
        self._decompose(self._take(X), X)
        return self

    def fit_batches(self, batches: Iterable[Any]) -> "PCA":
        """Find the components of all batches together, reading each of them once.

        Parameters
        ----------
        batches : iterable of arrays of shape (n_i, d)

        Returns
        -------
        PCA
            Itself.
        """
        self._scatter = None
        scatter, batch = None, None
        for batch in batches:
            scatter = self._take(batch)
        if scatter is None or scatter.count < 2:
            raise InputError("batches: at least two rows are needed to find a component")
        self._check_count(min(scatter.count, self.n_features_in_))
        self._decompose(scatter, batch)
        return self

    def transform(self, X: Any) -> Any:
        """Coordinates along the components.

        Parameters
        ----------
        X : array of shape (n, d)

        Returns
        -------
        array of shape (n, n_components)
        """
        check_is_fitted(self)
        matrix = as_matrix(self, X, reset=False, device=self.device)
        mean, components = self._learnt(matrix)
        return like((matrix - mean) @ components.T, X)

    def inverse_transform(self, X: Any) -> Any:
        """The rows that have the given coordinates.

        Parameters
        ----------
        X : array of shape (n, n_components)

        Returns
        -------
        array of shape (n, d)
        """
        check_is_fitted(self)
        coordinates = as_tensor(X, device=self.device, dtype=None, name="X")
        if coordinates.ndim != 2 or coordinates.shape[1] != self.n_components_:
            raise InputError(
                f"X must have the shape (n, {self.n_components_}), got {tuple(coordinates.shape)}"
            )
        if not coordinates.is_floating_point():
            coordinates = coordinates.double()
        mean, components = self._learnt(coordinates)
        return like(coordinates @ components + mean, X)

    @property
    def _n_features_out(self) -> int:
        """Number of columns that `transform` gives, for `get_feature_names_out`."""
        return self.n_components_

    def _check_count(self, most: int) -> None:
        """Raise where the data do not have as many components as were asked for."""
        if self.n_components is not None and not 1 <= self.n_components <= most:
            raise InputError(
                f"n_components must lie between 1 and min(n_samples, n_features) = {most}, "
                f"got {self.n_components}"
            )

    def _take(self, X: Any) -> "_Scatter":
        """The scatter of all batches so far, with one more."""
        scatter = getattr(self, "_scatter", None)
        matrix = as_matrix(self, X, reset=scatter is None, device=self.device)
        if scatter is None:
            self._check_count(matrix.shape[1])
            scatter = self._scatter = _Scatter(matrix.shape[1], matrix.device)
        return scatter.add(matrix)

    def _decompose(self, scatter: "_Scatter", X: Any) -> None:
        """Components from the eigenvectors of the scatter matrix."""
        variances, directions = torch.linalg.eigh(_in_range(scatter.matrix))
        self._keep(scatter.count, scatter.mean, variances.flip(0).clamp(min=0), directions.flip(1).T, X)

    def _keep(self, n: int, mean: Tensor, squares: Tensor, directions: Tensor, X: Any) -> None:
        """Set the attributes that end in an underscore, in the precision and the library of X."""
        most = min(n, len(mean))
        self.n_components_ = most if self.n_components is None else min(self.n_components, most)
        self.n_samples_seen_ = n
        kept = directions[: self.n_components_]
        largest = kept.gather(1, kept.abs().argmax(dim=1, keepdim=True))
        variances = squares / max(n - 1, 1)
        shares = variances / variances.sum().clamp(min=torch.finfo(torch.float64).tiny)
        learnt = {
            "components_": torch.where(largest < 0, -kept, kept),
            "explained_variance_": variances[: self.n_components_],
            "explained_variance_ratio_": shares[: self.n_components_],
            "singular_values_": squares[: self.n_components_].sqrt(),
            "mean_": mean,
        }
        single = getattr(X, "dtype", None) in (torch.float32, "float32")
        for name, value in learnt.items():
            setattr(self, name, like(value.float() if single else value, X))

    def _learnt(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and components beside the given matrix, in its precision."""
        mean, components = (
            as_tensor(value, device=matrix.device, dtype=matrix.dtype)
            for value in (self.mean_, self.components_)
        )
        return mean, components


def _in_range(values: Tensor) -> Tensor:
    """The values, checked to be finite: means and squares of huge features are not."""
    if not bool(torch.isfinite(values).all()):
        raise InputError("X has values so large that their squares overflow; scale the features first")
    return values


class _Scatter:
    """Number, mean and scatter matrix of the rows seen so far."""

    def __init__(self, d: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(d, dtype=torch.float64, device=device)
        self.matrix = torch.zeros((d, d), dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> "_Scatter":
        """Take in more rows."""
        for part in rows.split(max(1, _CHUNK_BYTES // (8 * rows.shape[1]))):
            values = part.to(self.mean)
            mean = values.mean(dim=0)
            step = mean - self.mean
            total = self.count + len(values)
            centred = (values - mean).to(rows)  # once centred, single precision is as good as the data
            self.matrix += centred.T @ centred
            self.matrix.addr_(step, step, alpha=self.count * len(values) / total)
            self.mean += step * (len(values) / total)
            self.count = total
        return self
