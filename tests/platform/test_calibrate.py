"""``index calibrate`` over real index files: what it fits, and what stops it before anything is changed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web

from pipeline.errors import InputError, UsageError
from pipeline.platform.access import EmbedderAccess
from pipeline.platform.calibrate import _Sample, calibrate_index, generic_prompts, in_words
from pipeline.platform.calibration import label_free, platt
from pipeline.platform.embed import DEFAULT_SPACE, WordEmbedder, embed_track
from pipeline.platform.remote_embed import EmbedderFailed
from pipeline.platform.store import Store
from pipeline.platform.videos import Calibration, IndexedVideo, Track
from tests.servers.embeddings import DIMENSIONS, EmbeddingServer, embedding_server, vector_of

SEEN = ("a baker kneads dough", "the cake rises in the oven", "a striker scores a goal", "fans cheer in the stadium")
SAID = ("let the bread rest", "what a save by the keeper")
DEFAULT_CURVE = Calibration()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """One video a caption, ten seconds each; the first two also have a spoken line each."""
    embedder = WordEmbedder()
    videos = []
    for at, caption in enumerate(SEEN):
        tracks = [embed_track(embedder, "visual", [(0, 4, caption), (4, 10, "a black screen")])]
        tracks += [embed_track(embedder, "conversation", [(1, 2, line)]) for line in SAID[at : at + 1]]
        videos.append(IndexedVideo(f"v{at}", f"v{at}.mp4", 10, tuple(tracks)))
    path = tmp_path / "my.index"
    with Store.create(path, "index", "mine") as store:
        store.add_videos(videos, DEFAULT_SPACE)
    return path


def curves(index: Path) -> dict[str, Calibration]:
    with Store.open(index) as store:
        return store.calibration()


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([*lines, ""]))
    return path


# ----------------------------------------------------------------------------------------------------------- label-free


def test_generic_prompts_are_many_different_ones_without_blanks() -> None:
    prompts = generic_prompts()
    assert len(prompts) == len({prompt.lower() for prompt in prompts}) == 80
    assert all(prompt.strip() == prompt != "" for prompt in prompts)


async def test_an_index_is_calibrated_from_its_own_clips_and_says_so_in_its_score_source(index: Path) -> None:
    told = await calibrate_index(index, None)
    embedder = WordEmbedder()
    sought = embedder.embed(generic_prompts()).astype(np.float64)
    seen = embedder.embed([text for caption in SEEN for text in (caption, "a black screen")])
    assert curves(index) == {
        "conversation": label_free(np.ravel(embedder.embed(SAID) @ sought.T)),
        "visual": label_free(np.ravel(seen @ sought.T)),
    }
    with Store.open(index) as store:
        assert told["score_source"] == store.score_source() != f"local/{DEFAULT_SPACE}/a20-m0.129"
    assert in_words(told)[1].endswith("from 8 clips and 80 generic prompts")
    before = curves(index)
    await calibrate_index(index, None)
    assert curves(index) == before


async def test_clips_that_say_nothing_do_not_count(index: Path) -> None:
    before = await calibrate_index(index, None)
    silent = Track("visual", np.array([0.0]), np.array([1.0]), np.zeros((1, 256), dtype=np.float32))
    with Store.open(index) as store:
        store.add_videos([IndexedVideo("silent", "silent.mp4", 1, (silent,))], DEFAULT_SPACE)
    assert await calibrate_index(index, None) == before


def test_a_sample_is_even_bounded_and_always_the_same() -> None:
    sample = _Sample()
    numbers = np.arange(100_001, dtype=np.float32)[:, np.newaxis]
    for at in range(0, len(numbers), 777):
        sample.add(numbers[at : at + 777])
    assert sample.vectors()[:, 0].tolist() == list(range(0, 100_001, 8))


async def test_prompts_of_another_embedder_are_asked_of_its_server_once(tmp_path: Path) -> None:
    index = tmp_path / "clip.index"
    rows = np.array([vector_of(f"clip {number}") for number in range(30)], dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    track = Track("visual", np.arange(30.0), np.arange(1.0, 31.0), rows)
    with Store.create(index, "index", "mine") as store:
        store.add_videos([IndexedVideo("v", "v.mp4", 30, (track,))], "clip-8")
    async with embedding_server(EmbeddingServer()) as server:
        access = EmbedderAccess(server.url, "clip")
        told = await calibrate_index(index, None, access)
        assert await calibrate_index(index, None, access) == told
    assert server.texts == list(generic_prompts())
    assert rows.shape[1] == DIMENSIONS
    assert curves(index)["visual"] != DEFAULT_CURVE


@pytest.mark.parametrize(
    ("videos", "reason"), [([], "holds no vectors"), ([IndexedVideo("v", "v.mp4", 9, ())], "holds no vectors")]
)
async def test_an_index_without_clips_cannot_be_calibrated(
    tmp_path: Path, videos: list[IndexedVideo], reason: str
) -> None:
    with Store.create(tmp_path / "empty", "index", "mine") as store:
        store.add_videos(videos, DEFAULT_SPACE)
    with pytest.raises(UsageError, match=reason):
        await calibrate_index(tmp_path / "empty", None)


async def test_clips_that_are_all_alike_leave_the_index_as_it_was(tmp_path: Path) -> None:
    silent = Track("visual", np.array([0.0]), np.array([1.0]), np.zeros((1, 256), dtype=np.float32))
    with Store.create(tmp_path / "silent", "index", "mine") as store:
        store.add_videos([IndexedVideo("v", "v.mp4", 9, (silent,))], DEFAULT_SPACE)
    with pytest.raises(UsageError, match="no clips to calibrate with"):
        await calibrate_index(tmp_path / "silent", None)


# ------------------------------------------------------------------------------------------------------------ by labels

CSV = (
    "video_id,start,end,option,prompt,label",
    "v0,0,4,visual,baking bread,1",
    "v1,,,visual,baking bread,1",
    'v2,0,4,visual,"baking bread",0',
    "v3,4,10,visual,baking bread,0",
)


async def test_labels_fit_the_best_clip_of_each_stretch_and_only_the_options_they_are_about(
    index: Path, tmp_path: Path
) -> None:
    told = await calibrate_index(index, write(tmp_path / "labels.csv", *CSV))
    (prompt,) = WordEmbedder().embed(["baking bread"])
    clips = WordEmbedder().embed([SEEN[0], SEEN[1], SEEN[2], "a black screen"])
    cosines = clips.astype(np.float64) @ prompt
    cosines[1] = max(cosines[1], cosines[3])
    assert curves(index) == {
        "conversation": DEFAULT_CURVE,
        "visual": platt(cosines, [True, True, False, False]),
    }
    assert in_words(told)[0].endswith("from 4 labels")


async def test_ndjson_says_the_same_and_may_be_compressed(index: Path, tmp_path: Path) -> None:
    await calibrate_index(index, write(tmp_path / "labels.csv", *CSV))
    by_csv = curves(index)
    rows = [dict(zip(CSV[0].split(","), line.replace('"', "").split(","), strict=True)) for line in CSV[1:]]
    typed = [
        {key: value for key, value in row.items() if value}
        | {key: float(row[key]) for key in ("start", "end") if row[key]}
        | {"label": int(row["label"])}
        for row in rows
    ]
    (tmp_path / "labels.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, typed)).encode()))
    await calibrate_index(index, tmp_path / "labels.gz")
    assert curves(index) == by_csv


async def test_every_bad_line_is_named_and_nothing_is_changed(index: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "labels.csv",
        *CSV,
        "v0,0,4,visual,x,2",
        "v0,0,4,smell\x1b[31m,x,1",
        "v0,4,4,visual,x,1",
        "v0,nan,4,visual,x,1",
        "v0,0,4,visual,,1",
        "v0,0,4,visual,x",
    )
    with pytest.raises(InputError) as refused:
        await calibrate_index(index, path)
    reasons = [line.removeprefix(f"{path}:") for line in str(refused.value).splitlines()]
    assert [reason.partition(": ")[0] for reason in reasons] == ["6", "7", "8", "9", "10", "11"]
    for reason, part in zip(
        reasons,
        ["`int` <= 1", "Invalid enum value 'smell", "no stretch", "no stretch", "`prompt`", "5 cells under"],
        strict=True,
    ):
        assert part in reason
        assert reason.isprintable()
    assert set(curves(index).values()) == {DEFAULT_CURVE}


async def test_labels_of_what_the_index_does_not_have_are_named(index: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "labels.csv",
        *CSV,
        "w,,,visual,x,1",
        "v0,,,text_in_video,x,1",
        "v0,5,9,conversation,x,1",
    )
    with pytest.raises(InputError) as refused:
        await calibrate_index(index, path)
    assert str(refused.value).splitlines() == [
        f"{path}:6: the index has no video 'w'",
        f"{path}:7: the index has no text_in_video clip there of video 'v0'",
        f"{path}:8: the index has no conversation clip there of video 'v0'",
    ]


async def test_a_label_about_a_clip_that_says_nothing_is_named(index: Path, tmp_path: Path) -> None:
    silent = Track("visual", np.array([0.0]), np.array([1.0]), np.zeros((1, 256), dtype=np.float32))
    with Store.open(index) as store:
        store.add_videos([IndexedVideo("silent", "silent.mp4", 1, (silent,))], DEFAULT_SPACE)
    path = write(tmp_path / "labels.csv", *CSV, "silent,,,visual,x,0")
    with pytest.raises(InputError) as refused:
        await calibrate_index(index, path)
    assert str(refused.value) == f"{path}:6: the index has no visual clip there of video 'silent'"


async def test_twenty_bad_lines_are_listed_and_all_are_counted(index: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "labels.csv", CSV[0], *["w,,,visual,x,1"] * 50)
    with pytest.raises(InputError) as refused:
        await calibrate_index(index, path)
    assert (len(refused.value.problems), refused.value.problems[-1]) == (
        21,
        "50 problems in all: these are the first 20",
    )


async def test_labels_of_one_sort_are_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="visual cannot be calibrated: it has 2 labels of 1 and 0 of 0, and needs both"
    ):
        await calibrate_index(index, write(tmp_path / "labels.csv", *CSV[:3]))
    assert set(curves(index).values()) == {DEFAULT_CURVE}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the header has video_id, option, prompt, label"),
        (b"video_id,option,prompt\n", "the header has"),
        (b"video_id,option,prompt,label,score\n", "the header has"),
        (b"video_id,option,prompt,label\n", "holds no labels"),
        (b'video_id,option,prompt,label\nv0,visual,"x,1\n', "line 2: unexpected end of data"),
        (b"{\n", ":1: Input data was truncated"),
        (b'{"video_id": "v0"}\n', ":1: Object missing required field"),
        (b"{" + b"[" * 60_000 + b"\n", ":1: "),
        (b"\xff\xfe", "this is UTF-16"),
        (b"video_id,option,prompt,label\n\xff", "line 2: not UTF-8"),
    ],
)
async def test_a_file_that_holds_no_labels_is_told(index: Path, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(InputError) as refused:
        await calibrate_index(index, tmp_path / "labels")
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


async def test_a_missing_file_of_labels_is_told(index: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        await calibrate_index(index, tmp_path / "nothing.csv")


# ------------------------------------------------------------------------------------------- a busy server that embeds


def made_up(path: Path, clips: int = 60) -> Path:
    """An index whose prompts a server embeds; as many different clips."""
    vectors = np.array([vector_of(f"clip {number}") for number in range(clips)], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with Store.create(path, "index", "mine") as store:
        track = Track.of("visual", [(at, at + 1, "") for at in range(clips)], vectors)
        store.add_videos([IndexedVideo("v", "v.mp4", clips, (track,))], f"clip-{DIMENSIONS}")
    return path


def slow_down(number: int) -> web.Response | None:
    """After every second request the server is busy."""
    return None if number % 3 else web.json_response({}, status=429, headers={"Retry-After": "7"})


async def test_an_embedder_that_is_busy_is_waited_for_as_long_as_it_brings_something(tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    said: list[str] = []
    async with embedding_server(EmbeddingServer(instead=slow_down)) as server:
        access = EmbedderAccess(server.url, "clip")
        await calibrate_index(made_up(tmp_path / "my.index"), None, access, say=said.append, sleep=sleep)
        assert sorted(set(server.texts)) == sorted(generic_prompts())
        assert len(server.asked) == 80 // 16 + 2
    assert slept == [7, 7]
    assert said[0] == (
        f"the embedder at {server.url} cannot answer now: HTTP 429; once more in 7 s, 32 of 80 prompts are embedded"
    )


async def test_an_embedder_that_brings_nothing_any_more_is_given_up(tmp_path: Path) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with embedding_server(EmbeddingServer(instead=lambda _: web.Response(status=503))) as server:
        access = EmbedderAccess(server.url, "clip")
        with pytest.raises(EmbedderFailed, match="cannot answer now: HTTP 503"):
            await calibrate_index(made_up(tmp_path / "my.index"), None, access, sleep=sleep)
    assert slept == [2, 4, 8, 16, 32]


async def test_an_embedder_that_gives_every_text_the_same_vector_is_refused(tmp_path: Path) -> None:
    async with embedding_server(EmbeddingServer(vector_of=lambda _: vector_of("one"))) as server:
        with pytest.raises(UsageError, match="the same vector"):
            await calibrate_index(made_up(tmp_path / "my.index"), None, EmbedderAccess(server.url, "clip"))


@pytest.mark.parametrize(("clips", "is_said"), [(49, True), (50, False)])
async def test_few_different_clips_are_little_to_go_by(tmp_path: Path, clips: int, is_said: bool) -> None:
    said: list[str] = []
    async with embedding_server(EmbeddingServer()) as server:
        access = EmbedderAccess(server.url, "clip")
        await calibrate_index(made_up(tmp_path / "my.index", clips), None, access, say=said.append)
    told = f"warning: visual: {clips} clips and 80 generic prompts are little to go by: look at some scores"
    assert said == [told] * is_said


async def test_clips_are_many_although_the_first_of_them_are_all_alike(tmp_path: Path) -> None:
    """A video that begins with minutes of black."""
    vectors = np.array([vector_of(f"clip {max(number, 120)}") for number in range(200)], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    said: list[str] = []
    with Store.create(tmp_path / "my.index", "index", "mine") as store:
        track = Track.of("visual", [(at, at + 1, "") for at in range(200)], vectors)
        store.add_videos([IndexedVideo("v", "v.mp4", 200, (track,))], f"clip-{DIMENSIONS}")
    async with embedding_server(EmbeddingServer()) as server:
        await calibrate_index(tmp_path / "my.index", None, EmbedderAccess(server.url, "clip"), say=said.append)
    assert said == []


async def test_labels_may_write_one_prompt_in_two_ways(index: Path, tmp_path: Path) -> None:
    """The default embedder does not look at case."""
    labels = [line.replace("baking bread", "Baking Bread") if at % 2 else line for at, line in enumerate(CSV)]
    told = await calibrate_index(index, write(tmp_path / "labels.csv", *labels))
    assert told == await calibrate_index(index, write(tmp_path / "labels.csv", *CSV))
