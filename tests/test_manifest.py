"""``run.json``: it comes back as it was written, tells jobs apart, and is refused where it is not ours."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import pipeline
from pipeline.config import job_of, load
from pipeline.config_keys import ClassSection, Config, ThresholdSection
from pipeline.errors import StorageError, UsageError
from pipeline.manifest import (
    Manifest,
    class_hash,
    continued,
    job_differences,
    new_manifest,
    read_manifest,
    write_manifest,
)
from pipeline.models import JobClass
from pipeline.rundir import RUN_JSON
from tests.builders import AT, RUN_ID, config

DANCE = ClassSection(name="DanceTok", prompts=("Dance group",))
COOK = ClassSection(name="CookTok", prompts=("Cook",))


def stored(one: Config) -> Manifest:
    return Manifest(RUN_ID, AT, one, versions={"python": "3.11"})


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = replace(stored(config(threshold=ThresholdSection(min_video_score=1.0))), score_source="twelvelabs/v1.2")
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert read_manifest(tmp_path).job_fingerprint == manifest.job_fingerprint
    assert stat.S_IMODE((tmp_path / RUN_JSON).stat().st_mode) == 0o600


def test_a_new_manifest_names_its_moment_and_versions() -> None:
    first, second = (new_manifest(config(), now=1767323045.678) for _ in range(2))
    assert first.created_at == AT
    assert first.run_id[:17] == "20260102T030405Z-"
    assert first.run_id != second.run_id
    assert first.versions["bulk-classify"] == pipeline.__version__


def test_the_file_holds_the_fingerprint_in_parts_for_others_to_read(tmp_path: Path) -> None:
    manifest = stored(config())
    write_manifest(tmp_path, manifest)
    written = json.loads((tmp_path / RUN_JSON).read_bytes())
    job = job_of(manifest.config)
    assert written["format"] == 1
    assert written["fingerprint"] == {
        "job": manifest.job_fingerprint,
        "classes": {one.name: class_hash(one, job) for one in job.classes},
        "score_source": None,
        "input": None,
    }


# ---------------------------------------------------------------------------------------------------------- fingerprint


def from_toml(folder: Path, text: str) -> Config:
    path = folder / "job.toml"
    path.write_text(text)
    return load(path, flags={}, environment={}).config


def test_a_fingerprint_does_not_depend_on_how_the_job_is_written_down(tmp_path: Path) -> None:
    one = from_toml(
        tmp_path,
        """
        [input]
        ids = ["a.txt"]
        [job]
        options = ["visual"]
        include_clips = true
        classes = [{name = "DanceTok", prompts = ["Dance"]}]
        threshold = {min_video_score = 1, min_clip_score = 2.0}
        """,
    )
    other = from_toml(
        tmp_path,
        """
        job.threshold = {min_clip_score = 2, min_video_score = 1.0}
        job.classes = [{prompts = ["Dance"], name = "DanceTok"}]
        job.include_clips = true
        job.options = ["visual"]
        job.show_detailed_score = false
        job.page_limit = 7
        input.ids = ["b.txt"]
        limits.tariff = "v1.1"
        """,
    )
    assert stored(one).job_fingerprint == stored(other).job_fingerprint
    assert continued(stored(one), other, is_answered=True) == replace(stored(one), config=other)


CHANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({"include_clips": True}, ["job.include_clips: was False, is True"]),
    ({"show_detailed_score": True}, ["job.show_detailed_score: was False, is True"]),
    (
        {"options": ("visual", "conversation")},
        [
            "job.classes: 'DanceTok' has other prompts or options",
            "job.classes: 'CookTok' has other prompts or options",
            "job.options: was ('visual',), is ('visual', 'conversation')",
        ],
    ),
    (
        {"threshold": ThresholdSection(min_clip_score=5.0)},
        [
            (
                "job.threshold: was {'min_video_score': None, 'min_clip_score': None, 'min_duration_ratio': None}, "
                "is {'min_video_score': None, 'min_clip_score': 5.0, 'min_duration_ratio': None}"
            )
        ],
    ),
    ({"classes": (COOK, DANCE)}, ["job.classes: the order of the classes is another"]),
    ({"classes": (DANCE,)}, ["job.classes: 'CookTok' is gone"]),
    (
        {"classes": (DANCE, COOK, ClassSection(name="SportTok", prompts=("Run",)))},
        ["job.classes: 'SportTok' is new"],
    ),
    (
        {"classes": (DANCE, ClassSection(name="CookTok", prompts=("Cook", "Bake")))},
        ["job.classes: 'CookTok' has other prompts or options"],
    ),
    (
        {"classes": (DANCE, ClassSection(name="CookTok", prompts=("Cook",), conversation_option="exact_match"))},
        ["job.classes: 'CookTok' has other prompts or options"],
    ),
]


@pytest.mark.parametrize(("change", "differences"), CHANGES)
def test_another_job_is_refused_and_what_differs_is_named(change: dict[str, Any], differences: list[str]) -> None:
    other = config(**change)
    assert job_differences(job_of(config()), job_of(other)) == differences
    assert stored(config()).job_fingerprint != stored(other).job_fingerprint
    with pytest.raises(UsageError) as refusal:
        continued(stored(config()), other, is_answered=True)
    first, *rest = str(refusal.value).splitlines()
    assert first == "this directory holds a run of another job; use another --out, or go back to the old job."
    assert rest == [f"  {line}" for line in differences]


def test_a_class_that_spells_out_the_jobs_own_options_is_the_same_class_of_another_job() -> None:
    """Its hash says what is asked, however it is written; the job's fingerprint is stricter."""
    job = job_of(config())
    plain = JobClass("DanceTok", ("Dance group",))
    assert class_hash(plain, job) == class_hash(replace(plain, options=("visual",)), job)
    assert class_hash(plain, job) != class_hash(replace(plain, options=("conversation",)), job)
    assert len(class_hash(plain, job)) == 16


