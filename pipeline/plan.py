"""What a run will cost, before it costs anything: from what is open, the job and its limits to one frozen plan. Pure.

What can be counted is exact: the chunks are packed already, and each open one takes a POST for each prompt group, so
the POSTs are those that the run then sends while nothing fails. What nobody can know, how long the platform takes and
how much it answers, is estimated from an assumption, and said together with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from pipeline.chunks import OpenVideos
from pipeline.config import Config, job_of, page_limit_of
from pipeline.config_keys import LimitsSection
from pipeline.log import utc
from pipeline.models import MAX_PROMPTS, MAX_SECONDS, JobClass
from pipeline.packing import prompt_groups
from pipeline.progress import duration
from pipeline.quota import Window, least_limit
from pipeline.wording import counted

_SECONDS_PER_REQUEST = 2.0
# What most videos match of a taxonomy, and the sizes of rows with ids of 24 digits. Rows so far replace all of this.
_CLASSES_PER_VIDEO = 3
_CLIPS_PER_CLASS = 3
_SCORE_BYTES, _CLIP_BYTES, _VIDEO_BYTES = 330, 290, 190
_LAST_MOMENT = 253_402_300_799.0  # the year 9999 ends: no later one can be written
_UNITS = (("TB", 12), ("GB", 9), ("MB", 6), ("kB", 3))
_ROUNDING = 1e-9  # of a POST: what a sum of many durations may be too large by
# Classes of so many prompts fill a request to the last one or nearly so: two, three, four of them, and so on.
_FILLING_SIZES = tuple(MAX_PROMPTS // classes for classes in range(2, 11))
_BEARABLE_LOSS = 0.1  # the share of the prompts that somebody may think of leaving out, to save POSTs


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """What one prompt group still takes while nothing fails.

    ``seconds`` of video in its ``posts``, at most 36,000 of each video. ``on_tokens`` are the POSTs that are spared for
    as long as a page token that is held is alive.
    """

    posts: int
    seconds: float
    on_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What the answered videos have brought so far; ``rows`` may be an estimate."""

    videos: int = 0
    rows: float = 0.0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """What a run stands before: its input, packed, and what is held of the answers.

    ``groups`` has an entry for each prompt group; ``posts_spent`` and ``window`` are as the gate counts them.
    ``absent_ids`` are not in the local platform's index, and ``index_warning`` is what else is to be said of it.
    """

    videos: int
    open: OpenVideos
    chunks: int
    groups: tuple[OpenGroup, ...]
    duplicates: int = 0
    skipped_lines: int = 0
    absent_ids: int = 0
    index_warning: str | None = None
    posts_spent: int = 0
    window: Window | None = None
    written: Written = Written()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will cost. All but the first four keys is about the videos that are ``open``.

    ``posts`` is exact while nothing fails; ``posts_on_tokens`` come on top where page tokens that are held have died.
    ``posts_before_stop`` is how many of them a budget or a quota lets through before the run ends, if it does;
    ``windows``, ``seconds`` and ``finishes_at`` are those of all. ``rows`` and ``bytes`` are estimates by ``basis``.
    """

    videos: int
    duplicates: int
    skipped_lines: int
    open: int
    hours: float
    unknown_durations: int
    too_long: int
    chunks: int
    prompt_groups: int
    posts: int
    posts_lower_bound: int
    posts_on_tokens: int
    posts_in_index_mode: int | None
    posts_before_stop: int | None
    windows: int
    posts_per_window: int | None
    seconds: float
    finishes_at: str
    rows: int
    bytes: int
    basis: str
    warnings: tuple[str, ...]
    hints: tuple[str, ...]


def plan_of(survey: Survey, config: Config, *, now: float) -> Plan:
    """The plan of a run that begins ``now`` (seconds since the epoch)."""
    limits, still_open = config.limits, survey.open
    posts = sum(group.posts for group in survey.groups)
    in_index_mode = _posts_in_index_mode(config, posts, len(survey.groups))
    room = _room(limits, survey.window, now)
    windows, seconds = _course(survey, config, posts, now)
    rows, size, basis = _yield(survey, config)
    hint = shape_hint(job_of(config).classes) if posts else None
    return Plan(
        videos=survey.videos,
        duplicates=survey.duplicates,
        skipped_lines=survey.skipped_lines,
        open=still_open.videos,
        hours=still_open.seconds / 3600,
        unknown_durations=still_open.unknown_durations,
        too_long=still_open.too_long,
        chunks=survey.chunks,
        prompt_groups=len(survey.groups),
        posts=posts,
        posts_lower_bound=sum(map(_least, survey.groups)),
        posts_on_tokens=sum(group.on_tokens for group in survey.groups),
        posts_in_index_mode=in_index_mode,
        posts_before_stop=min((left for left, _ in _stops(survey, limits, room) if left < posts), default=None),
        windows=windows,
        posts_per_window=limits.posts_per_window or None,
        seconds=seconds,
        finishes_at=utc(min(now + seconds, _LAST_MOMENT)),
        rows=rows,
        bytes=size,
        basis=basis,
        warnings=tuple(_warnings(survey, config, posts, room)),
        hints=tuple(_hints(in_index_mode, hint)),
    )


def _least(group: OpenGroup) -> int:
    """The fewest POSTs that any packing could take."""
    return min(group.posts, max(1, ceil(group.seconds / MAX_SECONDS - _ROUNDING)))


def _posts_in_index_mode(config: Config, posts: int, groups: int) -> int | None:
    """The POSTs for the whole index at once, where there is one and that takes fewer."""
    cheaper = config.input.mode == "videos" and config.input.index_id is not None and groups < posts
    return groups if cheaper else None


# ----------------------------------------------------------------------------------------------------- time and quota


def _room(limits: LimitsSection, window: Window | None, now: float) -> int | None:
    """POSTs that the quota's present window still takes; None where there is no quota."""
    stated = limits.posts_per_window or None
    if window is not None and now < window.closed_until:
        return 0
    if window is None or now >= window.resets_at:
        return stated
    limit = least_limit(stated, window.limit)
    return None if limit is None else max(limit - window.used, 0)


