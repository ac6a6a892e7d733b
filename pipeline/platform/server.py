"""The contract over HTTP, from an index of this machine.

A request passes guard, tariff and error layer, in this order, before its route: a stranger costs nothing of the tariff,
and what the tariff says stands on every answer of a limited endpoint, refusals included. A fault plan, where there is
one, comes between guard and tariff. Routes only translate; reading and scoring run in worker threads, few of them,
because each holds the vectors of ten hours. Prompts that another server embeds are awaited outside of these threads.

Whatever a request holds, its answer is JSON of the contract; a status of 500 is a bug of ours, and is logged. What each
route takes and answers is described in ``openapi.json``, which tests hold against the routes and the answers.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from pipeline.errors import UsageError
from pipeline.platform.access import EmbedderAccess
from pipeline.platform.answers import Answers, ResourceMissing, answer, page_entries, refuse_unanswerable
from pipeline.platform.asked import INDEX_FILTERS, MAX_BODY_BYTES, VIDEO_FILTERS, body_of, listing_of
from pipeline.platform.calibration import uncalibrated_warning
from pipeline.platform.embedders import embedder_for
from pipeline.platform.fault_layer import FaultLayer, PageAnswer
from pipeline.platform.faults import Fault
from pipeline.platform.guard import is_foreign, is_loopback, key_passes
from pipeline.platform.limits import TARIFFS, Call, Limits
from pipeline.platform.prompts import AnyEmbedder, Prompts
from pipeline.platform.remote_embed import EmbedderFailed, RemoteEmbedder
from pipeline.platform.store import Store
from pipeline.platform.thumbnails import THUMBNAIL_ROUTE, thumbnail, with_thumbnails
from pipeline.platform.tokens import PagePlace, WalkPage, Walks
from pipeline.platform.videos import Vectors
from pipeline.wire import ClassifyRequest, RequestInvalid, decode_classify, encode_error
from pipeline.wire_lists import IndexFacts, encode_list, encode_object, index_object, video_object

DESCRIPTION = files("pipeline.platform").joinpath("openapi.json")
"""What the platform answers, as OpenAPI 3.1."""

_PAGE = r"(?!bulk$)[^{}/]+"  # the path of the other POST is no page
_WORKERS = 2
_DRAIN_SECONDS = 5
_CODES: Mapping[int, str] = {
    404: "resource_not_exist",
    405: "method_not_allowed",
    413: "request_too_large",
    415: "encoding_not_supported",
}
_log = logging.getLogger(__name__)
_http_log = logging.getLogger(f"{__name__}.http")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the platform behaves.

    ``tariff`` is a name in ``TARIFFS``. Without a ``key`` any non-empty one passes, on loopback only. Answers come
    ``latency_seconds`` late. ``faults`` is a plan of what goes wrong, the first rule that fits a request first.
    ``embedder`` says how prompts are embedded where the index needs a server for that. With ``thumbnails`` each clip of
    an answer has the URL of a picture of this server's, else none has one.
    """

    tariff: str = "none"
    page_ttl_seconds: float = 600
    key: str | None = field(default=None, repr=False)
    latency_seconds: float = 0
    faults: tuple[Fault, ...] = ()
    embedder: EmbedderAccess = EmbedderAccess()
    thumbnails: bool = False


@asynccontextmanager
async def serving(
    store: Store,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    clock: Callable[[], float] = time.time,
    embedder: AnyEmbedder | None = None,
) -> AsyncIterator[str]:
    """Serve an index until the block ends; yields the base URL, with its version path. Port 0 takes a free one.

    ``clock`` and ``embedder`` are as for ``create_app``. Raises ``UsageError`` where the address cannot be bound, or is
    not loopback and there is no key, and where the index has vectors that no embedder can ask.
    """
    if settings.key is None and not is_loopback(host):
        raise UsageError(f"{host} can be reached from other machines: set a key, or serve on 127.0.0.1")
    app = create_app(store, settings, clock, embedder=embedder, host=host)
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        logger=_http_log,
        shutdown_timeout=_DRAIN_SECONDS,
        # aiohttp logs a traceback for a body that is not what its header says; body_of does not.
        auto_decompress=False,
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, OverflowError) as error:
            raise UsageError(f"cannot listen on {host} port {port}: {error}") from None
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}/v1.2"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


