from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models import ClassScore, Clip, ConversationOption, DetailedScores, JobClass, Threshold, VideoAnswer
from pipeline.platform.scoring import classify
from pipeline.platform.videos import Calibration, IndexedVideo, Track
from pipeline.wire import ClassifyRequest
from tests.platform.made_up import CURVE, PROMPTS, prompt_vectors, track, video

OPTIONS = ("visual", "conversation", "text_in_video")
EVERYTHING = Threshold(1, 1, 0.01)


def ask(
    *classes: JobClass,
    options: Sequence[str] = OPTIONS,
    threshold: Threshold = EVERYTHING,
    conversation_option: ConversationOption = "semantic",
) -> ClassifyRequest:
    return ClassifyRequest(
        classes,
        tuple(options),
        ("v",),
        conversation_option=conversation_option,
        include_clips=True,
        show_detailed_score=True,
        threshold=threshold,
    )


def answers(videos: Sequence[IndexedVideo], request: ClassifyRequest) -> list[VideoAnswer]:
    return classify(videos, request, prompt_vectors(), dict.fromkeys(OPTIONS, CURVE))


def the_class(found: IndexedVideo, request: ClassifyRequest) -> ClassScore:
    ((one,),) = (answer.classes for answer in answers([found], request))
    return one


ALPHA = JobClass("A", ("alpha",))
ALPHA_OR_BETA = JobClass("AB", ("alpha", "beta"))


def test_a_clip_of_the_midpoint_scores_50() -> None:
    one = Track("visual", np.array([0.0]), np.array([10.0]), np.array([[0.25, 0, 0, 0, 0]], dtype=np.float32))
    assert the_class(video("v", 10, one), ask(ALPHA)) == ClassScore(
        "A", 50.0, 1.0, (Clip(0.0, 10.0, 50.0, "visual", "alpha"),), DetailedScores(50.0, 50.0, 100.0)
    )


def test_scores_follow_the_logistic_curve_to_two_decimals() -> None:
    one = Track("visual", np.array([0.0]), np.array([10.0]), np.array([[0.2, 0, 0, 0, 0]], dtype=np.float32))
    found = classify([video("v", 10, one)], ask(ALPHA), prompt_vectors(), {"visual": Calibration()})
    assert found[0].classes[0].score == 80.53  # 100 / (1 + exp(-20 * (0.2 - 0.129)))


