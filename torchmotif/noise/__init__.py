"""The physics of dose: counting statistics of detected electrons, and what they allow anyone to know."""

from torchmotif.noise.counted import dose_doubts, gain_or_doubts
from torchmotif.noise.dose import apply_dose, detected_electrons, relative_dose_series, thin
from torchmotif.noise.gain import Gain, estimate_gain
from torchmotif.noise.likelihood import Oracle, class_templates, oracle, poisson_log_likelihood
from torchmotif.noise.offset import suspected_offset
from torchmotif.noise.variance import anscombe, inverse_anscombe, moment_variance

__all__ = [
    "Gain",
    "Oracle",
    "anscombe",
    "apply_dose",
    "class_templates",
    "detected_electrons",
    "dose_doubts",
    "estimate_gain",
    "gain_or_doubts",
    "inverse_anscombe",
    "moment_variance",
    "oracle",
    "poisson_log_likelihood",
    "relative_dose_series",
    "suspected_offset",
    "thin",
]
