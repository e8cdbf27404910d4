"""Clustering back ends behind one protocol: labels ordered by size, -1 for noise."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch

from torchmotif._arrays import as_tensor, like
from torchmotif._kmeans import lloyd
from torchmotif.errors import InputError, MissingDependencyError

__all__ = ["HDBSCAN", "Clusterer", "GaussianMixture", "KMeans", "LayoutBlobs", "clusterer", "ordered_by_size"]

_Library = Literal["hdbscan", "sklearn", "fast_hdbscan", "cuml"]
_KMeansLibrary = Literal["auto", "sklearn", "torch", "cuml"]
# What is not among torchmotif's own requirements, or cannot be built everywhere, and what to do where it is missing.
_MISSING = {
    "hdbscan": "run: pip install hdbscan; or take library='sklearn', the same method without a package of its own",
    "fast_hdbscan": "run: pip install fast-hdbscan",
    "cuml": "it needs an NVIDIA GPU; run: pip install cuml-cu12",
}
_FILLED = 0.9  # share of the raster's side that a layout covers


@runtime_checkable
class Clusterer(Protocol):
    """What every back end can do."""

    def fit_predict(self, X: Any) -> Any:
        """The cluster of every row.

        Parameters
        ----------
        X : array of shape (n, d)

        Returns
        -------
        array of shape (n,), int64
            0 for the largest cluster, 1 for the next; -1 for noise.
        """
        ...


@dataclass(frozen=True)
class HDBSCAN:
    """Density-based clusters (Campello, Moulavi & Sander, 2013), from the exact minimum spanning tree.

    Parameters
    ----------
    min_cluster_size : int
        Points of the smallest cluster, at least 2.
    min_samples : int, optional
        Neighbours, the point itself not counted, within the core distance; by default `min_cluster_size`. It means
        the same in all libraries: scikit-learn, which counts the point, is given one more.
    library : {"hdbscan", "sklearn", "fast_hdbscan", "cuml"}
        What does the work. cuML runs on an NVIDIA GPU, in float32; where distances are equal its spanning tree is another
        one, so that single points between clusters may get other labels.

    Raises
    ------
    InputError
        If a parameter is out of range, or there are no more rows than `min_samples` or fewer than `min_cluster_size`.
    MissingDependencyError
        If the library is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 2)) + np.repeat([[0], [20]], [60, 40], axis=0)
    >>> np.bincount(HDBSCAN(min_cluster_size=20, min_samples=5).fit_predict(X) + 1).tolist()
    [0, 60, 40]
    """

    min_cluster_size: int = 20
    min_samples: int | None = None
    library: _Library = "hdbscan"

    def fit_predict(self, X: Any) -> Any:
        """See `Clusterer`."""
        samples = self.min_cluster_size if self.min_samples is None else self.min_samples
        if self.min_cluster_size < 2 or samples < 1:
            raise InputError(
                "min_cluster_size must be at least 2 and min_samples at least 1, "
                f"got {self.min_cluster_size} and {samples}"
            )
        if self.library not in get_args(_Library):
            raise InputError(f"library must be one of {', '.join(get_args(_Library))}, got {self.library!r}")
        points = _points(X, max(self.min_cluster_size, samples + 1), "min_cluster_size or min_samples")
        return _labels(self._model(samples).fit_predict(points), X)

    def _model(self, samples: int) -> Any:
        """The estimator of the library."""
        if self.library == "sklearn":
            from sklearn import cluster

            return cluster.HDBSCAN(min_cluster_size=self.min_cluster_size, min_samples=samples + 1, copy=True)
        if self.library == "cuml":
            library = _installed("cuml.cluster")
            return library.HDBSCAN(
                min_cluster_size=self.min_cluster_size, min_samples=samples, output_type="numpy"
            )
        library = _installed(self.library)
        if self.library == "fast_hdbscan":
            return library.HDBSCAN(min_cluster_size=self.min_cluster_size, min_samples=samples)
        # The library's default, an approximate tree, gives other labels.
        return library.HDBSCAN(
            min_cluster_size=self.min_cluster_size,
            min_samples=samples,
            approx_min_span_tree=False,
            core_dist_n_jobs=1,
        )


@dataclass(frozen=True)
class KMeans:
    """Clusters of least squared distance from their means (Lloyd, 1982); there is no noise.

    Parameters
    ----------
    n_clusters : int
    random_state : int
        Seed of the starts, of which the best of ten is kept.
    library : {"auto", "sklearn", "torch", "cuml"}
        What does the work: by default scikit-learn for what lies on the CPU, and for what lies on an accelerator cuML where it is
        installed and torch where it is not. Each draws starts of its own.

    Raises
    ------
    InputError
        If there are fewer rows than clusters, or there is no such library.
    MissingDependencyError
        If cuML is asked for and not installed.
    """

    n_clusters: int
    random_state: int = 0
    library: _KMeansLibrary = "auto"

    def fit_predict(self, X: Any) -> Any:
        """See `Clusterer`."""
        if self.library not in get_args(_KMeansLibrary):
            raise InputError(
                f"library must be one of {', '.join(get_args(_KMeansLibrary))}, got {self.library!r}"
            )
        library = self._library_for(X)
        if library == "torch":
            values = _checked(X, _count(self.n_clusters), "n_clusters")
            return _labels(lloyd(values, self.n_clusters, self.random_state).cpu().numpy(), X)
        points = _points(X, _count(self.n_clusters), "n_clusters")
        return _labels(self._model(library).fit_predict(points), X)

    def _library_for(self, X: Any) -> str:
        if self.library != "auto":
            return self.library
        if not isinstance(X, torch.Tensor) or X.device.type == "cpu":
            return "sklearn"
        return "cuml" if X.device.type == "cuda" and find_spec("cuml") is not None else "torch"

    def _model(self, library: str) -> Any:
        """The estimator of the library."""
        if library == "cuml":
            return _installed("cuml.cluster").KMeans(
                self.n_clusters, n_init=10, random_state=self.random_state, output_type="numpy"
            )
        from sklearn.cluster import KMeans as Lloyd

        return Lloyd(self.n_clusters, n_init=10, random_state=self.random_state)


@dataclass(frozen=True)
class GaussianMixture:
    """The most probable of `n_clusters` Gaussians of any covariance; there is no noise.

    Parameters
    ----------
    n_clusters : int
    random_state : int
        Seed of the k-means start.

    Raises
    ------
    InputError
        If there are fewer rows than clusters, or fewer than two.
    """

    n_clusters: int
    random_state: int = 0

    def fit_predict(self, X: Any) -> Any:
        """See `Clusterer`."""
        from sklearn.mixture import GaussianMixture as Expectation

        points = _points(X, max(2, _count(self.n_clusters)), "n_clusters")
        model = Expectation(self.n_clusters, random_state=self.random_state)
        try:
            return _labels(model.fit_predict(np.asarray(points, np.float64)), X)
        except ValueError as error:  # a component has collapsed
            raise InputError(f"X: no mixture of {self.n_clusters} Gaussians fits: {error}") from error


@dataclass(frozen=True)
class LayoutBlobs:
    """Connected blobs of a layout in two dimensions: every point a disk of pixels, touching disks one cluster.

    Parameters
    ----------
    resolution : int
        Side of the raster in pixels.
    radius : int
        Of the disk around every point, in pixels.
    min_cluster_size : int
        Smaller blobs are noise; by default there is none.

    Raises
    ------
    InputError
        If the points do not lie in two dimensions, or a parameter is out of range.

    Notes
    -----
    Dan et al., Science Advances 8, eabk1005 (2022).
    """

    resolution: int = 256
    radius: int = 3
    min_cluster_size: int = 1

    def fit_predict(self, X: Any) -> Any:
        """See `Clusterer`."""
        from skimage.measure import label
        from skimage.morphology import dilation, disk

        if self.resolution < 2 or self.radius < 0 or self.min_cluster_size < 1:
            raise InputError(
                "resolution must be at least 2, radius at least 0 and min_cluster_size at least 1, "
                f"got {self.resolution}, {self.radius} and {self.min_cluster_size}"
            )
        points = _points(X, 1, "resolution")
        if points.shape[1] != 2:
            raise InputError(
                f"X must be a layout of shape (n, 2), got {points.shape}; lay it out first, see ForceLayout"
            )
        low, high = points.min(axis=0), points.max(axis=0)
        scale = _FILLED * (self.resolution - 1) / (float((high - low).max()) or 1.0)
        pixels = np.round((points - (low + high) / 2) * scale + (self.resolution - 1) / 2).astype(np.intp)
        raster = np.zeros((self.resolution, self.resolution), dtype=np.uint8)
        raster[tuple(pixels.T)] = 1
        blobs = label(dilation(raster, disk(self.radius)))[tuple(pixels.T)] - 1
        small = np.bincount(blobs) < self.min_cluster_size
        return _labels(np.where(small[blobs], -1, blobs), X)


_BACKENDS: dict[str, tuple[type, dict[str, Any]]] = {
    "hdbscan": (HDBSCAN, {"library": "hdbscan"}),
    "sklearn-hdbscan": (HDBSCAN, {"library": "sklearn"}),
    "fast-hdbscan": (HDBSCAN, {"library": "fast_hdbscan"}),
    "cuml-hdbscan": (HDBSCAN, {"library": "cuml"}),
    "kmeans": (KMeans, {"library": "auto"}),
    "torch-kmeans": (KMeans, {"library": "torch"}),
    "cuml-kmeans": (KMeans, {"library": "cuml"}),
    "gaussian-mixture": (GaussianMixture, {}),
    "layout-blobs": (LayoutBlobs, {}),
}


def clusterer(name: str, **parameters: Any) -> Clusterer:
    """The back end of this name.

    Parameters
    ----------
    name : {"hdbscan", "sklearn-hdbscan", "fast-hdbscan", "cuml-hdbscan", "kmeans", "torch-kmeans", "cuml-kmeans", \
"gaussian-mixture", "layout-blobs"}
    **parameters
        Those of `HDBSCAN` and `KMeans` (less `library`), `GaussianMixture` or `LayoutBlobs`.

    Returns
    -------
    Clusterer

    Raises
    ------
    InputError
        If there is no such back end, or it has no such parameter, or needs one more.

    Examples
    --------
    >>> clusterer("kmeans", n_clusters=2).fit_predict([[0.0], [0.1], [5.0]]).tolist()
    [0, 0, 1]
    """
    if name not in _BACKENDS:
        raise InputError(f"name must be one of {', '.join(_BACKENDS)}, got {name!r}")
    backend, given = _BACKENDS[name]
    known = [field.name for field in fields(backend) if field.name not in given]
    unknown = [parameter for parameter in parameters if parameter not in known]
    if unknown:
        raise InputError(f"{name} has no parameter {', '.join(unknown)}; it takes {', '.join(known)}")
    make: Callable[..., Clusterer] = partial(backend, **given)
    try:
        return make(**parameters)
    except TypeError as error:
        raise InputError(f"{name} needs more parameters; it takes {', '.join(known)}") from error


def ordered_by_size(labels: np.ndarray) -> np.ndarray:
    """Labels numbered anew: 0 for the most frequent, -1 where they are negative.

    Parameters
    ----------
    labels : array of shape (n,), integers

    Returns
    -------
    array of shape (n,), int64
        Clusters of one size keep their order.
    """
    ordered = np.full(len(labels), -1, dtype=np.int64)
    kept = labels >= 0
    _, number, sizes = np.unique(labels[kept], return_inverse=True, return_counts=True)
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    ordered[kept] = rank[number]
    return ordered


def _count(n_clusters: int) -> int:
    """The number of clusters, checked."""
    if n_clusters < 1:
        raise InputError(f"n_clusters must be at least 1, got {n_clusters}")
    return n_clusters


def _installed(name: str) -> Any:
    """A library that is imported only where it is asked for."""
    package = name.split(".", maxsplit=1)[0]
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{package} is not installed; {_MISSING[package]}") from error


def _checked(X: Any, least: int, because: str) -> torch.Tensor:
    """The rows where they lie, checked to be finite and enough."""
    points = as_tensor(X, name="X").detach()
    if points.ndim != 2 or 0 in points.shape:
        raise InputError(f"X must have the shape (n, d), got {tuple(points.shape)}")
    if not bool(torch.isfinite(points).all()):
        raise InputError("X has values that are not finite; drop those rows first")
    if len(points) < least:
        raise InputError(f"X must have at least {least} rows, got {len(points)}; lower {because}")
    return points


def _points(X: Any, least: int, because: str) -> np.ndarray:
    """The rows as float64 on the host, checked to be finite and enough."""
    points: np.ndarray = _checked(as_tensor(X, dtype=torch.float64, name="X"), least, because).cpu().numpy()
    return points


def _labels(labels: np.ndarray, X: Any) -> Any:
    """Labels in order of size, numpy or torch as X came, on its device."""
    ordered = torch.from_numpy(ordered_by_size(labels))
    return like(ordered.to(X.device) if isinstance(X, torch.Tensor) else ordered, X)
