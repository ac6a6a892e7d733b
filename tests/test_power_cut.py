"""A power cut at any moment of real commands: nothing that was acknowledged is lost, and nothing is refused.

Recorded with ``strace``, which these tests need.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tests.power.cuts import Aftermath, Recording, aftermaths, gone_on_with, record
from tests.power.disk import SECTOR, Cut, Disk, Made, Operation, Removed, Renamed, Sent, Synced, Written, fates
from tests.power.trace import read_trace
from tests.runs import Desk, working_strace

NOTHING = Sent("", b"")
WAL = "out/ledger.sqlite-wal"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    strace = working_strace()
    if strace is None:
        pytest.skip("strace traces nothing here")
    return anyio.run(record, Desk(tmp_path_factory.mktemp("recorded")), strace)


# ------------------------------------------------------------------------------------------------- the recorded run


def test_the_recorded_run_does_all_that_matters(recording: Recording) -> None:
    """It makes and renames files, writes rows, empties the ledger's log and begins it anew, and sends POSTs."""
    begun = [one for one in recording.operations if isinstance(one, Written) and one.path == WAL and one.offset == 0]
    assert len(begun) > len(recording.ends)
    done = {(type(one), one.path) for one in recording.operations if not isinstance(one, Sent)}
    for name in ("scores", "clips", "videos"):
        assert {(Made, f"out/{name}.ndjson"), (Written, f"out/{name}.ndjson")} <= done
    assert {(Renamed, "out/.run.json.draft"), (Renamed, "out/.failures.ndjson.draft"), (Removed, WAL)} <= done
    assert len(recording.posts) >= 16
    assert {post.prompt_group for post in recording.posts} == {0, 1}


def test_no_power_cut_breaks_a_promise(recording: Recording) -> None:
    """Before every sync and every change of a name, with all lost, all kept, and a mixture that is torn."""
    cuts = recording.turning_points()
    broken = [one for one in aftermaths(recording, cuts, random.Random(20260102), outcomes=1) if one.problems]
    assert told(broken) == []


async def test_after_a_power_cut_the_run_ends_as_without_one(recording: Recording, tmp_path: Path) -> None:
    chance = random.Random(20260102)
    cuts = sorted(chance.sample(range(recording.ends[1]), 4))
    for one in list(aftermaths(recording, cuts, chance, outcomes=1))[2::3]:
        desk = Desk(tmp_path / str(one.cut))
        desk.folder.mkdir()
        await gone_on_with(one, desk)


def told(broken: list[Aftermath]) -> list[tuple[int, list[str]]]:
    return [(one.cut, one.problems) for one in broken]


# ------------------------------------------------------------------------------------------- what would break promises


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("out/videos.ndjson", "videos.ndjson"),
        (WAL, "the ledger does not know of a POST"),
        ("out/ledger.sqlite", "the ledger has 0 POSTs, but "),
        ("out/.run.json.draft", "run.json: not what bulk-classify writes"),
        ("out/.failures.ndjson.draft", "failures.ndjson: not what the ledger says"),
        ("out", "the ledger has 0 POSTs, but "),
        (".", "the ledger has 0 POSTs, but "),
    ],
)
def test_a_sync_that_is_left_out_is_noticed(recording: Recording, path: str, seen: str) -> None:
    careless = [NOTHING if isinstance(one, Synced) and one.path == path else one for one in recording.operations]
    assert is_noticed(seen, replace(recording, operations=careless))


def test_rows_that_become_durable_after_the_ledger_says_so_are_noticed(recording: Recording) -> None:
    late: list[Operation] = []
    waiting: list[Operation] = []
    for one in recording.operations:
        if isinstance(one, Synced) and one.path.endswith(".ndjson"):
            waiting.append(one)
            continue
        late.append(one)
        if isinstance(one, Synced) and one.path == WAL:
            late += waiting
            waiting = []
    assert waiting == []
    careless = [replace(one, began=at) if isinstance(one, Synced) else one for at, one in enumerate(late)]
    assert is_noticed("bytes of committed rows are missing", replace(recording, operations=careless))


