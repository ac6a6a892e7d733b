"""`index create`, `import texts`, `import vectors`, `remove` and `info`, as commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.runs import Desk, Finished

SRT = "1\n00:00:01,000 --> 00:00:02,500\nKnead the dough\n\n"


async def index(desk: Desk, *arguments: str | Path, stdin: bytes = b"") -> Finished:
    return await desk.command("index", *arguments, stdin=stdin)


async def facts(desk: Desk, *arguments: str | Path) -> dict[str, Any]:
    done = await index(desk, *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


async def test_an_index_is_made_filled_looked_at_and_thinned_out(desk: Desk) -> None:
    for name in ("loaf", "goal", "song"):
        (desk.folder / f"{name}.srt").write_text(SRT)
    (desk.folder / "durations.csv").write_text("video_id,duration_seconds\nloaf,95\n")
    made = await facts(desk, "create", "my.index", "--id", "theirs", "--name", "mine")
    assert (made["index_id"], made["name"], made["videos"]) == ("theirs", "mine", 0)
    given = [".", "--option", "conversation", "--durations", "durations.csv"]
    assert await facts(desk, "import", "texts", "my.index", *given) == {"imported": 3, "videos": 3}
    (desk.folder / "gone.txt").write_text("goal\nnobody\n")
    assert await facts(desk, "remove", "my.index", "song", "--ids", "gone.txt") == {
        "removed": 2,
        "not_there": 1,
        "first_not_there": ["nobody"],
        "videos": 1,
    }
    done = await index(desk, "info", "my.index")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert int(lines.pop("bytes")) > 0
    assert lines == {
        "file": "my.index",
        "index_id": "theirs",
        "name": "mine",
        "videos": "1",
        "seconds": "95.0",
        "hours": "0.026",
        "options": "conversation",
        "tracks.conversation.videos": "1",
        "tracks.conversation.clips": "1",
        "space": "wordllama-0.4-l2-supercat-256",
        "dimensions": "256",
        "calibration.conversation.steepness": "20.0",
        "calibration.conversation.midpoint": "0.129",
        "score_source": "local/wordllama-0.4-l2-supercat-256/a20-m0.129",
        "uncalibrated": "",
    }


async def test_vectors_are_imported_and_ids_to_remove_may_come_from_stdin(desk: Desk) -> None:
    row = {"video_id": "v1", "start_seconds": 0, "end_seconds": 6, "vector": [3, 4]}
    (desk.folder / "vectors.ndjson").write_text(json.dumps(row) + "\n")
    await facts(desk, "create", "my.index")
    given = ["my.index", "vectors.ndjson", "--space", "marengo2.7-2", "--option", "visual"]
    assert await facts(desk, "import", "vectors", *given) == {"imported": 1, "videos": 1}
    assert (await facts(desk, "info", "my.index"))["space"] == "marengo2.7-2"
    done = await index(desk, "remove", "my.index", "--ids", "-", stdin=b"v1\n")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, "removed: 1")


async def test_bad_input_is_told_with_file_and_line_and_the_index_stays_as_it_was(desk: Desk) -> None:
    (desk.folder / "loaf.srt").write_text(SRT + "2\n00:00:04 --> 00:00:05\nLet it rest\n")
    await facts(desk, "create", "my.index")
    done = await index(desk, "import", "texts", "my.index", "loaf.srt", "--option", "visual")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "error: loaf.srt:6: times are written as 00:01:02,500 --> 00:01:04,000, not '00:00:04 --> 00:00:05'\n"
    )
    assert (await facts(desk, "info", "my.index"))["videos"] == 0


async def test_what_is_missing_is_said_in_one_line(desk: Desk) -> None:
    await facts(desk, "create", "my.index")
    done = await index(desk, "remove", "my.index")
    assert (done.exit_code, done.stderr) == (2, "error: name the videos to remove: their ids, or --ids FILE\n")
    done = await index(desk, "import", "texts", "missing.index", "loaf.srt")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: there is no index at missing.index: `bulk-classify index create` makes one\n",
    )