def _course(survey: Survey, config: Config, posts: int, now: float) -> tuple[int, float]:
    """In how many windows the POSTs go, and after how many seconds the last is answered.

    Without a quota there is one window, which never ends.
    """
    if not posts:
        return 0, 0.0
    limits, window = config.limits, survey.window
    pages = ceil(survey.open.videos / survey.chunks / page_limit_of(config))
    answer = pages * _SECONDS_PER_REQUEST
    pace = (pages if limits.pages_paced else 1) / limits.requests_per_second if limits.requests_per_second else 0.0
    per_post = max(pace, answer / min(limits.concurrency, survey.chunks))
    room = _room(limits, window, now)
    if room is None or posts <= room:
        return 1, answer + (posts - 1) * per_post
    ends_at = 0.0 if window is None else window.closed_until if window.closed_until > now else window.resets_at
    rest = ends_at - now if ends_at > now else limits.window_seconds
    in_window = limits.posts_per_window or posts
    whole, last = divmod(posts - room - 1, in_window)
    waited = max(rest, room * per_post) + whole * max(limits.window_seconds, in_window * per_post)
    return (room > 0) + whole + 1, waited + answer + last * per_post


# ------------------------------------------------------------------------------------------------------ rows and bytes


def _yield(survey: Survey, config: Config) -> tuple[int, int, str]:
    """Rows and bytes of the open videos, and what that is taken from."""
    written, videos = survey.written, survey.open.videos
    if written.videos:
        share = videos / written.videos
        return round(written.rows * share), round(written.size * share), "as the videos answered so far have"
    classes = min(_CLASSES_PER_VIDEO, len(config.job.classes))
    clips = classes * _CLIPS_PER_CLASS if config.job.include_clips else 0
    size = classes * _SCORE_BYTES + clips * _CLIP_BYTES + _VIDEO_BYTES
    basis = f"if a video matches {counted(classes, 'class', 'classes')}"
    if clips:
        basis += f" with {_CLIPS_PER_CLASS} clips each"
    return videos * (classes + clips + 1), videos * size, basis


# ------------------------------------------------------------------------------------------------- what is to be known


def _stops(survey: Survey, limits: LimitsSection, room: int | None) -> Iterator[tuple[int, str]]:
    """After how many POSTs the limits let a run end, and why."""
    if limits.max_posts:
        left = max(limits.max_posts - survey.posts_spent, 0)
        yield left, f"the budget of limits.max_posts = {limits.max_posts} is spent; raise it to go on"
    if room is not None and limits.on_quota == "stop":
        yield room, 'the quota is used up (limits.on_quota = "stop"); the same command goes on in the next window'


