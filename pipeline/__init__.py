"""Bulk classification of indexed videos: id lists in, one NDJSON row for each class score and each clip out."""

__version__ = "0.1.0"
