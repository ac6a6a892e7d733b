from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import math
import os
import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError, UsageError
from pipeline.ids import expand, read_videos
from pipeline.models import Video

LIMIT = 64 * 1024


def fail(problem: str) -> None:
    raise AssertionError(problem)


def videos_of(*paths: Path | str, stdin: bytes = b"") -> list[Video]:
    return list(read_videos(map(str, paths), on_bad_line="refuse", on_skipped=fail, stdin=io.BytesIO(stdin)))


def problems_of(*paths: Path | str, stdin: bytes = b"") -> list[str]:
    """What is refused, a file in a directory being named by its last part."""
    with pytest.raises(InputError) as caught:
        videos_of(*paths, stdin=stdin)
    return [re.sub(r"^/\S*/", "", problem) for problem in caught.value.problems]


def read_skipping(*paths: Path | str, stdin: bytes = b"") -> tuple[list[Video], list[str]]:
    skipped: list[str] = []
    stream = io.BytesIO(stdin)
    videos = list(read_videos(map(str, paths), on_bad_line="skip", on_skipped=skipped.append, stdin=stream))
    return videos, [re.sub(r"^/\S*/", "", problem) for problem in skipped]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write_file(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write_file


Write = Callable[[str, bytes], Path]


# ------------------------------------------------------------------------------------------------------ finding files


def test_globs_are_sorted_and_patterns_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.txt", "a.txt", "z.csv", ".hidden.txt", "deep/er/c.txt"):
        (tmp_path / name).touch()
    found = expand(["z.csv", "*.txt", "deep/**/*.txt"], tmp_path)
    assert found == [str(tmp_path / name) for name in ("z.csv", "a.txt", "b.txt", "deep/er/c.txt")]


def test_a_file_named_twice_is_listed_once_however_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert expand(["a.txt", "./a.txt", str(tmp_path / "a.txt"), "link.txt", "*", "-", "-"], tmp_path) == [
        str(tmp_path / "a.txt"),
        "-",
    ]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    for name in ("a[1].txt", "a1.txt"):
        (tmp_path / name).touch()
    assert expand(["a[1].txt"], tmp_path) == [str(tmp_path / "a[1].txt")]


def test_an_absolute_glob_does_not_depend_on_the_base(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert expand([f"{tmp_path}/*.txt"], tmp_path / "elsewhere") == [str(tmp_path / "a.txt")]


def test_every_pattern_without_a_file_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "a.csv").touch()
    with pytest.raises(InputError) as caught:
        expand(["a.csv", "b.csv", "*.txt", "nul\0"], tmp_path)
    assert caught.value.problems == (
        f"no file is, or matches, 'b.csv' in {tmp_path}",
        f"no file is, or matches, '*.txt' in {tmp_path}",
        f"no file is, or matches, 'nul\\x00' in {tmp_path}",
    )


def test_a_circle_of_links_and_a_name_too_long_are_reported_when_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    paths = expand(["circle", "x" * 300], tmp_path)
    assert problems_of(*paths) == [
        "circle: Too many levels of symbolic links",
        f"{'x' * 300}: File name too long",
    ]


# -------------------------------------------------------------------------------------------------------- plain lists


@pytest.mark.parametrize(
    "content",
    [
        b"a-1\nB_2\n",
        b"a-1\nB_2",
        b"a-1\r\nB_2\r\n",
        b"\xef\xbb\xbfa-1\nB_2\n",
        b"# ids of June\n\n  a-1\t\n   \n\tB_2 # the second \xe2\x82\xac\n#\n",
        b"\xc2\xa0a-1\nB_2#\n".replace(b"#", b" #"),
        b"video_id\na-1\nB_2\n",
    ],
)
def test_a_plain_list_has_one_id_a_line(content: bytes, write: Write) -> None:
    expected = [Video("a-1"), Video("B_2")]
    assert videos_of(write("list.txt", content)) == expected
    assert videos_of("-", stdin=content) == expected


def test_files_are_read_in_their_order_and_duplicates_pass(write: Write) -> None:
    paths = write("b.txt", b"a\nb\n"), write("a.csv", b"video_id,duration\na,3\n")
    assert videos_of(*paths, "-", stdin=b"b") == [Video("a"), Video("b"), Video("a", 3.0), Video("b")]


def test_an_empty_list_has_no_videos(write: Write) -> None:
    assert videos_of(write("a.txt", b""), write("a.ndjson", b"\n"), write("a.txt.gz", gzip.compress(b"")), "-") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a b", "not a video id (letters, digits, _ and - only): 'a b'"),
        (b"a#b", "not a video id (letters, digits, _ and - only): 'a#b'"),
        (b"a\rb", r"not a video id (letters, digits, _ and - only): 'a\rb'"),
        (b"\x1b[2J", r"not a video id (letters, digits, _ and - only): '\x1b[2J'"),
        ("ü".encode(), r"not a video id (letters, digits, _ and - only): '\xfc'"),
        (b"?" * 41, f"not a video id (letters, digits, _ and - only): '{'?' * 40}'…"),
        (b"a\0", "has a NUL character"),
        (b"# a\0", "has a NUL character"),
        (b"ab\xff", "not UTF-8: byte 0xff at position 3"),
        (b"# \xe2\x82", "not UTF-8: byte 0xe2 at position 3"),
        (b"a" * (LIMIT + 1), "longer than 64 KiB"),
        (b"#" * 5_000_000, "longer than 64 KiB"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(line: bytes, reason: str, write: Write) -> None:
    path = write("list.txt", b"good\n" + line + b"\nalso-good\n")
    assert read_skipping(path) == ([Video("good"), Video("also-good")], [f"list.txt:2: {reason}"])
    assert problems_of(path) == [f"list.txt:2: {reason}"]


def test_the_longest_line_is_read() -> None:
    assert videos_of("-", stdin=b"x\n" + b"a" * LIMIT + b"\ny") == [Video("x"), Video("a" * LIMIT), Video("y")]


def test_the_first_twenty_bad_lines_of_all_files_are_listed_and_all_are_counted(write: Write) -> None:
    paths = write("a.txt", b"?\n" * 15 + b"ok\n"), write("b.txt", b"ok\n" + b"?\n" * 8)
    problems = problems_of(*paths)
    assert [problem.partition(": ")[0] for problem in problems[:-1]] == [
        *(f"a.txt:{line}" for line in range(1, 16)),
        *(f"b.txt:{line}" for line in range(2, 7)),
    ]
    assert problems[-1] == "23 problems in all: these are the first 20"


def test_twenty_bad_lines_need_no_total() -> None:
    assert len(problems_of("-", stdin=b"?\n" * 20)) == 20


# ---------------------------------------------------------------------------------------------------------------- csv


@pytest.mark.parametrize(
    "content",
    [
        b"video_id,duration_seconds\na,1.5\nb,\nc,20\n",
        b"\xef\xbb\xbfvideo_id,duration_seconds\r\na,1.5\r\nb,null\r\n\r\nc,2e1",
        b'title;"Video_ID"; Duration \n"x;""y""\n\nz";a;1.5\n;b;NULL\n;c;+20.\n',
        b"duration\tvideo id\n1.50\ta\n \tb \n20\t c\n",
        b'\nvideo_id,duration,duration_seconds,"two\nlines"\n"a",9,1.5,"\r\n"\nb,9,,\nc,9,20,,,\n',
    ],
)
def test_csv_finds_its_columns_whatever_its_dialect(content: bytes, write: Write) -> None:
    assert videos_of(write("list.csv", content)) == [Video("a", 1.5), Video("b"), Video("c", 20.0)]


def test_csv_without_durations_has_unknown_ones(write: Write) -> None:
    assert videos_of(write("list.CSV", b"filename,video_id\nx.mp4,a\n")) == [Video("a")]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"x", "3: has 1 field, and the header has 3"),
        (b"x,5", "3: has 2 fields, and the header has 3"),
        (b"Hello, world,x,5", "3: has 4 fields, and the header has 3"),
        (b",5,", "3: the video id is empty"),
        (b'"",5,', "3: the video id is empty"),
        (b'"x\ny",5,', r"3: not a video id (letters, digits, _ and - only): 'x\ny' (lines 3 to 4)"),
        (b"x,0,", "3: a duration is a positive number of seconds, not '0'"),
        (b"x,-5,", "3: a duration is a positive number of seconds, not '-5'"),
        (b"x,nan,", "3: a duration is a positive number of seconds, not 'nan'"),
        (b"x,inf,", "3: a duration is a positive number of seconds, not 'inf'"),
        (b"x,1e999,", "3: a duration is a positive number of seconds, not '1e999'"),
        (b"x,1_0,", "3: a duration is a positive number of seconds, not '1_0'"),
        (b"x,\xef\xbc\x91,", r"3: a duration is a positive number of seconds, not '\uff11'"),
        (b"x,1:30,", "3: a duration is a positive number of seconds, not '1:30'"),
        (b'"x"y,5,', "3: ',' expected after '\"'"),
        (b'x,5,"\n\0\nq,5,"', "3: has a NUL character (lines 3 to 5)"),
        (b'x,5,"\n\xff\nq,5,"', "3: not UTF-8: byte 0xff at position 1 (lines 3 to 5)"),
        (b"x,5," + b"t" * LIMIT, "3: longer than 64 KiB"),
    ],
)
def test_a_bad_row_is_named_by_its_first_line_and_the_others_are_read(row: bytes, problem: str, write: Write) -> None:
    path = write("list.csv", b"video_id,duration,title\nfirst,5,\n" + row + b"\nlast,5,\n")
    assert read_skipping(path) == ([Video("first", 5.0), Video("last", 5.0)], [f"list.csv:{problem}"])


