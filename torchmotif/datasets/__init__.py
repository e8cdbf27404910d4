"""Simulated specimens whose truth is known."""

from torchmotif.datasets.instrument import Detector, Scan
from torchmotif.datasets.mx2 import mose2, mx2
from torchmotif.datasets.probe import AberratedProbe, GaussianProbe
from torchmotif.datasets.specimen import Specimen, Truth

__all__ = ["AberratedProbe", "Detector", "GaussianProbe", "Scan", "Specimen", "Truth", "mose2", "mx2"]
