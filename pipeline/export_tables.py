"""The tables of an export, whatever it is written to: their columns, types and comments, and the SQL that makes them.

A table has the columns of its rows, in their order, and then what belongs to the run as a whole and is joined to each
row. Nothing is guessed from the rows: an id that looks like a number is text because it is said to be. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.rows import CLIPS, SCORES, VIDEOS


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type as DuckDB names it, and what it means."""

    name: str
    kind: str
    comment: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the export. ``order`` is what its rows are sorted by, as far as they are exported together."""

    comment: str
    row: tuple[Column, ...]
    joined: tuple[Column, ...]
    order: str

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column, in order."""
        return self.row + self.joined


_VIDEO_ID = Column("video_id", "VARCHAR", "the id, as in the input")
_CLASS_NAME = Column("class_name", "VARCHAR", "the class, as in the config")
_CHUNK_ID = Column("chunk_id", "BIGINT", "the chunk of its run that brought the row")
_RUN_ID = Column("run_id", "VARCHAR", "the run directory that the row is from")
_CLASSIFIED_AT = Column("classified_at", "TIMESTAMP WITH TIME ZONE", "when the answer came")
_JOB_NAME = Column("job_name", "VARCHAR", "name in the config of the run")
_SCORE_SOURCE = Column(
    "score_source", "VARCHAR", "whose scale the scores are on; those of two sources cannot be compared"
)
_CLASS_HASH = Column(
    "class_hash",
    "VARCHAR",
    "16 hex digits: the class by its name, prompts and options; null where the job did not ask for it",
)

FAILED = "failures"
"""The one table that does not only grow: a video leaves it when `retry` brings its answer."""

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "scores": Table(
            "A row for each class of each video that matched",
            (
                _VIDEO_ID,
                _CLASS_NAME,
                Column("score", "DOUBLE", "0 to 100: how well the whole video matches the class"),
                Column("duration_ratio", "DOUBLE", "0 to 1: the length of the matching stretches by that of the video"),
                Column("max_score", "DOUBLE", "the best score of a matching stretch; null unless asked for"),
                Column("avg_score", "DOUBLE", "the mean of their scores; null unless asked for"),
                Column(
                    "normalized_score", "DOUBLE", "its share in percent of the video's scores; null unless asked for"
                ),
                Column("clip_count", "BIGINT", "its rows in clips; null where clips were not asked for"),
                _CHUNK_ID,
                _RUN_ID,
                _CLASSIFIED_AT,
            ),
            (_CLASS_HASH, _JOB_NAME, _SCORE_SOURCE),
            "video_id, class_name",
        ),
        "clips": Table(
            "A row for each stretch of a video that matched; none where clips were not asked for",
            (
                _VIDEO_ID,
                _CLASS_NAME,
                Column("start_seconds", "DOUBLE", "from the beginning of the video"),
                Column("end_seconds", "DOUBLE", "from the beginning of the video"),
                Column("score", "DOUBLE", "0 to 100"),
                Column("option", "VARCHAR", "where it was found: visual, conversation, text_in_video"),
                Column("prompt", "VARCHAR", "the prompt that fits best"),
                Column("thumbnail_url", "VARCHAR", "a picture of it; null where there is none"),
                _CHUNK_ID,
                _RUN_ID,
            ),
            (_CLASS_HASH, _JOB_NAME, _SCORE_SOURCE),
            "video_id, class_name, start_seconds, end_seconds, option",
        ),
        "videos": Table(
            "A row for each video that was answered",
            (
                _VIDEO_ID,
                Column("status", "VARCHAR", "scored or no_match"),
                Column("class_count", "BIGINT", "its rows in scores"),
                Column("clip_count", "BIGINT", "its rows in clips; null where clips were not asked for"),
                _CHUNK_ID,
                _RUN_ID,
                _CLASSIFIED_AT,
            ),
            (_JOB_NAME, _SCORE_SOURCE),
            "video_id",
        ),
        FAILED: Table(
            "A row for each video that failed, as long as it stands so",
            (
                _VIDEO_ID,
                Column("code", "VARCHAR", "the platform's code, or one of ours"),
                Column("message", "VARCHAR", "what the platform said, or what was seen"),
                Column("http_status", "INTEGER", "null where no answer came"),
                Column("retryable", "BOOLEAN", "whether asking again could help"),
                Column("attempts", "BIGINT", "POSTs that left for the chunk that it was in last"),
                _CHUNK_ID,
                _RUN_ID,
                Column("failed_at", "TIMESTAMP WITH TIME ZONE", "when it was given up"),
            ),
            (_JOB_NAME, _SCORE_SOURCE),
            "video_id",
        ),
    }
)

GROWING: Mapping[str, str] = MappingProxyType({"scores": SCORES, "clips": CLIPS, "videos": VIDEOS})
"""The tables that only grow, each with the file of its rows. A video's own row comes last, after its others."""

_JOINED = {"class_hash": "class.hash", "job_name": "run.job_name", "score_source": "run.score_source"}

# A spreadsheet takes a cell that begins with one of these for a formula, some of them in their wide form too; the
# apostrophe is among them so that a leading one can always be taken away again.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def selection(table: Table, source: str, *, as_text: bool) -> str:
    """The query for a table's rows from NDJSON at a path of ours, sorted.

    It joins what ``JOINED_TABLES`` hold. ``as_text`` is for CSV: moments stay as the rows have them, and text that a
    spreadsheet would take for a formula begins with an apostrophe.
    """
    kinds = {one.name: "VARCHAR" if as_text and _is_moment(one) else one.kind for one in table.row}
    columns = ", ".join(f'"{name}": {quoted(kind)}' for name, kind in kinds.items())
    terms = [f'line."{one.name}"' for one in table.row] + [_JOINED[one.name] for one in table.joined]
    if as_text:
        terms = [
            _guarded(term) if one.kind == "VARCHAR" else term for term, one in zip(terms, table.columns, strict=True)
        ]
    selected = ", ".join(f'{term} AS "{one.name}"' for term, one in zip(terms, table.columns, strict=True))
    class_hash = 'LEFT JOIN class ON class.name = line."class_name"' if "class_hash" in names(table.joined) else ""
    order = ", ".join(f'line."{name}"' for name in table.order.split(", "))
    return (
        f"SELECT {selected} FROM read_json({quoted(source)}, format = 'newline_delimited', auto_detect = false, "
        f"columns = {{{columns}}}) AS line {class_hash} CROSS JOIN run ORDER BY {order}"
    )


JOINED_TABLES = (
    "CREATE OR REPLACE TEMP TABLE run (job_name VARCHAR, score_source VARCHAR)",
    "CREATE OR REPLACE TEMP TABLE class (name VARCHAR, hash VARCHAR)",
)
"""What ``selection`` needs: one row for the run, and one for each of its classes."""


def names(columns: tuple[Column, ...]) -> list[str]:
    """The columns' names."""
    return [one.name for one in columns]


def _is_moment(column: Column) -> bool:
    return column.kind.startswith("TIMESTAMP")


def _guarded(term: str) -> str:
    starts = ", ".join(f"chr({ord(one)})" for one in _FORMULA_STARTS)
    return f"CASE WHEN left({term}, 1) IN ({starts}) THEN chr(39) || {term} ELSE {term} END"


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