async def serve_until_stopped(
    index: Path, settings: Settings, host: str, port: int, announce: Callable[[str, str | None], None]
) -> None:
    """Serve an index file until SIGINT or SIGTERM; ``announce`` gets the base URL, and what is to be said of the index.

    Raises as ``serving`` does.
    """
    with Store.open(index) as store, anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serving(store, settings, host, port) as url:
            announce(url, uncalibrated_warning(store.space, store.calibration(with_vectors=True)))
            async for _ in signals:
                return


def create_app(
    store: Store,
    settings: Settings,
    clock: Callable[[], float] = time.time,
    *,
    embedder: AnyEmbedder | None = None,
    host: str = "127.0.0.1",
) -> web.Application:
    """The platform as an aiohttp application, for a server bound to ``host`` that does not decompress bodies itself.

    ``embedder`` is by default the one that the index's vectors were made with. ``clock`` gives seconds since the epoch.
    """
    if settings.tariff not in TARIFFS:
        raise UsageError(f"there is no tariff {settings.tariff!r}: it is one of {', '.join(TARIFFS)}")
    walks: Walks[Answers] = Walks(settings.page_ttl_seconds, clock, keep_short=bool(settings.faults))
    platform = _Platform(store, walks, embedder, settings)
    calls: dict[Handler, Call] = {platform.classify: "post", platform.classify_index: "post", platform.page: "page"}
    layers = [
        _guard(settings, host, keyless={platform.description, platform.thumbnail}),
        _tariff(Limits(TARIFFS[settings.tariff], clock), calls),
        _errors_as_json,
    ]
    faults = FaultLayer(settings.faults, walks, calls, platform.videos_asked, clock)
    if settings.faults:
        layers[1:1] = [_errors_as_json, faults.layer]  # what the plan must read of a request may be unreadable
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=layers)
    app.on_shutdown.append(faults.close)
    app.router.add_get("/openapi.json", platform.description, allow_head=False)
    app.router.add_get(THUMBNAIL_ROUTE, platform.thumbnail, allow_head=False)
    version = r"/{version:v1\.[12]}"
    app.router.add_post(f"{version}/classify", platform.classify)
    app.router.add_post(f"{version}/classify/bulk", platform.classify_index)
    app.router.add_get(f"{version}/classify/{{token:{_PAGE}}}", platform.page, allow_head=False)
    app.router.add_get(f"{version}/indexes", platform.indexes, allow_head=False)
    app.router.add_get(f"{version}/indexes/{{index_id}}", platform.index, allow_head=False)
    app.router.add_get(f"{version}/indexes/{{index_id}}/videos", platform.videos, allow_head=False)
    app.router.add_get(f"{version}/indexes/{{index_id}}/videos/{{video_id}}", platform.video, allow_head=False)
    return app


# ------------------------------------------------------------------------------------------------------------ layers


def _guard(settings: Settings, bound_host: str, keyless: Collection[Handler]) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        headers = request.headers
        if is_foreign(headers.getall("Host", ()), headers.getall("Origin", ()), bound_host):
            return _refusal(403, "unauthorized", "The Host or Origin header names another site than this server.")
        needs_key = request.match_info.handler not in keyless
        if needs_key and not key_passes(headers.get("x-api-key", ""), settings.key):
            return _refusal(401, "api_key_invalid", "The API key is invalid, or the x-api-key header is missing.")
        if settings.latency_seconds > 0:
            await anyio.sleep(settings.latency_seconds)
        return await handler(request)

    return guard