def test_a_steep_curve_reaches_both_ends_without_overflow() -> None:
    clips = np.array([[1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], dtype=np.float32)
    one = Track("visual", np.array([0.0, 5.0]), np.array([5.0, 10.0]), clips)
    found = classify([video("v", 10, one)], ask(ALPHA), prompt_vectors(), {"visual": Calibration(1e6, 0)})
    assert found[0].classes[0].clips == (Clip(0.0, 5.0, 100.0, "visual", "alpha"),)


def test_the_class_score_is_the_mean_over_the_best_half_of_the_time() -> None:
    visual = track("visual", (0, 2, [90]), (2, 6, [60]), (6, 10, [20]))
    assert the_class(video("v", 10, visual), ask(ALPHA)).score == 72.0  # 2 s of 90 and 3 s of 60


def test_time_without_any_clip_counts_nothing() -> None:
    assert the_class(video("v", 100, track("visual", (0, 10, [80]))), ask(ALPHA)).score == 16.0  # 10 s of the best 50


def test_each_moment_counts_with_the_best_option() -> None:
    tracks = track("visual", (0, 4, [40])), track("conversation", (2, 4, [90]))
    assert the_class(video("v", 8, *tracks), ask(ALPHA)).score == 65.0
    assert the_class(video("v", 8, *tracks), ask(ALPHA, options=["visual"])).score == 40.0


def test_neighbours_make_one_clip_with_the_score_and_prompt_of_the_peak() -> None:
    visual = track("visual", (0, 2, [40, 10]), (2, 4, [20, 70]), (4, 6, [50, 60]))
    assert the_class(video("v", 6, visual), ask(ALPHA_OR_BETA)).clips == (Clip(0.0, 6.0, 70.0, "visual", "beta"),)


def test_a_pause_of_half_a_second_is_bridged_and_a_longer_one_is_not() -> None:
    visual = track("visual", (0, 2, [40]), (2.5, 4, [50]), (4.6, 6, [60]))
    one = the_class(video("v", 6, visual), ask(ALPHA))
    assert one.clips == (Clip(4.6, 6.0, 60.0, "visual", "alpha"), Clip(0.0, 4.0, 50.0, "visual", "alpha"))
    assert one.duration_ratio == 0.9
    assert one.detailed_scores == DetailedScores(60.0, 55.0, 100.0)


def test_a_pause_is_counted_from_the_furthest_end() -> None:
    visual = track("visual", (0, 10, [40]), (1, 2, [50]), (10.5, 12, [60]))
    assert the_class(video("v", 12, visual), ask(ALPHA)).clips == (Clip(0.0, 12.0, 60.0, "visual", "alpha"),)


def test_options_make_clips_of_their_own_whose_overlap_counts_once() -> None:
    tracks = track("visual", (0, 4, [40])), track("conversation", (2, 6, [30]))
    one = the_class(video("v", 10, *tracks), ask(ALPHA))
    assert one.clips == (Clip(0.0, 4.0, 40.0, "visual", "alpha"), Clip(2.0, 6.0, 30.0, "conversation", "alpha"))
    assert one.duration_ratio == 0.6


def test_without_thresholds_the_contracts_defaults_hold() -> None:
    def matches(score: float, share: float, clip_score: float = 0) -> bool:
        visual = track("visual", (0, share, [score]), (share, 100, [clip_score]))
        return bool(answers([video("v", 100, visual)], ask(ALPHA, threshold=Threshold())))

    assert [matches(75, 50), matches(74.99, 50)] == [True, False]
    assert [matches(99, 49), matches(99, 49.5, 30), matches(99, 49.4, 29.99)] == [False, True, False]


def test_a_class_may_have_options_of_its_own() -> None:
    tracks = track("visual", (0, 4, [40, 20])), track("conversation", (0, 4, [60, 80]))
    one = JobClass("own", ("beta",), options=("conversation",))
    (found,) = answers([video("v", 4, *tracks)], ask(ALPHA, one, options=["visual"]))
    assert [(each.name, each.score) for each in found.classes] == [("A", 40.0), ("own", 80.0)]


def test_exact_match_replaces_the_score_of_speech_alone() -> None:
    tracks = (
        track("visual", (0, 5, [40])),
        track("conversation", (0, 5, [99]), (5, 10, [2]), texts=("no such word", "the ALPHA, at last")),
    )
    one = the_class(video("v", 10, *tracks), ask(ALPHA, conversation_option="exact_match"))
    assert one.score == 100.0
    assert one.clips == (Clip(5.0, 10.0, 100.0, "conversation", "alpha"), Clip(0.0, 5.0, 40.0, "visual", "alpha"))


def test_a_class_may_have_a_conversation_option_of_its_own() -> None:
    speech = track("conversation", (0, 10, [60]), texts=("nothing of it",))
    exact = replace(ALPHA, name="exact", conversation_option="exact_match")
    (found,) = answers([video("v", 10, speech)], ask(ALPHA, exact))
    assert [each.name for each in found.classes] == ["A"]


def test_normalized_scores_are_shares_of_the_returned_classes() -> None:
    visual = track("visual", (0, 10, [60, 20, 10]))
    classes = [JobClass("A", ("alpha",)), JobClass("B", ("beta",)), JobClass("C", ("gamma",))]
    (found,) = answers([video("v", 10, visual)], ask(*classes, threshold=Threshold(15, 1, 0.01)))
    shares = [each.detailed_scores.normalized_score for each in found.classes if each.detailed_scores]
    assert shares == [0.6 / 0.8 * 100, 0.2 / 0.8 * 100]


def test_what_was_not_asked_for_is_left_out() -> None:
    request = replace(ask(ALPHA), include_clips=False, show_detailed_score=False)
    assert the_class(video("v", 10, track("visual", (0, 10, [60]))), request) == ClassScore("A", 60.0, 1.0)


@pytest.mark.parametrize("videos", [[], [video("v", 10)], [video("v", 10, track("visual", (0, 10, [99])))]])
def test_without_clips_of_the_options_nothing_matches(videos: list[IndexedVideo]) -> None:
    assert answers(videos, ask(ALPHA, options=["logo"])) == []


# -------------------------------------------------------------------------------------------------------- invariants

TICK = 0.25  # seconds; a pause of two ticks is bridged


@dataclass(frozen=True)
class DrawnClip:
    option: str
    start: int
    end: int
    scores: tuple[int, ...]


@dataclass(frozen=True)
class DrawnVideo:
    ticks: int
    clips: tuple[DrawnClip, ...]

    def indexed(self, video_id: str = "v") -> IndexedVideo:
        tracks = []
        for option in OPTIONS:
            clips = [(one.start * TICK, one.end * TICK, one.scores) for one in self.clips if one.option == option]
            if clips:
                tracks.append(track(option, *clips))
        return video(video_id, self.ticks * TICK, *tracks)


@st.composite
def drawn_videos(draw: st.DrawFn) -> DrawnVideo:
    ticks = draw(st.integers(2, 24))
    clips = []
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, ticks - 1))
        end = draw(st.integers(start + 1, ticks))
        scores = draw(st.tuples(*[st.sampled_from([0, 3, 30, 50, 51, 97])] * len(PROMPTS)))
        clips.append(DrawnClip(draw(st.sampled_from(OPTIONS)), start, end, scores))
    return DrawnVideo(ticks, tuple(clips))


