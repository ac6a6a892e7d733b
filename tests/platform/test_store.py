from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StorageError, UsageError
from pipeline.platform.store import Store, TrackCounts
from pipeline.platform.videos import Calibration, IndexedVideo, Track
from pipeline.wire_lists import IndexFacts, VideoFacts
from tests.platform.made_up import SPACE, prompt_vectors, track, video

TALK = video(
    "talk",
    12.5,
    track("conversation", (0, 2.25, [10]), (3, 12.5, [20]), texts=("hello", "wörld\x00 \ud800")),
    track("visual", (0, 12.5, [30])),
)
MUTE = video("mute", 30)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[Store]:
    with Store.create(path, "the-index", "Test", clock=clock) as opened:
        yield opened


def assert_same(found: IndexedVideo, expected: IndexedVideo) -> None:
    assert replace(found, tracks=()) == replace(expected, tracks=())
    by_option = {one.option: one for one in expected.tracks}
    assert [one.option for one in found.tracks] == sorted(by_option)
    for one in found.tracks:
        assert one.texts == by_option[one.option].texts
        for column in ("starts", "ends", "vectors"):
            assert np.array_equal(getattr(one, column), getattr(by_option[one.option], column))


def test_what_was_entered_is_read_back_after_opening_again(store: Store, path: Path) -> None:
    assert store.add_videos([TALK, MUTE], SPACE) == 2
    store.close()
    with Store.open(path) as again:
        talk, mute = again.load(["mute", "talk", "nobody"], ["visual", "conversation"])
        assert_same(talk, TALK)
        assert_same(mute, MUTE)
        assert again.space == SPACE


