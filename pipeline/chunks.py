"""A chunk's life: its states, the one table of its moves, what is held of its answers, and how it ends.

The ledger keeps these values and the worker decides about them; neither is needed to understand them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from pipeline.models import Failure, Video


class VideoState(IntEnum):
    """What is known of a video. Every one ends in one of the last three."""

    OPEN = 0
    SCORED = 1
    NO_MATCH = 2
    FAILED = 3


class ChunkState(IntEnum):
    """Where a chunk is in its life."""

    PENDING = 0
    IN_FLIGHT = 1
    DONE = 2
    REPLACED = 3


MOVES = frozenset(
    {
        (ChunkState.PENDING, ChunkState.IN_FLIGHT),
        (ChunkState.IN_FLIGHT, ChunkState.PENDING),
        (ChunkState.IN_FLIGHT, ChunkState.DONE),
        (ChunkState.IN_FLIGHT, ChunkState.REPLACED),
        (ChunkState.DONE, ChunkState.REPLACED),  # retry: its failed videos move on to a child
    }
)


class PostState(IntEnum):
    """What became of a POST. Only INTENDED and UNKNOWN may have been billed without our holding an answer."""

    INTENDED = 0
    ANSWERED = 1
    REFUSED = 2
    UNKNOWN = 3
    NOT_SENT = 4


@dataclass(frozen=True, slots=True)
class HeldPage:
    """A spooled page: its body as it came, and when (seconds since the epoch)."""

    body: bytes
    arrived_at: float


@dataclass(frozen=True, slots=True)
class HeldWalk:
    """What is held of one prompt group's answer for one chunk: pages, and how the walk stands.

    ``asked`` are the videos that its POST named, or None where it named all that had no answer then. A walk that
    ``failed`` has videos' failures on its one page, in place of answers; one that was ``refused`` has nothing there.
    """

    prompt_group: int
    pages: tuple[HeldPage, ...]
    next_token: str | None = None
    complete: bool = False
    ended_short: bool = False
    failed: bool = False
    refused: bool = False
    asked: tuple[str, ...] | None = None


class WalkState(IntEnum):
    """How a walk over an index stands. SHORT: it ended with fewer videos than it announced."""

    GOES_ON = 0
    COMPLETE = 1
    SHORT = 2
    FAILED = 3


@dataclass(frozen=True, slots=True)
class IndexWalk:
    """One prompt group's walk over a whole index, as the ledger keeps it.

    ``last_video`` is the ledger's number of the newest video that was known when its POST left: of those up to it a
    complete walk's silence tells something. ``shown`` is how many distinct videos it has shown, ``flaw`` what was
    seen in it that cannot be read.
    """

    number: int
    prompt_group: int
    last_video: int
    next_token: str | None = None
    state: WalkState = WalkState.GOES_ON
    shown: int = 0
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """Of the videos on a page: those that its walk has ``shown`` before, and those whose answer is still ``wanted``."""

    shown: frozenset[str]
    wanted: frozenset[str]


@dataclass(frozen=True, slots=True)
class HeldVideo:
    """A video that every prompt group has answered: the answers by prompt group, none where a group was silent.

    ``number`` is the ledger's. ``is_gone``: the index did not have it any more when it was listed last.
    """

    number: int
    video_id: str
    answers: Mapping[int, bytes]
    is_gone: bool


@dataclass(frozen=True, slots=True)
class Chunk:
    """Videos that are posted together, and what is already held of their answers.

    ``burnt`` counts, by prompt group and kind, the attempts that earlier processes have taken from its budget.
    """

    number: int
    videos: tuple[Video, ...]
    reason: str
    shortfalls: int = 0
    held: tuple[HeldWalk, ...] = ()
    burnt: Mapping[tuple[int, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Child:
    """A part of a replaced chunk that goes on by itself, with the answers that it inherits."""

    video_ids: tuple[str, ...]
    reason: str
    held: tuple[HeldWalk, ...] = ()
    shortfalls: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of one row file that one chunk wrote."""

    file: int
    offset: int
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a chunk ends: its videos' states, and the rest: to children, or ``loose``, for the packer to pack again.

    ``is_part``: it does not end yet. That is for a whole index, which is settled page by page.
    """

    chunk: int
    scored: tuple[str, ...] = ()
    no_match: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    children: tuple[Child, ...] = ()
    loose: tuple[str, ...] = ()
    settled_at: str = ""
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class Intake:
    """What reading the input brought: ids read, ids taken twice, ids new to the run, ids gone from the input.

    ``is_steady`` is False where the input is an index that changed each time that it was listed.
    ``absent`` are the run's ids that the local platform's index does not have; 0 where nobody looked.
    """

    read: int
    duplicates: int
    added: int
    gone: int
    is_steady: bool = True
    absent: int = 0


@dataclass(frozen=True, slots=True)
class OpenVideos:
    """The videos that are still to be asked for: their known duration in seconds, whole and cut off at a longest.

    ``too_long`` are those longer than that, ``first_too_long`` the id of one.
    """

    videos: int
    seconds: float
    seconds_cut_off: float
    unknown_durations: int
    too_long: int = 0
    first_too_long: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How the run stands. ``posts`` counts by (reason, state), ``failures`` failed videos by code.

    ``packed_chunks`` are no parts of others. ``retryable`` is how many of the failed videos could succeed if they were
    asked for again.
    """

    videos: Mapping[VideoState, int]
    chunks: Mapping[ChunkState, int]
    packed_chunks: int
    posts: Mapping[tuple[str, PostState], int]
    failures: Mapping[str, int]
    retryable: int
    seconds: float
    unknown_durations: int

    @property
    def posts_by_reason(self) -> dict[str, int]:
        """POSTs that have left, by why they were sent."""
        sent: dict[str, int] = {}
        for (reason, state), number in self.posts.items():
            if state is not PostState.NOT_SENT:
                sent[reason] = sent.get(reason, 0) + number
        return sent

    @property
    def open_chunks(self) -> int:
        """Chunks that are not at their end."""
        return self.chunks[ChunkState.PENDING] + self.chunks[ChunkState.IN_FLIGHT]
