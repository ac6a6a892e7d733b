"""A platform that answers at once: every video matches every class, with two clips each. Prints its port."""

from __future__ import annotations

import asyncio
import sys

import orjson
from aiohttp import web

CLIPS = [(224.5, 226.125, 64.59), (300.5, 306.0625, 54.59)]


def answer(video_id: str, names: list[str]) -> dict[str, object]:
    detailed = {"max_score": 64.59, "avg_score": 59.59, "normalized_score": 100 / len(names)}
    clips = [
        {
            "start": start,
            "end": end,
            "score": score,
            "option": "visual",
            "prompt": "a prompt",
            "thumbnail_url": "https://example.com/1.jpeg?x=1",
        }
        for start, end, score in CLIPS
    ]
    scored = {"score": 37.83, "duration_ratio": 0.33, "clips": clips, "detailed_scores": detailed}
    return {"video_id": video_id, "classes": [{"name": name, **scored} for name in names]}


async def classify(request: web.Request) -> web.Response:
    asked = orjson.loads(await request.read())
    names = [one["name"] for one in asked["classes"]]
    found = [answer(video_id, names) for video_id in asked["video_ids"]]
    info = {"total_results": len(found), "page_expired_at": "2100-01-01T00:00:00Z", "next_page_token": ""}
    return web.Response(body=orjson.dumps({"data": found, "page_info": info}), content_type="application/json")


async def serve() -> None:
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1.2/classify", classify)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.sleep(600)  # it stops by itself, should nobody stop it


if __name__ == "__main__":
    asyncio.run(serve())
