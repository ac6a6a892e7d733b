"""The page into its place: whole or not at all, for its owner's eyes, and never in the place of something else."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.report.document import FIRST_BYTES
from pipeline.rundir import sync_content, translated, write_all


def write_page(path: Path, content: bytes) -> None:
    """Write a page, in the place of an older one if there is one.

    Raises ``UsageError`` where something else is there: a mistyped ``--to`` must not cost anybody a file. Several
    reports may be written at once; the last one stays.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first, or give another --to")
    with translated(path):
        _refuse_others(path)
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
        try:
            try:
                write_all(descriptor, content, 0)
                sync_content(descriptor)
            finally:
                os.close(descriptor)
            Path(draft).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(draft).unlink()
            raise


def _refuse_others(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file() or path.is_symlink():
        raise UsageError(f"{path}: not a regular file; give the report another name with --to")
    with path.open("rb") as file:
        beginning = file.read(len(FIRST_BYTES))
    if beginning not in (b"", FIRST_BYTES):
        raise UsageError(f"{path}: is there already, and is no report; give the report another name with --to")