def test_a_post_that_leaves_before_its_intent_is_durable_is_noticed(recording: Recording) -> None:
    """Just before each sync of the ledger up to that of the intent; behind it, all is well."""
    first = recording.posts[0]
    before = recording.operations[: first.at]
    noticed = []
    for sync in (at for at, one in enumerate(before) if isinstance(one, Synced) and one.path == WAL):
        early = replace(recording, posts=[replace(first, at=sync - 1)])
        (nothing_lasted, *_) = aftermaths(early, [sync], random.Random(20260102), outcomes=0)
        noticed.append("the ledger has 0 POSTs, but 1 have left" in nothing_lasted.problems)
    (in_truth, *_) = aftermaths(recording, [first.at + 1], random.Random(20260102), outcomes=0)
    assert (noticed[0], in_truth.problems) == (True, [])
    assert noticed == sorted(noticed, reverse=True)


def is_noticed(text: str, careless: Recording) -> bool:
    cuts = sorted({*careless.turning_points()[::3], *careless.ends})
    found = aftermaths(careless, cuts, random.Random(20260102), outcomes=1)
    return any(text in problem for one in found for problem in one.problems)


# -------------------------------------------------------------------------------------------------- the model of a disk


def disk_after(*operations: Operation) -> Disk:
    disk = Disk()
    for operation in operations:
        disk.carry_out(operation)
    return disk


def outcomes_of(disk: Disk, count: int = 300) -> set[tuple[tuple[str, bytes | None], ...]]:
    return {tuple(disk.after_power_cut(fate).items()) for fate in fates(random.Random(20260102), count)}


def test_what_was_synced_is_always_there() -> None:
    written = (Made("a"), Written("a", 0, b"abc"), Written("a", None, b"def"), Cut("a", 5))
    disk = disk_after(*written, Synced("a", 4), Synced(".", 5))
    assert outcomes_of(disk) == {(("a", b"abcde"),)}


def test_a_sync_covers_only_what_came_before_it_began() -> None:
    disk = disk_after(Made("a"), Synced(".", 1), Written("a", 0, b"a"), Written("a", 1, b"b"), Synced("a", 3))
    assert outcomes_of(disk) == {(("a", b"a"),), (("a", b"a\0"),), (("a", b"ab"),)}


def test_an_unsynced_write_is_torn_between_sectors_and_its_place_may_be_filled_with_zeros() -> None:
    x, y, zeros = b"x" * SECTOR, b"y" * SECTOR, bytes(SECTOR)
    disk = disk_after(Made("a"), Synced(".", 1), Written("a", 0, x + y))
    assert {content for ((_, content),) in outcomes_of(disk)} == {
        *(b"", x, zeros + y, x + y),
        *(zeros + zeros, x + zeros),
    }


def test_a_write_changes_no_byte_of_a_sector_beside_it() -> None:
    disk = disk_after(Made("a"), Synced(".", 1), Written("a", 0, b"abcd"), Synced("a", 3), Written("a", 1, b"XY"))
    assert outcomes_of(disk) == {(("a", b"abcd"),), (("a", b"aXYd"),)}


def test_a_file_that_is_cut_may_be_as_long_as_before() -> None:
    disk = disk_after(Made("a"), Synced(".", 1), Written("a", 0, b"abcd"), Synced("a", 3), Cut("a", 2))
    assert outcomes_of(disk) == {(("a", b"abcd"),), (("a", b"ab"),)}


def test_a_name_lasts_once_its_folder_is_synced_and_not_before() -> None:
    disk = disk_after(Made("f", is_folder=True), Made("f/a"), Written("f/a", 0, b"a"), Synced("f/a", 3), Synced("f", 4))
    assert outcomes_of(disk) == {(), (("f", None), ("f/a", b"a"))}


