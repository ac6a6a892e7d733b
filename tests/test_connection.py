"""From a configuration to a client: where it connects, as whom, and whose scores it takes the answers for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pipeline
from pipeline.config import ApiKey, load
from pipeline.connection import connected
from pipeline.errors import ConfigError
from pipeline.models import JobClass
from pipeline.wire import ClassifyRequest
from tests.runs import KEY, Desk, library
from tests.servers.contract import ContractServer

REQUEST = ClassifyRequest((JobClass("DanceTok", ("Dance group",)),), ("visual",), ("video0000",))


def fixed(now: float) -> Callable[[], float]:
    return lambda: now


async def test_a_client_sends_the_key_under_its_own_name_and_takes_the_scores_for_the_vendors(tmp_path: Path) -> None:
    agent = f"bulk-classify/{pipeline.__version__}"
    async with ContractServer(library(1), key=KEY, user_agent=agent) as server:
        desk = Desk(tmp_path)
        desk.write_config(server.url)
        config = load(desk.config, flags={}, environment={}).config
        async with connected(config, ApiKey(KEY), cache=tmp_path, clock=fixed(0.0)) as connection:
            answer = await connection.client.classify(REQUEST)
    assert answer.score_source == "twelvelabs/v1.2"
    assert (server.posts[0].status, server.violations) == (200, [])


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_of_certificates_that_cannot_be_used_is_a_wrong_setting(
    tmp_path: Path, content: str | None
) -> None:
    desk = Desk(tmp_path)
    desk.write_config("https://localhost/v1.2", api__ca_file="ca.pem")
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    config = load(desk.config, flags={}, environment={}).config
    with pytest.raises(ConfigError, match=r"^api\.ca_file: .*ca\.pem: "):
        async with connected(config, ApiKey(KEY), cache=tmp_path, clock=fixed(0.0)):
            pass
