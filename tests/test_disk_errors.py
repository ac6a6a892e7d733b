"""A disk that fails, and files that somebody has damaged: one line, exit code 74, and nothing lost once it is mended.

The system calls of a real process are refused by the kernel itself (a seccomp filter), the ledger's as well as ours:
from the start, or from a commit on. So what SQLite makes of it is seen too, and neither root nor a disk is needed.
Damaged directories are those of a run that was stopped halfway; after the cause is gone, the run goes on to the rows of
one that nobody disturbed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import orjson
import pytest

from pipeline.config import freeze, thaw
from pipeline.errors import StopRun, StorageError
from pipeline.manifest import read_manifest
from pipeline.rows import CLIPS, FAILURES, SCORES, VIDEOS
from pipeline.run import Outcome, run
from pipeline.rundir import LEDGER, LOG, RUN_JSON, replace_file
from tests.builders import by_hand
from tests.runs import KEY, Desk, Finished, library
from tests.servers.contract import ContractServer, RequestSeen

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's own")
VIDEOS_ASKED = library(40)
IN_FOUR_CHUNKS: dict[str, object] = {"limits__max_videos_per_post": 10, "limits__concurrency": 1}


# ------------------------------------------------------------------------------------------------- a disk that fails


REFUSING = """
import ctypes, errno, platform, struct, sys

NUMBERS = {
    "x86_64": {"pwrite64": 18, "fsync": 74, "fdatasync": 75, "rename": 82, "mkdir": 83, "openat": 257, "seccomp": 317},
    "aarch64": {"pwrite64": 68, "fsync": 82, "fdatasync": 83, "renameat": 38, "mkdirat": 34, "openat": 56,
                "seccomp": 277},
}[platform.machine()]
LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, END = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE, NUMBER, THIRD_ARGUMENT = 0x7FFF0000, 0x00050000, 0, 32
NO_NEW_PRIVILEGES, SET_FILTER, ALL_THREADS = 38, 1, 1
FOR_WRITING = 0o1 | 0o2 | 0o100  # O_WRONLY, O_RDWR, O_CREAT

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