def test_an_open_quote_swallows_no_more_than_64_kib(write: Write) -> None:
    path = write("list.csv", b'video_id,title\na,"x\n' + b"b,y\n" * 30_000)
    assert read_skipping(path) == (
        [Video("b")] * 8_155,
        ["list.csv:2: longer than 64 KiB: is a quote left open? (lines 2 to 21847)"],
    )


def test_a_quote_that_is_never_closed_is_named_by_where_it_opens(write: Write) -> None:
    path = write("list.csv", b'video_id,title\na,x\nb,"y\nc,z\n')
    assert read_skipping(path) == ([Video("a")], ["list.csv:3: unexpected end of data (lines 3 to 4)"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "a csv file needs a header with video_id, and it is empty"),
        (b"\n \n", "a csv file needs a header with video_id, and it is empty"),
        (b"a,1\n", "a csv file needs a header with video_id, and its first line is 'a,1'"),
        (b"video_id\rabc\r", r"a csv file needs a header with video_id, and its first line is 'video_id\rabc'"),
        (b"video_id,duration,Video ID\n", "needs one column video_id, and has 2"),
        (b"video_id,duration,Duration\n", "needs one column duration, and has 2"),
        (b'video_id,"x\ny', "the header is broken: unexpected end of data (lines 1 to 2)"),
        (b'video_id\t"x"y\n', r"""the header is broken: '\t' expected after '"'"""),
        (b"video_id,\xff\nx,y\n", "the header is broken: not UTF-8: byte 0xff at position 10"),
        (b"x" * (LIMIT + 1), "the header is broken: longer than 64 KiB"),
    ],
)
def test_a_csv_without_a_usable_header_is_refused(content: bytes, problem: str, write: Write) -> None:
    assert problems_of(write("list.csv", content)) == [f"list.csv: {problem}"]


