"""An export of five million rows of scores: its time and memory, beside that of reading the same NDJSON line by line.

``--quick`` takes fewer. The export and the reader are processes of their own; memory is the most that one held, as the
operating system counts it. The rows and sums of what was exported must be those of the NDJSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import duckdb

from pipeline.chunks import Segment, Settlement
from pipeline.config_keys import ClassSection, Config, InputSection, JobSection
from pipeline.ledger import SCORE_SOURCE, Ledger
from pipeline.manifest import Manifest, write_manifest
from pipeline.models import Video
from pipeline.packing import Packer
from pipeline.rows import ROW_FILES
from pipeline.rundir import LEDGER, prepare

HERE = Path(__file__).parent
RUN_ID = "20260102T030405Z-abcdef"
AT = "2026-01-02T03:04:05.678Z"
CLASSES = tuple(f"class {number:02}" for number in range(25))
A_CHUNK = 1_000
READER = """
import sys, orjson
rows, total = 0, 0.0
with open(sys.argv[1], "rb") as file:
    for line in file:
        row = orjson.loads(line)
        rows += 1
        total += row["score"]
print(rows, total)
"""


def main() -> None:
    videos = 4_000 if "--quick" in sys.argv else 200_000
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), videos)


def measure(folder: Path, videos: int) -> None:
    run = folder / "run"
    apart(make_run, run, videos)
    scores = run / "scores.ndjson"
    seconds, memory, said = timed([sys.executable, "-c", READER, scores])
    rows, total = said.split()
    megabytes = scores.stat().st_size / 1e6
    print(
        f"{int(rows):,} rows of scores, {megabytes:.0f} MB of NDJSON; orjson line by line: {seconds:.1f} s, {memory} MB"
    )
    baseline = seconds
    for form in ("parquet", "csv", "duckdb"):
        target = folder / ("out.duckdb" if form == "duckdb" else form)
        options = [] if form == "duckdb" else ["--format", form]
        command = [sys.executable, "-m", "pipeline", "export", run, "--to", target, *options, "--json"]
        seconds, memory, said = timed([str(one) for one in command])
        assert json.loads(said)["rows"]["scores"] == int(rows)
        apart(check, form, target, int(rows), float(total))
        size = sum(path.stat().st_size for path in (target.rglob("*") if target.is_dir() else [target])) / 1e6
        print(f"| {form} | {int(rows):,} | {seconds:.1f} s | {seconds / baseline:.2f} | {memory} MB | {size:.0f} MB |")


def apart(work: Callable[..., None], *given: object) -> None:
    """Do this in another process: what a process has held counts as held by those that it starts, too."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(work, *given).result()


def timed(command: list[str | Path]) -> tuple[float, int, str]:
    """Run a command: its seconds, its most memory in MB, and what it printed."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, env={**os.environ, "PYTHONPATH": str(HERE.parent)})
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        output.seek(0)
        return time.perf_counter() - begun, used.ru_maxrss // 1024, output.read()


def check(form: str, target: Path, rows: int, total: float) -> None:
    """What was exported has these rows and this sum: to the last bit where the same numbers are added in any order."""
    source = {
        "parquet": f"read_parquet('{target}/scores/*.parquet')",
        "csv": f"read_csv('{target}/scores/*.csv')",
        "duckdb": "scores",
    }[form]
    with duckdb.connect(str(target) if form == "duckdb" else ":memory:", read_only=form == "duckdb") as database:
        database.execute("SET enable_progress_bar = false")
        found = database.execute(f"SELECT count(*), sum(score) FROM {source}").fetchall()[0]
    # Scores are quarters, so their sum is exact.
    assert found == (rows, total), (form, found, rows, total)


def make_run(folder: Path, videos: int) -> None:
    """A run directory of so many scored videos with a row for every class, by the real ledger."""
    dice = random.Random(1)
    prepare(folder)
    classes = tuple(ClassSection(name=name, prompts=(name,)) for name in CLASSES)
    config = Config(job=JobSection(options=("visual",), classes=classes), input=InputSection(ids=("/ids.txt",)))
    write_manifest(folder, Manifest(RUN_ID, AT, config))
    ids = [f"{dice.getrandbits(96):024x}" for _ in range(videos)]
    with Ledger(folder / LEDGER) as ledger:
        with ledger.atomic():
            ledger.remember(SCORE_SOURCE, "twelvelabs/v1.2")
            ledger.take_in(map(Video, ids))
            ledger.pack(Packer(videos_of_unknown_duration=A_CHUNK, first_chunk=1))
        files = [(folder / name).open("wb") for name in ROW_FILES]
        with ledger.atomic():
            for chunk in ledger.pending_after(0, videos):
                own = [one.video_id for one in chunk.videos]
                segments = []
                for number, (file, lines) in enumerate(zip(files, lines_of(chunk.number, own, dice), strict=True)):
                    if lines:
                        segments.append(Segment(number, file.tell(), len(lines), zlib.crc32(lines)))
                        file.write(lines)
                ledger.settle(Settlement(chunk.number, scored=tuple(own), settled_at=AT), segments)
        for file in files:
            file.close()


def lines_of(chunk: int, video_ids: list[str], dice: random.Random) -> tuple[bytes, bytes, bytes]:
    """The rows of a chunk. Scores are quarters."""
    origin = f'"chunk_id":{chunk},"run_id":"{RUN_ID}","classified_at":"{AT}"}}\n'
    scores = [
        f'{{"video_id":"{video_id}","class_name":"{name}","score":{(score := dice.randrange(400)) / 4},'
        f'"duration_ratio":{dice.randrange(1000) / 1000},"max_score":{score / 4 + 0.5},"avg_score":{score / 4},'
        f'"normalized_score":{dice.random() * 100},"clip_count":null,{origin}'
        for video_id in video_ids
        for name in CLASSES
    ]
    videos = [
        f'{{"video_id":"{video_id}","status":"scored","class_count":{len(CLASSES)},"clip_count":null,{origin}'
        for video_id in video_ids
    ]
    return "".join(scores).encode(), b"", "".join(videos).encode()


if __name__ == "__main__":
    main()
