"""The whole way from a retired endpoint, by the commands that docs/migration.md tells."""

from __future__ import annotations

import os
import shutil
import signal

from pipeline.rows import SCORES, VIDEOS
from tests.runs import KEY, Desk, library
from tests.servers.embeddings import EmbeddingServer, embedding_server
from tests.servers.vendor import Hold, VendorServer, vector

DIMENSIONS = 512
INDEX_ID = "6298d673f1090f1100476d4c"


def prompt_vector(text: str) -> list[float]:
    """In the space of the videos, and near to none of them in particular."""
    return vector(text, "text", "", DIMENSIONS)


async def test_an_index_of_the_vendors_gives_the_same_rows_by_ids_and_as_a_whole(desk: Desk) -> None:
    """200 videos: the import is killed in the middle and run again, then the index is calibrated and asked twice."""
    videos = library(200, 16.5)
    await succeed(desk, "index", "create", "my.index", "--id", INDEX_ID)
    async with VendorServer(videos, key=KEY, index_id=INDEX_ID, dimensions=DIMENSIONS) as vendor:
        vendor.faults = lambda seen: Hold() if seen.kind == "video" and seen.number >= 100 else None
        wanted = ["--index-id", INDEX_ID, "--api-url", vendor.url, "--requests-per-second", "0"]
        process = await desk.start("index", "import", "vendor", "my.index", *wanted)
        await vendor.until_held(100)
        os.kill(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        vendor.release()
        await succeed(desk, "index", "import", "vendor", "my.index", *wanted)
    async with embedding_server(EmbeddingServer(key=KEY, vector_of=prompt_vector)) as embedder:
        await succeed(desk, "index", "calibrate", "my.index", "--embedder-url", embedder.url)
        desk.write_ids(videos)
        of_index = {"api__index": "my.index", "embedder__url": embedder.url, "input__index_id": INDEX_ID}
        by_ids: dict[str, object] = {}
        contents = []
        for settings in (by_ids, {"input__ids": [], "input__mode": "index"}):
            options = ["visual", "conversation"]
            desk.write_config("embedded", job__options=options, **of_index, **settings)
            await succeed(desk, "run", desk.config)
            contents.append(desk.content())
            shutil.rmtree(desk.out)
    assert contents[0] == contents[1]
    assert {row["video_id"] for row in contents[0][VIDEOS]} == set(videos)
    assert {row["class_name"] for row in contents[0][SCORES]} == {"DanceTok", "CookTok", "PetTok"}


async def succeed(desk: Desk, *arguments: object) -> None:
    done = await desk.command(*map(str, arguments))
    assert done.exit_code == 0, done.stderr