def test_only_the_tracks_of_the_options_are_read(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    (found,) = store.load(["talk"], ["visual", "text_in_video"])
    assert [one.option for one in found.tracks] == ["visual"]


def test_facts_count_the_videos_and_tell_the_options(store: Store, clock: Clock) -> None:
    assert store.facts() == IndexFacts("the-index", "Test", (), 0, 0.0, 1000.0, 1000.0)
    clock.now = 2000
    store.add_videos([TALK, MUTE], SPACE)
    assert store.facts() == IndexFacts("the-index", "Test", ("conversation", "visual"), 2, 42.5, 1000.0, 2000.0)


def test_durations_are_of_the_named_videos_or_of_all(store: Store) -> None:
    store.add_videos([TALK, MUTE], SPACE)
    assert store.durations(["mute", "nobody", "mute"]) == {"mute": 30.0}
    assert store.durations([]) == {}
    assert list(store.durations().items()) == [("talk", 12.5), ("mute", 30.0)]


def test_a_video_that_is_entered_again_replaces_itself(store: Store, clock: Clock) -> None:
    store.add_videos([TALK], SPACE)
    clock.now = 5000
    shorter = video("talk", 3, track("visual", (0, 3, [40])))
    store.add_videos([shorter], SPACE)
    (found,) = store.load(["talk"], ["visual", "conversation"])
    assert_same(found, shorter)
    assert store.video("talk") == VideoFacts("talk", "talk.mp4", 3.0, 1000.0, 5000.0)
    assert store.video("nobody") is None


def test_a_track_may_come_beside_those_of_other_options(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    seen = track("visual", (0, 3, [40]), (3, 5, [50]))
    store.add_videos([IndexedVideo("talk", "", 5.0, (seen,)), video("other", 5, seen)], SPACE, replacing=None)
    (found,) = store.load(["talk"], ["visual", "conversation"])
    assert_same(found, IndexedVideo("talk", "talk.mp4", 12.5, (TALK.tracks[0], seen)))
    store.add_videos([IndexedVideo("talk", "new.mp4", 20.0, (seen,))], SPACE, replacing=None)
    assert store.video("talk") == VideoFacts("talk", "new.mp4", 20.0, 1000.0, 1000.0)


def test_the_state_that_a_source_named_is_kept_with_each_video(store: Store) -> None:
    store.add_videos([replace(TALK, revision="7"), MUTE], SPACE)
    assert store.revisions(["mute", "talk", "nobody"]) == {"talk": "7", "mute": ""}
    store.add_videos([replace(TALK, revision="8")], SPACE)
    assert store.revisions(["talk"]) == {"talk": "8"}
    store.add_videos([TALK], SPACE, replacing=None)
    assert store.revisions(["talk"]) == {"talk": "8"}


def test_what_is_there_is_counted_by_option(store: Store) -> None:
    assert (store.tracks(), store.dimensions) == ({}, 0)
    store.add_videos([TALK, MUTE], SPACE)
    assert store.tracks() == {"conversation": TrackCounts(1, 2), "visual": TrackCounts(1, 1)}
    assert store.dimensions == 5
    assert store.bytes_on_disk() >= store.path.stat().st_size > 0


def test_removed_videos_are_gone_with_their_tracks(store: Store, clock: Clock) -> None:
    store.add_videos([TALK, MUTE], SPACE)
    clock.now = 2000
    assert store.remove(["mute", "nobody", "mute"]) == ["mute"]
    assert store.facts() == IndexFacts("the-index", "Test", ("conversation", "visual"), 1, 12.5, 1000.0, 2000.0)
    assert store.space == SPACE
    clock.now = 3000
    assert store.remove(["nobody"]) == []
    assert store.facts().updated_at == 2000.0


def test_an_option_without_a_track_is_none_of_the_indexs(store: Store) -> None:
    store.add_videos([TALK, video("mime", 5, track("visual", (0, 5, [1])))], SPACE)
    store.remove(["talk"])
    assert store.facts().options == ("visual",)


def test_an_option_that_an_import_takes_away_is_none_of_the_indexs_either(store: Store) -> None:
    """Neither what `GET /indexes` tells nor the name of the scale depends on what was there once."""
    store.add_videos([TALK], SPACE)
    store.calibrate({"conversation": Calibration(15.5, 0.2)})
    store.add_videos([video("talk", 5, track("visual", (0, 5, [1])))], SPACE)
    assert store.facts().options == ("visual",)
    assert store.calibration() == {"visual": Calibration()}
    assert store.score_source() == "local/axes-1/a20-m0.129"


def test_an_index_without_a_track_is_of_no_space_and_may_become_one_of_another(store: Store) -> None:
    store.add_videos([TALK, MUTE], SPACE)
    store.calibrate({"visual": Calibration(15.5, 0.2)})
    store.cache_prompts(SPACE, prompt_vectors())
    assert store.remove(["talk"]) == ["talk"]
    assert store.cached_prompts(SPACE, list(prompt_vectors())) == {}  # of as many dimensions as the vectors had
    assert (store.space, store.dimensions, store.tracks(), store.calibration()) == (None, 0, {}, {})
    store.add_videos([video("talk", 5, track("visual", (0, 5, [1])))], "other")
    assert (store.space, store.calibration()) == ("other", {"visual": Calibration()})


def test_videos_are_listed_page_by_page_in_the_order_asked(store: Store, clock: Clock) -> None:
    for number in range(5):
        clock.now += 1
        store.add_videos([video(f"v{number}", 10 - number)], SPACE)

    def listed(page: int, *, descending: bool = True) -> list[str]:
        return [one.video_id for one in store.list_videos(page=page, page_limit=2, descending=descending)[0]]

    assert [listed(1), listed(2), listed(3), listed(4)] == [["v4", "v3"], ["v2", "v1"], ["v0"], []]
    assert listed(1, descending=False) == ["v0", "v1"]
    by_duration = store.list_videos(page=1, page_limit=1, sort_by="duration", descending=False)
    assert ([one.duration_seconds for one in by_duration[0]], by_duration[1]) == ([6.0], 5)


def test_vectors_of_another_space_are_refused_and_nothing_is_entered(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    with pytest.raises(UsageError, match=r"holds vectors of the space 'axes-1'; vectors of 'other' cannot be compared"):
        store.add_videos([video("a", 5), video("b", 5, track("visual", (0, 5, [1])))], "other")
    assert list(store.durations()) == ["talk"]


def test_vectors_of_other_dimensions_are_refused(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    flat = Track("visual", np.array([0.0]), np.array([1.0]), np.array([[1, 0]], dtype=np.float32))
    with pytest.raises(UsageError, match="have 5 dimensions here, not 2"):
        store.add_videos([video("b", 5, flat)], SPACE)


@pytest.mark.parametrize("space", ["", "a/b", "a b", "ä", "x" * 65, "a\n"])
def test_a_space_must_fit_into_a_header(store: Store, space: str) -> None:
    with pytest.raises(UsageError, match="a space is named with"):
        store.add_videos([TALK], space)


def one_clip(start: float = 0, end: float = 5, length: float = 1) -> Track:
    return Track("visual", np.array([start]), np.array([end]), np.array([[length, 0]], dtype=np.float32))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (video("", 5), "an id has"),
        (video("a/b", 5), "an id has"),
        (video("a\n", 5), "an id has"),
        (video("v", 0), "duration of 0 s"),
        (video("v", 4e-7), "duration of 4e-07 s"),
        (video("v", float("nan")), "duration of nan s"),
        (video("v", float("inf")), "duration of inf s"),
        (video("v", 9, one_clip(), one_clip()), "two of its tracks"),
        (video("v", 9, replace(one_clip(), option="smell")), "option 'smell' is not one of"),
        (video("v", 9, replace(one_clip(), ends=np.array([1.0, 2.0]))), "one end and one vector"),
        (video("v", 9, replace(one_clip(), vectors=np.zeros(2, dtype=np.float32))), "one end and one vector"),
        (video("v", 9, replace(one_clip(), texts=("a", "b"))), "2 texts for 1 clip"),
        (video("v", 9, Track("visual", np.zeros(0), np.zeros(0), np.zeros((0, 2), dtype=np.float32))), "no clips"),
        (video("v", 9, one_clip(start=-1)), "not within 0 and 9 s"),
        (video("v", 9, one_clip(end=9.1)), "not within 0 and 9 s"),
        (video("v", 9, one_clip(start=5)), "has no length"),
        (video("v", 9, one_clip(start=float("nan"))), "has no length"),
        (video("v", 9, one_clip(length=1.1)), "not L2-normalised"),
        (video("v", 9, one_clip(length=float("nan"))), "not L2-normalised"),
        (video("v", 9, one_clip(length=1e38)), "not L2-normalised"),
    ],
)
def test_a_video_that_cannot_be_scored_is_refused_with_the_reason(
    store: Store, wrong: IndexedVideo, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        store.add_videos([TALK, wrong], SPACE)
    assert store.facts().video_count == 0


def test_a_clip_without_direction_is_fine(store: Store) -> None:
    assert store.add_videos([video("v", 9, one_clip(length=0))], SPACE) == 1


def test_the_score_source_names_the_space_and_a_calibration_that_all_options_share(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    assert store.calibration() == {"conversation": Calibration(20, 0.129), "visual": Calibration(20, 0.129)}
    assert store.score_source() == "local/axes-1/a20-m0.129"


def test_the_score_source_changes_with_any_calibration_and_stays_short(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    store.calibrate({"visual": Calibration(15.5, 0.2)})
    mixed = store.score_source()
    assert mixed.startswith("local/axes-1/mixed-")
    assert len(mixed) == len("local/axes-1/mixed-") + 12
    store.calibrate({"visual": Calibration(15.5, 0.3)})
    assert store.score_source() != mixed
    store.calibrate({"conversation": Calibration(15.5, 0.3)})
    assert store.score_source() == "local/axes-1/a15.5-m0.3"


def test_a_calibration_survives_further_videos(store: Store) -> None:
    store.calibrate({"visual": Calibration(15.5, 0.2)})
    store.add_videos([TALK], SPACE)
    assert store.calibration()["visual"] == Calibration(15.5, 0.2)


@pytest.mark.parametrize(
    "curve", [Calibration(0, 0), Calibration(-1, 0), Calibration(float("nan"), 0), Calibration(1, float("inf"))]
)
def test_a_curve_that_does_not_rise_is_refused(store: Store, curve: Calibration) -> None:
    with pytest.raises(UsageError, match="a steepness above 0"):
        store.calibrate({"visual": curve})


def test_curves_are_stored_all_or_none(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    with pytest.raises(UsageError, match="a steepness above 0"):
        store.calibrate({"conversation": Calibration(15.5, 0.2), "visual": Calibration(-1, 0)})
    with pytest.raises(StorageError):
        store.calibrate({"conversation": Calibration(15.5, 0.2), b"no text": Calibration()})  # type: ignore[dict-item]
    assert store.calibration() == {"conversation": Calibration(), "visual": Calibration()}


def test_prompts_are_kept_by_space_and_text(store: Store) -> None:
    store.add_videos([TALK], SPACE)
    vectors = prompt_vectors()
    store.cache_prompts(SPACE, {"alpha": vectors["alpha"], "short": vectors["alpha"][:-1]})
    store.cache_prompts("other", {"alpha": vectors["beta"]})
    found = store.cached_prompts(SPACE, ["alpha", "beta", "short"])
    assert list(found) == ["alpha"], "of as many dimensions as the index has, whoever filled it anew meanwhile"
    assert np.array_equal(found["alpha"], vectors["alpha"])


def test_many_threads_may_read_at_once(store: Store) -> None:
    store.add_videos([video(f"v{number}", 10, track("visual", (0, 10, [number]))) for number in range(50)], SPACE)

    def read(number: int) -> str:
        (found,) = store.load([f"v{number}"], ["visual"])
        return found.video_id

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(50))) == [f"v{number}" for number in range(50)]


def test_another_process_may_write_while_an_index_is_read(store: Store, path: Path) -> None:
    with Store.open(path) as reader:
        store.add_videos([TALK], SPACE)
        assert list(reader.durations()) == ["talk"]


def test_a_new_index_does_not_overwrite_a_file(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        Store.create(path, "i", "n")
    assert path.read_text() == "precious"


def test_a_missing_file_is_not_made_by_opening_it(path: Path) -> None:
    with pytest.raises(UsageError, match="there is no index at"):
        Store.open(path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"video_id\n", b"SQLite format 3\0" + b"\xff" * 200])
def test_a_file_that_is_not_ours_is_refused_in_one_line(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageError) as refused:
        Store.open(path)
    assert str(refused.value) == f"{path} is not an index of the local platform"


def test_another_programs_database_and_another_format_are_refused(store: Store, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(StorageError, match="is not an index of the local platform"):
        Store.open(other)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="has format 99, this program reads 2"):
        Store.open(path)


def test_a_damaged_track_is_told(store: Store, path: Path) -> None:
    store.add_videos([TALK], SPACE)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE track SET vectors = x'0102'")
    connection.close()
    with pytest.raises(StorageError, match="is damaged"):
        store.load(["talk"], ["visual"])


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read or written"):
        Store.create(tmp_path / "missing" / "index.sqlite", "i", "n")


def test_a_closed_index_says_so_and_may_be_closed_again(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StorageError, match="cannot be read or written: Cannot operate on a closed database"):
        store.facts()


def test_a_track_that_says_nothing_is_stored_without_vectors_and_read_as_zeros(store: Store) -> None:
    """Its option has a calibration, which nothing depends on."""
    silent = Track.of("conversation", [(0, 1, "a"), (1, 2, "b")], np.zeros((2, 5), dtype=np.float32))
    store.add_videos([video("v", 3, track("visual", (0, 3, [40])), silent)], SPACE)
    (found,) = store.load(["v"], ["conversation"])
    assert found.tracks[0].vectors.tolist() == [[0.0] * 5] * 2
    assert found.tracks[0].vectors.dtype == np.float32
    assert list(store.calibration()) == ["conversation", "visual"]
    assert list(store.calibration(with_vectors=True)) == ["visual"]


def test_a_source_speaks_for_its_options_alone(store: Store) -> None:
    """What it no longer brings of them goes; the video stays as long as what is kept of it."""
    store.add_videos([TALK], SPACE)
    shown = track("text_in_video", (0, 3, [40]))
    store.add_videos([video("talk", 20, shown)], SPACE, replacing=None)
    seen = track("visual", (0, 2, [50]))
    store.add_videos([replace(video("talk", 5, seen), filename="new.mp4")], SPACE, replacing={"visual", "conversation"})
    (found,) = store.load(["talk"], ["visual", "conversation", "text_in_video"])
    assert_same(found, IndexedVideo("talk", "new.mp4", 20.0, (shown, seen)))
    store.add_videos([video("talk", 5, seen)], SPACE, replacing={"visual", "conversation", "text_in_video"})
    assert store.durations() == {"talk": 5.0}
