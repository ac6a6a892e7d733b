"""What a power cut needs: rows on the disk before the ledger says so, and names on the disk before they are relied on.

A kill does not show this, for the kernel keeps what was written; so the order of the calls themselves is looked at.
They are carried out for real, and noted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import rundir
from pipeline.ledger import Ledger
from pipeline.rows import ROW_FILES
from pipeline.rundir import RowFiles
from tests.builders import end, opened, origin
from tests.test_sink import running, sink_of


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the system calls that matter, with the file, in their order."""
    noted: list[str] = []

    def note(name: str) -> None:
        real = getattr(os, name)

        def noting(descriptor: Any, *rest: Any) -> Any:
            target = Path(f"/proc/self/fd/{descriptor}").readlink() if isinstance(descriptor, int) else Path(descriptor)
            noted.append(f"{name} {target.name}")
            return real(descriptor, *rest)

        monkeypatch.setattr(os, name, noting)

    for name in ("pwrite", "fdatasync", "fsync", "replace"):
        note(name)
    return noted


async def test_rows_are_synced_before_the_ledger_commits(tmp_path: Path, calls: list[str]) -> None:
    with opened(tmp_path) as run:
        run.take_in("a")
        run.ledger._connection.set_trace_callback(lambda statement: calls.append(statement.split()[0]))
        calls.clear()
        sink, one = sink_of(run), end(1, matched=["a"])
        async with running(sink):
            await sink.commit(one.settlement, one.results, origin(1))
            calls.append("acknowledged")
    written = [name for name in ROW_FILES if f"pwrite {name}" in calls]
    assert "videos.ndjson" in written
    for name in written:
        assert calls.index(f"pwrite {name}") < calls.index(f"fdatasync {name}") < calls.index("BEGIN")
    assert calls.index("BEGIN") < calls.index("COMMIT") < calls.index("acknowledged")


def test_the_ledger_syncs_every_commit(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_folder_is_synced_after_files_are_made_in_it(tmp_path: Path, calls: list[str]) -> None:
    RowFiles(tmp_path, [0, 0, 0]).close()
    assert calls == [f"fsync {tmp_path.name}"]


def test_a_new_folder_is_synced_into_every_new_one_above_it(tmp_path: Path, calls: list[str]) -> None:
    rundir.prepare(tmp_path / "runs" / "tonight")
    assert calls == [f"fsync {tmp_path.name}", "fsync runs"]


def test_a_file_is_synced_before_it_takes_its_name_and_its_folder_after(tmp_path: Path, calls: list[str]) -> None:
    rundir.replace_file(tmp_path / "run.json", b"{}")
    draft = ".run.json.draft"
    assert calls == [f"pwrite {draft}", f"fdatasync {draft}", f"replace {draft}", f"fsync {tmp_path.name}"]


def test_what_is_cut_off_stays_cut_off(tmp_path: Path, calls: list[str]) -> None:
    (tmp_path / "scores.ndjson").write_bytes(b"torn")
    RowFiles(tmp_path, [0, 0, 0]).close()
    assert calls == ["fdatasync scores.ndjson", f"fsync {tmp_path.name}"]
