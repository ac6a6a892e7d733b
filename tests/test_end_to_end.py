"""The whole way, with real processes: 2,000 videos in an index, the platform over HTTP, the command line, the rows."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest

from pipeline.config import job_of, load
from pipeline.packing import prompt_groups
from pipeline.platform.embed import WordEmbedder
from pipeline.platform.scoring import classify
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo, Track
from pipeline.posting import Question
from pipeline.rows import ROW_FILES, SCORES, VIDEOS, Origin, RowStyle, lines_of
from pipeline.walk import merged
from tests.runs import Desk
from tests.servers.contract import JsonObject

VIDEO_COUNT = 2_000
LATE_COUNT = 10
VIDEOS_PER_POST = 25
CLASSES: Sequence[JsonObject] = (
    {"name": "DanceTok", "prompts": ["Dance tutorial", "Dance group", "Dance competition"]},
    {"name": "CookTok", "prompts": ["Cooking tutorial", "Cooking utensils review"]},
    {"name": "PetTok", "prompts": ["A dog plays"], "options": ["conversation"]},
)
THRESHOLD = {"min_video_score": 15, "min_clip_score": 10, "min_duration_ratio": 0.05}


def made_video(number: int) -> IndexedVideo:
    """A video with two tracks of clips whose vectors point anywhere; it can be made again from its number."""
    dice = np.random.default_rng(number)
    duration = round(float(dice.uniform(30, 900)), 3)
    tracks = []
    for option in ("visual", "conversation"):
        edges = np.sort(dice.uniform(0, duration, int(dice.integers(2, 9))))
        vectors = dice.standard_normal((len(edges) - 1, 256)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        tracks.append(Track(option, edges[:-1], edges[1:], vectors))
    return IndexedVideo(f"{number:024x}", f"{number}.mp4", duration, tuple(tracks))


MADE = [made_video(number) for number in range(VIDEO_COUNT + LATE_COUNT)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    with Store.create(path, "0123456789abcdef01234567", "made") as store:
        store.add_videos(MADE, WordEmbedder().space)
    return path


@asynccontextmanager
async def platform(folder: Path, index: Path, *options: str) -> AsyncIterator[str]:
    """``bulk-classify serve`` as a process of its own; its base URL."""
    desk = Desk(folder / "platform")
    desk.folder.mkdir()
    process = await desk.start("serve", "--index", index, "--port", "0", *options)
    try:
        with anyio.fail_after(120):
            while " (Ctrl-C" not in desk.stderr:  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(0.02)
        yield desk.stderr.split()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


def write_job(desk: Desk, url: str, videos: Sequence[IndexedVideo]) -> None:
    desk.write_ids({video.video_id: video.duration_seconds for video in videos})
    settings = {"job.options": ["visual", "conversation"], "limits.max_videos_per_post": VIDEOS_PER_POST}
    desk.write_config(url, CLASSES, **settings, **{"job.threshold": THRESHOLD})


def expected_rows(desk: Desk, index: Path, videos: Sequence[IndexedVideo]) -> dict[str, list[str]]:
    """The rows of these videos according to the platform's scoring, asked without HTTP, a client or a ledger."""
    job = job_of(load(desk.config, flags={}, environment={}).config)
    style = RowStyle("", job.include_clips, job.show_detailed_score)
    question = Question(job, prompt_groups(job.classes), 10, style)
    prompts = [prompt for one in job.classes for prompt in one.prompts]
    vectors = dict(zip(prompts, WordEmbedder().embed(prompts), strict=True))
    with Store.open(index) as store:
        calibration = store.calibration()
    answers = [
        {answer.video_id: answer for answer in classify(videos, question.of_videos(group, []), vectors, calibration)}
        for group in range(len(question.groups))
    ]
    order = {one.name: place for place, one in enumerate(job.classes)}
    results = [
        merged(one.video_id, [group.get(one.video_id) for group in answers], order, detailed=True) for one in videos
    ]
    blocks = lines_of(results, Origin(style, 0, ""))
    return {name: comparable(block) for name, block in zip(ROW_FILES, blocks, strict=True)}


def comparable(content: bytes) -> list[str]:
    """Rows without what may differ between two runs: their order, the ids of chunk and run, and times."""
    rows = [json.loads(line) for line in content.splitlines()]
    for row in rows:
        for key in ("chunk_id", "run_id", "classified_at"):
            row.pop(key, None)
    return sorted(json.dumps(row) for row in rows)


def written_rows(desk: Desk) -> dict[str, list[str]]:
    return {name: comparable((desk.out / name).read_bytes()) for name in ROW_FILES}


def posts_and_their_videos(desk: Desk) -> list[tuple[int, int]]:
    """Each POST's number and how many videos its chunk has, from the ledger."""
    connection = sqlite3.connect(desk.out / "ledger.sqlite")
    with connection:
        rows = connection.execute(
            "SELECT post, (SELECT count(*) FROM video WHERE video.chunk = post.chunk) FROM post"
        ).fetchall()
    connection.close()
    return rows


async def kill_half_way(desk: Desk) -> None:
    """Start the run, and kill its process once half of the videos have their rows."""
    process = await desk.start("run", desk.config)
    rows = desk.out / VIDEOS
    with anyio.fail_after(120):
        while not rows.exists() or rows.read_bytes().count(b"\n") < VIDEO_COUNT / 2:  # noqa: ASYNC110 - as above
            await anyio.sleep(0.005)
    process.kill()
    assert await process.wait() == -signal.SIGKILL


