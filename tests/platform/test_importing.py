"""Videos into an index, a part in each transaction: what is held, and what a file that changes meanwhile does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.platform.importing import Found, Report, Source, enter
from pipeline.platform.store import Store
from pipeline.platform.videos import IndexedVideo
from tests.platform.made_up import SPACE, track, video


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "index.sqlite", "i", "n") as opened:
        yield opened


def clip(number: int) -> IndexedVideo:
    return video(f"v{number:04}", 10, track("visual", (0, 10, [number % 100])))


def test_videos_enter_in_parts_and_no_more_than_a_part_is_held(store: Store) -> None:
    made: list[int] = []

    def read(_: Report) -> Iterator[Found[IndexedVideo]]:
        for number in range(300):
            made.append(number - len(store.durations()))
            yield Found(f"file:{number}", clip(number))

    assert enter(store, Source(read, draft=lambda one: one, finished=lambda one: one), SPACE) == 300
    assert list(store.durations()) == [f"v{number:04}" for number in range(300)]
    assert max(made[300:]) < 64


def test_vectors_are_made_only_once_everything_is_right(store: Store) -> None:
    finished: list[str] = []

    def finish(one: IndexedVideo) -> IndexedVideo:
        finished.append(one.video_id)
        return one

    def read(report: Report) -> Iterator[Found[IndexedVideo]]:
        yield Found("file:1", clip(1))
        report("file:2: bad")

    with pytest.raises(InputError, match="file:2: bad"):
        enter(store, Source(read, draft=lambda one: one, finished=finish), SPACE)
    assert (finished, store.durations()) == ([], {})


def test_a_file_that_turns_bad_between_the_two_readings_is_told(store: Store) -> None:
    """What has entered by then is whole."""
    readings = 0

    def read(report: Report) -> Iterator[Found[IndexedVideo]]:
        nonlocal readings
        readings += 1
        yield Found("file:1", clip(1))
        if readings == 2:
            report("file:2: truncated")

    with pytest.raises(InputError, match="file:2: truncated"):
        enter(store, Source(read, draft=lambda one: one, finished=lambda one: one), SPACE)
    assert list(store.durations()) == ["v0001"]
