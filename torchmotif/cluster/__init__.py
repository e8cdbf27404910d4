"""Clusters of feature vectors: back ends behind one protocol, and the modes of Gaussian mixtures."""

from torchmotif.cluster.backends import (
    HDBSCAN,
    Clusterer,
    GaussianMixture,
    KMeans,
    LayoutBlobs,
    clusterer,
    ordered_by_size,
)
from torchmotif.cluster.mixture import Mixture, fit_mixture, mixture_modes, ridgeline_ratio

__all__ = [
    "HDBSCAN",
    "Clusterer",
    "GaussianMixture",
    "KMeans",
    "LayoutBlobs",
    "Mixture",
    "clusterer",
    "fit_mixture",
    "mixture_modes",
    "ordered_by_size",
    "ridgeline_ratio",
]