drawn_classes = st.lists(
    st.builds(
        JobClass,
        st.sampled_from(["A", "B", "C"]),
        st.lists(st.sampled_from(PROMPTS), min_size=1, max_size=4, unique=True).map(tuple),
        st.none() | st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one.name,
)
drawn_thresholds = st.builds(
    Threshold, st.sampled_from([1, 20, 50, 97]), st.sampled_from([1, 3, 30, 50, 51]), st.sampled_from([0.01, 0.3, 1])
)
drawn_requests = st.builds(
    lambda classes, options, threshold: ask(*classes, options=options, threshold=threshold),
    drawn_classes,
    st.lists(st.sampled_from(OPTIONS), min_size=1, max_size=3, unique=True),
    drawn_thresholds,
)


def rounded(value: Fraction) -> float:
    return floor(value * 100 + Fraction(1, 2)) / 100


def by_the_book(found: DrawnVideo, one: JobClass, request: ClassifyRequest) -> ClassScore | None:
    """The formulas once more, tick by tick, in plain Python."""
    asked = one.options or request.options
    score_of = {
        clip: max(clip.scores[PROMPTS.index(prompt)] for prompt in one.prompts)
        for clip in found.clips
        if clip.option in asked
    }
    heights = [
        max((score for clip, score in score_of.items() if clip.start <= tick < clip.end), default=0)
        for tick in range(found.ticks)
    ]
    halves = sorted([height for height in heights for _ in range(2)], reverse=True)
    score = rounded(Fraction(sum(halves[: found.ticks]), found.ticks))
    least = request.threshold
    assert least.min_video_score is not None
    assert least.min_clip_score is not None
    assert least.min_duration_ratio is not None
    runs = []
    for option in OPTIONS:
        run: list[int] = []
        for clip, reached in sorted(score_of.items(), key=lambda pair: pair[0].start):
            if clip.option != option or reached < least.min_clip_score:
                continue
            if run and clip.start - run[1] <= 2:
                run[1], run[2] = max(run[1], clip.end), max(run[2], reached)
            else:
                run = [clip.start, clip.end, reached]
                runs.append((option, run))
    seen = {tick for _, (start, end, _) in runs for tick in range(start, end)}
    ratio = rounded(Fraction(len(seen), found.ticks))
    if score < least.min_video_score or ratio < least.min_duration_ratio:
        return None
    best_first = sorted(runs, key=lambda each: (-each[1][2], each[1][0], OPTIONS.index(each[0])))
    clips = tuple(Clip(start * TICK, end * TICK, float(peak), option, "") for option, (start, end, peak) in best_first)
    peaks = [peak for _, (_, _, peak) in runs]
    details = DetailedScores(float(max(peaks)), rounded(Fraction(sum(peaks), len(peaks))))
    return ClassScore(one.name, score, ratio, clips, details)


def without_prompts(one: ClassScore) -> ClassScore:
    assert one.clips is not None
    assert one.detailed_scores is not None
    return ClassScore(
        one.name,
        one.score,
        one.duration_ratio,
        tuple(Clip(clip.start, clip.end, clip.score, clip.option, "") for clip in one.clips),
        DetailedScores(one.detailed_scores.max_score, one.detailed_scores.avg_score),
    )


@given(st.lists(drawn_videos(), min_size=1, max_size=3), drawn_requests)
def test_answers_are_those_of_the_formulas(drawn: list[DrawnVideo], request: ClassifyRequest) -> None:
    expected = {}
    for at, found in enumerate(drawn):
        matching = [one for one in (by_the_book(found, each, request) for each in request.classes) if one]
        if matching:
            expected[f"v{at}"] = matching
    got = answers([found.indexed(f"v{at}") for at, found in enumerate(drawn)], request)
    assert {one.video_id: [without_prompts(each) for each in one.classes] for one in got} == expected


@given(st.lists(drawn_videos(), min_size=1, max_size=3), drawn_requests)
def test_bounds_and_what_holds_between_the_numbers(drawn: list[DrawnVideo], request: ClassifyRequest) -> None:
    for found, answer in [(one, answer) for one in drawn for answer in answers([one.indexed()], request)]:
        for one in answer.classes:
            assert one.clips
            assert one.detailed_scores is not None
            assert one.detailed_scores.avg_score is not None
            scores = [clip.score for clip in one.clips]
            assert 0 <= min(scores) <= one.detailed_scores.avg_score <= max(scores) <= 100
            assert 0 <= one.score <= max(scores) == one.detailed_scores.max_score
            assert 0 < one.duration_ratio <= 1
            assert all(0 <= clip.start < clip.end <= found.ticks * TICK for clip in one.clips)


def stretches(found: Sequence[VideoAnswer]) -> dict[tuple[str, str, str], set[int]]:
    """The ticks that the clips of each video, class and option cover."""
    covered: dict[tuple[str, str, str], set[int]] = {}
    for answer in found:
        for one in answer.classes:
            for clip in one.clips or ():
                ticks = range(int(clip.start / TICK), int(clip.end / TICK))
                covered.setdefault((answer.video_id, one.name, clip.option), set()).update(ticks)
    return covered


@given(drawn_videos(), drawn_requests, drawn_thresholds)
def test_tighter_thresholds_return_a_part_of_what_looser_ones_do(
    drawn: DrawnVideo, request: ClassifyRequest, tighter: Threshold
) -> None:
    loose = answers([drawn.indexed()], replace(request, threshold=EVERYTHING))
    tight = answers([drawn.indexed()], replace(request, threshold=tighter))
    covered = stretches(loose)
    assert all(ticks <= covered[owner] for owner, ticks in stretches(tight).items())
    scores = {one.name: one.score for answer in loose for one in answer.classes}
    assert all(one.score == scores[one.name] for answer in tight for one in answer.classes)


@given(drawn_videos(), drawn_requests, st.data())
def test_the_order_of_clips_options_and_prompts_changes_nothing(
    drawn: DrawnVideo, request: ClassifyRequest, data: st.DataObject
) -> None:
    classes = [replace(one, prompts=tuple(data.draw(st.permutations(one.prompts)))) for one in request.classes]
    mixed = replace(request, classes=tuple(classes), options=tuple(data.draw(st.permutations(request.options))))
    clips_mixed = DrawnVideo(drawn.ticks, tuple(data.draw(st.permutations(drawn.clips)))).indexed()
    tracks_mixed = replace(clips_mixed, tracks=clips_mixed.tracks[::-1])
    assert answers([tracks_mixed], mixed) == answers([drawn.indexed()], request)


@given(drawn_videos(), drawn_requests, st.data())
def test_a_clip_cut_in_two_changes_nothing(drawn: DrawnVideo, request: ClassifyRequest, data: st.DataObject) -> None:
    longer = [clip for clip in drawn.clips if clip.end - clip.start > 1]
    if not longer:
        return
    cut = data.draw(st.sampled_from(longer))
    at = data.draw(st.integers(cut.start + 1, cut.end - 1))
    kept = [clip for clip in drawn.clips if clip is not cut]
    halves = [replace(cut, end=at), replace(cut, start=at)]
    assert answers([DrawnVideo(drawn.ticks, (*kept, *halves)).indexed()], request) == answers(
        [drawn.indexed()], request
    )


def class_scores(found: IndexedVideo, request: ClassifyRequest) -> dict[str, float]:
    return {one.name: one.score for answer in answers([found], request) for one in answer.classes}


@given(drawn_videos(), drawn_requests, st.data())
def test_a_higher_cosine_or_one_more_prompt_never_lowers_a_class_score(
    drawn: DrawnVideo, request: ClassifyRequest, data: st.DataObject
) -> None:
    request = replace(request, threshold=EVERYTHING)
    before = class_scores(drawn.indexed(), request)
    raised = tuple(
        replace(clip, scores=tuple(min(97, score + data.draw(st.sampled_from([0, 2, 40]))) for score in clip.scores))
        for clip in drawn.clips
    )
    after = class_scores(DrawnVideo(drawn.ticks, raised).indexed(), request)
    assert all(after[name] >= score for name, score in before.items())
    added = data.draw(st.sampled_from(PROMPTS))
    more = tuple(replace(one, prompts=tuple(dict.fromkeys([*one.prompts, added]))) for one in request.classes)
    after = class_scores(drawn.indexed(), replace(request, classes=more))
    assert all(after[name] >= score for name, score in before.items())


def random_video(video_id: str, clips: int, seed: int) -> IndexedVideo:
    rows = np.random.default_rng(seed).standard_normal((clips, 256)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    starts = np.arange(clips, dtype=np.float64) * 6
    return IndexedVideo(video_id, "f", clips * 6.0, (Track("visual", starts, starts + 6, rows),))


def test_an_answer_does_not_depend_on_the_videos_it_is_asked_with() -> None:
    videos = [random_video(f"v{seed}", 1 + seed % 7, seed) for seed in range(60)]
    prompts = np.random.default_rng(0).standard_normal((20, 256)).astype(np.float32)
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    vectors = {f"p{row}": prompts[row] for row in range(20)}
    request = ask(*[JobClass(prompt, (prompt,)) for prompt in vectors])
    calibration = {"visual": Calibration()}
    together = classify(videos, request, vectors, calibration)
    alone = [answer for one in videos for answer in classify([one], request, vectors, calibration)]
    assert together == alone
