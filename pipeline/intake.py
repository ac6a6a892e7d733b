"""Reading the input into the ledger: every id checked, every chunk packed, in one transaction before the first POST.

So bad lines, the plan and its cost are known before anything is paid, and a kill before that leaves an empty run. The
input is read again at each start: ids that are new are taken in and packed, ids that are gone stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from anyio.from_thread import run as run_in_loop
from anyio.to_thread import run_sync

from pipeline.chunks import Intake
from pipeline.client import Client
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.fitting import Fit
from pipeline.ids import expand, read_videos
from pipeline.ledger import FIT, INPUT_FINGERPRINT, Ledger
from pipeline.listing import Listing, videos_listing
from pipeline.models import Video
from pipeline.pacing import Gate
from pipeline.packing import OneChunk, Packer
from pipeline.wire_lists import VideoListPage

if TYPE_CHECKING:
    from pipeline.platform.store import Store


@dataclass(frozen=True, slots=True)
class Input:
    """Where the ids come from: files (and standard input), an index of the platform, or both.

    ``jitter`` gives numbers from 0 to 1 that spread the resends of a listing. ``index`` is the one that will be asked,
    where it is on this machine: then it is known beforehand which ids it lacks.
    """

    config: Config
    stdin: BinaryIO
    on_skipped: Callable[[str], None]
    jitter: Callable[[], float]
    index: Store | None = None


async def take_in(given: Input, ledger: Ledger, client: Client, gate: Gate) -> Intake:
    """Read the whole input into the ledger. Raises ``InputError``, after which the ledger is as it was.

    An index is listed at the pace of pages. Ids of which the index on this machine has none are an ``InputError``: to
    go on would cost nothing but the run, for it would keep them all.
    """
    index_id = given.config.input.index_id
    listing = videos_listing(client, gate, index_id, given.jitter) if index_id else None
    return await run_sync(_take_in, given, ledger, listing)


def _take_in(given: Input, ledger: Ledger, listing: Listing[VideoListPage] | None) -> Intake:
    config = given.config
    digest = hashlib.sha256()
    with ledger.atomic():
        if config.input.ids:
            files = expand(config.input.ids, Path.cwd())
            videos = read_videos(
                files, on_bad_line=config.input.on_bad_line, on_skipped=given.on_skipped, stdin=given.stdin
            )
            intake = ledger.take_in(_hashed(videos, digest.update))
            if listing:
                ledger.learn_durations(_in_this_thread(listing))
        else:
            assert listing is not None, "a configuration names ids or an index"
            intake = ledger.take_in(
                _hashed(_in_this_thread(listing), digest.update),
                are_an_index=lambda: config.input.mode == "index" and listing.is_steady,
            )
            # Listed again is not named again.
            intake = replace(intake, read=intake.read - intake.duplicates, duplicates=0, is_steady=listing.is_steady)
        if not intake.read:
            raise InputError(["the input holds no video id: check input.ids, or input.index_id"])
        ledger.remember(INPUT_FINGERPRINT, digest.hexdigest())
        ledger.pack(packer_of(config, ledger, joins=True))
        if given.index is not None and config.input.ids:
            intake = replace(intake, absent=_absent(ledger, given.index, config.api.index))
    return intake


def _absent(ledger: Ledger, index: Store, name: str) -> int:
    """How many of the run's ids are not in the index. Raises ``InputError`` where all of them are not."""
    videos = found = 0
    for video_ids in ledger.video_ids():
        videos += len(video_ids)
        found += len(index.durations(video_ids))
    if not found:
        raise InputError([f"0 of {videos:,} ids are in this index ({name}): check input.ids and api.index"])
    return videos - found


def packer_of(config: Config, ledger: Ledger, *, joins: bool = False) -> Packer | OneChunk:
    """What packs videos into new chunks of this ledger, as the limits and its refused POSTs say.

    A whole index is one chunk; with ``joins`` new videos go into the one that is still open, for the POSTs that it has
    yet to make show them too.
    """
    if config.input.mode == "index":
        return OneChunk(max(ledger.open_chunks() if joins else (), default=ledger.next_chunk_number()))
    fit = Fit.remembered(ledger.fact(FIT))
    return Packer(
        fit.max_seconds,
        max_videos=config.limits.max_videos_per_post,
        videos_of_unknown_duration=fit.most_unknown or config.limits.default_videos_per_post,
        widening=fit.most_unknown is None,
        first_chunk=ledger.next_chunk_number(),
    )


def _hashed(videos: Iterable[Video], update: Callable[[bytes], None]) -> Iterator[Video]:
    for video in videos:
        update(video.video_id.encode() + b"\n")
        yield video


def _in_this_thread(listing: Listing[VideoListPage]) -> Iterator[Video]:
    """The videos of a listing for the thread that takes them in, each page fetched in the event loop, in its turn."""
    pages = listing.pages()
    while (page := run_in_loop(anext, pages, None)) is not None:
        yield from (Video(one.video_id, one.duration_seconds) for one in page.videos)