# ------------------------------------------------------------------------------------------------------------- ndjson


@pytest.mark.parametrize("name", ["list.ndjson", "list.jsonl", "list", "list.json", "list.txt"])
def test_ndjson_takes_our_own_listing_the_platforms_and_simpler_ones(name: str, write: Write) -> None:
    content = (
        b'\n{"video_id": "a", "duration_seconds": 1.5, "filename": "a.mp4"}\r\n'
        b'{"_id": "b", "metadata": {"duration": 20, "fps": 30}, "created_at": null}\n  \n'
        b'{"video_id": "c", "_id": "other", "duration": 3, "duration_seconds": null, "metadata": {"duration": 9}}\n'
        b'{"video_id": "d", "duration": null}'
    )
    assert videos_of(write(name, content)) == [Video("a", 1.5), Video("b", 20.0), Video("c", 3.0), Video("d")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{}", "the object has no video_id"),
        (b'{"video_id": ""}', "the video id is empty"),
        (b'{"video_id": " a"}', "not a video id (letters, digits, _ and - only): ' a'"),
        (b'{"video_id": "\\u0000"}', r"not a video id (letters, digits, _ and - only): '\x00'"),
        (b'{"video_id": 1}', "Expected `str | null`, got `int` - at `$.video_id`"),
        (b'{"video_id": "a", "duration": 0}', "a duration is a positive number of seconds, not '0.0'"),
        (b'{"video_id": "a", "duration": "5"}', "Expected `float | null`, got `str` - at `$.duration`"),
        (b'{"video_id": "a", "duration": 1e999}', "Number out of range - at `$.duration`"),
        (b'["a"]', "Expected `object`, got `array`"),
        (b'"a"', "Expected `object`, got `str`"),
        (b'{"video_id": "a"', "Input data was truncated"),
        (b'{"video_id": "a"} {}', "JSON is malformed: trailing characters (byte 19)"),
        (b'{"x": ' + b"[" * 60_000 + b"]" * 5_000 + b"}", "the JSON is nested too deeply"),
        (b'{"x": "' + b"y" * LIMIT + b'", "video_id": "a"}', "longer than 64 KiB"),
    ],
)
def test_a_bad_object_is_named_and_the_others_are_read(line: bytes, reason: str, write: Write) -> None:
    path = write("list.ndjson", b'{"video_id": "good"}\n' + line + b'\n{"_id": "also-good"}\n')
    assert read_skipping(path) == ([Video("good"), Video("also-good")], [f"list.ndjson:2: {reason}"])


