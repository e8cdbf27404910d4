import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.patches import inside

sys.path.insert(0, str(Path(__file__).parent))
SIZE = 37


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
    """Patches, offsets and kinds of site of simulated MoSe2 at a relative dose."""

    def patches(
        specimen: tm.datasets.Specimen, dose: float, seed: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
        counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(seed)).data)
        positions = specimen.truth.positions
        whole = inside(positions, specimen.shape, SIZE)
        positions = positions[whole]
        centres = torch.round(positions - (SIZE - 1) / 2) + (SIZE - 1) / 2
        kinds = specimen.truth.kinds[whole.numpy()]
        return tm.extract_patches(counts, positions, SIZE), positions - centres, kinds

    return patches
