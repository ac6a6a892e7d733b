"""Schemathesis, with all that it can check, against a running server and the description that it serves.

Its own command is run, as a stranger would: it walks through what the schemas allow and what they forbid, and through
chains of calls, and looks at every status, header and body that comes back.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def conformity(url: str, key: str, *, cases: int, seed: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask a server so many cases an operation; exit code 0: nothing was found. Its files go into ``folder``."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml"), "run"]
    options = ["--checks", "all", "--max-examples", str(cases), "--seed", str(seed), "--header", f"x-api-key: {key}"]
    # A slow machine has no bug.
    patience = ["--suppress-health-check", "all", "--request-timeout", "600"]
    return subprocess.run(
        [*command, *options, *patience, f"{url}/openapi.json"],
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")},
        capture_output=True,
        text=True,
        check=False,
    )