# ------------------------------------------------------------------------------------------------------------ parquet


def parquet(path: Path, query: str) -> Path:
    with duckdb.connect() as database:
        database.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


ROWS = "SELECT * FROM (VALUES ('x', 'a', 1.5), ('y', 'b', NULL), ('z', 'c', 20)) AS t(title, \"Video_ID\", duration)"
ROWS_VIDEOS = [Video("a", 1.5), Video("b"), Video("c", 20.0)]


def test_parquet_is_read_from_a_file_compressed_and_piped(tmp_path: Path, write: Write) -> None:
    plain = parquet(tmp_path / "list.parquet", ROWS).read_bytes()
    assert videos_of(tmp_path / "list.parquet") == ROWS_VIDEOS
    assert videos_of(write("no-suffix", plain)) == ROWS_VIDEOS
    assert videos_of(write("list.parquet.gz", gzip.compress(plain))) == ROWS_VIDEOS
    assert videos_of("-", stdin=plain) == ROWS_VIDEOS


def test_a_parquet_path_is_never_a_pattern_nor_a_source_of_columns(tmp_path: Path) -> None:
    folder = tmp_path / "video_id=q"
    folder.mkdir()
    parquet(folder / "a1.parquet", "SELECT 'wrong' AS video_id")
    parquet(folder / "a[1]?.parquet", ROWS)
    assert videos_of(folder / "a[1]?.parquet") == ROWS_VIDEOS


def test_a_bad_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "list.parquet",
        "SELECT * FROM (VALUES ('a', 'inf'::DOUBLE), (NULL, 1), ('b', -1), ('c c', 1), ('d', 2)) t(video_id, duration)",
    )
    assert read_skipping(path) == (
        [Video("d", 2.0)],
        [
            "list.parquet:1: a duration is a positive number of seconds, not 'inf'",
            "list.parquet:2: the video id is empty",
            "list.parquet:3: a duration is a positive number of seconds, not '-1.0'",
            "list.parquet:4: not a video id (letters, digits, _ and - only): 'c c'",
        ],
    )


