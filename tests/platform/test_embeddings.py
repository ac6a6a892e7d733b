"""Videos from vectors that others have made, in NDJSON and in Parquet."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from pipeline.errors import InputError, UsageError
from pipeline.platform.embed import DEFAULT_SPACE
from pipeline.platform.indexes import Files, create_index, import_vectors, index_info
from pipeline.platform.store import Store

ROW: dict[str, Any] = {
    "video_id": "v1",
    "start_seconds": 0.0,
    "end_seconds": 6.0,
    "vector": [3.0, 4.0],
    "option": "visual",
}
Writer = Callable[[Path, list[dict[str, Any]]], Path]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    create_index(tmp_path / "my.index", "mine", None)
    return tmp_path / "my.index"


def ndjson(folder: Path, rows: list[dict[str, Any]], name: str = "vectors.ndjson") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """As a warehouse would write it: 32-bit floats, and a column that is nobody's business."""
    lines = ndjson(folder, [{**row, "extra": 1} for row in rows], "rows.json")
    path = folder / "vectors.parquet"
    source = f"SELECT * REPLACE (vector::FLOAT[] AS vector) FROM read_json('{lines}')"
    duckdb.sql(f"COPY ({source}) TO '{path}' (FORMAT parquet)")
    return path


both = pytest.mark.parametrize("write", [ndjson, parquet], ids=["ndjson", "parquet"])


@both
def test_a_row_is_a_clip_and_vectors_are_brought_to_length_1(tmp_path: Path, index: Path, write: Writer) -> None:
    rows = [
        {**ROW, "text": None, "duration_seconds": None, "filename": None},
        {**ROW, "start_seconds": 6.0, "end_seconds": 9.5, "vector": [0.0, -2.0], "text": None},
        {**ROW, "option": "conversation", "text": "hello", "duration_seconds": 12.0, "filename": "one.mp4"},
        {**ROW, "video_id": "v2", "vector": [0.0, 0.0]},
    ]
    whole = [{**dict.fromkeys(rows[0]), **row} for row in rows]
    assert import_vectors(index, Files([write(tmp_path, whole)]), "theirs-2") == {"imported": 2, "videos": 2}
    with Store.open(index) as store:
        one, two = store.load(["v1", "v2"], ["visual", "conversation"])
        assert (store.space, store.dimensions) == ("theirs-2", 2)
    assert (one.filename, one.duration_seconds, two.duration_seconds) == ("one.mp4", 12.0, 6.0)
    spoken, seen = one.tracks
    assert (spoken.texts, seen.texts) == (("hello",), ())
    assert (seen.starts.tolist(), seen.ends.tolist()) == ([0.0, 6.0], [6.0, 9.5])
    assert np.array_equal(seen.vectors, np.array([[0.6, 0.8], [0, -1]], dtype=np.float32))
    assert np.array_equal(two.tracks[0].vectors, np.zeros((1, 2), dtype=np.float32))


def test_the_option_and_durations_may_be_told_for_all(tmp_path: Path, index: Path) -> None:
    row = {name: value for name, value in ROW.items() if name != "option"}
    import_vectors(index, Files([ndjson(tmp_path, [row])], "text_in_video", {"v1": 30.0}), "theirs-2")
    facts = index_info(index)
    assert (facts["options"], facts["seconds"]) == (["text_in_video"], 30.0)


def test_more_can_be_added_and_the_space_is_remembered(tmp_path: Path, index: Path) -> None:
    import_vectors(index, Files([ndjson(tmp_path, [ROW])]), "theirs-2")
    more = ndjson(tmp_path, [{**ROW, "video_id": "v2"}, {**ROW, "video_id": "v1", "option": "conversation"}])
    assert import_vectors(index, Files([more]), None) == {"imported": 2, "videos": 2}
    assert index_info(index)["tracks"] == {
        "conversation": {"videos": 1, "clips": 1},
        "visual": {"videos": 2, "clips": 2},
    }


BAD: list[tuple[dict[str, Any], str]] = [
    ({"vector": [1.0]}, "the vector has 1 number, and others have 2"),
    ({"vector": []}, "Expected `array` of length >= 1 - at `$.vector`"),
    ({"vector": None}, "Expected `array`, got `null` - at `$.vector`"),
    ({"option": None}, "the row has no option, and --option does not tell it"),
    ({"option": "smell"}, "Invalid enum value 'smell' - at `$.option`"),
    ({"video_id": "a b"}, "video 'a b' cannot be indexed: an id has 1 to 128 letters, digits, '_' and '-'"),
    ({"start_seconds": 6.0}, "a clip of its visual track has no length"),
    ({"start_seconds": -1.0}, "a clip of its visual track has no length, or is not within 0"),
    ({"duration_seconds": 2.0}, "or is not within 0 and 2.0 s"),
]


