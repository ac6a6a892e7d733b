"""A program for tests to kill: it exports run directories, and ends itself at the step of ours that it is told.

Each line that it reads is an export: the step at which it is killed (0: never), how many bytes of rows go into a file,
and the target. A step is a call or a return in the modules that read runs and write exports, in whichever thread;
where it falls does not depend on the machine's pace. A forked process carries it out and the program then writes its
exit code and its steps.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import duckdb  # noqa: F401 - loaded once, before processes are forked

from pipeline.errors import StopRun
from pipeline.export_database import database_target
from pipeline.export_folder import folder_target

WATCHED = ("committed.py", "export_engine.py", "export_folder.py", "export_database.py", "rundir.py")


def main() -> None:
    folders = [Path(one) for one in sys.argv[1:]]
    for order in sys.stdin:
        step, slice_bytes, target = order.split(maxsplit=2)
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reader)
            os._exit(live(folders, Path(target.strip()), int(slice_bytes), Steps(int(step), writer)))
        os.close(writer)
        _, status = os.waitpid(process, 0)
        with os.fdopen(reader) as counted:
            os.write(1, f"{os.waitstatus_to_exitcode(status)} {counted.read() or 0}\n".encode())


class Steps:
    """Counts steps, and kills at one of them."""

    def __init__(self, last: int, report: int) -> None:
        self._last = last
        self._report = report
        self._lock = threading.Lock()
        self._count = 0

    def __call__(self, frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code.co_filename.endswith(WATCHED):
            with self._lock:
                self._count += 1
                if self._count == self._last:
                    os.kill(os.getpid(), signal.SIGKILL)

    def tell(self) -> None:
        os.write(self._report, b"%d" % self._count)


def live(folders: list[Path], target: Path, slice_bytes: int, steps: Steps) -> int:
    """One export; its exit code."""
    threading.setprofile(steps)
    sys.setprofile(steps)
    try:
        opening = (
            database_target(target, slice_bytes=slice_bytes)
            if target.suffix == ".duckdb"
            else folder_target(target, target.suffix[1:], slice_bytes=slice_bytes)
        )
        with opening as opened:
            for folder in folders:
                opened.add(folder)
    except StopRun as error:
        os.write(2, f"{error}\n".encode())
        return error.exit_code
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        steps.tell()
    return 0


if __name__ == "__main__":
    main()
