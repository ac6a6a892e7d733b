"""What a request for a whole index costs the serving process; ``--quick`` for a smoke test.

An index of 10,000 videos with 100 clips of 256 dimensions each is served by ``bulk-classify serve``, asked once for all
of it, clips included, and read to its last page. Peak memory is what the kernel says of the serving process (``VmHWM``,
so on Linux only).
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from made_up_index import INDEX_ID, videos, write_index

from pipeline.platform.embed import DEFAULT_SPACE

ROOT = Path(__file__).parents[1]
DIMENSIONS, CLIPS = 256, 100
WORDS = ("dance", "cooking", "football", "a dog", "the sea", "night", "a car", "music", "rain", "a child")
ASKED = {
    "index_id": INDEX_ID,
    "classes": [
        {"name": f"class {number}", "prompts": [f"{word} {number}" for word in WORDS[:4]]} for number in range(25)
    ],
    "options": ["visual"],
    "include_clips": True,
    "show_detailed_score": True,
    "page_limit": 50,
    "threshold": {"min_video_score": 1, "min_clip_score": 10, "min_duration_ratio": 0.01},
}


def peak_megabytes(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1000


def main() -> None:
    count = 200 if "--quick" in sys.argv else 10_000
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "made-up.index"
        write_index(path, DEFAULT_SPACE, videos(count, CLIPS, DIMENSIONS))
        command = [sys.executable, "-m", "pipeline", "serve", "--index", str(path), "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as server:
            try:
                assert server.stderr is not None
                url = re.search(r"http://\S+", server.stderr.readline())
                assert url
                measure(url[0], server, count)
            finally:
                server.terminate()


def received(connection: http.client.HTTPConnection) -> tuple[dict[str, Any], int]:
    """A page, and its length in bytes."""
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    return json.loads(body), len(body)


def measure(url: str, server: subprocess.Popen[str], count: int) -> None:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    headers = {"x-api-key": "any", "Content-Type": "application/json"}
    idle = peak_megabytes(server)
    begun = time.perf_counter()
    connection.request("POST", f"{parts.path}/classify/bulk", json.dumps(ASKED), headers)
    page, size = received(connection)
    first = time.perf_counter() - begun
    seen, pages, slowest = {one["video_id"] for one in page["data"]}, 1, 0.0
    while token := page["page_info"]["next_page_token"]:
        asked = time.perf_counter()
        connection.request("GET", f"{parts.path}/classify/{token}", headers=headers)
        page, more = received(connection)
        slowest = max(slowest, time.perf_counter() - asked)
        seen |= {one["video_id"] for one in page["data"]}
        size, pages = size + more, pages + 1
    whole = time.perf_counter() - begun
    assert len(seen) == page["page_info"]["total_results"]
    print(
        f"{count * CLIPS:,} clips: {len(seen):,} videos on {pages:,} pages, {size / 1e6:,.0f} MB of answers; first "
        f"page after {first:.1f} s, slowest further page {slowest * 1000:.0f} ms, all after {whole:.1f} s"
    )
    print(f"peak memory {peak_megabytes(server):.0f} MB, {idle:.0f} MB of it before the request")


if __name__ == "__main__":
    main()
