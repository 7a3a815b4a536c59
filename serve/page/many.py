"""The tab for many pictures: a gallery with answers, and a table to take away."""

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from PIL import Image, ImageOps

from serve.engine.engine import Answered, Busy, Engine, Late
from serve.limits import budgets
from serve.limits.uploads import Full, Uploads
from serve.page import cards
from serve.page.cards import Row
from zoo.files import tables
from zoo.host.errors import BadImage

ANSWERS = "answers"
"""Gradio's name of the functions that share one limit of how many run at once: each holds a picture
in memory."""
MANY = "many"
"""The same for many pictures, fewer at once, so that those who ask for one do not wait for them."""
MAX_PICTURES = 200
"""At once."""
DEADLINES, LONGEST_S = 6, 180.0
"""All pictures of one event must be answered within so many deadlines of one request, and within so
many seconds."""
THUMBNAIL = 320
"""Longest side in pixels."""
PROGRESS = gr.Progress()
COLUMNS = ("file", "answer", "probability", "prediction_set", "unknown_score", "error")
FRAME = (245, 158, 11)
"""RGB around the thumbnail of a picture that is called unknown."""
FRAME_PIXELS = 8


def many_tab(engine: Engine, uploads: Uploads, max_bytes: int) -> None:
    """Add the tab's content; pictures of at most `max_bytes` are read from `uploads`, tables
    written there."""

    def answer(paths: list[str] | None, progress: gr.Progress = PROGRESS) -> tuple[str, Any, Any]:
        """Summary with the table, gallery, and the table as a file."""
        if not paths:
            return "", gr.Gallery([], visible=False), gr.DownloadButton(visible=False)
        if len(paths) > MAX_PICTURES:
            return (
                cards.refusal(
                    f"{len(paths)} pictures are too many: at most {MAX_PICTURES} at once."
                ),
                gr.Gallery([], visible=False),
                gr.DownloadButton(visible=False),
            )
        different = list(dict.fromkeys(paths))
        counted = progress.tqdm(different, desc="Answering", unit="pictures")
        rows, shown = answer_all(engine, uploads, counted, max_bytes)
        table = _table(rows, uploads)
        return (
            summarize(rows, len(different)),
            gr.Gallery(shown, visible=bool(shown)),
            gr.DownloadButton(value=table, visible=table is not None),
        )

    files = gr.File(
        label=f"Up to {MAX_PICTURES} pictures",
        file_count="multiple",
        file_types=["image"],
        elem_id="files",
        height=180,
    )
    summary = gr.HTML("", elem_id="summary")
    table = gr.DownloadButton("Download the table (CSV)", visible=False, elem_id="table", size="sm")
    gallery = gr.Gallery(
        [],
        label="The same pictures",
        columns=4,
        height="auto",
        visible=False,
        elem_id="gallery",
        object_fit="contain",
        interactive=False,
    )
    files.change(
        answer,
        files,
        [summary, gallery, table],
        api_name="predict_many",
        show_progress_on=[summary],
        concurrency_id=MANY,
        concurrency_limit=max(1, engine.workers // 2),
    )


def answer_all(
    engine: Engine,
    uploads: Uploads,
    paths: Iterable[str],
    max_bytes: int,
) -> tuple[list[Row], list[tuple[Image.Image, str]]]:
    """A row for each picture, and thumbnails with what they show; fewer than `paths` when the time
    is over."""
    rows: list[Row] = []
    shown: list[tuple[Image.Image, str]] = []
    end = time.monotonic() + min(LONGEST_S, DEADLINES * engine.deadline_s)
    for path in paths:
        if engine.closing() or time.monotonic() > end:
            break
        row, thumbnail = _one(engine, uploads, path, max_bytes)
        rows.append(row)
        if thumbnail:
            shown.append(
                (
                    thumbnail,
                    row.answer if row.unknown else f"{row.answer} {cards.percent(row.probability)}",
                )
            )
    return rows, shown


def asking() -> str:
    """The address that asks for what this thread does now, as the owner of pictures; empty if
    nobody is known."""
    asked = LocalContext.request.get(None)
    request = getattr(asked, "request", None)
    return budgets.address(request.scope) if request else ""


def summarize(rows: list[Row], count: int) -> str:
    """What became of `count` pictures, as HTML with a table."""
    left = count - len(rows)
    stopped = (
        cards.refusal(f"The time was over: {len(rows)} of {count} pictures were answered.")
        if left
        else ""
    )
    return stopped + (cards.table(rows) if rows else "")


def _one(
    engine: Engine, uploads: Uploads, path: str, max_bytes: int
) -> tuple[Row, Image.Image | None]:
    """(row, thumbnail) of one file."""
    name = Path(path).name
    try:
        return engine.answer(uploads.read(path, max_bytes), partial(_row, name), owner=asking())
    except BadImage as error:
        return Row(name, error=error.reason), None
    except (Busy, Late):
        return Row(name, error="the service was too busy"), None


def _row(name: str, answered: Answered) -> tuple[Row, Image.Image]:
    answer = answered.prediction.answer
    thumbnail = Image.fromarray(answered.pixels)
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    nearest, probability = answer.top[0]
    if answer.label is None:
        thumbnail = ImageOps.expand(thumbnail, FRAME_PIXELS, FRAME)
    label = answer.label or f"unknown (nearest: {nearest})"
    row = Row(
        name,
        label,
        probability,
        tuple(answer.prediction_set or ()),
        answer.unknown_score,
        answer.label is None,
    )
    return row, thumbnail


def _cells(row: Row) -> tuple[Any, ...]:
    """One for each of `COLUMNS`."""
    score = "" if row.unknown_score is None else row.unknown_score
    return row.file, row.answer, row.probability, " | ".join(row.prediction_set), score, row.error


def _table(rows: list[Row], uploads: Uploads) -> str | None:
    """The path of the table, or None if there is no room for it now."""
    content = tables.as_text(COLUMNS, map(_cells, rows)).encode("utf-8", "backslashreplace")
    try:
        with uploads.room(len(content), 1):
            table = uploads.new_folder() / "answers.csv"
            table.write_bytes(content)
            uploads.wrote(len(content))
            return str(table)
    except (Full, OSError):
        return None
