"""Principal components of feature matrices, also of those that do not fit in memory."""

from collections.abc import Iterable
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor, full_precision, like
from torchmotif._eigen import leading_of, worth_iterating
from torchmotif._matrix import all_finite, as_matrix
from torchmotif._scatter import Pairs, Scatter, leading_of_columns, leading_of_rows, mean_of
from torchmotif.errors import InputError

__all__ = ["PCA"]

# Side up to which a matrix of products costs less than products with the rows themselves.
_LARGEST_MATRIX = 2048


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

    Where a few of many components are wanted, the leading eigenvectors are found by iteration, to residuals of 1e-4 of
    each variance in single and 1e-8 in double precision. With more than 2048 rows and features, `fit` multiplies with
    the rows instead of forming a matrix. See docs/decisions/0103.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 5)) * [5, 1, 1, 1, 1]
    >>> PCA(2).fit_transform(X).shape
    (100, 2)
    >>> PCA(2).fit_batches(X[start : start + 10] for start in range(0, 100, 10)).n_samples_seen_
    100
    """

    _scatter: "Scatter | None"

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
        matrix = as_matrix(self, X, min_samples=2, device=self.device).detach()
        self._check_count(min(matrix.shape))
        self._scatter = None
        with full_precision(matrix.device.type):
            n, d = matrix.shape
            few = self.n_components is not None and worth_iterating(min(n, d), self.n_components)
            if n >= d and not (few and d > _LARGEST_MATRIX):
                self._decompose(Scatter(d, matrix.device).add(matrix), X)
            else:
                self._decompose_rows(matrix, X, few=few)
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
        mean, components = self._learnt(torch.float64, matrix.device)
        with full_precision(matrix.device.type):
            origin = components @ mean
            # This way round MKL takes up to a third less time.
            turned = torch.addmm(-origin.to(matrix)[:, None], components.to(matrix), matrix.T)
            return like(turned.T.contiguous(), X)

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
        mean, components = self._learnt(coordinates.dtype, coordinates.device)
        with full_precision(coordinates.device.type):
            return like(torch.addmm(mean, coordinates, components), X)

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

    def _take(self, X: Any) -> "Scatter":
        """The scatter of all batches so far, with one more."""
        scatter = getattr(self, "_scatter", None)
        matrix = as_matrix(self, X, reset=scatter is None, device=self.device)
        if scatter is None:
            self._check_count(matrix.shape[1])
            scatter = self._scatter = Scatter(matrix.shape[1], matrix.device)
        with full_precision(matrix.device.type):
            return scatter.add(matrix.detach())

    def _decompose(self, scatter: Scatter, X: Any) -> None:
        """Components from the eigenvectors of the scatter matrix."""
        d, k = len(scatter.mean), self.n_components
        total = float(_in_range(scatter.matrix).diagonal().sum())
        found = None
        if k is not None and worth_iterating(d, k):
            matrix = scatter.matrix / max(
                total, torch.finfo(torch.float64).tiny
            )  # fits into single precision
            matrix = matrix.float() if _is_single(X) else matrix
            with full_precision(matrix.device.type):
                found = leading_of(matrix, k)
        if found is None:
            squares, vectors = (part.flip(-1) for part in torch.linalg.eigh(scatter.matrix))
        else:
            squares, vectors = found[0].double() * total, found[1]
        self._keep(scatter.count, scatter.mean, (squares, vectors.T), total, X)

    def _decompose_rows(self, matrix: Tensor, X: Any, *, few: bool) -> None:
        """Components without a scatter matrix, which would be larger than the rows or cost more than they."""
        n, d = matrix.shape
        mean, found = _in_range(mean_of(matrix)), None
        if few and self.n_components is not None:
            if min(n, d) > _LARGEST_MATRIX:
                found = leading_of_rows(matrix, mean, self.n_components)
            else:
                found = leading_of_columns(matrix - mean.to(matrix), self.n_components)
        if found is None:
            rows = _in_range(matrix.double() - mean)
            _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
            squares = _in_range(singular**2)
            found = (squares, directions), float(squares.sum())
        pairs, total = found
        self._keep(n, mean, pairs, total, X)

    def _keep(self, n: int, mean: Tensor, pairs: Pairs, total: float, X: Any) -> None:
        """Set the attributes that end in an underscore, in the precision and the library of X."""
        most = min(n, len(mean))
        self.n_components_ = most if self.n_components is None else min(self.n_components, most)
        self.n_samples_seen_ = n
        squares, kept = (part[: self.n_components_] for part in pairs)
        squares = squares.double().clamp(min=0)
        largest = kept.gather(1, kept.abs().argmax(dim=1, keepdim=True))
        learnt = {
            "components_": torch.where(largest < 0, -kept, kept),
            "explained_variance_": squares / max(n - 1, 1),
            "explained_variance_ratio_": squares / max(total, torch.finfo(torch.float64).tiny),
            "singular_values_": squares.sqrt(),
            "mean_": mean,
        }
        for name, value in learnt.items():
            setattr(self, name, like(value.float() if _is_single(X) else value.double(), X))

    def _learnt(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and components."""
        mean, components = (
            as_tensor(value, device=device, dtype=dtype) for value in (self.mean_, self.components_)
        )
        return mean, components


def _is_single(X: Any) -> bool:
    return getattr(X, "dtype", None) in {torch.float32, "float32"}


def _in_range(values: Tensor) -> Tensor:
    """The values, checked to be finite: means and squares of huge features are not."""
    if not all_finite(values):
        raise InputError("X has values so large that their squares overflow; scale the features first")
    return values
