"""The commands about an index of the local platform, as ``cli`` has the others: parse, call, print, exit."""

# ruff: noqa: PLC0415 - as in cli: --help is answered at once

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.command_line import (
    NOTHING_ASKED,
    PATH,
    as_json_option,
    embedder_of,
    embedder_options,
    environment,
    example,
    facts_in_words,
    option,
    order_of,
    quiet_option,
    set_option,
    settings_of,
    tell,
)
from pipeline.wording import counted

if TYPE_CHECKING:
    from pipeline.platform.indexes import Files

_OPTIONS = click.Choice(["visual", "conversation", "text_in_video"])


@click.group()
def index() -> None:
    """Make an index of the local platform, fill it, calibrate it, and look at it."""


@index.command(epilog=example("index create my.index --name night", "index create my.index --texts captions"))
@click.argument("file", type=PATH)
@option("--name", default="index", help="What the index is called.")
@option("--id", "index_id", metavar="ID", help="Its id, such as that of the vendor's index.", without="a new one")
@option(
    "--texts",
    type=PATH,
    help="Captions and spoken lines of videos, as `index import texts` takes them.",
    without="none: the index is empty",
)
@as_json_option
def create(file: Path, name: str, index_id: str | None, texts: Path | None, as_json: bool) -> None:
    """Make an index FILE, empty or from texts."""
    from pipeline.platform.indexes import create_index

    tell(create_index(file, name, texts, index_id=index_id), facts_in_words, as_json=as_json)


@index.command(epilog=example("index info my.index"))
@click.argument("file", type=PATH, required=False)
@as_json_option
def info(file: Path | None, as_json: bool) -> None:
    """Tell what is in an index FILE; without one, in the quickstart index."""
    from pipeline.platform.indexes import index_info

    tell(index_info(file or quickstart()), facts_in_words, as_json=as_json)


@index.command(epilog=example("index calibrate my.index", "index calibrate my.index --labels labels.csv"))
@click.argument("file", type=PATH)
@option(
    "--labels",
    type=PATH,
    help="Stretches of videos that match a prompt or do not: CSV or NDJSON.",
    without="none: from the index alone",
)
@embedder_options
@as_json_option
def calibrate(file: Path, labels: Path | None, as_json: bool, **embedder: str | None) -> None:
    """Fit the scores of an index FILE to its vectors: from the index alone, or from labels."""
    from functools import partial

    import anyio

    from pipeline.platform.calibrate import calibrate_index, in_words

    say = partial(click.echo, err=True)
    came_to = anyio.run(partial(calibrate_index, file, labels, embedder_of(embedder), say=say))
    tell(came_to, in_words, as_json=as_json)


@index.command(epilog=example("index remove my.index 6298d673f1090f1100476d4c", "index remove my.index --ids gone.csv"))
@click.argument("index", type=PATH)
@click.argument("ids", nargs=-1, metavar="[ID]...")
@option(
    "--ids",
    "files",
    multiple=True,
    metavar="FILE",
    help="An id list, or - for stdin; repeatable.",
    without="the ids that are named",
)
@as_json_option
def remove(index: Path, ids: Sequence[str], files: Sequence[str], as_json: bool) -> None:
    """Take videos out of INDEX, named one by one or in id lists."""
    from pipeline.errors import UsageError
    from pipeline.ids import expand, read_videos
    from pipeline.platform.indexes import remove_videos

    if not (ids or files):
        raise UsageError("name the videos to remove: their ids, or --ids FILE")
    listed = read_videos(expand(files, Path()), on_bad_line="refuse", on_skipped=lambda _: None, stdin=sys.stdin.buffer)
    tell(remove_videos(index, [*ids, *(one.video_id for one in listed)]), facts_in_words, as_json=as_json)


# ------------------------------------------------------------------------------------------------------------- imports


@index.group("import")
def imports() -> None:
    """Bring videos into an index that exists: from the vendor, from vectors, or from texts.

    A video that is there is brought up to date; nothing is entered by halves, and an import can be run again.
    """