def test_the_same_job_goes_on_with_its_id_and_the_settings_of_now() -> None:
    manifest = replace(stored(config()), score_source="twelvelabs/v1.2")
    faster = msgspec.structs.replace(config(), limits=msgspec.structs.replace(config().limits, concurrency=99))
    assert continued(manifest, faster, is_answered=True) == replace(manifest, config=faster)


# ------------------------------------------------------------------------------------------------------ no secret in it


def test_no_key_gets_into_the_file(tmp_path: Path) -> None:
    secret = "tlk_0123456789ABCDEFGHIJ"
    (tmp_path / "key").write_text(secret)
    (tmp_path / "key").chmod(0o600)
    path = tmp_path / "job.toml"
    path.write_text(
        '[job]\noptions = ["visual"]\nclasses = [{name = "a", prompts = ["b"]}]\n'
        f'[input]\nids = ["a.txt"]\n[api]\nkey_file = "{tmp_path / "key"}"\n'
    )
    loaded = load(path, flags={}, environment={"TWELVELABS_API_KEY": secret}).config
    write_manifest(tmp_path, new_manifest(loaded, now=0.0))
    assert secret not in (tmp_path / RUN_JSON).read_text()


# ------------------------------------------------------------------------------------------------------- foreign files


def written_with(folder: Path, **changes: object) -> None:
    """A manifest with some values set anew; one that is set to ``...`` is left out."""
    write_manifest(folder, stored(config()))
    content = json.loads((folder / RUN_JSON).read_bytes()) | changes
    kept = {key: value for key, value in content.items() if value is not ...}
    (folder / RUN_JSON).write_text(json.dumps(kept))


def test_another_versions_file_is_refused(tmp_path: Path) -> None:
    written_with(tmp_path, format=2, fingerprint="of another kind", run_id=...)
    with pytest.raises(StorageError) as refusal:
        read_manifest(tmp_path)
    assert str(refusal.value) == f"{tmp_path / RUN_JSON}: written by another version (format 2, not 1); use that one"


NO_FINGERPRINTS: list[object] = [None, [], {}, "x"]
NO_CONFIGS: list[object] = [None, [], "x", 7, {"job": 7}, {"job": None}]
WRONG_SHAPES: list[tuple[str, object]] = [
    *((key, ...) for key in ("format", "run_id", "created_at", "versions", "fingerprint", "config")),
    *(("fingerprint", wrong) for wrong in NO_FINGERPRINTS),
    *(("config", wrong) for wrong in NO_CONFIGS),
    ("run_id", 7),
    ("run_id", None),
    ("created_at", []),
    ("versions", 7),
]


@pytest.mark.parametrize(("key", "value"), WRONG_SHAPES)
def test_a_file_of_another_shape_is_an_error_of_ours(tmp_path: Path, key: str, value: object) -> None:
    written_with(tmp_path, **{key: value})
    with pytest.raises((StorageError, UsageError)):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_manifest_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RUN_JSON).write_bytes(content)
    with pytest.raises(StorageError) as refusal:
        read_manifest(tmp_path)
    assert str(refusal.value).startswith(f"{tmp_path / RUN_JSON}: not what bulk-classify writes")


def test_a_folder_without_the_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "gone", tmp_path / "file"):
        with pytest.raises(UsageError) as refusal:
            read_manifest(folder)
        assert (
            str(refusal.value)
            == f"{folder}: not a run directory (it has no {RUN_JSON}); give the --out or output.dir of a run"
        )
