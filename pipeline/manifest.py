"""``run.json``: what a run directory is about, so that it can be gone on with and never be mistaken for another.

It holds the configuration as it was frozen, the run's id, the versions that made it, and a fingerprint: a hash of the
job, and of each class, with the score source beside it. The same job resumes; another is refused, with what differs.
No secret is in it.
"""

from __future__ import annotations

import hashlib
import platform
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import orjson

import pipeline
from pipeline import config as configuration
from pipeline.config import Config
from pipeline.errors import StorageError, UsageError
from pipeline.log import utc
from pipeline.models import Job, JobClass
from pipeline.rundir import RUN_JSON, replace_file

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``run.json`` says.

    ``score_source`` is None until the platform has told whose scale its scores are on; ``input_fingerprint``, a hash of
    the ids in their order, is None until they were read.
    """

    run_id: str
    created_at: str
    config: Config
    score_source: str | None = None
    input_fingerprint: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def job_fingerprint(self) -> str:
        """A hash of what is asked of every video; two runs with the same one ask the same."""
        return _hash(_asked(configuration.job_of(self.config)))


def new_manifest(config: Config, *, now: float) -> Manifest:
    """The manifest of a run that begins now (seconds since the epoch)."""
    run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now))}-{secrets.token_hex(3)}"
    versions = {"bulk-classify": pipeline.__version__, "python": platform.python_version()}
    return Manifest(run_id, utc(now), config, versions=versions)


class _Fingerprint(msgspec.Struct):
    job: str
    classes: dict[str, str]
    score_source: str | None
    input: str | None


class _Versioned(msgspec.Struct):
    format: int


class _Stored(msgspec.Struct):
    """The file, key by key."""

    format: int
    run_id: str
    created_at: str
    versions: dict[str, str]
    fingerprint: _Fingerprint
    config: dict[str, Any]


def read_manifest(folder: Path) -> Manifest:
    """Read a run directory's manifest. Raises ``UsageError`` where there is none, ``StorageError`` for a broken one."""
    path = folder / RUN_JSON
    try:
        content = path.read_bytes()
        written = msgspec.json.decode(content, type=_Versioned).format
        if written != _FORMAT:
            raise StorageError(f"{path}: written by another version (format {written}, not {_FORMAT}); use that one")
        stored = msgspec.json.decode(content, type=_Stored)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder}: not a run directory (it has no {RUN_JSON}); give the --out or output.dir of a run"
        ) from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StorageError(f"{path}: not what bulk-classify writes ({error}); put the file back as it was") from None
    told = stored.fingerprint
    manifest = Manifest(
        stored.run_id,
        stored.created_at,
        configuration.thaw(stored.config),
        told.score_source,
        told.input,
        stored.versions,
    )
    if told.job != manifest.job_fingerprint:
        raise StorageError(f"{path}: its job is not the one that the run was made with; put the file back as it was")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put a manifest in its place, whole."""
    job = configuration.job_of(manifest.config)
    classes = {one.name: class_hash(one, job) for one in job.classes}
    stored = _Stored(
        _FORMAT,
        manifest.run_id,
        manifest.created_at,
        dict(manifest.versions),
        _Fingerprint(manifest.job_fingerprint, classes, manifest.score_source, manifest.input_fingerprint),
        configuration.freeze(manifest.config),
    )
    content = msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n"
    replace_file(folder / RUN_JSON, content)


def continued(stored: Manifest, config: Config, *, is_answered: bool) -> Manifest:
    """The manifest of a stored run that goes on with a new configuration.

    The new one decides all but the job, and while no POST ``is_answered`` the job as well. Raises ``UsageError`` that
    says what differs where it asks something else, or of a whole index that is not this one: its silence would be taken
    for that of the other.
    """
    fresh = replace(stored, config=config)
    before, after = _whole_index(stored.config), _whole_index(config)
    if before != after:
        raise UsageError(
            f"this directory holds a run of {before or 'single videos'}, and now it is to be one of "
            f"{after or 'single videos'} (input.mode, input.index_id); use another --out"
        )
    differences = job_differences(configuration.job_of(stored.config), configuration.job_of(config))
    if differences and is_answered:
        raise UsageError(
            "this directory holds a run of another job; use another --out, or go back to the old job.\n"
            + "\n".join(f"  {line}" for line in differences)
        )
    return fresh


def _whole_index(config: Config) -> str | None:
    return f"the whole index {config.input.index_id!r}" if config.input.mode == "index" else None


def job_differences(stored: Job, asked: Job) -> list[str]:
    """What another job asks otherwise, a line each."""
    before = {one.name: class_hash(one, stored) for one in stored.classes}
    after = {one.name: class_hash(one, asked) for one in asked.classes}
    lines = [f"job.classes: {name!r} is new" for name in after if name not in before]
    lines += [f"job.classes: {name!r} is gone" for name in before if name not in after]
    lines += [
        f"job.classes: {name!r} has other prompts or options"
        for name in after
        if name in before and before[name] != after[name]
    ]
    one, other = _asked(stored), _asked(asked)
    lines += [
        f"job.{key}: was {one[key]}, is {other[key]}" for key in one if key != "classes" and one[key] != other[key]
    ]
    if not lines and one != other:
        lines.append("job.classes: the order of the classes is another")
    return lines


def class_hash(one: JobClass, job: Job) -> str:
    """What identifies a class over runs: its name, prompts and effective options. Sixteen hex digits."""
    options = one.options if one.options is not None else job.options
    conversation = one.conversation_option or job.conversation_option
    return _hash([one.name, one.prompts, options, conversation])[:16]


def _asked(job: Job) -> dict[str, Any]:
    asked: dict[str, Any] = msgspec.to_builtins(job)
    return asked


def _hash(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
