"""The index that both of the vendor's SDKs ask, the servers that it stands on, and what must come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.platform.faults import Hang, Reset, Status
from pipeline.platform.server import Settings
from pipeline.platform.store import Store
from pipeline.platform.videos import OPTIONS
from tests.fidelity.served import served
from tests.platform.made_up import CURVE, SPACE, AxisEmbedder, track, video

INDEX_ID = "64428d88456b2dab381e7000"
KEY = "sesame"
NUMBERED = [f"v{number:02}" for number in range(12)]
"""Videos that fit the prompt delta, each a little less than the one before; the last of them are troubled."""

QUESTION: dict[str, Any] = {
    "options": ["visual", "conversation"],
    "classes": [
        {"name": "Baking", "prompts": ["alpha"]},
        {
            "name": "Words",
            "prompts": ["beta", "gamma"],
            "options": ["conversation", "text_in_video"],
            "conversation_option": "exact_match",
        },
    ],
    "conversation_option": "semantic",
    "include_clips": True,
    "show_detailed_score": True,
    "page_limit": 5,
    "threshold": {"min_video_score": 10, "min_clip_score": 35, "min_duration_ratio": 0.01},
}
"""Every option that there is."""

ANSWER: list[dict[str, Any]] = [
    {
        "video_id": "loaf",
        "classes": [
            {
                "name": "Baking",
                "score": 90.0,
                "duration_ratio": 0.7,
                "clips": [
                    {"start": 0.0, "end": 60.0, "score": 90.0, "option": "visual", "prompt": "alpha"},
                    {"start": 70.0, "end": 80.0, "score": 40.0, "option": "visual", "prompt": "alpha"},
                ],
                "detailed_scores": {"max_score": 90.0, "avg_score": 65.0, "normalized_score": 65.21739130434784},
            },
            {
                "name": "Words",
                "score": 48.0,  # 20 s of 100 and 5 s of 80, of the best 50
                "duration_ratio": 0.25,
                "clips": [
                    {"start": 10.0, "end": 30.0, "score": 100.0, "option": "conversation", "prompt": "beta"},
                    {"start": 50.0, "end": 55.0, "score": 80.0, "option": "text_in_video", "prompt": "gamma"},
                ],
                "detailed_scores": {"max_score": 100.0, "avg_score": 90.0, "normalized_score": 34.78260869565217},
            },
        ],
    }
]
"""The answer to it. Thumbnails are taken out by ``without_thumbnails``."""


class Servers(NamedTuple):
    """Where to ask: ``sound`` does as it should; of ``troubled`` see ``standing``."""

    sound: str
    troubled: str


@contextmanager
def standing(folder: Path) -> Iterator[Servers]:
    """Both servers, on one index.

    The troubled one fails POSTs about v08 with 500 and about v09 with 503, lets those about v10 hang, and breaks off
    those about v11. Its clock stands still under the tariff of version 1.1, so that it answers one POST and no second.
    """
    faults = (
        Status(kind="post", videos=frozenset({"v08"}), status=500),
        Status(kind="post", videos=frozenset({"v09"}), status=503, body=""),
        Hang(kind="post", videos=frozenset({"v10"})),
        Reset(kind="post", videos=frozenset({"v11"})),
    )
    troubled = Settings(tariff="v1.1", key=KEY, faults=faults)
    with (
        filled(folder / "index.sqlite") as store,
        served(store, Settings(key=KEY, thumbnails=True), AxisEmbedder()) as sound_url,
        served(store, troubled, AxisEmbedder(), clock=lambda: 1_700_000_000.0) as troubled_url,
    ):
        yield Servers(sound_url, troubled_url)


@contextmanager
def filled(file: Path) -> Iterator[Store]:
    """The index itself."""
    loaf = video(
        "loaf",
        100,
        track("visual", (0, 60, [90]), (70, 80, [40])),
        track("conversation", (0, 10, [0, 60]), (10, 30, [0, 20]), texts=("First the starter.", "Knead the BETA!")),
        track("text_in_video", (50, 55, [0, 0, 80])),
    )
    goal = video("goal", 50, track("visual", (0, 50, [20, 70])))
    numbered = [
        video(video_id, 100, track("visual", (0, 50, [0, 0, 0, 90 - at]))) for at, video_id in enumerate(NUMBERED)
    ]
    with Store.create(file, INDEX_ID, "Shelf", clock=lambda: 1_700_000_000) as store:
        for option in OPTIONS:
            store.calibrate({option: CURVE})
        store.add_videos([loaf, goal, *numbered], SPACE)
        yield store


def without_thumbnails(answers: list[dict[str, Any]], site: str) -> list[dict[str, Any]]:
    """The answers, when each clip has the URL that it should have, and without these."""
    for answer in answers:
        for one in answer["classes"]:
            for clip in one["clips"]:
                assert clip.pop("thumbnail_url") == f"{site}/thumbnails/{answer['video_id']}/{int(clip['start'])}.svg"
    return answers