@imports.command(epilog=example("index import vendor my.index --index-id 6298d673f1090f1100476d4c --plan"))
@click.argument("index", type=PATH)
@option("--index-id", required=True, metavar="ID", help="The vendor's index.", key="input.index_id")
@click.option("--plan", "only_plan", is_flag=True, help="Tell what it will take, and import nothing.")
@click.option("--audio", is_flag=True, help="Take the vectors of sounds too; they count as conversation.")
@option(
    "--space",
    metavar="SPACE",
    help="Only videos of this space, such as marengo3.0-512.",
    without="all; one of another space than the index ends the import",
)
@option(
    "--requests-per-second",
    type=float,
    default=2.0,
    help="The pace; 0 for none.",
    unit="requests a second",
    key="limits.requests_per_second",
)
@option(
    "--api-url",
    metavar="URL",
    envvar="TWELVELABS_BASE_URL",
    help="The base URL.",
    without="TWELVELABS_BASE_URL, or the vendor's",
    key="api.url",
)
@set_option
@quiet_option
@as_json_option
def vendor(index: Path, index_id: str, **options: Any) -> None:
    """Import an index of the vendor's, version 1.3, into INDEX: vectors, durations, transcripts.

    Stopped at any moment, the same command goes on. The key comes from the environment or a file, as for a run.
    """
    import anyio

    from pipeline.config import load
    from pipeline.vendor_calls import Wanted, base_url
    from pipeline.vendor_import import import_videos, plan_import

    flags = {
        **NOTHING_ASKED,
        "input.index_id": index_id,
        "limits.requests_per_second": options["requests_per_second"],
        "limits.concurrency": 4,  # whole videos are held, one each
        # Ten hours of 1,024 numbers every six seconds take 400 MB with sounds, each number of 17 digits.
        "limits.max_response_bytes": 512 * 1024 * 1024,
        **settings_of(options["settings"]),
        "--api-url": base_url(options["api_url"]),
    }
    config = load(None, flags=flags, environment=environment()).config
    order = order_of(config, Path(config.output.dir), read_input=False, options=options)
    wanted = Wanted(index, index_id, options["audio"], options["space"])
    if options["only_plan"]:
        tell(asdict(anyio.run(plan_import, order, wanted)), facts_in_words, as_json=options["as_json"])
        return
    came_to, stopped = anyio.run(import_videos, order, wanted)
    tell(asdict(came_to), _import_in_words, as_json=options["as_json"])
    for failure in came_to.failures:
        click.echo(f"failed: {failure}", err=True)
    if came_to.not_listed:
        order.console.say(
            f"warning: {counted(came_to.not_listed, 'video that was', 'videos that were')} imported before and the "
            f"vendor no longer lists: kept (`index remove` takes videos out): {', '.join(came_to.first_not_listed[:5])}"
            + (", …" if came_to.not_listed > 5 else "")
        )
    if stopped is not None:
        if stopped.exit_code != 2:
            order.console.say("next: the same command goes on from here")
        raise stopped
    if came_to.failed:
        sys.exit(3)


def _import_in_words(facts: Mapping[str, object]) -> Iterator[str]:
    return facts_in_words({name: value for name, value in facts.items() if not isinstance(value, list)})


def _of_files(command: Callable[..., None]) -> Callable[..., None]:
    """What imports from files have in common."""
    for decorate in (
        as_json_option,
        option(
            "--durations",
            multiple=True,
            metavar="FILE",
            help="An id list with the videos' durations; repeatable.",
            unit="seconds",
            without="a video ends with its last entry",
        ),
        option(
            "--option",
            type=_OPTIONS,
            help="What the files are about, where they do not say it themselves.",
            without="what they say",
        ),
        click.argument("files", nargs=-1, required=True, type=PATH),
        click.argument("index", type=PATH),
    ):
        command = decorate(command)
    return command


@imports.command(epilog=example("index import texts my.index captions --durations my-videos.csv"))
@_of_files
def texts(index: Path, as_json: bool, **given: Any) -> None:
    """Import captions and transcripts into INDEX: SRT, WebVTT or NDJSON FILES, or folders of them.

    Subtitles are of the video that the file is named after, up to the first dot. The texts are embedded by the default
    embedder. A video ends with its last text where --durations does not tell how long it is.
    """
    from pipeline.platform.indexes import import_texts

    tell(import_texts(index, _files(**given)), facts_in_words, as_json=as_json)


@imports.command(epilog=example("index import vectors my.index vectors.parquet --space marengo2.7-1024"))
@_of_files
@option("--space", metavar="SPACE", help="Which model made them, such as marengo2.7-1024.", without="the index's own")
def vectors(index: Path, space: str | None, as_json: bool, **given: Any) -> None:
    """Import vectors into INDEX: Parquet or NDJSON FILES, or folders of them, with a clip a row.

    A row has video_id, start_seconds, end_seconds and vector, and may have option, text, duration_seconds (of the
    video) and filename. All rows of a video stand together.
    """
    from pipeline.platform.indexes import import_vectors

    tell(import_vectors(index, _files(**given), space), facts_in_words, as_json=as_json)


def _files(files: Sequence[Path], option: str | None, durations: Sequence[str]) -> Files:
    from pipeline.ids import expand, read_videos
    from pipeline.platform.indexes import Files

    listed = read_videos(
        expand(durations, Path()), on_bad_line="refuse", on_skipped=lambda _: None, stdin=sys.stdin.buffer
    )
    seconds = {one.video_id: one.duration_seconds for one in listed if one.duration_seconds is not None}
    return Files(files, option, seconds)


def quickstart() -> Path:
    """The quickstart index, built where it is not there yet."""
    from platformdirs import user_cache_path

    from pipeline.platform.quickstart import quickstart_index

    return quickstart_index(user_cache_path("bulk-classify"))
