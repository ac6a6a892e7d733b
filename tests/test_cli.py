"""The command as its users meet it: a real process, its exit code, and what it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import anyio
import click
import pytest

from pipeline import cli
from pipeline.config import OPTIONS
from pipeline.config_keys import KEYS
from pipeline.rows import VIDEOS
from tests.runs import CLASSES, KEY, ROOT, Desk, library
from tests.servers.contract import ContractServer, Status

# --------------------------------------------------------------------------------------------------------- exit codes


async def test_a_run_answers_every_video_tells_so_and_a_second_one_sends_nothing(desk: Desk) -> None:
    videos = library(30)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        first = await desk.command("run", desk.config, "--json")
        desk.check(server, videos)
        again = await desk.command("run", desk.config, "--quiet")
    assert (first.exit_code, again.exit_code, again.stdout, again.stderr) == (0, 0, "", "")
    told = json.loads(first.stdout)
    assert (told["videos"], told["scored"] + told["no_match"], told["open"]) == (30, 30, 0)
    assert "videos:  30 of 30 answered, 0 failed, 0 open" in first.stderr
    assert (len(server.posts), desk.files_with(KEY), KEY in first.stderr + first.stdout) == (1, [], False)


async def test_ids_come_from_standard_input_and_the_directory_from_the_command_line(desk: Desk) -> None:
    videos = library(3)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_config("https://elsewhere.example/v1.2", output__dir="elsewhere")
        arguments = ["--ids", "-", "--out", "out", "--api-url", server.url, "--set", "limits.concurrency=1"]
        finished = await desk.command("run", desk.config, *arguments, stdin="\n".join(videos).encode())
        desk.check(server, videos)
    assert finished.exit_code == 0
    assert "3 videos have no known duration" in finished.stderr


async def test_streams_that_are_closed_are_no_trouble(desk: Desk) -> None:
    desk.write_ids(library(3))
    async with ContractServer(library(3), key=KEY) as server:
        desk.write_config(server.url)
        line = f"exec {shlex.join([sys.executable, '-m', 'pipeline', 'run', str(desk.config)])} <&- >&- 2>&-"
        environment = {
            "HOME": str(desk.folder),
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "TWELVELABS_API_KEY": KEY,
        }
        ended = await anyio.run_process(["sh", "-c", line], cwd=desk.folder, env=environment, check=False)
        assert (ended.returncode, len(server.posts)) == (0, 1)


async def test_failed_videos_are_code_3_and_every_command_tells_the_same(desk: Desk) -> None:
    async with ContractServer(library(5), key=KEY) as server:
        desk.write_ids(library(5) | {"stranger": 60.0})
        desk.write_config(server.url)
        finished = await desk.command("run", desk.config)
        assert finished.exit_code == 3
        assert (await desk.command("resume", desk.out)).exit_code == 3
    assert "failed:  1 with resource_not_exist\n" in finished.stderr
    status = await desk.command("status", desk.out, "--json")
    verified = await desk.command("verify", desk.out, "--json")
    assert (status.exit_code, verified.exit_code) == (0, 0)
    assert json.loads(status.stdout)["failures"] == {"resource_not_exist": 1}
    assert json.loads(verified.stdout)["differences"] == []


async def test_a_wrong_key_is_code_4_after_one_post(desk: Desk) -> None:
    async with ContractServer(library(30), key="another") as server:
        desk.write_ids(library(30))
        desk.write_config(server.url, limits__max_videos_per_post=3)
        finished = await desk.command("run", desk.config)
    assert (finished.exit_code, len(server.posts)) == (4, 1)
    assert "error: the platform refuses the API key" in finished.stderr
    assert f"next: bulk-classify resume {desk.out}" in finished.stderr
    assert KEY not in finished.stderr
    events = [json.loads(line) for line in (desk.out / "run.log").read_bytes().splitlines()]
    codes = [(one["event"], one["code"]) for one in events if "code" in one]
    assert codes == [("post_failed", "key_refused"), ("run_ended", "key_refused")]
    assert 'reason="key_refused"} 1\n' in (desk.out / "run.prom").read_text()


async def test_a_key_that_the_platform_repeats_is_neither_said_nor_written(desk: Desk) -> None:
    body = json.dumps({"code": f"bad_{KEY}", "message": f"A video of {KEY} is bad."}).encode()
    async with ContractServer(library(2), key=KEY, faults=lambda _: Status(400, body)) as server:
        desk.write_ids(library(2))
        desk.write_config(server.url)
        finished = await desk.command("run", desk.config, "--json", "--log-level", "debug")
    assert finished.exit_code == 3
    assert KEY not in finished.stdout + finished.stderr
    assert desk.files_with(KEY) == []


async def test_five_mistakes_in_a_config_are_five_lines_and_code_2(desk: Desk) -> None:
    desk.write_config(
        "ftp://nowhere",
        job__options=["vision"],
        limits__concurrency=0,
        limits__requests_per_secnd=1,
        job__threshold={"min_clip_score": 101},
    )
    finished = await desk.command("run", desk.config)
    lines = finished.stderr.splitlines()
    assert (finished.exit_code, finished.stdout, len(lines)) == (2, "", 5)
    assert all(line.startswith(f"error: {desk.config}: ") for line in lines)
    said = ("api.url", "job.options", "limits.concurrency", "limits.requests_per_secnd", "job.threshold.min_clip_score")
    assert all(any(f": {key}" in line for line in lines) for key in said)
    assert not desk.out.exists()


async def test_a_bad_id_list_is_code_2_with_file_and_line_and_nothing_is_sent_or_kept(desk: Desk) -> None:
    async with ContractServer(library(1), key=KEY) as server:
        desk.write_config(server.url, input__ids=["ids.txt"])
        (desk.folder / "ids.txt").write_text("video0000\nb@d\n\nalso bad\n")
        finished = await desk.command("run", desk.config)
    lines = finished.stderr.splitlines()
    assert finished.exit_code == 2
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", f"{desk.folder}/ids.txt:2"],
        ["error", f"{desk.folder}/ids.txt:4"],
    ]
    assert (server.posts, server.pages) == ([], [])
    assert (desk.status().videos, sum(desk.status().chunks.values())) == (0, 0)


async def test_another_job_in_the_directory_is_code_2_and_says_what_differs(desk: Desk) -> None:
    async with ContractServer(library(2), key=KEY) as server:
        desk.write_ids(library(2))
        desk.write_config(server.url)
        await desk.run()
        desk.write_config(server.url, CLASSES[:2])
        finished = await desk.command("run", desk.config)
    assert (finished.exit_code, len(server.posts)) == (2, 1)
    assert "error:   job.classes: 'PetTok' is gone" in finished.stderr.splitlines()


async def test_a_spent_budget_is_code_75_and_a_resume_with_a_higher_one_ends_the_run(desk: Desk) -> None:
    videos = library(30)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url, limits__max_videos_per_post=10, limits__max_posts=1)
        stopped = await desk.command("run", desk.config)
        assert stopped.exit_code == 75
        assert "limits.max_posts = 1" in stopped.stderr
        refused = await desk.command("resume", desk.out, "--set", "job.page_limit=5")
        assert (refused.exit_code, len(server.posts)) == (2, 1)
        assert "only limits may change" in refused.stderr
        assert desk.status().next_command == f"bulk-classify resume {desk.out} --set limits.max_posts=3"
        assert (await desk.command("resume", desk.out, "--set", "limits.max_posts=3")).exit_code == 0
        desk.check(server, videos)


async def test_the_level_of_the_log_is_that_of_this_process(desk: Desk) -> None:
    videos = library(2)
    async with ContractServer(videos, key=KEY) as server:
        desk.write_ids(videos)
        desk.write_config(server.url)
        assert (await desk.command("run", desk.config, "--log-level", "error")).exit_code == 0
        assert (desk.out / "run.log").read_text() == ""
        assert (await desk.command("resume", desk.out, "--log-level", "error")).exit_code == 0
        assert (desk.out / "run.log").read_text() == ""
        assert (await desk.command("resume", desk.out, "--log-level", "info")).exit_code == 0
    events = [json.loads(line)["event"] for line in (desk.out / "run.log").read_text().splitlines()]
    assert events == ["run_began", "run_ended"]


async def test_a_missing_key_a_missing_config_and_a_wrong_option_are_code_2(desk: Desk) -> None:
    desk.write_ids(library(2))
    desk.write_config("http://127.0.0.1:1/v1.2")
    keyless = await desk.command("run", desk.config, TWELVELABS_API_KEY="")
    missing = await desk.command("run", "nowhere.toml")
    wrong = await desk.command("run", desk.config, "--fast")
    nowhere = await desk.command("status", desk.folder)
    assert [one.exit_code for one in (keyless, missing, wrong, nowhere)] == [2, 2, 2, 2]
    assert "no API key" in keyless.stderr
    assert "nowhere.toml: cannot be read" in missing.stderr
    assert "--fast" in wrong.stderr
    assert "not a run directory" in nowhere.stderr
    assert all("Traceback" not in one.stderr for one in (keyless, missing, wrong, nowhere))


async def test_a_damaged_row_is_code_1_of_verify(desk: Desk) -> None:
    async with ContractServer(library(5), key=KEY) as server:
        desk.write_ids(library(5))
        desk.write_config(server.url)
        await desk.run()
    rows = desk.out / VIDEOS
    rows.write_bytes(rows.read_bytes().replace(b"scored", b"shored", 1))
    finished = await desk.command("verify", desk.out, "--json")
    assert finished.exit_code == 1
    assert json.loads(finished.stdout)["found"] >= 1


async def test_config_check_tells_every_key_as_json(desk: Desk) -> None:
    desk.write_config("http://127.0.0.1:1/v1.2")
    finished = await desk.command("config", "check", desk.config, "--json")
    told = json.loads(finished.stdout)
    assert (finished.exit_code, told["limits.concurrency"]) == (0, {"value": 8, "origin": "default"})
    assert KEY not in finished.stdout + finished.stderr


# --------------------------------------------------------------------------------------------------------------- help


def every_command(command: click.Command = cli._commands, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with what is typed for it."""
    for name, child in getattr(command, "commands", {}).items():
        if isinstance(child, click.Group):
            yield from every_command(child, f"{path}{name} ")
        else:
            yield f"{path}{name}", child


