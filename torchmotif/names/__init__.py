"""Names of columns: from a chemical formula, or from a few examples of each kind."""

from torchmotif.names.examples import Examples, read_examples
from torchmotif.names.identify import identify_columns
from torchmotif.names.names import NONE, Names

__all__ = ["NONE", "Examples", "Names", "identify_columns", "read_examples"]
