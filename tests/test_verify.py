"""The proof passes on what the real writer wrote, and names file and chunk of whatever was done to it since."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest

from pipeline.errors import StorageError, UsageError
from pipeline.ledger import Ledger
from pipeline.rows import CLIPS, FAILURES, ROW_FILES, SCORES, VIDEOS
from pipeline.rundir import LEDGER, RUN_JSON
from pipeline.verify import Report, in_words, verify
from tests.builders import by_hand, end, opened, small_run


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "run"
    small_run(folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to do harm to."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


def spans(folder: Path, name: str) -> dict[int, tuple[int, int]]:
    """Where each chunk's rows begin and end in a file, as the ledger has it."""
    with Ledger(folder / LEDGER) as ledger:
        return {
            chunk: (one.offset, one.offset + one.length)
            for chunk, one in ledger.segments()
            if ROW_FILES[one.file] == name
        }


def changed(folder: Path, name: str, *chunks: int) -> list[str]:
    """What is said of chunks whose bytes in a file have changed."""
    places = spans(folder, name)
    return [f"{name}: bytes {places[one][0]} to {places[one][1]} (chunk {one}) have changed" for one in chunks]


def differences(folder: Path) -> list[str]:
    report = verify(folder)
    assert report.found == len(report.differences)
    return report.differences


def test_a_run_that_nobody_touched_is_proved(folder: Path) -> None:
    report = verify(folder)
    rows = {SCORES: 8, CLIPS: 18, VIDEOS: 5}
    assert report == Report(videos=6, rows=rows, chunks=3, differences=[], found=0)
    (line,) = in_words(report)
    assert line == (
        "verified: 6 videos, each in one state; "
        "rows: 8 in scores.ndjson, 18 in clips.ndjson, 5 in videos.ndjson; 3 chunks"
    )


