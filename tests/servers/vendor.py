"""The vendor's API, version 1.3, as far as an import asks it: an index listed, and its videos with their vectors.

It shares no code with the package under test. What the reference of the two calls says is answered, and nothing else:
a key that is not the right one, a path, a parameter or a value that they do not have is refused as the platform refuses
it. A video is made up from its id alone, so it is the same whenever it is asked for: clips of six seconds, each with a
vector for every embedding option, one more vector for the whole video, and a sentence of the transcription for each
clip. Vectors are not of length 1, as the platform promises none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

JsonObject = dict[str, Any]
EMBEDDING_OPTIONS = ("visual", "audio", "transcription")
CLIP_SECONDS = 6.0
CREATED_AT = "2025-03-01T09:00:00Z"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: the how-manieth of its kind it is, from 1, and of which video."""

    kind: Literal["list", "video"]
    number: int
    video_id: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """This answer in place of the right one."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cut:
    """The right answer ends after half of its bytes."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset before anything is answered."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The right answer, once the server is told to ``release``."""


@dataclass(frozen=True, slots=True)
class Change:
    """The right answer, with something done to it."""

    edit: Callable[[JsonObject], object]


Fault = Status | Cut | Reset | Hold | Change


def model_of_all(_: str) -> str:
    """The model of every video."""
    return "marengo3.0"


class VendorServer:
    """The API on a free loopback port, while the context is open; ``url`` is its base URL.

    ``videos`` are the ids of ``index_id`` with their seconds, ``status`` what the list says of each, ``updated`` when
    each was last changed. ``asked`` has every request that was let in by its key, ``denied`` counts the others.
    """

    def __init__(
        self,
        videos: Mapping[str, float],
        *,
        key: str = "test-key",
        index_id: str = "index1",
        dimensions: int = 512,
        model: Callable[[str], str] = model_of_all,
        faults: Callable[[Asked], Fault | None] = lambda _: None,
        port: int = 0,
    ) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.denied = 0
        self.status: dict[str, str] = {}
        self.updated: dict[str, str] = {}
        self.faults = faults
        self.arrived = asyncio.Condition()
        self._videos = videos
        self._key = key
        self._index_id = index_id
        self._dimensions = dimensions
        self._model = model
        self._port = port
        self._released = asyncio.Event()
        application = web.Application()
        application.router.add_get("/v1.3/indexes/{index_id}/indexed-assets", self._list)
        application.router.add_get("/v1.3/indexes/{index_id}/indexed-assets/{video_id}", self._video)
        application.router.add_route("*", "/{path:.*}", self._elsewhere)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> VendorServer:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1.3"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        await self._runner.cleanup()

    def release(self) -> None:
        """Answer what is held, and hold nothing any more."""
        self._released.set()

    def videos_asked(self) -> list[str]:
        """The videos that were asked for, in order of arrival."""
        return [one.video_id for one in self.asked if one.video_id]

    async def until_held(self, count: int) -> None:
        """Wait until so many videos have been asked for."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.videos_asked()) >= count)

    # -------------------------------------------------------------------------------------------------------- answers

    async def _list(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, "list", {"page", "page_limit", "sort_by", "sort_option", "status"})

    async def _video(self, request: web.Request) -> web.StreamResponse:
        return await self._answered(request, "video", {"embedding_option", "transcription"})

    async def _elsewhere(self, _: web.Request) -> web.Response:
        return _refusal(404, "resource_not_exist", "There is no such endpoint.")

    async def _answered(
        self, request: web.Request, kind: Literal["list", "video"], parameters: set[str]
    ) -> web.StreamResponse:
        if request.headers.get("x-api-key") != self._key:
            self.denied += 1
            return _refusal(401, "api_key_invalid", "The API key is invalid.")
        video_id = request.match_info.get("video_id")
        seen = Asked(kind, sum(one.kind == kind for one in self.asked) + 1, video_id)
        self.asked.append(seen)
        async with self.arrived:
            self.arrived.notify_all()
        fault = self.faults(seen)
        if isinstance(fault, Hold):
            await self._released.wait()
        answer = self._right_answer(request, video_id, parameters)
        if isinstance(answer, web.Response):
            return answer
        if isinstance(fault, Change):
            fault.edit(answer)
        return await _sent(request, json.dumps(answer).encode(), fault)

    def _right_answer(
        self, request: web.Request, video_id: str | None, parameters: set[str]
    ) -> JsonObject | web.Response:
        unknown = set(request.query) - parameters
        if unknown:
            return _refusal(400, "parameter_unknown", f"The {min(unknown)} parameter is not supported.")
        if request.match_info["index_id"] != self._index_id:
            return _refusal(404, "resource_not_exist", "The index does not exist.")
        return self._page(request) if video_id is None else self._in_detail(request, video_id)

    def _page(self, request: web.Request) -> JsonObject | web.Response:
        page, limit = request.query.get("page", "1"), request.query.get("page_limit", "10")
        if not (page.isdecimal() and limit.isdecimal() and int(page) >= 1 <= int(limit) <= 50):
            return _refusal(400, "parameter_invalid", "The page or page_limit parameter is invalid.")
        begin = (int(page) - 1) * int(limit)
        shown = list(self._videos)[begin : begin + int(limit)]
        return {
            "data": [self._summary(one) for one in shown],
            "page_info": {
                "limit_per_page": int(limit),
                "page": int(page),
                "total_page": -(-len(self._videos) // int(limit)),
                "total_results": len(self._videos),
                "total_duration": sum(self._videos.values()),
            },
        }

    def _summary(self, video_id: str) -> JsonObject:
        return {
            "_id": video_id,
            "asset_id": f"asset-{video_id}",
            "created_at": CREATED_AT,
            "updated_at": self.updated.get(video_id, CREATED_AT),
            "indexed_at": CREATED_AT,
            "status": self.status.get(video_id, "ready"),
            "system_metadata": {
                "filename": f"{video_id}.mp4",
                "duration": self._videos[video_id],
                "fps": 29.97,
                "width": 854,
                "height": 480,
                "size": 13_326_000,
            },
        }

    def _in_detail(self, request: web.Request, video_id: str) -> JsonObject | web.Response:
        if video_id not in self._videos:
            return _refusal(404, "resource_not_exist", "The indexed asset does not exist.")
        options = request.query.getall("embedding_option", [])
        if not set(options) <= set(EMBEDDING_OPTIONS):
            return _refusal(400, "parameter_invalid", "The embedding_option parameter is invalid.")
        found = self._summary(video_id) | {"hls": {"video_url": "https://cdn.example/x.m3u8", "status": "COMPLETE"}}
        if options:
            segments = [one for option in options for one in self._segments(video_id, option)]
            found["embedding"] = {"model_name": self._model(video_id), "video_embedding": {"segments": segments}}
        if request.query.get("transcription") == "true":
            found["transcription"] = list(self._transcription(video_id))
        return found

    def _segments(self, video_id: str, option: str) -> Iterator[JsonObject]:
        seconds = self._videos[video_id]
        clips = [(start, min(start + CLIP_SECONDS, seconds), "clip") for start in _starts(seconds)]
        for start, end, scope in [*clips, (0.0, seconds, "video")]:
            yield {
                "start_offset_sec": start,
                "end_offset_sec": end,
                "embedding_option": option,
                "embedding_scope": scope,
                "float": vector(video_id, option, f"{start} {scope}", self._dimensions),
            }

    def _transcription(self, video_id: str) -> Iterator[JsonObject]:
        seconds = self._videos[video_id]
        for number, start in enumerate(_starts(seconds)):
            end = min(start + CLIP_SECONDS, seconds)
            yield {"start": start + 0.25, "end": end, "value": f"Sentence {number} of {video_id}."}


def vector(video_id: str, option: str, which: str, dimensions: int) -> list[float]:
    """The vector of a clip, of length about 2: the same whenever it is asked for."""
    draw = random.Random(f"{video_id} {option} {which}")
    spread = 2 / dimensions**0.5
    return [round(draw.gauss(0, spread), 8) for _ in range(dimensions)]


def _starts(seconds: float) -> list[float]:
    return [number * CLIP_SECONDS for number in range(int(-(-seconds // CLIP_SECONDS)))]


def _refusal(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


async def _sent(request: web.Request, body: bytes, fault: Fault | None) -> web.StreamResponse:
    """A right answer as the fault lets it through."""
    if isinstance(fault, Status):
        return web.Response(status=fault.status, body=fault.body, headers=fault.headers)
    assert request.transport is not None
    if isinstance(fault, Reset):
        linger = struct.pack("ii", 1, 0)  # closing sends a reset
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        request.transport.abort()
    if not isinstance(fault, Cut):
        return web.Response(body=body, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    request.transport.close()
    return response


async def _serve(arguments: argparse.Namespace, parent: int) -> None:
    videos = {f"video{number:04}": arguments.seconds for number in range(arguments.videos)}
    async with VendorServer(videos, key=arguments.key, index_id=arguments.index_id, port=arguments.port) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        while os.getppid() == parent:  # noqa: ASYNC110 - no event tells of a parent's end
            await asyncio.sleep(0.1)


def main() -> None:
    """Serve an index of made-up videos, tell the base URL on stdout, and end when the parent process does."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=40.0, help="how long each is")
    parser.add_argument("--index-id", default="index1")
    parser.add_argument("--key", default="test-key")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args(), os.getppid()))


if __name__ == "__main__":
    main()