COMMANDS = dict(every_command())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_tells_what_counts_without_it_and_its_config_key(name: str) -> None:
    own_keys = OPTIONS
    for option in (one for one in COMMANDS[name].params if isinstance(one, click.Option)):
        told = option.help or ""
        assert told, option.name
        assert "(required)" not in told, "click says so"
        assert option.is_flag or option.required or "[default: " in told or "; default: " in told, option.opts
        keys = re.findall(r"config key: ([\w.]+)\]", told)
        assert all(key in KEYS for key in keys), keys
        if name == "run":
            assert keys == [own_keys[one] for one in option.opts if one in own_keys], option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_that_can_be_typed(name: str) -> None:
    examples = re.findall(r"^  (bulk-classify .+)$", COMMANDS[name].epilog or "", re.MULTILINE)
    assert examples
    for line in examples:
        _, *words = shlex.split(line)
        assert words[: len(name.split())] == name.split()
        COMMANDS[name].make_context(name, words[len(name.split()) :])


async def test_help_groups_the_commands_and_forgets_none(desk: Desk) -> None:
    told = (await desk.command("--help")).stdout
    headings = [line for line in told.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[1:] == [f"{heading}:" for heading in cli._HEADINGS]
    assert [name for name in cli._commands.commands if f"\n  {name} " not in told] == []
    assert "..." not in told.partition("Options:")[2]


def test_help_of_every_command_is_quick_because_it_loads_neither_aiohttp_nor_numpy() -> None:
    script = """
import sys
import click
from pipeline import cli

def paths(command, path):
    yield path
    for name, child in getattr(command, "commands", {}).items():
        yield from paths(child, [*path, name])

for path in list(paths(cli._commands, [])):
    sys.argv = ["bulk-classify", *path, "--help"]
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, (path, end.code)
print(sorted({"aiohttp", "anyio", "numpy", "msgspec", "sqlite3"} & set(sys.modules)))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.count("Usage: bulk-classify") >= 8
    assert finished.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-5", "1e9"])
async def test_a_page_token_lives_for_some_time_and_not_for_ever(desk: Desk, value: str) -> None:
    done = await desk.command("serve", "--port", "0", "--page-ttl", value)
    assert (done.exit_code, "--page-ttl" in done.stderr, done.stdout) == (2, True, "")