def test_parquet_that_is_none_or_has_no_ids_is_refused(tmp_path: Path, write: Write) -> None:
    other = parquet(tmp_path / "other.parquet", "SELECT 1 AS id")
    assert problems_of(write("a.parquet", b"video_id\na\n"), other) == [
        "a.parquet: this is not a Parquet file",
        "other.parquet: needs one column video_id, and has 0",
    ]
    cut = write("cut.parquet", b"PAR1" + b"\0" * 100)
    assert problems_of(cut)[0].startswith("cut.parquet: DuckDB cannot read it: ")


def test_without_duckdb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "list.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(UsageError, match=r"pip install 'bulk-classify\[analytics\]'"):
        videos_of(path)


# ---------------------------------------------------------------------------------------------- files that are broken


def test_a_file_that_cannot_be_read_is_an_error_even_where_lines_may_be_skipped(tmp_path: Path, write: Write) -> None:
    good = write("good.txt", b"a\n")
    paths = [str(tmp_path), str(tmp_path / "none.txt"), f"{tmp_path}/nul\0", str(good)]
    videos: list[Video] = []
    with pytest.raises(InputError) as caught:
        videos.extend(read_videos(paths, on_bad_line="skip", on_skipped=fail, stdin=io.BytesIO()))
    assert caught.value.problems == (
        f"{tmp_path}: Is a directory",
        f"{tmp_path}/none.txt: No such file or directory",
        f"{tmp_path}/nul\\x00: no path has a NUL",
    )


def test_an_input_that_fails_half_way_is_an_error() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if block := super().read(size):
                return block
            raise OSError(5, "Input/output error")

    with pytest.raises(InputError, match=r"^standard input: Input/output error$"):
        list(read_videos("-", on_bad_line="skip", on_skipped=fail, stdin=Failing(b"a\nb\n")))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_called_by_its_name(encoding: str, write: Write) -> None:
    path = write("list.csv", "\ufeffvideo_id\na\n".encode(encoding))
    assert problems_of(path) == ["list.csv: this is UTF-16: save it as UTF-8"]


def compress_zstd(content: bytes) -> bytes:
    return zstandard.compress(content)


def in_parts(compress: Callable[[bytes], bytes], content: bytes) -> bytes:
    """Several members or frames, an empty one among them, and padding."""
    middle = len(content) // 2
    return compress(content[:middle]) + compress(b"") + compress(content[middle:]) + b"\0" * 100


compressions = pytest.mark.parametrize("compress", [gzip.compress, compress_zstd], ids=["gzip", "zstd"])


@compressions
def test_compression_is_told_by_the_bytes_whatever_the_name(compress: Callable[[bytes], bytes], write: Write) -> None:
    content = b"video_id,duration\n" + b"".join(b"id-%d,%d\n" % (number, number + 1) for number in range(20_000))
    expected = [Video(f"id-{number}", number + 1.0) for number in range(20_000)]
    for name in ("list.csv", "list.csv.gz", "list.csv.zst", "list"):
        assert videos_of(write(name, in_parts(compress, content))) == expected
    assert videos_of("-", stdin=compress(content)) == expected
    assert videos_of(write("plain.csv.gz", content)) == expected


def test_zstd_may_begin_with_a_skippable_frame() -> None:
    assert videos_of("-", stdin=b"\x50\x2a\x4d\x18\x03\0\0\0abc" + compress_zstd(b"a\n")) == [Video("a")]


@compressions
def test_compressed_data_that_is_cut_anywhere_is_never_taken_for_whole(compress: Callable[[bytes], bytes]) -> None:
    whole = compress(b"a\nb\n" * 20)
    for length in range(4, len(whole)):
        assert problems_of("-", stdin=whole[:length]) == ["standard input: the compressed data is truncated"]


@compressions
def test_compressed_data_that_is_damaged_is_refused(compress: Callable[[bytes], bytes]) -> None:
    for damaged in (compress(b"a\n") + b"more", compress(b"a\n")[:4] + b"\xff" * 40):
        (problem,) = problems_of("-", stdin=damaged)
        assert problem.startswith("standard input: the compressed data is corrupt: ")


