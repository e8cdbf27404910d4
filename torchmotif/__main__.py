"""``python -m torchmotif`` is ``torchmotif``."""

from torchmotif.cli import main

main()