async def test_two_thousand_videos_killed_resumed_run_again_and_added_to(tmp_path: Path, index: Path) -> None:
    """Every id in one state, rows as the scoring says, nothing sent twice, and ten late ids cost one POST."""
    videos, late = MADE[:VIDEO_COUNT], MADE[VIDEO_COUNT:]
    undisturbed, killed = Desk(tmp_path / "undisturbed"), Desk(tmp_path / "killed")
    async with platform(tmp_path, index, "--latency", "0.02") as url:
        for desk in (undisturbed, killed):
            desk.folder.mkdir()
            write_job(desk, url, videos)

        finished = await undisturbed.command("run", undisturbed.config)
        assert finished.exit_code == 0, finished.stderr
        status = undisturbed.status()
        assert (status.videos, status.open, status.failed) == (VIDEO_COUNT, 0, 0)
        assert status.scored + status.no_match == VIDEO_COUNT
        assert min(status.scored, status.no_match) > 100
        assert status.posts_by_reason == {"first": VIDEO_COUNT // VIDEOS_PER_POST}
        assert written_rows(undisturbed) == expected_rows(undisturbed, index, videos)
        assert (await undisturbed.command("verify", undisturbed.out)).exit_code == 0

        assert (await undisturbed.command("run", undisturbed.config)).exit_code == 0
        assert undisturbed.status().posts == status.posts

        await kill_half_way(killed)
        assert (await killed.command("run", killed.config)).exit_code == 0
        assert written_rows(killed) == written_rows(undisturbed)
        assert (await killed.command("verify", killed.out)).exit_code == 0
        concurrency = 8
        assert sum(killed.status().posts_by_reason.values()) <= VIDEO_COUNT // VIDEOS_PER_POST + concurrency

        write_job(killed, url, MADE)
        before = len(posts_and_their_videos(killed))
        assert (await killed.command("run", killed.config)).exit_code == 0
        assert [count for _, count in posts_and_their_videos(killed)[before:]] == [LATE_COUNT]
        assert written_rows(killed) == expected_rows(killed, index, videos + late)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Desk:
    """A run of sixty videos that ended well."""
    desk = Desk(tmp_path_factory.mktemp("finished"))
    write_job(desk, "embedded", MADE[:60])
    finished = anyio.run(desk.command, "run", desk.config, "--set", f"api.index={index}")
    assert finished.exit_code == 0, finished.stderr
    return desk


async def verified_copy(run: Desk, tmp_path: Path, name: str, content: bytes) -> list[str]:
    """What ``verify`` prints about a copy of the run in which one file has other content."""
    desk = Desk(tmp_path)
    shutil.copytree(run.out, desk.out)
    (desk.out / name).write_bytes(content)
    finished = await desk.command("verify", desk.out)
    assert finished.exit_code == 1
    return finished.stdout.splitlines()


async def test_verify_passes_on_the_run_itself(finished_run: Desk) -> None:
    finished = await finished_run.command("verify", finished_run.out)
    assert (finished.exit_code, finished.stdout.split(",")[0]) == (0, "verified: 60 videos")


@pytest.mark.parametrize("name", ROW_FILES)
@pytest.mark.parametrize("damage", ["row removed", "row doubled", "value changed", "tail torn", "half a row added"])
async def test_verify_sees_what_was_done_to_a_file(finished_run: Desk, tmp_path: Path, name: str, damage: str) -> None:
    content = (finished_run.out / name).read_bytes()
    lines = content.splitlines(keepends=True)
    changed = {
        "row removed": b"".join(lines[:5] + lines[6:]),
        "row doubled": b"".join([*lines[:5], lines[5], *lines[5:]]),
        "value changed": content.replace(b'"video_id":"0', b'"video_id":"1', 1),
        "tail torn": content[:-9],
        "half a row added": content + lines[0][:20],
    }
    told = await verified_copy(finished_run, tmp_path, name, changed[damage])
    assert told[0].startswith(name)
    assert told[-1].endswith((" difference found", " differences found"))


async def test_many_classes_make_several_prompt_groups_and_one_answer(tmp_path: Path, index: Path) -> None:
    """250 classes with 2 to 9 prompts: every video's classes whole, in the config's order, shares summing to 100."""
    desk = Desk(tmp_path)
    classes = [
        {"name": f"class {number}", "prompts": [f"subject {number}, view {one}" for one in range(2 + number % 8)]}
        for number in range(250)
    ]
    desk.write_ids({video.video_id: video.duration_seconds for video in MADE[:20]})
    threshold = {"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01}
    desk.write_config("embedded", classes, **{"job.options": ["visual"], "job.threshold": threshold})
    finished = await desk.command("run", desk.config, "--set", f"api.index={index}")
    assert finished.exit_code == 0, finished.stderr
    prompts = sum(len(one["prompts"]) for one in classes)
    assert desk.status().posts_by_reason == {"first": -(-prompts // 100)}
    assert written_rows(desk) == expected_rows(desk, index, MADE[:20])
    places = {one["name"]: place for place, one in enumerate(classes)}
    for video in MADE[:20]:
        rows = [row for row in desk.rows(SCORES) if row["video_id"] == video.video_id]
        order = [places[row["class_name"]] for row in rows]
        assert order == sorted(set(order))
        assert len(order) > 150
        assert sum(row["normalized_score"] for row in rows) == pytest.approx(100)
