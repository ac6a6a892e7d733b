"""Videos from captions and transcripts: subtitles, clips and whole videos in NDJSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pipeline.errors import InputError, UsageError
from pipeline.platform.embed import WordEmbedder
from pipeline.platform.indexes import Files, create_index, import_texts, import_vectors, index_info
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo

DANCE = {
    "video_id": "a-1",
    "filename": "dance.mp4",
    "duration_seconds": 20,
    "visual": [{"start": 0, "end": 20, "text": "Two people dance"}],
    "conversation": [{"start": 3.5, "end": 5, "text": "And turn"}],
}
SRT = "1\n00:00:01,000 --> 00:00:02,500\nKnead the dough\n\n2\n00:00:04,000 --> 00:00:06,000\nLet it rest\n"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    create_index(tmp_path / "my.index", "mine", None)
    return tmp_path / "my.index"


def text_file(folder: Path, *lines: object, name: str = "texts.ndjson") -> Path:
    path = folder / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def video_of(index: Path, video_id: str) -> IndexedVideo:
    with Store.open(index) as store:
        (video,) = store.load([video_id], ["visual", "conversation", "text_in_video"])
    return video


def heard(index: Path, video_id: str) -> list[tuple[float, float, str]]:
    """The lines of the one track that a video has."""
    (track,) = video_of(index, video_id).tracks
    return list(zip(track.starts.tolist(), track.ends.tolist(), track.texts, strict=True))


# -------------------------------------------------------------------------------------------------------- whole videos


def test_an_index_has_the_videos_of_the_texts(tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    facts = create_index(index, "mine", text_file(tmp_path, DANCE, "", {**DANCE, "video_id": "b"}))
    assert {**facts, "bytes": 0} == {**index_info(index), "bytes": 0}
    assert (facts["name"], facts["videos"], facts["seconds"], facts["hours"]) == ("mine", 2, 40.0, 0.011)
    assert facts["options"] == ["conversation", "visual"]
    assert facts["tracks"] == {"conversation": {"videos": 2, "clips": 2}, "visual": {"videos": 2, "clips": 2}}
    assert (facts["space"], facts["dimensions"]) == (WordEmbedder().space, 256)
    with Store.open(index) as store:
        (video,) = store.load(["a-1"], ["conversation"])
    (track,) = video.tracks
    assert (track.starts.tolist(), track.ends.tolist(), track.texts) == ([3.5], [5.0], ("And turn",))


def test_an_index_may_begin_empty_and_have_an_id_of_the_users(tmp_path: Path) -> None:
    facts = create_index(tmp_path / "index.sqlite", "empty", None, index_id="theirs")
    assert (facts["index_id"], facts["videos"], facts["space"], facts["dimensions"]) == ("theirs", 0, None, 0)


def test_every_bad_line_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    index = tmp_path / "index.sqlite"
    texts = text_file(tmp_path, DANCE, "{", {**DANCE, "video_id": "a b"}, {**DANCE, "colour": "red"})
    with pytest.raises(InputError) as raised:
        create_index(index, "mine", texts)
    assert [problem.split(": ")[0] for problem in raised.value.problems] == [f"{texts}:{line}" for line in (2, 3, 4)]
    assert list(tmp_path.glob("index.sqlite*")) == []


def test_only_the_first_twenty_bad_lines_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        create_index(tmp_path / "index.sqlite", "mine", text_file(tmp_path, *["{"] * 30))
    assert raised.value.problems[20:] == ("30 problems in all: these are the first 20",)


def test_a_missing_file_and_a_taken_name_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        create_index(tmp_path / "index.sqlite", "mine", tmp_path / "missing.ndjson")
    create_index(tmp_path / "index.sqlite", "mine", None)
    with pytest.raises(UsageError, match="exists already"):
        create_index(tmp_path / "index.sqlite", "mine", None)


# ------------------------------------------------------------------------------------------------- texts of one option


@pytest.mark.parametrize("name", ["loaf.srt", "loaf.en.srt", "LOAF.SRT", "loaf.vtt", "loaf.srt.gz"])
def test_subtitles_are_of_the_video_that_the_file_is_named_after(tmp_path: Path, index: Path, name: str) -> None:
    content = SRT.encode() if "vtt" not in name else b"WEBVTT\n\n" + SRT.replace(",", ".").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    told = import_texts(index, Files([tmp_path / name], "conversation"))
    assert told == {"imported": 1, "videos": 1}
    video = video_of(index, name.partition(".")[0])
    assert (video.duration_seconds, video.tracks[0].option) == (6.0, "conversation")
    assert heard(index, video.video_id) == [(1.0, 2.5, "Knead the dough"), (4.0, 6.0, "Let it rest")]


def test_a_known_duration_counts_and_cuts_off_what_goes_beyond_it(tmp_path: Path, index: Path) -> None:
    (tmp_path / "long.srt").write_text(SRT)
    (tmp_path / "short.srt").write_text(SRT)
    import_texts(index, Files([tmp_path / "long.srt", tmp_path / "short.srt"], "visual", {"long": 95.0, "short": 5.5}))
    assert [video_of(index, one).duration_seconds for one in ("long", "short")] == [95.0, 5.5]
    assert heard(index, "short")[-1] == (4.0, 5.5, "Let it rest")


def test_clips_in_ndjson_are_of_the_video_that_they_name_or_that_the_file_is_named_after(
    tmp_path: Path, index: Path
) -> None:
    plain = {"start": 1, "end": 2, "text": "first", "speaker": "Ada"}
    alone = text_file(tmp_path, plain, {**plain, "start": 2, "end": 3, "text": "second"}, name="goal.jsonl")
    named = text_file(tmp_path, {**plain, "video_id": "a"}, {**plain, "video_id": "b"}, {**plain, "video_id": "b"})
    assert import_texts(index, Files([alone, named], "text_in_video")) == {"imported": 3, "videos": 3}
    assert heard(index, "goal") == [(1.0, 2.0, "first"), (2.0, 3.0, "second")]
    assert (len(heard(index, "a")), len(heard(index, "b"))) == (1, 2)


def test_a_folder_stands_for_all_its_text_files(tmp_path: Path, index: Path) -> None:
    folder = tmp_path / "subtitles" / "deeper"
    folder.mkdir(parents=True)
    for name in ("a.srt", "b.SRT", "notes.txt"):
        (folder / name).write_text(SRT)
    assert import_texts(index, Files([tmp_path / "subtitles"], "conversation"))["imported"] == 2
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no file in this folder is named \*\.srt, \*\.vtt"):
        import_texts(index, Files([empty], "conversation"))


def test_texts_of_another_option_come_beside_those_that_are_there(tmp_path: Path, index: Path) -> None:
    (tmp_path / "a-1.srt").write_text(SRT)
    import_texts(index, Files([text_file(tmp_path, {**DANCE, "conversation": []})]))
    import_texts(index, Files([tmp_path / "a-1.srt"], "conversation"))
    video = video_of(index, "a-1")
    assert (video.filename, video.duration_seconds) == ("dance.mp4", 20.0)
    assert [track.option for track in video.tracks] == ["conversation", "visual"]


def test_an_import_can_be_repeated(tmp_path: Path, index: Path) -> None:
    (tmp_path / "loaf.srt").write_text(SRT)
    for _ in range(2):
        assert import_texts(index, Files([tmp_path / "loaf.srt"], "visual")) == {"imported": 1, "videos": 1}
    assert len(heard(index, "loaf")) == 2


# ------------------------------------------------------------------------------------------------------------ refused


def test_nothing_enters_where_one_line_of_one_file_is_bad(tmp_path: Path, index: Path) -> None:
    good = tmp_path / "good.srt"
    good.write_text(SRT)
    bad = tmp_path / "bad.srt"
    bad.write_text(SRT.replace("00:00:04,000", "00:00:4"))
    latin = tmp_path / "latin.vtt"
    latin.write_bytes(b"WEBVTT\n\n00:01.000 --> 00:02.000\ncaf\xe9\n")
    silent = tmp_path / "silent.vtt"
    silent.write_text("WEBVTT\n")
    twice = text_file(tmp_path, {"start": 0, "end": 1, "text": "x"}, name="good.ndjson")
    with pytest.raises(InputError) as raised:
        import_texts(index, Files([good, bad, latin, silent, twice, tmp_path / "gone.srt"], "conversation"))
    assert [problem.split(": ", 1)[0] for problem in raised.value.problems] == [
        f"{bad}:6",
        f"{latin}:4",
        f"{silent}",
        f"{twice}:1",
        f"{tmp_path / 'gone.srt'}",
    ]
    assert "'good' has come before" in raised.value.problems[3]
    assert index_info(index)["videos"] == 0


def test_a_silent_video_may_be_imported_where_its_duration_is_known(tmp_path: Path, index: Path) -> None:
    (tmp_path / "silent.vtt").write_text("WEBVTT\n")
    import_texts(index, Files([tmp_path / "silent.vtt"], "conversation", {"silent": 7.0}))
    assert video_of(index, "silent") == IndexedVideo("silent", "", 7.0, ())


def test_an_empty_file_is_told(tmp_path: Path, index: Path) -> None:
    with pytest.raises(InputError, match="the files hold no video"):
        import_texts(index, Files([text_file(tmp_path, "")]))


def test_texts_that_do_not_say_what_they_are_for_are_refused(tmp_path: Path, index: Path) -> None:
    (tmp_path / "loaf.srt").write_text(SRT)
    with pytest.raises(UsageError, match="say what the texts of 'loaf' are for: --option visual, conversation"):
        import_texts(index, Files([tmp_path / "loaf.srt"]))


def test_an_index_of_other_vectors_is_refused_before_anything_is_read(tmp_path: Path, index: Path) -> None:
    vectors = text_file(
        tmp_path, {"video_id": "v", "start_seconds": 0, "end_seconds": 1, "vector": [1, 0], "option": "visual"}
    )
    import_vectors(index, Files([vectors]), "theirs")
    with pytest.raises(UsageError, match=r"holds vectors of the space 'theirs'; .* into an index of their own"):
        import_texts(index, Files([tmp_path / "never-read.srt"], "visual"))
