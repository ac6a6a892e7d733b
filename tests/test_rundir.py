"""The run directory: who may enter it, what is refused in it, and files that are whole or not there."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.errors import RunHeld, StorageError
from pipeline.rows import FAILURES, ROW_FILES
from pipeline.rundir import (
    LEDGER,
    LOG,
    RUN_JSON,
    RowFiles,
    account_held,
    create_private,
    held,
    is_held,
    prepare,
    replace_file,
    write_all,
)

OURS = (*ROW_FILES, RUN_JSON, LEDGER, f"{LEDGER}-wal", f"{LEDGER}-shm", LOG, FAILURES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    prepare(path)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def another_process(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs this code, says so, and stays until its standard input ends."""
    imports = "import sys; from pathlib import Path; from pipeline.rundir import *"
    program = f"{imports}\n{code}: print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process
        process.stdin.close()


# ------------------------------------------------------------------------------------------------------- the directory


def test_directories_are_made_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "night"
    for _ in range(2):
        prepare(folder)
        assert mode_of(folder) == 0o700


@pytest.mark.parametrize(
    "make", [Path.touch, lambda path: path.symlink_to(path.parent), lambda path: path.symlink_to("gone")]
)
def test_what_is_no_directory_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = tmp_path / "run"
    make(folder)
    with pytest.raises(StorageError) as refusal:
        prepare(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    "make", [lambda path: path.symlink_to(__file__), os.mkfifo, Path.mkdir], ids=["link", "fifo", "directory"]
)
def test_a_file_of_ours_that_is_no_regular_file_is_refused(
    folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(folder / name)
    with pytest.raises(StorageError) as refusal:
        prepare(folder)
    assert str(refusal.value) == f"{folder / name}: not a regular file; a run directory holds no links"


def test_what_others_keep_beside_our_files_is_their_own(folder: Path) -> None:
    (folder / "notes").symlink_to("/")
    prepare(folder)


def test_no_link_is_followed_even_where_it_came_after_the_check(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    for name in (ROW_FILES[0], RUN_JSON, f".{RUN_JSON}.draft"):
        (folder / name).symlink_to(target)
    with pytest.raises(StorageError):
        RowFiles(folder, [0, 0, 0])
    with pytest.raises(StorageError):
        create_private(folder / RUN_JSON)
    with pytest.raises(StorageError):
        replace_file(folder / RUN_JSON, b"new")
    assert target.read_bytes() == b"precious"


# ---------------------------------------------------------------------------------------------------------------- locks


def test_one_process_at_a_time_until_it_lets_go_or_is_killed(folder: Path) -> None:
    busy = f"{folder}: another process is working on this run; wait for it or stop it first"
    for ending in ("ends", "is killed"):
        assert not is_held(folder)
        with another_process("with held(Path(sys.argv[1]))", str(folder)) as process:
            with pytest.raises(RunHeld) as refusal, held(folder, tries=1):
                pass
            assert str(refusal.value) == busy
            assert is_held(folder)
            if ending == "is killed":
                process.kill()
                process.wait()
                assert not is_held(folder)
        with held(folder):
            assert is_held(folder)
    assert not is_held(folder)


def test_a_lock_moves_along_with_its_directory(folder: Path) -> None:
    with held(folder):
        moved = folder.rename(folder.with_name("moved"))
        assert is_held(moved)
        prepare(folder)
        assert not is_held(folder)


def test_a_child_process_does_not_inherit_the_lock(folder: Path) -> None:
    with held(folder):
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    with child:
        assert not is_held(folder)


def test_a_directory_that_is_not_there_or_is_a_link_cannot_be_held(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("gone", "link"):
        with pytest.raises(StorageError, match=name), held(tmp_path / name):
            pass


def test_one_run_an_account_whatever_its_directory(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    ours = (locks, "secret-key", tmp_path / "ours")
    with another_process("with account_held(Path(sys.argv[1]), 'secret-key', Path('/theirs'))", str(locks)) as process:
        with pytest.raises(RunHeld) as refusal, account_held(*ours):
            pass
        assert str(refusal.value) == (
            f"another run of this account is at work on this machine: process {process.pid}, /theirs; "
            "wait for it or stop it first"
        )
        with account_held(locks, "another-key", tmp_path):
            pass
        process.kill()
        process.wait()
        with account_held(*ours):
            pass
    assert {mode_of(path) for path in locks.iterdir()} == {0o600}
    assert mode_of(locks) == 0o700
    assert not [path for path in locks.iterdir() if "secret" in path.name or b"secret" in path.read_bytes()]


@pytest.mark.skipif(sys.platform == "darwin", reason="the names of its file system are Unicode")
def test_a_directory_may_have_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"night-\xff")
    prepare(folder)
    with held(folder), account_held(tmp_path / "locks", "key", folder):
        replace_file(folder / RUN_JSON, b"{}")


# ---------------------------------------------------------------------------------------------------------- whole files


def test_a_file_is_replaced_whole_for_its_owner_alone(folder: Path) -> None:
    path = folder / RUN_JSON
    path.write_bytes(b"a longer content before")
    path.chmod(0o644)
    before = path.open("rb")
    replace_file(path, b"after")
    with before:
        assert before.read() == b"a longer content before", "who reads sees one content or the other"
    assert (path.read_bytes(), mode_of(path)) == (b"after", 0o600)
    assert list(folder.iterdir()) == [path]


def test_a_draft_that_a_kill_left_behind_is_no_obstacle(folder: Path) -> None:
    (folder / f".{RUN_JSON}.draft").write_bytes(b"half of something that was longer")
    replace_file(folder / RUN_JSON, b"whole")
    assert (folder / RUN_JSON).read_bytes() == b"whole"
    assert list(folder.iterdir()) == [folder / RUN_JSON]


def test_a_file_that_cannot_be_replaced_stays(folder: Path) -> None:
    (folder / RUN_JSON).write_bytes(b"before")
    (folder / f".{RUN_JSON}.draft").mkdir()
    with pytest.raises(StorageError, match=r"run\.json\.draft: Is a directory"):
        replace_file(folder / RUN_JSON, b"after")
    assert (folder / RUN_JSON).read_bytes() == b"before"


def test_a_new_file_is_its_owners_and_an_old_one_stays(folder: Path) -> None:
    create_private(folder / LEDGER)
    assert mode_of(folder / LEDGER) == 0o600
    (folder / LEDGER).write_bytes(b"content")
    create_private(folder / LEDGER)
    assert (folder / LEDGER).read_bytes() == b"content"


def test_every_byte_is_written_at_its_offset(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("r+b") as file:
        write_all(file.fileno(), b"abc", 4)
        write_all(file.fileno(), b"", 0)
    assert path.read_bytes() == b"0123abc789"


# ------------------------------------------------------------------------------------------------------------ row files


def test_blocks_go_behind_the_end_of_each_file(folder: Path) -> None:
    with RowFiles(folder, [0, 0, 0]) as files:
        files.append([b"one\n", b"", b"1\n"])
        files.append([b"two\n", b"II\n", b""])
        assert files.lengths == [8, 3, 2]
    assert [(folder / name).read_bytes() for name in ROW_FILES] == [b"one\ntwo\n", b"II\n", b"1\n"]
    assert {mode_of(folder / name) for name in ROW_FILES} == {0o600}
    with RowFiles(folder, [8, 3, 2]) as files:
        files.append([b"three\n", b"", b""])
    assert (folder / ROW_FILES[0]).read_bytes() == b"one\ntwo\nthree\n"


def test_what_stands_beyond_the_committed_end_is_cut_off(folder: Path) -> None:
    (folder / ROW_FILES[1]).write_bytes(b"one\ntorn")
    with RowFiles(folder, [0, 4, 0]) as files:
        assert (folder / ROW_FILES[1]).read_bytes() == b"one\n"
        files.append([b"", b"two\n", b""])
    assert (folder / ROW_FILES[1]).read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("content", [b"one", None])
def test_a_file_that_lost_committed_rows_is_refused_and_no_file_changed(folder: Path, content: bytes | None) -> None:
    path = folder / ROW_FILES[2]
    (folder / ROW_FILES[0]).write_bytes(b"one\n")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError) as refusal:
        RowFiles(folder, [4, 0, 10])
    there = len(content or b"")
    assert str(refusal.value) == (
        f"{path}: {10 - there} bytes of committed rows are missing ({there} of 10 are there); "
        "put the file back as it was"
    )
    assert (folder / ROW_FILES[0]).read_bytes() == b"one\n"


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_row_files_let_go_of_their_descriptors_whatever_happens(folder: Path) -> None:
    open_before = descriptors()
    with pytest.raises(StorageError):
        RowFiles(folder, [0, 0, 10])
    with RowFiles(folder, [0, 0, 0]), pytest.raises(StorageError), ExitStack() as opened:
        opened.enter_context(RowFiles(folder, [0, 5, 0]))
    assert descriptors() == open_before


def test_the_free_space_is_the_disks(folder: Path) -> None:
    disk = os.statvfs(folder)
    with RowFiles(folder, [0, 0, 0]) as files:
        free = files.free_bytes()
    assert 0 < free <= disk.f_blocks * disk.f_frsize
    assert free % disk.f_frsize == 0
