"""A command of the user's is told that a run has stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.api_key import KEY_VARIABLES
from pipeline.config import load
from pipeline.config_keys import Config
from pipeline.config_sources import PLATFORM_KEY
from pipeline.notify import notify
from tests.runs import KEY, Desk
from tests.servers.contract import ContractServer

WRITE = "import json, os; json.dump(dict(os.environ), open('told.json', 'w'))"


async def finished(desk: Desk, *command: str) -> tuple[Config, str]:
    """A run of two videos to its end, with this command configured, and the key in every variable that may hold one."""
    desk.write_ids({"a": 10.5, "b": 20})
    async with ContractServer({"a": 10.5, "b": 20}, key=KEY) as server:
        desk.write_config(server.url, notify__command=list(command), api__key_env="NIGHT_KEY")
        keys: dict[str, Any] = dict.fromkeys((*KEY_VARIABLES, "NIGHT_KEY", PLATFORM_KEY), KEY)
        ended = await desk.command("run", desk.config, **keys)
    return load(desk.config, flags={}, environment={}).config, ended.stderr


async def test_the_command_gets_the_exit_code_and_the_status_and_no_key(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await finished(desk, sys.executable, "-c", WRITE)
    told: dict[str, Any] = json.loads((tmp_path / "told.json").read_bytes())
    assert (told["NOTIFY_EXIT_CODE"], told["NOTIFY_DIRECTORY"]) == ("0", str(desk.out))
    assert "videos:  2 of 2 answered" in told["NOTIFY_SUMMARY"]
    assert json.loads(told["NOTIFY_STATUS"])["videos"] == 2
    assert "HOME" in told
    assert KEY not in json.dumps(told)


async def test_a_command_that_fails_is_a_warning(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    config, stderr = await finished(desk, sys.executable, "-c", "raise SystemExit(7)")
    assert stderr.splitlines()[-1] == "warning: notify.command ended with 7"
    assert notify(config, 0, desk.status(), {}) == "notify.command ended with 7"


async def test_a_command_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    _, stderr = await finished(Desk(tmp_path), "/no/such/program")
    assert stderr.splitlines()[-1].startswith("warning: notify.command failed: [Errno 2]")


async def test_a_command_that_does_not_end_in_its_time_is_killed_and_a_warning(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await finished(desk, "true")
    config = load(desk.config, flags={"notify.command": ["sleep", "60"]}, environment={}).config
    said = notify(config, 0, desk.status(), {}, timeout_seconds=0)
    assert said == "notify.command was killed: it had not ended after 0 s"


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP"])
async def test_a_signal_after_the_end_of_a_run_changes_nothing(tmp_path: Path, number: str) -> None:
    """Not its exit code, and the command is waited for: it sends the signal itself, twice, and goes on."""
    desk = Desk(tmp_path)
    desk.write_ids({"a": 10.5})
    kill = f"import os, signal; [os.kill(os.getppid(), signal.SIG{number}) for _ in 'ab']; {WRITE}"
    async with ContractServer({"a": 10.5}, key=KEY) as server:
        desk.write_config(server.url, notify__command=[sys.executable, "-c", kill])
        ended = await desk.command("run", desk.config, TWELVELABS_API_KEY=KEY)
    assert ended.exit_code == 0
    assert "warning" not in ended.stderr
    assert json.loads((tmp_path / "told.json").read_bytes())["NOTIFY_EXIT_CODE"] == "0"


async def test_a_start_that_is_refused_is_told_with_its_own_reason(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (tmp_path / "ids.csv").write_text("video_id\nno id!\n")
    desk.write_config("http://127.0.0.1:1/v1.2", notify__command=[sys.executable, "-c", WRITE])
    ended = await desk.command("run", desk.config)
    told: dict[str, str] = json.loads((tmp_path / "told.json").read_bytes())
    assert (ended.exit_code, told["NOTIFY_EXIT_CODE"], told["NOTIFY_RESUME_AFTER"]) == (2, "2", "")
    assert ended.stderr == f"error: {told['NOTIFY_STOP_REASON']}\n"