def refuse(error, names):
    steps = []
    for name in names:
        if name not in NUMBERS:  # its like of this processor has another name, and is in the list too
            continue
        is_open = name == "openat"  # only for writing
        steps += [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, 3 if is_open else 1, NUMBERS[name])]
        steps += [(LOAD, 0, 0, THIRD_ARGUMENT), (JUMP_IF_SET, 0, 1, FOR_WRITING)] if is_open else []
        steps += [(END, 0, 0, REFUSE | getattr(errno, error))]
    code = b"".join(struct.pack("HBBI", *step) for step in [*steps, (END, 0, 0, ALLOW)])
    program = Program(len(code) // 8, ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p))
    system = ctypes.CDLL(None, use_errno=True)
    assert system.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert system.syscall(NUMBERS["seccomp"], SET_FILTER, ALL_THREADS, ctypes.byref(program)) == 0, ctypes.get_errno()

error, names, moment, commit = sys.argv.pop(1).split(":")
from pipeline.rundir import RowFiles
commits_left, append = int(commit), RowFiles.append

def counted(files, blocks):
    global commits_left
    commits_left -= any(blocks)
    if commits_left == 0 and moment == "rows":
        refuse(error, names.split())
    append(files, blocks)
    if commits_left == 0 and moment == "ledger":
        refuse(error, names.split())

RowFiles.append = counted
if moment == "start":
    refuse(error, names.split())
from pipeline.cli import main
main()
"""
"""A command, under a kernel that refuses calls: ``ERROR:CALLS:start|rows|ledger:COMMIT``.

``rows`` is before the rows of that commit (from 1) are written, ``ledger`` after, before the ledger has it."""


async def refused(desk: Desk, refusal: str, *arguments: str | Path) -> Finished:
    """A command to its end, under a kernel that refuses calls."""
    ended = await anyio.run_process(
        [sys.executable, "-c", REFUSING, refusal, *map(str, arguments)],
        check=False,
        cwd=desk.folder,
        env=desk._environment({}),
    )
    return Finished(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


FULL, BROKEN = "No space left on device; make room", "Input/output error"


@on_linux
@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("ENOSPC:pwrite64:rows:2", FULL),
        ("ENOSPC:pwrite64:ledger:2", "ledger.sqlite: database or disk is full"),
        ("EIO:fdatasync:rows:2", BROKEN),
        ("EIO:fdatasync fsync:ledger:2", "ledger.sqlite: disk I/O error"),
    ],
)
async def test_a_disk_that_fails_within_a_run_ends_it_and_a_resume_brings_every_row(
    desk: Desk, refusal: str, said: str
) -> None:
    """What a failed sync has kept nobody knows: so the chunk is not marked, and its videos are asked for again."""
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, **IN_FOUR_CHUNKS)
        stopped = await refused(desk, refusal, "run", desk.config)
        assert stopped.exit_code == 74
        (error,) = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
        assert error.startswith(f"error: {desk.out}")
        assert error.endswith(said)
        assert "Traceback" not in stopped.stderr
        assert stopped.stderr.splitlines()[-1] == f"next: bulk-classify resume {desk.out}"
        assert desk.status().open == 30
        assert (await desk.command("resume", desk.out)).exit_code == 0
        desk.check(server, VIDEOS_ASKED)
    assert server.reposts == 10  # of the one chunk whose answer could not be kept


@on_linux
@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("EROFS:mkdir mkdirat:start:0", "out: Read-only file system"),
        ("ENOSPC:mkdir mkdirat:start:0", f"out: {FULL}"),
        ("ENOSPC:pwrite64:start:0", FULL),
        ("EIO:fsync fdatasync:start:0", BROKEN),
    ],
)
async def test_a_disk_that_fails_before_the_first_post_costs_nothing(desk: Desk, refusal: str, said: str) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, **IN_FOUR_CHUNKS)
        stopped = await refused(desk, refusal, "run", desk.config)
        assert (stopped.exit_code, server.posts) == (74, [])
        (error,) = stopped.stderr.splitlines()
        assert error.startswith(f"error: {desk.folder}")
        assert error.endswith(said)
        assert (await desk.command("run", desk.config)).exit_code == 0
        desk.check(server, VIDEOS_ASKED)


@on_linux
async def test_a_run_on_a_disk_that_has_become_read_only_goes_on_when_it_is_writable_again(desk: Desk) -> None:
    read_only = "EROFS:openat pwrite64 rename renameat mkdir mkdirat:start:0"
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        await stopped_halfway(desk, server)
        for command, argument in (("resume", desk.out), ("retry", desk.out), ("run", desk.config)):
            finished = await refused(desk, read_only, command, argument)
            assert finished.exit_code == 74
            assert finished.stderr.splitlines()[-1].startswith("error: ")
            assert "Traceback" not in finished.stderr
        assert len(server.posts) == 2
        await ends_right(desk, server)


@pytest.mark.parametrize("place", ["/proc/bulk-classify", "/dev/null", "/dev/null/run", "ids.csv"])
async def test_a_place_where_no_directory_can_be_is_named(desk: Desk, place: str) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url)
        finished = await desk.command("run", desk.config, "--out", place)
    assert (finished.exit_code, server.posts) == (74, [])
    (error,) = finished.stderr.splitlines()
    assert error.startswith(f"error: {desk.folder / place}: ")


async def test_a_cache_folder_that_cannot_be_made_is_named_before_anything_is_sent(desk: Desk) -> None:
    """The lock of the account is there."""
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url)
        in_the_way = desk.folder / "ids.csv"
        finished = await desk.command("run", desk.config, XDG_CACHE_HOME=str(in_the_way))
        assert (finished.exit_code, server.posts) == (74, [])
        (error,) = finished.stderr.splitlines()
        assert error.startswith(f"error: {in_the_way}/bulk-classify")
        assert error.endswith(": Not a directory")
        assert (await desk.command("run", desk.config)).exit_code == 0
        desk.check(server, VIDEOS_ASKED)


# ---------------------------------------------------------------------------------------------------- damaged by others


async def stopped_halfway(desk: Desk, server: ContractServer) -> None:
    """Two of four chunks are answered and committed."""
    desk.write_ids(VIDEOS_ASKED)
    desk.write_config(server.url, limits__max_posts=2, **IN_FOUR_CHUNKS)
    assert (await desk.run()).exit_code == 75


async def resumed(desk: Desk) -> Outcome:
    config = thaw(freeze(read_manifest(desk.out).config), flags={"limits.max_posts": 0})
    return await run(replace(desk.order(read_input=False), config=config))


async def run_again(desk: Desk) -> Outcome:
    return await desk.run()


async def ends_right(desk: Desk, server: ContractServer) -> None:
    """The cause is gone: the rows come to be those of an undisturbed run, and nothing is paid twice."""
    assert (await resumed(desk)).exit_code == 0
    desk.check(server, VIDEOS_ASKED)
    assert (len(server.posts), server.reposts) == (4, 0)


def clear(folder: Path, name: str) -> Path:
    """Take a file away, the ledger with what belongs to it."""
    for one in folder.glob(f"{name}*"):
        one.unlink()
    return folder / name


def cut_short(folder: Path) -> None:
    os.truncate(folder / SCORES, (folder / SCORES).stat().st_size - 1)


def emptied(folder: Path) -> None:
    os.truncate(folder / CLIPS, 0)


def rows_deleted(folder: Path) -> None:
    clear(folder, VIDEOS)


def rows_became_a_folder(folder: Path) -> None:
    clear(folder, SCORES).mkdir()


def another_database(folder: Path) -> None:
    by_hand(clear(folder, LEDGER), "CREATE TABLE theirs (one)")


def a_text(folder: Path) -> None:
    clear(folder, LEDGER).write_text("This is my diary, and no ledger.\n" * 100)


def an_empty_file(folder: Path) -> None:
    clear(folder, LEDGER).touch()


def ledger_deleted(folder: Path) -> None:
    clear(folder, LEDGER)


def a_newer_ledger(folder: Path) -> None:
    by_hand(folder / LEDGER, "PRAGMA user_version = 99")


def half_a_ledger(folder: Path) -> None:
    by_hand(folder / LEDGER, "PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(folder / LEDGER, (folder / LEDGER).stat().st_size // 2)


def broken_manifest(folder: Path) -> None:
    os.truncate(folder / RUN_JSON, 100)


def a_newer_manifest(folder: Path) -> None:
    path = folder / RUN_JSON
    replace_file(path, orjson.dumps(orjson.loads(path.read_bytes()) | {"format": 99}))


def another_jobs_manifest(folder: Path) -> None:
    path = folder / RUN_JSON
    path.write_bytes(path.read_bytes().replace(b"Dance tutorial", b"Dance tutorials"))


def log_became_a_folder(folder: Path) -> None:
    clear(folder, LOG).mkdir()


def log_leads_elsewhere(folder: Path) -> None:
    clear(folder, LOG).symlink_to("/dev/null")


@pytest.mark.parametrize("go_on", [resumed, run_again])
@pytest.mark.parametrize(
    ("damage", "name", "said"),
    [
        (cut_short, SCORES, "1 bytes of committed rows are missing"),
        (emptied, CLIPS, "bytes of committed rows are missing (0 of "),
        (rows_deleted, VIDEOS, "bytes of committed rows are missing (0 of "),
        (rows_became_a_folder, SCORES, "not a regular file"),
        (another_database, LEDGER, "not a ledger of bulk-classify; use another --out"),
        (a_text, LEDGER, "file is not a database"),
        (an_empty_file, SCORES, "holds rows that no ledger here knows of"),
        (ledger_deleted, SCORES, "holds rows that no ledger here knows of"),
        (a_newer_ledger, LEDGER, "written by another version (format 99, not 2)"),
        (half_a_ledger, LEDGER, "database disk image is malformed"),
        (broken_manifest, RUN_JSON, "not what bulk-classify writes"),
        (a_newer_manifest, RUN_JSON, "written by another version (format 99, not 1)"),
        (another_jobs_manifest, RUN_JSON, "its job is not the one that the run was made with"),
        (log_became_a_folder, LOG, "not a regular file"),
        (log_leads_elsewhere, LOG, "not a regular file"),
    ],
)
async def test_damage_is_one_line_that_names_the_file_and_nothing_is_sent_before_it_is_mended(
    desk: Desk, damage: Callable[[Path], None], name: str, said: str, go_on: Callable[[Desk], object]
) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        await stopped_halfway(desk, server)
        whole = desk.folder / "whole"
        shutil.copytree(desk.out, whole)
        damage(desk.out)
        with pytest.raises(StopRun) as caught:
            await go_on(desk)  # type: ignore[misc]
        message = str(caught.value)
        assert (caught.value.exit_code, len(message.splitlines()), len(server.posts)) == (74, 1, 2)
        assert message.startswith(f"{desk.out / name}: ")
        assert said in message
        shutil.rmtree(desk.out)
        whole.rename(desk.out)
        await ends_right(desk, server)


async def test_a_manifest_that_is_gone_is_asked_back(desk: Desk) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        await stopped_halfway(desk, server)
        manifest = (desk.out / RUN_JSON).rename(desk.folder / "run.json")
        for go_on in (resumed, run_again):
            with pytest.raises(StopRun, match=RUN_JSON):
                await go_on(desk)
        assert not (desk.out / RUN_JSON).exists()
        manifest.rename(desk.out / RUN_JSON)
        await ends_right(desk, server)


async def test_a_list_of_failures_that_cannot_be_written_is_code_74_after_the_last_video(desk: Desk) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        await stopped_halfway(desk, server)
        in_the_way = desk.out / f".{FAILURES}.draft"
        in_the_way.mkdir()
        outcome = await resumed(desk)
        assert (outcome.exit_code, str(outcome.stopped)) == (74, f"{in_the_way}: Is a directory")
        assert desk.status().open == 0
        in_the_way.rmdir()
        await ends_right(desk, server)


@pytest.mark.parametrize("name", [f"{LEDGER}-wal", f"{LEDGER}-shm"])
async def test_a_ledgers_side_file_that_somebody_filled_with_noise_harms_nothing_that_was_closed(
    desk: Desk, name: str
) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        await stopped_halfway(desk, server)
        (desk.out / name).write_bytes(bytes(range(256)) * 128)
        await ends_right(desk, server)


@pytest.mark.parametrize("how", ["deleted", "replaced"])
async def test_rows_that_would_go_to_a_file_that_is_gone_are_not_taken_for_written(desk: Desk, how: str) -> None:
    path = desk.out / SCORES

    def third(seen: RequestSeen) -> None:
        if (seen.kind, seen.number) == ("post", 3):
            copy = path.with_name("copy")
            copy.write_bytes(path.read_bytes())
            path.unlink()
            if how == "replaced":
                copy.rename(path)

    async with ContractServer(VIDEOS_ASKED, key=KEY, faults=third) as server:
        desk.write_ids(VIDEOS_ASKED)
        desk.write_config(server.url, **IN_FOUR_CHUNKS)
        outcome = await desk.run()
        assert (outcome.exit_code, len(server.posts), desk.status().open) == (74, 3, 20)
        if how == "deleted":
            path.with_name("copy").rename(path)
        assert (await desk.run()).exit_code == 0
        desk.check(server, VIDEOS_ASKED)


async def test_a_broken_page_of_the_ledger_is_code_74(desk: Desk) -> None:
    async with ContractServer(VIDEOS_ASKED, key=KEY) as server:
        await stopped_halfway(desk, server)
        ledger = desk.out / "ledger.sqlite"
        by_hand(ledger, "PRAGMA wal_checkpoint(TRUNCATE)")
        whole = ledger.read_bytes()
        for page in range(1, len(whole) // 4096):
            ledger.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
            try:
                outcome = await resumed(desk)
            except StorageError:
                continue
            assert outcome.exit_code in {0, 74}
            ledger.unlink()
