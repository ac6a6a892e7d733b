"""What each alternative is asked, and what the scripts that keep a file of rows share.

The question is that of ``floor.py``. A line of ``rows.jsonl`` is a video's answer as it came. What such a script knows
of an earlier start is this file: the videos in it are not asked for again, and a line that is torn is no answer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLASSES = [{"name": name, "prompts": [name]} for name in ("DanceTok", "CookTok", "PetTok", "MakerTok")]
OPTIONS: dict[str, Any] = {
    "options": ["visual"],
    "include_clips": True,
    "show_detailed_score": True,
    "page_limit": 50,
    "threshold": {"min_video_score": 1, "min_clip_score": 1, "min_duration_ratio": 0.01},
}
HEADERS = {"x-api-key": "key"}


@dataclass(frozen=True, slots=True)
class Job:
    """``rate`` is in requests a second, 0 for no limit; ``url`` has no version path."""

    url: str
    video_ids: list[str]
    folder: Path
    videos_per_post: int
    rate: float

    @property
    def classify_url(self) -> str:
        return f"{self.url}/v1.2/classify"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.jsonl"

    @property
    def pause_seconds(self) -> float:
        return 1 / self.rate if self.rate else 0.0

    def chunks(self) -> list[list[str]]:
        """All videos, in the order of the input."""
        return self._in_chunks(self.video_ids)

    def open_chunks(self) -> list[list[str]]:
        """The videos that have no row yet."""
        answered = self._answered()
        return self._in_chunks([video_id for video_id in self.video_ids if video_id not in answered])

    def append(self, lines: Iterable[bytes]) -> None:
        """Keep the answers of a POST, with one call."""
        with self.rows.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in lines))

    def _in_chunks(self, video_ids: list[str]) -> list[list[str]]:
        size = self.videos_per_post
        return [video_ids[start : start + size] for start in range(0, len(video_ids), size)]

    def _answered(self) -> set[str]:
        answered = set()
        if self.rows.exists():
            with self.rows.open() as file:
                for line in file:
                    try:
                        answered.add(json.loads(line)["video_id"])
                    except ValueError:
                        print(f"{self.rows}: a line is torn; its video is asked for again")
        return answered


def read_job() -> Job:
    """The job that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("ids", type=Path, help="a file with one video id a line")
    parser.add_argument("folder", type=Path, help="where the rows go")
    parser.add_argument("--videos-per-post", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second")
    given = parser.parse_args()
    return Job(given.url, given.ids.read_text().split(), given.folder.resolve(), given.videos_per_post, given.rate)