def test_an_empty_run_is_proved(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.finish()
    assert verify(tmp_path) == Report()


def test_of_a_run_that_nothing_was_committed_to_a_file_may_be_missing(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    for name in ROW_FILES:
        (tmp_path / name).unlink()
    assert verify(tmp_path) == Report()


def test_one_chunk_is_said_to_be_one(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.take_in("a")
        run.commit(end(1, silent=["a"]))
        run.finish()
    rows = "0 in scores.ndjson, 0 in clips.ndjson, 1 in videos.ndjson"
    assert in_words(verify(tmp_path)) == [f"verified: 1 video, each in one state; rows: {rows}; 1 chunk"]
    (tmp_path / VIDEOS).unlink()
    assert in_words(verify(tmp_path))[-1] == "1 difference found"


# ------------------------------------------------------------------------------------------------------ harm to files


def altered(name: str) -> Callable[[Callable[[list[bytes]], None]], Callable[[Path], None]]:
    """Do something to the lines of a file."""

    def of(change: Callable[[list[bytes]], None]) -> Callable[[Path], None]:
        def harm(folder: Path) -> None:
            lines = (folder / name).read_bytes().splitlines(keepends=True)
            change(lines)
            (folder / name).write_bytes(b"".join(lines))

        return harm

    return of


@pytest.mark.parametrize("name", ROW_FILES)
def test_a_row_that_was_taken_out(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    gone = (folder / name).read_bytes().splitlines(keepends=True)[0]
    altered(name)(lambda lines: lines.remove(gone))(folder)
    missing = f"{name}: {len(gone)} bytes of committed rows are missing ({size - len(gone)} of {size} are there)"
    said = differences(folder)
    assert said[:2] == [missing, *changed(folder, name, 1)]
    assert set(changed(folder, name, 2, 4)) <= set(said)


@pytest.mark.parametrize("name", ROW_FILES)
def test_a_row_that_was_doubled(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    doubled = (folder / name).read_bytes().splitlines(keepends=True)[0]
    altered(name)(lambda lines: lines.insert(0, doubled))(folder)
    said = differences(folder)
    assert said[0] == f"{name}: {len(doubled)} bytes stand behind the committed end at {size}; `resume` cuts them off"
    assert set(changed(folder, name, 1, 2, 4)) <= set(said)


def test_a_value_that_was_changed(folder: Path) -> None:
    content = (folder / SCORES).read_bytes()
    place = spans(folder, SCORES)[2][0] + content[spans(folder, SCORES)[2][0] :].index(b'"score":') + len('"score":')
    digit = b"8" if content[place : place + 1] != b"8" else b"7"
    (folder / SCORES).write_bytes(content[:place] + digit + content[place + 1 :])
    assert set(changed(folder, SCORES, 2)) <= set(differences(folder))
    assert not set(changed(folder, SCORES, 1, 4)) & set(differences(folder))


@pytest.mark.parametrize("name", ROW_FILES)
def test_a_tail_that_was_cut_short(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    os.truncate(folder / name, size - 5)
    said = differences(folder)
    assert said[0] == f"{name}: 5 bytes of committed rows are missing ({size - 5} of {size} are there)"
    assert set(changed(folder, name, 4)) <= set(said)


@pytest.mark.parametrize("name", ROW_FILES)
def test_half_a_row_that_stands_behind_the_end(folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    with (folder / name).open("ab") as file:
        file.write(b'{"video_id":"z"')
    assert differences(folder) == [f"{name}: 15 bytes stand behind the committed end at {size}; `resume` cuts them off"]


def test_bytes_behind_the_end_are_no_difference_while_a_process_writes(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.take_in("a", "b")
        run.commit(end(1, matched=["a"]))
        with (tmp_path / SCORES).open("ab") as file:
            file.write(b"under way")
        assert differences(tmp_path) == []


@pytest.mark.parametrize(("first", "second", "chunks"), [(0, 1, (1,)), (0, 2, (1, 2))])
def test_rows_that_were_swapped(folder: Path, first: int, second: int, chunks: tuple[int, ...]) -> None:
    def swap(lines: list[bytes]) -> None:
        lines[first], lines[second] = lines[second], lines[first]

    altered(VIDEOS)(swap)(folder)
    said = differences(folder)
    assert said[: len(chunks)] == changed(folder, VIDEOS, *chunks)


def test_a_failure_that_was_altered_or_lost(folder: Path) -> None:
    altered_line = f"{FAILURES}: not what the ledger says; `resume` writes it anew"
    content = (folder / FAILURES).read_bytes()
    (folder / FAILURES).write_bytes(content.replace(b"400", b"404"))
    assert differences(folder) == [altered_line]
    (folder / FAILURES).write_bytes(b"")
    assert differences(folder) == [altered_line]
    (folder / FAILURES).unlink()
    assert differences(folder) == [f"{FAILURES}: No such file or directory"]


@pytest.mark.parametrize("name", ROW_FILES)
def test_a_file_that_is_gone_or_no_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert differences(folder) == [f"{folder / name}: No such file or directory"]
    (folder / name).mkdir()
    assert differences(folder) == [f"{folder / name}: not a regular file; a run directory holds no links"]


def test_a_file_that_is_a_pipe_is_a_difference_too(folder: Path) -> None:
    (folder / CLIPS).unlink()
    os.mkfifo(folder / CLIPS)
    other_end = os.open(folder / CLIPS, os.O_RDWR)  # or a mere open() would wait for ever
    try:
        said = differences(folder)
    finally:
        os.close(other_end)
    assert said
    assert all(CLIPS in line for line in said)


# ------------------------------------------------------------------------------------------------------- harm to ledger


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (
            ["UPDATE video SET state = 2 WHERE id = 'a'"],
            ["videos.ndjson: a is scored, the ledger says no_match"],
        ),
        (
            ["UPDATE video SET state = 1 WHERE id = 'd'"],
            ["videos.ndjson: d is no_match, the ledger says scored"],
        ),
        (
            ["UPDATE video SET state = 3 WHERE id = 'a'", "INSERT INTO failure SELECT 1, 'x', 'y', 1, 1, 'z'"],
            [
                "videos.ndjson: a is scored, the ledger says no",
                "videos.ndjson: 5 rows, but the ledger has 4 answered videos",
                "failures.ndjson: not what the ledger says; `resume` writes it anew",
            ],
        ),
        (
            ["UPDATE video SET state = 1 WHERE id = 'e'", "DELETE FROM failure"],
            [
                "videos.ndjson: 5 rows, but the ledger has 6 answered videos",
                "failures.ndjson: not what the ledger says; `resume` writes it anew",
            ],
        ),
        (
            ["UPDATE video SET state = 0 WHERE id = 'a'"],
            [
                "ledger.sqlite: 1 open video of chunks that have ended",
                "videos.ndjson: a is scored, the ledger says no",
                "videos.ndjson: 5 rows, but the ledger has 4 answered videos",
            ],
        ),
        (
            ["UPDATE video SET chunk = 2 WHERE id = 'a'"],
            ["videos.ndjson: a is scored, the ledger says no", "videos.ndjson: chunk 2 has no row for a"],
        ),
        (
            ["INSERT INTO video (id, state, chunk) VALUES ('g', 1, 1)"],
            [
                "videos.ndjson: chunk 1 has no row for g",
                "videos.ndjson: 5 rows, but the ledger has 6 answered videos",
            ],
        ),
        (
            ["DELETE FROM video WHERE id = 'a'"],
            [
                "videos.ndjson: a is scored, the ledger says no",
                "videos.ndjson: 5 rows, but the ledger has 4 answered videos",
            ],
        ),
        (
            ["UPDATE chunk SET state = 1 WHERE chunk = 2"],
            ["ledger.sqlite: 2 settled videos of chunks that have not ended"],
        ),
        (["DELETE FROM chunk WHERE chunk = 2"], ["ledger.sqlite: 2 videos in no chunk"]),
    ],
)
def test_a_state_that_was_altered_by_hand(folder: Path, statements: list[str], said: list[str]) -> None:
    by_hand(folder / LEDGER, *statements)
    assert differences(folder) == said


def test_segments_that_were_altered_by_hand(folder: Path) -> None:
    starts = spans(folder, VIDEOS)
    size = starts[4][1]
    by_hand(folder / LEDGER, "UPDATE segment SET crc = crc + 1 WHERE chunk = 2 AND file = 2")
    assert set(changed(folder, VIDEOS, 2)) <= set(differences(folder))
    by_hand(folder / LEDGER, "DELETE FROM segment WHERE chunk = 2 AND file = 2")
    said = differences(folder)
    assert f"{VIDEOS}: chunk 4 stands at {starts[4][0]}, not at {starts[2][0]}" in said
    assert f"{VIDEOS}: chunk 2 has no row for c" in said
    by_hand(folder / LEDGER, f"UPDATE file SET length = {size - 9} WHERE file = 2")
    said = differences(folder)
    assert f"{VIDEOS}: the chunks' rows end at {size}, the ledger's length is {size - 9}" in said
    assert f"{VIDEOS}: 9 bytes stand behind the committed end at {size - 9}; `resume` cuts them off" in said


def test_all_rows_of_a_chunk_forgotten_with_its_segments(folder: Path) -> None:
    """Even where what is left tiles the files: the number of answered videos gives it away."""
    for file, name in enumerate(ROW_FILES):
        start = spans(folder, name).get(4, ((folder / name).stat().st_size, 0))[0]
        os.truncate(folder / name, start)
        by_hand(folder / LEDGER, f"UPDATE file SET length = {start} WHERE file = {file}")
    by_hand(folder / LEDGER, "DELETE FROM segment WHERE chunk = 4")
    assert differences(folder) == [f"{VIDEOS}: 4 rows, but the ledger has 5 answered videos"]


@pytest.mark.parametrize("name", ROW_FILES)
@pytest.mark.parametrize("content", [b"torn", b'{"video_id":"f"}\n', b'{"video_id":7}\n', b"\xff\n"])
def test_rows_that_are_no_rows_though_their_checksum_holds(folder: Path, name: str, content: bytes) -> None:
    """Whoever alters file and ledger alike is told as much, and not shown a traceback."""
    file = ROW_FILES.index(name)
    start = spans(folder, name)[4][0]
    os.truncate(folder / name, start)
    with (folder / name).open("ab") as rows:
        rows.write(content)
    by_hand(
        folder / LEDGER,
        f"UPDATE segment SET length = {len(content)}, crc = {crc32(content)} WHERE chunk = 4 AND file = {file}",
        f"UPDATE file SET length = {start + len(content)} WHERE file = {file}",
    )
    assert any(name in line and "chunk 4" in line for line in differences(folder))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE video SET state = 9 WHERE id = 'a'",
        "UPDATE chunk SET state = 9 WHERE chunk = 1",
        "UPDATE segment SET file = 7 WHERE chunk = 4 AND file = 2",
        "UPDATE segment SET length = -5 WHERE chunk = 4 AND file = 2",
        "UPDATE segment SET offset = -5 WHERE chunk = 1 AND file = 2",
        "DELETE FROM file WHERE file = 2",
        "UPDATE file SET length = 'x' WHERE file = 2",
        "DROP TABLE segment",
    ],
)
def test_a_ledger_that_makes_no_sense_is_a_difference_or_an_error_of_ours(folder: Path, statement: str) -> None:
    by_hand(folder / LEDGER, statement)
    try:
        assert differences(folder)
    except StorageError as error:
        assert LEDGER in str(error)  # noqa: PT017 - either is right, a traceback is not


# ------------------------------------------------------------------------------------ a chunk that was settled in parts


@pytest.fixture
def in_parts(tmp_path: Path) -> Path:
    """A run of one chunk, settled in two commits and ended by a third."""
    with opened(tmp_path / "parts") as run:
        run.take_in("a", "b", "c", a_chunk=3)
        for part in (end(1, matched=["a", "b"]), end(1, matched=["c"])):
            run.commit(replace(part, settlement=replace(part.settlement, is_part=True)))
        run.commit(end(1))
        run.finish()
    return tmp_path / "parts"


def test_a_chunk_that_was_settled_in_parts_is_proved(in_parts: Path) -> None:
    report = verify(in_parts)
    assert (report.differences, report.videos, report.chunks) == ([], 3, 1)


def test_a_row_in_two_parts_of_a_chunk_is_a_difference(in_parts: Path) -> None:
    by_hand(in_parts / LEDGER, "UPDATE video SET state = 0 WHERE id = 'a'", "UPDATE chunk SET state = 0")
    with opened(in_parts) as run:
        run.commit(end(1, matched=["a"]))
    assert "videos.ndjson: a is scored, the ledger says no" in differences(in_parts)


def test_a_video_that_no_part_has_a_row_of_is_a_difference(in_parts: Path) -> None:
    by_hand(in_parts / LEDGER, "INSERT INTO video (id, state, chunk) VALUES ('d', 1, 1)")
    assert "videos.ndjson: chunk 1 has no row for d" in differences(in_parts)


def test_rows_of_a_video_without_its_own_row_are_a_difference(in_parts: Path) -> None:
    by_hand(in_parts / LEDGER, "DELETE FROM segment WHERE segment = (SELECT max(segment) FROM segment)")
    assert "videos.ndjson: chunk 1 has no row for c" in differences(in_parts)


# ----------------------------------------------------------------------------------------------------------- the report


def test_the_first_hundred_differences_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        names = [f"v{number}" for number in range(130)]
        run.take_in(*names)
        run.commit(*(end(number, silent=[name]) for number, name in enumerate(names, 1)))
        run.finish()
    by_hand(tmp_path / LEDGER, "UPDATE video SET state = 1")
    report = verify(tmp_path)
    lines = in_words(report)
    assert (report.found, len(report.differences)) == (130, 100)
    assert lines[0].startswith("videos.ndjson: v")
    assert lines[100:] == ["… and 30 more", "130 differences found"]


def test_what_is_no_run_directory_cannot_be_proved(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run directory"):
        verify(tmp_path)
    (folder / LEDGER).unlink()
    with pytest.raises(StorageError, match="unable to open database file"):
        verify(folder)
    (folder / RUN_JSON).unlink()
    with pytest.raises(UsageError, match="not a run directory"):
        verify(folder)