def _warnings(survey: Survey, config: Config, posts: int, room: int | None) -> Iterator[str]:
    still_open, limits = survey.open, config.limits
    in_chunks = config.input.mode == "videos"  # a whole index takes one POST, however long its videos are
    if survey.skipped_lines:
        yield f'{counted(survey.skipped_lines, "bad line")} left out (input.on_bad_line = "skip")'
    if survey.absent_ids:
        yield (
            f"{survey.videos - survey.absent_ids:,} of {survey.videos:,} ids are in this index; "
            f"the other {counted(survey.absent_ids, 'fails', 'fail')}"
        )
    if survey.index_warning:
        yield survey.index_warning
    if still_open.unknown_durations and in_chunks:
        yield (
            f"{counted(still_open.unknown_durations, 'video has', 'videos have')} no known duration, so "
            f"{_unknown_in_a_post(limits)}; give their durations in the id list, or name the index (input.index_id)"
        )
    if still_open.too_long and in_chunks:
        yield (
            f"{counted(still_open.too_long, 'video')} longer than {MAX_SECONDS:,} s, such as "
            f"{still_open.first_too_long}: the platform is likely to refuse such a video, and it fails"
        )
    for left, reason in _stops(survey, limits, room):
        if left < posts:
            yield f"the run ends with code 75 after {counted(left, 'POST')}, when {reason}"


def _unknown_in_a_post(limits: LimitsSection) -> str:
    """How many videos of unknown duration are posted together."""
    first, most = limits.default_videos_per_post, limits.max_videos_per_post
    if 0 < most <= first:
        return f"a POST takes only {most:,} (limits.max_videos_per_post)"
    return f"the first POST takes only {first:,} (limits.default_videos_per_post), and each a quarter more"


def _hints(in_index_mode: int | None, shape: str | None) -> Iterator[str]:
    if in_index_mode is not None:
        yield (
            f'input.mode = "index" takes {counted(in_index_mode, "POST")} for the whole index, '
            "with rows for each video in it"
        )
    if shape is not None:
        yield shape


def shape_hint(classes: Sequence[JobClass]) -> str | None:
    """How classes of another shape would take fewer prompt groups, where these waste the space of some."""
    groups = len(prompt_groups(classes))
    if groups == 1:
        return None
    sizes = [len(one.prompts) for one in classes]
    prompts = sum(sizes)
    told = (
        f"{len(classes):,} classes with {prompts:,} prompts take {groups:,} prompt groups, each a POST for each chunk"
    )
    better = [
        (fewer, -most)
        for most in _FILLING_SIZES
        if 0 < sum(max(size - most, 0) for size in sizes) <= _BEARABLE_LOSS * prompts
        and (fewer := _groups_of_at_most(most, classes)) < groups
    ]
    if better:
        fewer, most = min(better)
        return f"{told}; with at most {-most} prompts a class they would take {fewer:,}"
    least = ceil(prompts / MAX_PROMPTS)
    if least == groups:
        return None
    return f"{told}, and {least:,} would hold them: classes of 50, 33 or 25 prompts share a request without a rest"


def _groups_of_at_most(most: int, classes: Sequence[JobClass]) -> int:
    return len(prompt_groups([JobClass(one.name, one.prompts[:most]) for one in classes]))


# ------------------------------------------------------------------------------------------------------------ in words


def in_words(plan: Plan) -> list[str]:
    """The plan for people, a line each."""
    videos = f"videos: {plan.videos:,}"
    if plan.open != plan.videos:
        videos += f", {plan.open:,} of them open"
    if plan.duplicates:
        videos += f", {plan.duplicates:,} named more than once"
    if not plan.posts and not plan.posts_on_tokens:
        return [f"{videos}; nothing is left to ask for", *_notes(plan)]
    asked = (
        f"POSTs: {plan.posts:,} ({counted(plan.chunks, 'chunk')}, {counted(plan.prompt_groups, 'prompt group')}; "
        f"no packing takes fewer than {plan.posts_lower_bound:,})"
    )
    if plan.posts_on_tokens:
        asked += f", and {plan.posts_on_tokens:,} more where page tokens have died"
    if plan.posts_per_window:
        asked += f", in {counted(plan.windows, 'window')} of {plan.posts_per_window:,}"
    finish = f"{plan.finishes_at[:10]} {plan.finishes_at[11:16]} UTC"
    return [
        f"{videos}, {plan.hours:,.1f} hours",
        asked,
        f"time: about {duration(plan.seconds)}, until {finish}, if a request takes {_SECONDS_PER_REQUEST:.0f} s",
        f"rows: about {plan.rows:,} ({_size(plan.bytes)}), {plan.basis}",
        *_notes(plan),
    ]


def _notes(plan: Plan) -> list[str]:
    return [f"warning: {line}" for line in plan.warnings] + [f"hint: {line}" for line in plan.hints]


def _size(size: float) -> str:
    if size < 1000:
        return f"{size:.0f} bytes"
    size, unit = next(((size / 10**power, unit) for unit, power in _UNITS if size >= 10**power))
    return f"{size:,.1f} {unit}"
