"""How much fits into one POST, as its refusals teach it and as the user limits it. Pure.

Durations of an id list are seldom quite the platform's own, and some are not known at all. A POST that is too long is
refused with the total that the platform counts. From then on every chunk is made shorter by that share before it is
posted; what is taken out of it goes back to the packer, and fills other chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import msgspec

from pipeline.models import MAX_SECONDS, Video

_SPARE = 0.0005  # beyond the largest share seen, for the next may be larger
_ONE_WRONG_VIDEO = 0.02  # a larger share may be one video's wrong duration: it counts when it was seen three times
_NO_SHARE = 0.3  # and this is nobody's usual error
_SPARE_FOR_UNKNOWN = 0.95


class Fit(msgspec.Struct, omit_defaults=True):
    """What refusals have taught, and the user's own limit: ``max_videos``, where 0 is none.

    ``overshoots`` are the three largest shares by which refused POSTs were longer than we had counted; ``unknown`` are
    the two smallest numbers of videos of unknown duration that would have fitted into refused POSTs.
    """

    overshoots: tuple[float, float, float] = (0.0, 0.0, 0.0)
    unknown: tuple[int, ...] = ()
    max_videos: int = 0

    @classmethod
    def remembered(cls, text: str | None, max_videos: int = 0) -> Fit:
        """What ``text`` holds of an earlier process; nothing where there is none."""
        fit = cls() if text is None else msgspec.json.decode(text, type=cls)
        fit.max_videos = max_videos
        return fit

    def text(self) -> str:
        """What was taught, as ``remembered`` reads it."""
        return msgspec.json.encode(msgspec.structs.replace(self, max_videos=0)).decode()

    @property
    def max_seconds(self) -> int:
        """Seconds, as we count, that may be posted together."""
        share = max((one for one in self.overshoots if one <= _ONE_WRONG_VIDEO), default=self.overshoots[-1])
        return floor(MAX_SECONDS / (1 + share + (_SPARE if share else 0)))

    @property
    def most_unknown(self) -> int | None:
        """Videos of unknown duration that may be posted together; None before two POSTs of them were refused."""
        return self.unknown[1] if len(self.unknown) > 1 else None

    def learn(self, videos: Sequence[Video], total_seconds: float) -> None:
        """These videos were refused, being ``total_seconds`` long. They are no part of what was refused before."""
        ours = _seconds(videos)
        if ours is None:
            fitting = max(1, int(len(videos) * MAX_SECONDS / total_seconds * _SPARE_FOR_UNKNOWN))
            self.unknown = tuple(sorted((*self.unknown, fitting))[:2])
        elif total_seconds / ours - 1 <= _NO_SHARE:
            first, second, third = sorted((*self.overshoots, total_seconds / ours - 1), reverse=True)[:3]
            self.overshoots = first, second, third

    def fits(self, videos: Sequence[Video]) -> bool:
        """Whether these may be posted together. One alone always may: nobody can make it shorter."""
        seconds = _seconds(videos)
        if len(videos) <= 1:
            return True
        if self.max_videos and len(videos) > self.max_videos:
            return False
        return len(videos) <= (self.most_unknown or len(videos)) if seconds is None else seconds <= self.max_seconds

    def kept(self, videos: Sequence[Video]) -> Sequence[Video]:
        """Those of a chunk's videos that may be posted together: all, or all but as few as bring it below the limit."""
        videos = videos[: self.max_videos or None]
        seconds = _seconds(videos)
        if seconds is None:
            return videos[: self.most_unknown]
        excess = seconds - self.max_seconds
        if excess <= 0:
            return videos
        by_length = sorted(videos, key=lambda one: one.duration_seconds or 0.0)
        taken_out: set[str] = set()
        enough = next((one for one in by_length if (one.duration_seconds or 0.0) >= excess), None)
        while excess > 0 and by_length:
            one = enough or by_length.pop()
            taken_out.add(one.video_id)
            excess -= ceil(one.duration_seconds or 0.0)
        return [one for one in videos if one.video_id not in taken_out]


def _seconds(videos: Sequence[Video]) -> int | None:
    """How long these are together, each rounded up; None where one is of unknown duration."""
    known = [ceil(one.duration_seconds) for one in videos if one.duration_seconds is not None]
    return sum(known) if len(known) == len(videos) else None
