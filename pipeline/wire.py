"""The classify contract, bytes to types and back. No other module knows a JSON key of it (lists: ``wire_lists``).

Both sides use it: the client encodes requests and decodes pages, the local platform decodes requests and encodes pages.
Reading is lenient where the platform may grow (fields nobody asked for are ignored, at every level) and strict where a
wrong value would become a wrong row. A page is decoded in one go; only when that fails is it read again entry by entry,
so that one bad entry costs one video.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple, TypeVar

import msgspec

from pipeline.errors import AnswerCut, AnswerUnusable, PipelineError
from pipeline.models import (
    MAX_PAGE_LIMIT,
    MAX_PROMPTS,
    ConversationOption,
    JobClass,
    Page,
    Threshold,
    Unreadable,
    VideoAnswer,
)

DEFAULT_PAGE_LIMIT = 10
"""Videos on a page where the request does not say (the vendor's default)."""
SCORE_SOURCE_HEADER = "X-Score-Source"
"""How a local platform says whose scale its scores are on; the vendor sends no such header."""

_T = TypeVar("_T")


class RequestInvalid(PipelineError):
    """A request that breaks the contract: the error code and message that its sender gets, with HTTP 400."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# ---------------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """The body of a classify POST: of these videos, or (``index_id``) of every video of an index."""

    classes: tuple[JobClass, ...]
    options: tuple[str, ...]
    video_ids: tuple[str, ...] = ()
    index_id: str | None = None
    conversation_option: ConversationOption = "semantic"
    include_clips: bool = False
    show_detailed_score: bool = False
    page_limit: int = DEFAULT_PAGE_LIMIT
    threshold: Threshold = Threshold()


Option = Literal["visual", "conversation", "text_in_video", "logo"]
"""What a request may ask for; ``logo`` is of older versions."""
_Options = Annotated[list[Option], msgspec.Meta(min_length=1)]
_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
_Score = Annotated[float, msgspec.Meta(ge=1, le=100)]
# JSON has one kind of number: 10.0 is the integer 10.
_PageLimit = (
    Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE_LIMIT)]
    | Annotated[float, msgspec.Meta(ge=1, le=MAX_PAGE_LIMIT, multiple_of=1)]
)


class _ClassBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    name: _NonEmpty
    prompts: Annotated[list[_NonEmpty], msgspec.Meta(min_length=1, max_length=MAX_PROMPTS)]
    options: _Options | None = None
    conversation_option: ConversationOption | None = None


class _ThresholdBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    min_video_score: _Score | None = None
    min_clip_score: _Score | None = None
    min_duration_ratio: Annotated[float, msgspec.Meta(ge=0.01, le=1)] | None = None


class _ClassifyBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    options: _Options
    classes: Annotated[list[_ClassBody], msgspec.Meta(min_length=1)]
    video_ids: Annotated[list[_NonEmpty], msgspec.Meta(min_length=1)] | None = None
    video_id: _NonEmpty | None = None
    index_id: _NonEmpty | None = None
    conversation_option: ConversationOption | None = None
    include_clips: bool | None = None
    show_detailed_score: bool | None = None
    page_limit: _PageLimit | None = None
    threshold: _ThresholdBody | None = None


def encode_classify(request: ClassifyRequest) -> bytes:
    """The body of ``POST /classify``, or of ``POST /classify/bulk`` where the request names an index.

    ``conversation_option`` is always sent, as the official SDKs do: the reference calls it required.
    """
    threshold = _ThresholdBody(
        request.threshold.min_video_score, request.threshold.min_clip_score, request.threshold.min_duration_ratio
    )
    body = {
        "options": request.options,
        "classes": [
            _ClassBody(one.name, list(one.prompts), one.options and list(one.options), one.conversation_option)  # type: ignore[arg-type]
            for one in request.classes
        ],
        "conversation_option": request.conversation_option,
        "include_clips": request.include_clips,
        "show_detailed_score": request.show_detailed_score,
        "page_limit": request.page_limit,
    }
    if request.threshold != Threshold():
        body["threshold"] = threshold
    if request.index_id is None:
        body["video_ids"] = request.video_ids
    else:
        body["index_id"] = request.index_id
    return msgspec.json.encode(body)


def decode_classify(body: bytes, *, of_index: bool) -> ClassifyRequest:
    """Read a classify POST as the platform does. Raises ``RequestInvalid`` with the contract's code."""
    try:
        raw = msgspec.json.decode(body, type=_ClassifyBody)
    except msgspec.ValidationError as error:
        raise RequestInvalid(_code_of(str(error)), f"The request body is invalid: {error}.") from None
    except (ValueError, RecursionError):
        raise RequestInvalid("parameter_invalid", "The request body is not valid JSON.") from None
    video_ids = tuple(raw.video_ids or ()) + ((raw.video_id,) if raw.video_id else ())
    if of_index and raw.index_id is None:
        raise RequestInvalid("parameter_not_provided", "The index_id parameter is required but was not provided.")
    if not of_index and not video_ids:
        raise RequestInvalid("parameter_not_provided", "The video_ids parameter is required but was not provided.")
    if (of_index and video_ids) or (not of_index and raw.index_id is not None):
        unknown = "video_ids" if of_index else "index_id"
        raise RequestInvalid("parameter_unknown", f"The {unknown} parameter is not one of this endpoint.")
    prompts = sum(len(one.prompts) for one in raw.classes)
    if prompts > MAX_PROMPTS:
        raise RequestInvalid(
            "parameter_invalid", f"The classes have {prompts} prompts together; a request takes at most {MAX_PROMPTS}."
        )
    threshold = raw.threshold or _ThresholdBody()
    return ClassifyRequest(
        classes=tuple(
            JobClass(one.name, tuple(one.prompts), tuple(one.options) if one.options else None, one.conversation_option)
            for one in raw.classes
        ),
        options=tuple(raw.options),
        video_ids=video_ids,
        index_id=raw.index_id,
        conversation_option=raw.conversation_option or "semantic",
        include_clips=bool(raw.include_clips),
        show_detailed_score=bool(raw.show_detailed_score),
        page_limit=int(raw.page_limit or DEFAULT_PAGE_LIMIT),
        threshold=Threshold(threshold.min_video_score, threshold.min_clip_score, threshold.min_duration_ratio),
    )


def _code_of(reason: str) -> str:
    if reason.startswith("Object missing required field"):
        return "parameter_not_provided"
    if reason.startswith("Object contains unknown field"):
        return "parameter_unknown"
    return "parameter_invalid"


# ------------------------------------------------------------------------------------------------------------- pages


class _PageInfo(msgspec.Struct, frozen=True):
    total_results: int | None = None
    page_expired_at: object = None
    next_page_token: str | None = None


class _PageBody(msgspec.Struct):
    data: tuple[VideoAnswer, ...]
    page_info: _PageInfo = _PageInfo()


class _RawPageBody(msgspec.Struct):
    data: list[msgspec.Raw]
    page_info: msgspec.Raw = msgspec.Raw(b"{}")


class _OnlyVideoId(msgspec.Struct):
    video_id: str


_page_decoder = msgspec.json.Decoder(_PageBody)
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_page(body: bytes) -> Page:
    """Read one page of results.

    Raises ``AnswerCut`` for a body that is not whole JSON, and ``AnswerUnusable`` for one that is, but is not a page.
    """
    try:
        page = _page_decoder.decode(body)
        unreadable: tuple[Unreadable, ...] = ()
    except msgspec.ValidationError:
        page, unreadable = _decode_entry_by_entry(body)
    except _NOT_JSON as error:
        raise _cut(body, error) from None
    info = page.page_info
    return Page(page.data, unreadable, info.total_results, info.next_page_token or None, _epoch(info.page_expired_at))


def _decode_entry_by_entry(body: bytes) -> tuple[_PageBody, tuple[Unreadable, ...]]:
    raw = decode_shape(body, _RawPageBody)
    videos: list[VideoAnswer] = []
    unreadable: list[Unreadable] = []
    for entry in raw.data:
        try:
            videos.append(msgspec.json.decode(entry, type=VideoAnswer))
        except _NOT_JSON as error:
            unreadable.append(Unreadable(_video_id_of(entry), str(error)))
    try:
        page_info = msgspec.json.decode(raw.page_info, type=_PageInfo)
    except _NOT_JSON as error:
        page_info = _PageInfo()
        unreadable.append(Unreadable(None, f"page_info: {error}"))
    return _PageBody(tuple(videos), page_info), tuple(unreadable)


def decode_shape(body: bytes, shape: type[_T]) -> _T:
    """Read a body of this shape. Raises as ``decode_page`` does."""
    try:
        msgspec.json.decode(
            body, type=msgspec.Raw
        )  # a shape is refused at the first thing that is wrong, before the end is seen
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as error:
        raise AnswerUnusable(f"the answer is not a page of results: {error}", http_status=200) from None
    except _NOT_JSON as error:
        raise _cut(body, error) from None


def _cut(body: bytes, error: Exception) -> AnswerCut:
    return AnswerCut(f"the answer is not whole JSON ({error}; {len(body)} bytes)", http_status=200)


def _video_id_of(entry: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(entry, type=_OnlyVideoId).video_id
    except _NOT_JSON:
        return None


def _epoch(moment: object) -> float | None:
    """RFC 3339 to seconds since the epoch; None for what cannot be read, for a token's age is only a hint."""
    try:
        parsed = datetime.fromisoformat(str(moment))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def encode_answer(answer: VideoAnswer) -> bytes:
    """One entry of a page; what was not asked for (None) is left out."""
    return msgspec.json.encode(answer)


def decode_answer(body: bytes) -> VideoAnswer:
    """Read what ``encode_answer`` wrote."""
    return msgspec.json.decode(body, type=VideoAnswer)


@dataclass(frozen=True, slots=True)
class PageInfo:
    """What a page says of its walk. Empty tokens: there is no such page."""

    limit_per_page: int
    total_results: int
    page_expired_at: float
    next_page_token: str = ""
    prev_page_token: str = ""


def encode_page(answers: Sequence[bytes], info: PageInfo) -> bytes:
    """One page, from entries already encoded by ``encode_answer``."""
    return msgspec.json.encode(
        {
            "data": [msgspec.Raw(answer) for answer in answers],
            "page_info": {
                "limit_per_page": info.limit_per_page,
                "total_results": info.total_results,
                "page_expired_at": rfc3339(info.page_expired_at),
                "next_page_token": info.next_page_token,
                "prev_page_token": info.prev_page_token,
            },
        }
    )


def encode_held(answers: Sequence[bytes]) -> bytes:
    """Answers of one walk that outlive it, in the form of a page, so that ``decode_page`` reads them again."""
    return msgspec.json.encode({"data": [msgspec.Raw(answer) for answer in answers]})


def rfc3339(epoch_seconds: float) -> str:
    """Seconds since the epoch as the contract writes moments: UTC, whole seconds, ``Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch_seconds))


# ------------------------------------------------------------------------------------------------------------ errors


class PlatformMessage(NamedTuple):
    """The code and message of an error body; empty where the body has none (a proxy's page, an empty 429)."""

    code: str
    message: str


class _ErrorBody(msgspec.Struct):
    code: str = ""
    message: str = ""


def decode_error(body: bytes) -> PlatformMessage:
    """Read an error body. Never raises: whatever stands between the platform and us may have written it."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody)
    except _NOT_JSON:
        return PlatformMessage("", "")
    return PlatformMessage(error.code, error.message)


def encode_error(code: str, message: str) -> bytes:
    """The contract's error body."""
    return msgspec.json.encode({"code": code, "message": message})