def _tariff(limits: Limits, calls: Mapping[Handler, Call]) -> Middleware:
    @web.middleware
    async def tariff(request: web.Request, handler: Handler) -> web.StreamResponse:
        call = calls.get(request.match_info.handler)
        if call is None:
            return await handler(request)
        admission = limits.admit(call)
        if not admission.admitted:
            return web.Response(status=429, headers=admission.headers)
        response = await handler(request)
        response.headers.update(admission.headers)
        return response

    return tariff


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestInvalid as invalid:
        return _refusal(400, invalid.code, str(invalid))
    except (ResourceMissing, EmbedderFailed, UsageError) as missing:
        return _without_answer(missing)
    except web.HTTPException as refused:
        too_large = f"The request body is larger than {MAX_BODY_BYTES:,} bytes"
        said = too_large if isinstance(refused, web.HTTPRequestEntityTooLarge) else refused.reason
        response = _refusal(refused.status, _CODES.get(refused.status, "parameter_invalid"), f"{said}.")
        if "Allow" in refused.headers:
            response.headers["Allow"] = refused.headers["Allow"]
        return response
    except ConnectionError:
        return _refusal(400, "parameter_invalid", "The request body is cut short.")  # nobody is left to read it
    except Exception:  # noqa: BLE001 - one request's bug is not the server's end
        _log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        return _refusal(500, "internal_server_error", "The platform failed; its log says why.")


def _without_answer(missing: ResourceMissing | EmbedderFailed | UsageError) -> web.Response:
    """That videos, or the vectors of prompts, are not there; or that the index was filled with what nobody can ask."""
    if isinstance(missing, ResourceMissing):
        return _refusal(404, "resource_not_exist", str(missing))
    if not isinstance(missing, EmbedderFailed):
        return _refusal(502, "embedder_failed", str(missing))
    if missing.http_status == 429:  # as the contract has it, without a body
        _log.warning("%s", missing)
        response = web.Response(status=429)
    else:
        code = "parameter_invalid" if missing.http_status == 400 else "embedder_failed"
        response = _refusal(missing.http_status, code, str(missing))
    if missing.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(missing.retry_after_seconds)
    return response


