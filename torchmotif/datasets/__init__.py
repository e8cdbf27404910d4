"""Simulated specimens whose truth is known."""

from torchmotif.datasets.mx2 import mose2
from torchmotif.datasets.specimen import Specimen, Truth

__all__ = ["Specimen", "Truth", "mose2"]
