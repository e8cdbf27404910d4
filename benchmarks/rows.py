"""The rows of the page of results: what a user or a referee asks for. `python benchmarks/results.py --list` names them.

A row is a function that returns what it found. It takes what it needs from the scripts beside it, so that a number has one home.
"""

import rows_columns  # noqa: F401  # each module tells its rows to `results`; the page has them in this order
import rows_motifs  # noqa: F401
import rows_price  # noqa: F401
from results import ROWS

__all__ = ["ROWS"]