def test_a_name_that_is_taken_over_holds_one_content_or_the_other() -> None:
    draft = (Made("draft"), Written("draft", 0, b"2"), Synced("draft", 4))
    disk = disk_after(Made("a"), Synced(".", 1), *draft, Renamed("draft", "a"))
    assert {dict(one).get("a") for one in outcomes_of(disk)} == {b"", b"2"}
    disk.carry_out(Synced(".", 6))
    assert outcomes_of(disk) == {(("a", b"2"),)}


def test_a_removed_file_may_come_back_until_its_folder_is_synced() -> None:
    disk = disk_after(Made("a"), Synced(".", 1), Removed("a"), Written("a", 0, b"by whom it is still open"))
    assert outcomes_of(disk) == {(), (("a", b""),)}
    disk.carry_out(Synced(".", 4))
    assert outcomes_of(disk) == {()}


# ------------------------------------------------------------------------------------------------------------- a trace


def hexadecimal(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def test_a_trace_tells_operations_in_the_order_in_which_they_count() -> None:
    """A sync counts when it ends, for what was done before it began; a write counts when it begins."""
    root, a, draft, gone, here = map(hexadecimal, ("/r", "/r/a", "/r/.d", "/r/gone", "/elsewhere"))
    trace = f"""
1 mkdir("{root}", 0700) = 0
1 openat(AT_FDCWD<{here}>, "{a}", O_RDWR|O_CREAT|O_CLOEXEC, 0600) = 5<{a}>
1 openat(AT_FDCWD<{root}>, "{hexadecimal(".d")}", O_WRONLY|O_CREAT|O_TRUNC|O_APPEND, 0600) = 6<{draft}>
1 openat(AT_FDCWD<{here}>, "{a}", O_RDONLY|O_EXCL) = -1 ENOENT (No such file or directory)
1 pwrite64(5<{a}>, "{hexadecimal("abc")}", 3, 7) = 2
1 fdatasync(5<{a}> <unfinished ...>
2 write(6<{draft}>, "{hexadecimal("x")}", 1) = 1
2 write(9<{here}>, "{hexadecimal("x")}", 1) = 1
2 sendto(7<{hexadecimal("socket:[1]")}>, "{hexadecimal("POST")}", 4, 0, NULL, 0 <unfinished ...>
1 <... fdatasync resumed>) = 0
2 <... sendto resumed>) = 4
1 rename("{draft}", "{a}") = 0
1 ftruncate(5<{a}>, 4) = 0
1 unlink("{gone}") = 0
1 fsync(8<{root}>) = 0
1 --- SIGCHLD {{si_signo=SIGCHLD}} ---
1 +++ exited with 0 +++
"""
    assert read_trace(trace.strip().encode().splitlines(), Path("/r")) == [
        Made(".", is_folder=True),
        Made("a"),
        Made(".d"),
        Cut(".d", 0),
        Written("a", 7, b"ab"),
        Written(".d", None, b"x"),
        Sent("socket:[1]", b"POST"),
        Synced("a", 5),
        Renamed(".d", "a"),
        Cut("a", 4),
        Removed("gone"),
        Synced(".", 11),
    ]


@pytest.mark.parametrize(
    "call",
    [
        "fallocate(5<{}>, 0, 0, 4096) = 0",
        'write(5<{}>, "", 0) = 0',
        'writev(5<{}>, [{{iov_base="", iov_len=0}}], 1) = 0',
    ],
)
def test_what_the_model_does_not_know_is_never_passed_over(call: str) -> None:
    with pytest.raises(AssertionError, match="the model of a disk does not know it"):
        read_trace([b"1 " + call.format(hexadecimal("/r/a")).encode()], Path("/r"))


def test_a_file_that_is_changed_in_memory_is_never_passed_over() -> None:
    call = f"1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5<{hexadecimal('/r/a')}>, 0) = 0x7f92230bd000"
    with pytest.raises(AssertionError, match="a is changed in memory"):
        read_trace([call.encode()], Path("/r"))
