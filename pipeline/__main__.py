"""``python -m pipeline`` is the command ``bulk-classify``."""

from pipeline.cli import main

main()
