"""Reading the input into the ledger: every id checked, every chunk packed, in one transaction before the first POST.

So bad lines, the plan and its cost are known before anything is paid, and a kill before that leaves an empty run. The
input is read again at each start: ids that are new are taken in and packed, ids that are gone stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from anyio.from_thread import run as run_in_loop
from anyio.to_thread import run_sync

from pipeline.chunks import Intake
from pipeline.client import Client
from pipeline.config import Config
from pipeline.errors import InputError, JobRefused, PlatformDown, RequestFailed, ResendCounted, ResendFree
from pipeline.fitting import Fit
from pipeline.ids import expand, read_videos
from pipeline.ledger import FIT, INPUT_FINGERPRINT, Ledger
from pipeline.models import Video
from pipeline.pacing import Gate
from pipeline.packing import OneChunk, Packer
from pipeline.reaction import MAX_PAGE_RESENDS
from pipeline.wire import ListedVideo, VideoListPage


@dataclass(frozen=True, slots=True)
class Input:
    """Where the ids come from: files (and standard input), an index of the platform, or both.

    ``jitter`` gives numbers from 0 to 1 that spread the resends of a listing.
    """

    config: Config
    stdin: BinaryIO
    on_skipped: Callable[[str], None]
    jitter: Callable[[], float]


async def take_in(given: Input, ledger: Ledger, client: Client, gate: Gate) -> Intake:
    """Read the whole input into the ledger. Raises ``InputError``, after which the ledger is as it was.

    An index is listed at the pace of pages.
    """
    index_id = given.config.input.index_id
    listing = _in_this_thread(listed_pages(client, gate, index_id, given.jitter)) if index_id else iter(())
    return await run_sync(_take_in, given, ledger, listing)


def _take_in(given: Input, ledger: Ledger, listing: Iterator[Video]) -> Intake:
    config = given.config
    digest = hashlib.sha256()
    with ledger.atomic():
        if config.input.ids:
            files = expand(config.input.ids, Path.cwd())
            videos = read_videos(
                files, on_bad_line=config.input.on_bad_line, on_skipped=given.on_skipped, stdin=given.stdin
            )
            intake = ledger.take_in(_hashed(videos, digest.update))
            ledger.learn_durations(listing)
        else:
            intake = ledger.take_in(_hashed(listing, digest.update), of_index=config.input.mode == "index")
        if not intake.read:
            raise InputError(["the input holds no video id"])
        ledger.remember(INPUT_FINGERPRINT, digest.hexdigest())
        ledger.pack(packer_of(config, ledger, joins=True))
    return intake


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


def _in_this_thread(pages: AsyncIterator[tuple[ListedVideo, ...]]) -> Iterator[Video]:
    """The videos of a listing for the thread that takes them in, each page fetched in the event loop, in its turn."""
    while (videos := run_in_loop(anext, pages, None)) is not None:
        yield from (Video(one.video_id, one.duration_seconds) for one in videos)


async def listed_pages(
    client: Client, gate: Gate, index_id: str, jitter: Callable[[], float]
) -> AsyncIterator[tuple[ListedVideo, ...]]:
    """An index's videos, a page at a time, at the pace of pages.

    Raises ``JobRefused`` where the platform does not list it, ``PlatformDown`` where it fails again and again.
    """
    page = total = 1
    while page <= total:
        listed = await _listing_page(client, gate, index_id, page, jitter)
        yield listed.videos
        page, total = page + 1, listed.total_pages


async def _listing_page(
    client: Client, gate: Gate, index_id: str, page: int, jitter: Callable[[], float]
) -> VideoListPage:
    tries = 0
    while True:
        try:
            async with gate.page_turn() as sent:
                return await client.index_videos(index_id, page, sent)
        except (ResendFree, ResendCounted) as error:
            tries += 1
            if tries > MAX_PAGE_RESENDS:
                raise PlatformDown(f"the index {index_id!r} cannot be listed: {error}") from None
            await gate.pause(max(error.retry_after_seconds or 0.0, jitter() * 2.0**tries))
        except RequestFailed as error:
            raise JobRefused(f"the index {index_id!r} cannot be listed: {error}") from None
