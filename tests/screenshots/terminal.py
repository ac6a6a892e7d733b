"""The live view and the summary as a real terminal shows them: xterm under Xvfb, a real run, a real platform.

``serve`` answers from the quickstart index with a free plan's tariff and a fault plan. Each scene is a run in an xterm
of its own, and its picture is taken when the run's directory says that the moment has come.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StopRun
from pipeline.status import Status, status_of

ROOT = Path(__file__).parents[2]
_LONGEST_SECONDS = 120.0
_INDEX = "517569636b73746172740001"  # the quickstart index
_STRANGERS = ("6298d673f1090f1100476d4c", "6298d673f1090f1100476d4d")
_OUTAGE = """
[[rules]]
kind = "post"
between_seconds = [{begins}, 3600]
fault = "status"
status = 503
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: its name, the platform's tariff and faults, the run's settings, and the moment."""

    name: str
    is_time: Callable[[Status], bool]
    tariff: str = "none"
    faults: str = ""
    settings: tuple[str, ...] = ()


_SLOW = ("limits.requests_per_second=2", "limits.max_videos_per_post=2", "limits.concurrency=4")
SCENES = (
    Scene("answering", lambda now: now.posts_sent >= 16 and now.failed == 2, settings=_SLOW),
    Scene(
        "waiting-for-quota",
        lambda now: now.quota is not None and not now.quota.left and not now.posts["intended"],
        tariff="v1.2-free",
        settings=("limits.tariff=v1.2-free", *_SLOW),
    ),
    Scene("probing", lambda now: now.posts["refused"] >= 9, faults=_OUTAGE.format(begins=6), settings=_SLOW),
    Scene(
        "stopped",
        lambda now: now.stop_reason is not None,
        settings=("limits.max_posts=9", *_SLOW),
    ),
    Scene("finished", lambda now: not now.running and not now.open),
)
WIDTHS = (80, 160)


def take(folder: Path) -> Iterator[Path]:
    """Take every picture, and name it. Raises ``SystemExit`` where the terminal's programs are missing."""
    missing = [name for name in ("xterm", "Xvfb", "import") if shutil.which(name) is None]
    if missing:
        sys.exit(f"error: no {', '.join(missing)} here: apt install xterm xvfb imagemagick fonts-dejavu-core")
    with tempfile.TemporaryDirectory() as workplace, _display() as display:
        program = Path(workplace) / "bulk-classify"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pipeline "$@"\n')
        program.chmod(0o700)
        for scene in SCENES:
            for width in WIDTHS:
                desk = Path(workplace) / f"{scene.name}-{width}"
                desk.mkdir()
                picture = folder / f"terminal-{scene.name}-{width}.png"
                with _platform(desk, scene) as url, _terminal(desk, display, scene, width, url):
                    _wait(desk / "runs/quickstart", scene)
                    subprocess.run(["import", "-window", "root", picture], env=display, check=True)
                yield picture


@contextmanager
def _display() -> Iterator[dict[str, str]]:
    """An X server of our own; the environment of those who draw on it."""
    reading, writing = os.pipe()
    size = ["-screen", "0", "1320x560x24"]
    with subprocess.Popen(["Xvfb", "-displayfd", str(writing), *size], pass_fds=[writing]) as server:
        os.close(writing)
        with os.fdopen(reading) as told:
            number = told.readline().strip()
        try:
            yield _environment() | {"DISPLAY": f":{number}"}
        finally:
            server.terminate()


@contextmanager
def _platform(desk: Path, scene: Scene) -> Iterator[str]:
    """The local platform; its base URL."""
    command = [sys.executable, "-m", "pipeline", "serve", "--port", "0", "--tariff", scene.tariff, "--latency", "0.3"]
    if scene.faults:
        (desk / "faults.toml").write_text(scene.faults)
        command += ["--faults", str(desk / "faults.toml")]
    with subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = re.search(r"http://\S+", server.stderr.readline())
        assert url is not None
        try:
            yield url[0]
        finally:
            server.terminate()


@contextmanager
def _terminal(desk: Path, display: dict[str, str], scene: Scene, width: int, url: str) -> Iterator[None]:
    """An xterm in which somebody types the run's command."""
    shutil.copytree(ROOT / "configs", desk / "configs")
    listing = [sys.executable, "-m", "pipeline", "ids", "--index", _INDEX, "--api-url", url]
    index = subprocess.run(listing, env=_environment(), capture_output=True, check=True)
    strangers = "".join(f'{{"video_id": "{one}", "duration_seconds": 60}}\n' for one in _STRANGERS)
    (desk / "my-videos.ndjson").write_text(strangers + index.stdout.decode())
    settings = " ".join(f"--set {setting}" for setting in (f"api.url={url}", *scene.settings))
    typed = "bulk-classify run configs/quickstart.toml --ids my-videos.ndjson"
    script = f"cd {desk}; echo '$ {typed}'; {typed} {settings}; exec sleep 600"
    environment = display | {"PATH": f"{desk.parent}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(desk / "cache")}
    look = ["-fa", "DejaVu Sans Mono", "-fs", "9", "-bg", "#101418", "-fg", "#d8dee4", "+sb", "-u8"]
    command = ["xterm", "-geometry", f"{width}x34+0+0", *look, "-e", "sh", "-c", script]
    with subprocess.Popen(command, env=environment) as shown:
        try:
            yield
        finally:
            shown.terminate()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BULK_CLASSIFY_", "TWELVE"))}
    return kept | {"TWELVELABS_API_KEY": "any-key-passes", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}


def _wait(run: Path, scene: Scene) -> None:
    """Wait until the run's directory says that the moment has come, and for two more drawings of the view."""
    gives_up_at = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < gives_up_at:
        try:
            if scene.is_time(status_of(run)):
                break
        except StopRun:  # nothing is there yet
            pass
        time.sleep(0.2)
    else:
        raise TimeoutError(f"{scene.name}: the moment never came")
    time.sleep(1.2)