@compressions
def test_a_decompression_bomb_stays_small(compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(b"a" * 100_000_000)
    tracemalloc.start()
    assert problems_of("-", stdin=bomb) == ["standard input:1: longer than 64 KiB"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_videos_come_before_the_input_has_ended() -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:  # noqa: ARG002 - the interface's
            return b"a\nb\n"

    videos = read_videos("-", on_bad_line="refuse", on_skipped=fail, stdin=Endless())
    assert list(itertools.islice(videos, 200_000)) == [Video("a"), Video("b")] * 100_000


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b'{"video_id": "a"}\n')
    os.close(write_end)
    try:
        assert videos_of(f"/dev/fd/{read_end}") == [Video("a")]
    finally:
        os.close(read_end)


# ------------------------------------------------------------------------------------------------------- whatever comes

ids = st.text("abcXYZ019_-", min_size=1, max_size=30)
durations = st.none() | st.floats(min_value=1e-300, max_value=1e300)
video_lists = st.lists(st.builds(Video, ids, durations), max_size=30)
# What the formats give a meaning to, so that chance finds the corners.
pieces = 'video_id _id duration " "" , ; # { } [ : \\ a b-1 5 1e9 -0 null é PAR1 {"video_id":"a"}'.split()  # noqa: SIM905
spaces = [" ", "\n", "\r\n", "\r", "\t", "\0", "\ufeff", "\u2028", "\x1c"]
crafted = st.lists(st.sampled_from(pieces + spaces), max_size=40).map(lambda parts: "".join(parts).encode())
any_bytes = st.binary(max_size=300) | crafted
suffixes = st.sampled_from(["", ".txt", ".csv", ".ndjson", ".parquet"])
beginnings = st.sampled_from(
    [b"", b"video_id,duration\n", b'{"video_id": "a"}\n', b"PAR1", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"]
)


def outcome(content: bytes, path: Path) -> tuple[list[Video], tuple[str, ...]]:
    path.write_bytes(content)
    videos: list[Video] = []
    try:
        videos.extend(read_videos([str(path)], on_bad_line="refuse", on_skipped=fail, stdin=io.BytesIO()))
    except InputError as error:
        return [], error.problems
    return videos, ()


@given(suffix=suffixes, beginning=beginnings, content=any_bytes)
def test_any_bytes_are_videos_or_one_clear_error(
    suffix: str, beginning: bytes, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    videos, problems = outcome(beginning + content, tmp_path_factory.getbasetemp() / f"any{suffix}")
    assert len(problems) <= 21
    assert all(problem.isprintable() for problem in problems)
    for video in videos:
        assert re.fullmatch("[A-Za-z0-9_-]+", video.video_id)
        assert video.duration_seconds is None or 0 < video.duration_seconds < math.inf


@given(content=crafted, suffix=suffixes, compress=st.sampled_from([gzip.compress, compress_zstd]))
def test_compression_changes_nothing(
    content: bytes, suffix: str, compress: Callable[[bytes], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"list{suffix}"
    if content.startswith(b"PAR1"):
        return  # a copy is named in DuckDB's words
    assert outcome(in_parts(compress, content), path) == outcome(content, path)


@given(videos=video_lists, note=st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_what_csv_writers_write_is_read_back(videos: list[Video], note: str) -> None:
    written = io.StringIO(newline="")
    rows: Any = csv.writer(written)
    rows.writerow(["note", "video_id", "duration_seconds"])
    rows.writerows([note, video.video_id, video.duration_seconds] for video in videos)
    assert videos_of("-", stdin=written.getvalue().encode()) == videos


@given(videos=video_lists)
def test_what_json_writers_write_is_read_back(videos: list[Video]) -> None:
    lines = [json.dumps({"video_id": video.video_id, "duration": video.duration_seconds}) for video in videos]
    assert videos_of("-", stdin="\n".join(lines).encode()) == videos