def _is_our_fault(record: logging.LogRecord) -> bool:
    """False for what aiohttp would log with a traceback although only the client did wrong, and was told so."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log.addFilter(_is_our_fault)


def _refusal(status: int, code: str, message: str) -> web.Response:
    return _json(encode_error(code, message), status=status)


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


# ------------------------------------------------------------------------------------------------------------ routes


class _Platform:
    def __init__(self, store: Store, walks: Walks[Answers], embedder: AnyEmbedder | None, settings: Settings) -> None:
        self._store = store
        self._walks = walks
        self._embedder = embedder
        self._is_given = embedder is not None
        self._space: tuple[str, int] | None = None
        self._access = settings.embedder
        self._thumbnails = settings.thumbnails
        self._description = DESCRIPTION.read_bytes()
        self._workers = anyio.CapacityLimiter(_WORKERS)
        self._prompts = Prompts(store, self._workers)
        self._ready()

    def _ready(self) -> AnyEmbedder | None:
        """The embedder of the index, which has none while it is empty and may get another one after that."""
        space, dimensions = self._store.space, self._store.dimensions
        if space is None:
            return None
        if self._embedder is None or (not self._is_given and (space, dimensions) != self._space):
            self._embedder = embedder_for(space, dimensions, self._access)
            self._space = space, dimensions
        if self._embedder.space != space:
            raise UsageError(f"the index holds vectors of {space!r}, which {self._embedder.space!r} cannot ask")
        return self._embedder

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(work, limiter=self._workers)

    async def classify(self, request: web.Request) -> web.Response:
        return await self._first_page(request, decode_classify(await body_of(request), of_index=False))

    async def classify_index(self, request: web.Request) -> web.Response:
        return await self._first_page(request, decode_classify(await body_of(request), of_index=True))

    async def _first_page(self, request: web.Request, asked: ClassifyRequest) -> web.Response:
        prompts = await self._prompt_vectors(asked)
        opened = await self._in_thread(lambda: answer(self._store, prompts, asked))
        place = self._walks.open(opened.answers, page_limit=asked.page_limit)
        return await self._page_answer(request, place, opened.first_page)

    async def _page_answer(
        self, request: web.Request, place: PagePlace[Answers], entries: tuple[bytes, ...]
    ) -> PageAnswer:
        page = WalkPage(entries, place.info, place.token, place.found.score_source, place.found.opening)
        if self._thumbnails:
            host = request.headers.get("Host", "")
            page = await self._in_thread(lambda: with_thumbnails(page, host))
        return PageAnswer(page)

    async def _prompt_vectors(self, asked: ClassifyRequest) -> Mapping[str, Vectors] | None:
        """The vectors of a request's prompts; None while the index is empty. Nobody is asked for those of a bad one."""
        embedder = await self._in_thread(self._ready)
        if embedder is None:
            return None
        if isinstance(embedder, RemoteEmbedder):
            await self._in_thread(lambda: refuse_unanswerable(self._store, asked))
        texts = [prompt for one in asked.classes for prompt in one.prompts]
        return await self._prompts.vectors(embedder, texts)

    async def videos_asked(self, request: web.Request) -> Collection[str]:
        """What a classify POST is about: the videos that it names, or all of the index; none where it is refused."""
        of_index = request.match_info.handler == self.classify_index
        try:
            asked = decode_classify(await body_of(request), of_index=of_index)
        except RequestInvalid:
            return ()
        return await self._in_thread(self._store.durations) if of_index else asked.video_ids

    async def page(self, request: web.Request) -> web.Response:
        place = self._walks.page(request.match_info["token"])
        entries = await self._in_thread(lambda: page_entries(self._store, place.found, place.first, place.beyond))
        return await self._page_answer(request, place, entries)

    async def indexes(self, request: web.Request) -> web.Response:
        asked = listing_of(request, INDEX_FILTERS)
        facts = await self._in_thread(self._store.facts)
        values = {
            "id": facts.index_id,
            "name": facts.name,
            "created_at": facts.created_at,
            "updated_at": facts.updated_at,
        }
        found = int(all(one.first <= values[one.key] <= one.last for one in asked.within))  # type: ignore[operator]
        shown = [index_object(facts)] if found and asked.page == 1 else []
        return _json(encode_list(shown, page=asked.page, page_limit=asked.page_limit, total_results=found))

    async def index(self, request: web.Request) -> web.Response:
        return _json(encode_object(index_object(await self._named_index(request))))

    async def videos(self, request: web.Request) -> web.Response:
        asked = listing_of(request, VIDEO_FILTERS)
        await self._named_index(request)
        found, total = await self._in_thread(
            lambda: self._store.list_videos(
                page=asked.page,
                page_limit=asked.page_limit,
                sort_by=asked.sort_by,
                descending=asked.descending,
                within=asked.within,
            )
        )
        shown = [video_object(video) for video in found]
        return _json(encode_list(shown, page=asked.page, page_limit=asked.page_limit, total_results=total))

    async def video(self, request: web.Request) -> web.Response:
        await self._named_index(request)
        video_id = request.match_info["video_id"]
        found = await self._in_thread(lambda: self._store.video(video_id))
        if found is None:
            raise ResourceMissing(f"The video {video_id[:128]} does not exist.")
        return _json(encode_object(video_object(found)))

    async def description(self, _: web.Request) -> web.Response:
        return _json(self._description)

    async def thumbnail(self, request: web.Request) -> web.Response:
        named = request.match_info
        picture = thumbnail(named["video_id"], int(named["second"]))
        headers = {"Cache-Control": "max-age=604800, immutable", "X-Content-Type-Options": "nosniff"}
        return web.Response(text=picture, content_type="image/svg+xml", headers=headers)

    async def _named_index(self, request: web.Request) -> IndexFacts:
        facts = await self._in_thread(self._store.facts)
        index_id = request.match_info["index_id"]
        if index_id != facts.index_id:
            raise ResourceMissing(f"The index {index_id[:128]} does not exist.")
        return facts
