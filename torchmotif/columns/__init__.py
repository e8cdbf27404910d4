"""Atomic columns: where they are, how bright, and how surely."""

from torchmotif.columns.find import find_columns
from torchmotif.columns.lattice import Lattice, find_lattice
from torchmotif.columns.result import Columns
from torchmotif.columns.spacing import Spacing, characteristic_spacing

__all__ = ["Columns", "Lattice", "Spacing", "characteristic_spacing", "find_columns", "find_lattice"]
