"""The command line: torchmotif analyze, batch, demo, doctor, dose, info; a module for each command."""

from torchmotif.cli.analyze import analyze, demo
from torchmotif.cli.batch import batch
from torchmotif.cli.common import app
from torchmotif.cli.doctor import doctor
from torchmotif.cli.dose import dose
from torchmotif.cli.info import info

__all__ = ["analyze", "app", "batch", "demo", "doctor", "dose", "info", "main"]


def main() -> None:
    """Run the command line."""
    app()
