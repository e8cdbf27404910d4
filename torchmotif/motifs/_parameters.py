"""Which parameters of `MotifClassifier` are out of range."""

import math
from typing import Any

from torchmotif._checks import whole_number
from torchmotif.errors import InputError

__all__ = ["check_parameters"]


def check_parameters(parameters: dict[str, Any], n: int) -> None:
    """Refuse parameters that are out of range for n columns."""
    for name, least in (("n_motifs", 1), ("n_max", 0), ("random_state", 0)):
        if parameters[name] is not None:
            whole_number(name, parameters[name], least)
    n_motifs, equivalence = parameters["n_motifs"], parameters["equivalence"]
    if n_motifs is not None and n_motifs > n:
        raise InputError(f"n_motifs must lie between 1 and the number of patches, {n}, got {n_motifs}")
    for name in ("max_valley", "min_share"):
        if not 0 < parameters[name] <= 1:
            raise InputError(f"{name} must lie between 0 and 1, got {parameters[name]}")
    if equivalence not in {None, "rotation", "euclidean"}:
        raise InputError(f"equivalence must be 'rotation', 'euclidean' or None, got {equivalence!r}")
    gain = parameters["electrons_per_count"]
    if gain is not None and not (gain > 0 and math.isfinite(gain)):
        raise InputError(f"electrons_per_count must be positive and finite, got {gain}")
