"""What a run stands before, read from its ledger and its rows: the facts that a plan is made of.

Nothing is changed here. It is called once the input is packed and ``Ledger.recover`` has made every open chunk pending,
so that what it counts is what the producer then hands out.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from pipeline.chunks import Chunk, Counts, VideoState
from pipeline.config import Config, job_of
from pipeline.fitting import Fit
from pipeline.intake import packer_of
from pipeline.ledger import FIT, TOTALS, Ledger
from pipeline.models import MAX_SECONDS
from pipeline.packing import prompt_groups
from pipeline.plan import OpenGroup, Survey, Written
from pipeline.rows import ROW_FILES
from pipeline.rundir import translated
from pipeline.search import Search
from pipeline.walk import GroupAnswer

_SAMPLE_BYTES = 2**20
_CHUNKS_READ_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Taken:
    """What reading the input has left out (ids named again, bad lines), and what is known of the index beforehand.

    ``absent_ids`` are not in the local platform's index; ``index_warning`` is what else is to be said of it.
    """

    duplicates: int = 0
    skipped_lines: int = 0
    absent_ids: int = 0
    index_warning: str | None = None


def survey(ledger: Ledger, folder: Path, config: Config, taken: Taken) -> Survey:
    """What is open, what it takes, and what is written so far in a run directory, whose ledger may be a copy."""
    counts = ledger.counts()
    still_open = ledger.open_videos(MAX_SECONDS)
    groups = len(prompt_groups(job_of(config).classes))
    chunks = counts.open_chunks + _chunks_to_be_made(ledger, config)
    return Survey(
        videos=sum(counts.videos.values()),
        open=still_open,
        chunks=chunks,
        groups=tuple(
            _open_groups_of_index(ledger, groups)
            if config.input.mode == "index"
            else _open_groups(ledger, groups, chunks, still_open.seconds_cut_off)
        ),
        duplicates=taken.duplicates,
        skipped_lines=taken.skipped_lines,
        absent_ids=taken.absent_ids,
        index_warning=taken.index_warning,
        posts_spent=ledger.posts_spent(),
        window=ledger.window(),
        written=_written(ledger, folder, counts),
    )


def _chunks_to_be_made(ledger: Ledger, config: Config) -> int:
    """Chunks for the videos that are in none, and for those that will be taken out of chunks that are too long by now.

    The packer gets them as it will get them from the run, when all else is done.
    """
    fit = Fit.remembered(ledger.fact(FIT), config.limits.max_videos_per_post)
    taken_out: set[str] = set()
    for chunk in _pending(ledger) if fit != Fit() else ():
        if not chunk.held and not fit.fits(chunk.videos):
            taken_out.update({one.video_id for one in chunk.videos} - {one.video_id for one in fit.kept(chunk.videos)})
    packer = packer_of(config, ledger)
    return len({packer.place(one.duration_seconds) for one in ledger.in_no_chunk(taken_out)})


def _pending(ledger: Ledger) -> Iterator[Chunk]:
    last = 0
    while some := ledger.pending_after(last, _CHUNKS_READ_AT_ONCE):
        yield from some
        last = some[-1].number


def _open_groups(ledger: Ledger, groups: int, chunks: int, seconds: float) -> Iterator[OpenGroup]:
    """What each prompt group still takes: a POST for each open chunk, or what a chunk lacks where answers are held.

    This and the next are the one place that says how many POSTs are open.
    """
    totals_trusted = ledger.fact(TOTALS) != "not trusted"
    begun = [(chunk, _lacking(chunk, groups, totals_trusted)) for chunk in ledger.chunks_with_answers()]
    untouched = chunks - len(begun)
    seconds -= sum(_seconds(chunk, {one.video_id for one in chunk.videos}) for chunk, _ in begun)
    for group in range(groups):
        lacking = [some[group] for _, some in begun]
        yield OpenGroup(
            untouched + sum(one.posts for one in lacking),
            seconds + sum(one.seconds for one in lacking),
            sum(one.on_tokens for one in lacking),
        )


def _open_groups_of_index(ledger: Ledger, groups: int) -> Iterator[OpenGroup]:
    """What each prompt group still takes for a whole index. No packing could take less: the seconds do not matter."""
    for group in range(groups):
        open_posts = [ledger.open_index_posts(chunk, group) for chunk in ledger.open_chunks()]
        yield OpenGroup(sum(posts for posts, _ in open_posts), 0.0, sum(on_tokens for _, on_tokens in open_posts))


def _lacking(chunk: Chunk, groups: int, totals_trusted: bool) -> list[OpenGroup]:
    """What each prompt group still takes for a chunk that holds a part of its answers, as a worker goes on with it."""
    video_ids = [one.video_id for one in chunk.videos]
    answers = [
        GroupAnswer(group, video_ids, [walk for walk in chunk.held if walk.prompt_group == group])
        for group in range(groups)
    ]
    failed = {video_id for answer in answers for video_id in answer.failures}
    lacking = []
    for answer in answers:
        if not totals_trusted:
            answer.accept_owing()
        to_post = [one for one in answer.to_post if one not in failed]
        on_token = not to_post and any(one not in failed for one in answer.missing)
        lacking.append(OpenGroup(_posts(answer, to_post), _seconds(chunk, set(to_post)), int(on_token)))
    return lacking


def _posts(answer: GroupAnswer, to_post: list[str]) -> int:
    """POSTs for these videos: one, or as many as a search among them takes that finds none of them refused any more."""
    search = Search(answer.refused)
    posts = 0
    while to_post:
        asked = search.next(to_post)
        search.answered(asked)
        answered = frozenset(asked)
        to_post = [one for one in to_post if one not in answered]
        posts += 1
    return posts


def _seconds(chunk: Chunk, video_ids: AbstractSet[str]) -> float:
    return sum(min(one.duration_seconds or 0.0, MAX_SECONDS) for one in chunk.videos if one.video_id in video_ids)


def _written(ledger: Ledger, folder: Path, counts: Counts) -> Written:
    """What the answered videos have brought; their rows are counted in the first part of each file."""
    lengths = ledger.file_lengths()
    rows = 0.0
    for name, length in zip(ROW_FILES, lengths, strict=True):
        if length:
            with translated(folder / name), (folder / name).open("rb") as file:
                sample = file.read(min(length, _SAMPLE_BYTES))
            rows += sample.count(b"\n") * length / max(len(sample), 1)
    answered = counts.videos[VideoState.SCORED] + counts.videos[VideoState.NO_MATCH]
    return Written(answered, rows, sum(lengths))