@both
@pytest.mark.parametrize(("change", "problem"), BAD, ids=[problem[:40] for _, problem in BAD])
def test_a_bad_row_is_told_with_its_number_and_nothing_enters(
    tmp_path: Path, index: Path, write: Writer, change: dict[str, Any], problem: str
) -> None:
    row = {**ROW, "duration_seconds": None, "video_id": "bad"} | change
    file = write(tmp_path, [{**ROW, "duration_seconds": None}, row])
    with pytest.raises(InputError) as raised:
        import_vectors(index, Files([file]), "theirs-2")
    (told,) = raised.value.problems
    assert told.startswith(f"{file}:2: ")
    assert problem in told
    assert index_info(index)["videos"] == 0


def test_what_a_row_holds_cannot_flood_or_command_a_terminal(tmp_path: Path, index: Path) -> None:
    rows = [{**ROW, "option": "\x1b[31m" + "x" * 100_000}, {**ROW, "video_id": "y" * 100_000}]
    with pytest.raises(InputError) as raised:
        import_vectors(index, Files([ndjson(tmp_path, rows)]), "theirs")
    assert len(raised.value.problems) == 2
    assert all(problem.isprintable() and len(problem) < 25_000 for problem in raised.value.problems)


def test_what_is_not_finite_is_told(tmp_path: Path, index: Path) -> None:
    path = tmp_path / "nan.parquet"
    columns = "'v' AS video_id, 0 AS start_seconds, 1 AS end_seconds, 'visual' AS option"
    duckdb.sql(f"COPY (SELECT {columns}, ['nan'::DOUBLE, 1] AS vector) TO '{path}' (FORMAT parquet)")
    with pytest.raises(InputError, match=r"nan\.parquet:1: a vector has something that is not a finite number"):
        import_vectors(index, Files([path]), "theirs-2")


def test_rows_of_a_video_must_stand_together(tmp_path: Path, index: Path) -> None:
    file = ndjson(tmp_path, [ROW, {**ROW, "video_id": "v2"}, ROW])
    with pytest.raises(InputError, match=r":3: video 'v1' has come before: all of it must stand together"):
        import_vectors(index, Files([file]), "theirs-2")


def test_other_dimensions_than_the_indexs_are_told_row_by_row(tmp_path: Path, index: Path) -> None:
    import_vectors(index, Files([ndjson(tmp_path, [ROW])]), "theirs")
    with pytest.raises(InputError, match="the vector has 3 numbers, and others have 2"):
        import_vectors(index, Files([ndjson(tmp_path, [{**ROW, "vector": [1, 2, 3]}])]), "theirs")


def test_a_space_must_be_told_once_and_is_not_mixed(tmp_path: Path, index: Path) -> None:
    file = ndjson(tmp_path, [ROW])
    with pytest.raises(UsageError, match=r"say which model made these vectors: --space, such as"):
        import_vectors(index, Files([file]), None)
    import_vectors(index, Files([file]), "theirs")
    with pytest.raises(UsageError, match="holds vectors of the space 'theirs'; vectors of 'others' cannot be compared"):
        import_vectors(index, Files([file]), "others")


def test_a_file_that_is_no_parquet_or_lacks_a_column_is_told(tmp_path: Path, index: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    lacking = tmp_path / "lacking.parquet"
    duckdb.sql(f"COPY (SELECT 'v' AS video_id, 0 AS start_seconds) TO '{lacking}' (FORMAT parquet)")
    with pytest.raises(InputError) as raised:
        import_vectors(index, Files([broken, lacking]), "theirs")
    assert raised.value.problems[0].startswith(f"{broken}: DuckDB cannot read it: ")
    assert raised.value.problems[1] == f"{lacking}: it has no column end_seconds and no column vector"


def test_without_duckdb_parquet_is_one_line(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = parquet(tmp_path, [ROW])
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InputError, match=r"Parquet is read by DuckDB, which is an extra: pip install"):
        import_vectors(index, Files([file]), "theirs")


def test_vectors_that_claim_the_default_embedders_space_have_its_dimensions(tmp_path: Path) -> None:
    index, file = tmp_path / "my.index", tmp_path / "vectors.ndjson"
    create_index(index, "mine", None)
    file.write_text('{"video_id": "a", "start_seconds": 0, "end_seconds": 1, "option": "visual", "vector": [1, 0, 0]}')
    with pytest.raises(InputError, match="the vector has 3 numbers, and others have 256"):
        import_vectors(index, Files([file]), DEFAULT_SPACE)
