"""The ledger's file: its owner's alone, refused where it is not ours, read while it is written, never half changed."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.chunks import VideoState
from pipeline.errors import StorageError
from pipeline.ledger import Ledger
from pipeline.models import Video
from tests.builders import by_hand, take_in

OPEN = VideoState.OPEN


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path) as opened:
        yield opened


def test_the_file_is_its_owners_alone(path: Path, ledger: Ledger) -> None:
    take_in(ledger, "a")
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["a b", "a?mode=memory", "a#b", "a%20b", "é"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = tmp_path / name / "ledger.sqlite"
    with Ledger(path) as ledger:
        take_in(ledger, "a")
    assert path.stat().st_size > 0


@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_something_else_is_refused_and_left_alone(path: Path, read_only: bool) -> None:
    by_hand(path, "CREATE TABLE theirs (one)")
    before = path.read_bytes()
    with pytest.raises(StorageError) as refusal:
        Ledger(path, read_only=read_only)
    assert str(refusal.value) == f"{path}: not a ledger of bulk-classify; use another --out"
    assert path.read_bytes() == before


def test_another_formats_ledger_is_refused(path: Path, ledger: Ledger) -> None:
    ledger.close()
    by_hand(path, "PRAGMA user_version = 99")
    with pytest.raises(StorageError) as refusal:
        Ledger(path)
    assert str(refusal.value) == f"{path}: written by another version (format 99, not 2); use that one"


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be seen as none" * 30, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"ledger\.sqlite: "):
        Ledger(path)


def test_reading_never_makes_a_ledger(path: Path) -> None:
    with pytest.raises(StorageError):
        Ledger(path, read_only=True)
    assert not path.exists()
    path.touch()
    with pytest.raises(StorageError):
        Ledger(path, read_only=True)
    assert path.read_bytes() == b""


def test_an_empty_file_that_a_kill_left_behind_becomes_a_ledger(path: Path) -> None:
    path.touch()
    with Ledger(path) as ledger:
        assert ledger.file_lengths() == [0, 0, 0]


def test_a_reader_sees_what_is_committed_while_another_connection_writes(path: Path, ledger: Ledger) -> None:
    take_in(ledger, "a")
    with Ledger(path, read_only=True) as reader, ledger.atomic():
        ledger.take_in([Video("b")])
        assert reader.counts().videos[OPEN] == 1
    with Ledger(path, read_only=True) as reader, reader.snapshot():
        assert reader.counts().videos[OPEN] == 2
        take_in(ledger, "c")
        assert reader.counts().videos[OPEN] == 2, "a snapshot does not move"
    with Ledger(path, read_only=True) as reader, pytest.raises(StorageError, match="readonly"), reader.atomic():
        reader.remember("name", "value")


def leave_off(ledger: Ledger) -> None:
    with ledger.atomic():
        ledger.take_in([Video("b")])
        ledger.remember("name", "value")
        raise KeyError


def test_an_exception_takes_everything_back(ledger: Ledger) -> None:
    take_in(ledger, "a")
    with pytest.raises(KeyError):
        leave_off(ledger)
    assert (ledger.counts().videos[OPEN], ledger.fact("name")) == (1, None)
    take_in(ledger, "c")
    assert ledger.counts().videos[OPEN] == 2


def test_facts_are_remembered_and_set_anew(path: Path, ledger: Ledger) -> None:
    for value in ("one", "two"):
        with ledger.atomic():
            ledger.remember("name", value)
    with Ledger(path, read_only=True) as reader:
        assert (reader.fact("name"), reader.fact("other")) == ("two", None)
