"""An index from captions and spoken lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, UsageError
from pipeline.platform.embed import WordEmbedder
from pipeline.platform.store import Store
from pipeline.platform.texts import create_index, index_info, read_texts

DANCE = {
    "video_id": "a-1",
    "filename": "dance.mp4",
    "duration_seconds": 20,
    "visual": [{"start": 0, "end": 20, "text": "Two people dance"}],
    "conversation": [{"start": 3.5, "end": 5, "text": "And turn"}],
}


def text_file(folder: Path, *lines: object) -> Path:
    path = folder / "texts.ndjson"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_an_index_has_the_videos_of_the_texts(tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    facts = create_index(index, "mine", text_file(tmp_path, DANCE, "", {**DANCE, "video_id": "b"}))
    assert facts == index_info(index)
    assert (facts["name"], facts["videos"], facts["seconds"]) == ("mine", 2, 40.0)
    assert facts["options"] == ["conversation", "visual"]
    assert facts["space"] == WordEmbedder().space
    with Store.open(index) as store:
        (video,) = store.load(["a-1"], ["conversation"])
    (track,) = video.tracks
    assert (track.starts.tolist(), track.ends.tolist(), track.texts) == ([3.5], [5.0], ("And turn",))


def test_an_index_may_begin_empty(tmp_path: Path) -> None:
    facts = create_index(tmp_path / "index.sqlite", "empty", None)
    assert (facts["videos"], facts["space"]) == (0, None)


def test_every_bad_line_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    texts = text_file(tmp_path, DANCE, "{", {**DANCE, "video_id": "a b"}, {**DANCE, "colour": "red"})
    with pytest.raises(InputError) as raised:
        create_index(index, "mine", texts)
    assert [problem.split(": ")[0] for problem in raised.value.problems] == [f"{texts}:{line}" for line in (2, 3, 4)]
    assert not index.exists()


def test_only_the_first_twenty_bad_lines_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        read_texts(text_file(tmp_path, *["{"] * 30))
    assert (len(raised.value.problems), raised.value.problems[-1]) == (21, "30 bad lines in all")


def test_a_missing_file_and_a_taken_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        create_index(tmp_path / "index.sqlite", "mine", tmp_path / "missing.ndjson")
    create_index(tmp_path / "index.sqlite", "mine", None)
    with pytest.raises(UsageError, match="exists already"):
        create_index(tmp_path / "index.sqlite", "mine", None)
