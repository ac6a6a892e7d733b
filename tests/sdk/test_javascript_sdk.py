"""The vendor's JavaScript SDK, unchanged, against the local platform: ``ask.cjs`` uses it, and tells what came back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.sdk.shelf import ANSWER, INDEX_ID, KEY, NUMBERED, standing, without_thumbnails

HERE = Path(__file__).parent
PAGES = [NUMBERED[:5], NUMBERED[5:10], NUMBERED[10:]]


def asked(folder: Path, *arguments: str) -> dict[str, Any]:
    """What the script tells, with the SDK that the lock file names."""
    assert shutil.which("npm"), "this test needs node and npm"
    for name in ("package.json", "package-lock.json", "ask.cjs"):
        shutil.copy(HERE / name, folder)
    run_in(folder, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    told: dict[str, Any] = json.loads(run_in(folder, "node", "ask.cjs", *arguments))
    return told


def run_in(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=1_800)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_snake_case(value: Any) -> Any:
    """The keys as the contract has them: the SDK makes camel case of them."""
    if isinstance(value, list):
        return [in_snake_case(one) for one in value]
    if isinstance(value, dict):
        return {
            re.sub("[A-Z]", lambda big: f"_{big[0].lower()}", key): in_snake_case(one) for key, one in value.items()
        }
    return value


def test_the_javascript_sdk_lists_classifies_turns_pages_and_raises_its_errors(tmp_path: Path) -> None:
    """One test, because each installs the SDK."""
    with standing(tmp_path) as servers:
        told = asked(tmp_path, servers.sound, servers.troubled, INDEX_ID, KEY)
    options = ["conversation", "text_in_video", "visual"]
    assert told["index"] == [INDEX_ID, "Shelf", 14, 1350, options]
    assert (told["indexAgain"], told["indexPages"]) == ("Shelf", [[INDEX_ID]])
    assert told["videos"] == [*reversed(NUMBERED), "loaf", "goal"]
    assert told["filtered"] == [[INDEX_ID], [], ["goal"], ["loaf"]]
    assert told["video"] == ["goal", "goal.mp4", 50]
    assert told["videoPages"] == [["goal", "loaf", *NUMBERED[:3]], NUMBERED[3:8], NUMBERED[8:]]

    for way in ("byVideos", "byIndex"):
        assert without_thumbnails(in_snake_case(told[way]), servers.sound) == ANSWER
    assert told["bare"] == {"name": "Baking", "score": 90, "durationRatio": 0.7}
    assert (told["pagesByIndex"], told["second"]) == (PAGES, PAGES[1])

    assert told["refusals"] == [
        ["BadRequestError", 400, "parameter_invalid"],
        ["BadRequestError", 400, "parameter_unknown"],
        ["BadRequestError", 400, "parameter_invalid"],
        ["UnauthorizedError", 401, "api_key_invalid"],
        ["ForbiddenError", 403, "unauthorized"],
        ["NotFoundError", 404, "resource_not_exist"],
        ["NotFoundError", 404, "resource_not_exist"],
        ["NotFoundError", 404, "resource_not_exist"],
        ["NotFoundError", 404, "resource_not_exist"],
        ["MethodNotAllowedError", 405, "method_not_allowed"],
    ]
    assert told["failures"] == [
        ["InternalServerError", 500, "planned_fault"],
        ["InternalServerError", 503, None],
        ["APITimeoutError", None, None],
        ["FetchError", None, None],  # it has a class of its own only for names that do not resolve
        {"answered": []},
        ["TooManyRequestsError", 429, None],
    ]
