"""The tab for many pictures: a gallery with answers, and a table to take away."""

import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageOps

from serve.engine.answer_queue import AnsweredPicture, AnswerQueue, Busy, Late
from serve.limits.uploads import Full, Uploads
from serve.page import answer_html
from serve.page.answer_html import PictureRow
from serve.page.settings import PageSettings, owner_of
from zoo.files import tables
from zoo.host.errors import BadImage
from zoo.host.text import one_line

MANY = "many"
"""Gradio's name of this tab's function, of which fewer run at once than of `settings.ANSWERS`, so
that those who ask for one picture do not wait for many."""
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
Caption = tuple[Image.Image, str]
"""A thumbnail with what it shows."""


def many_tab(queue: AnswerQueue, settings: PageSettings) -> None:
    """Add the tab's content; its tables are written to the folder of uploads."""
    uploads = settings.uploads

    def answer(
        paths: list[str] | None, request: gr.Request, progress: gr.Progress = PROGRESS
    ) -> tuple[str, Any, Any]:
        """Summary with the table, gallery, and the table as a file."""
        if not paths:
            return _without_answers("")
        if len(paths) > MAX_PICTURES:
            return _without_answers(
                answer_html.refusal(
                    f"{len(paths)} pictures are too many: at most {MAX_PICTURES} at once."
                )
            )
        # a program may name one upload many times
        different = list(dict.fromkeys(paths))
        counted = progress.tqdm(different, desc="Answering", unit="pictures")
        rows, shown = answer_all(
            queue, uploads, counted, settings.max_bytes, owner=owner_of(request)
        )
        path = _table(rows, uploads)
        return (
            summarize(rows, len(different)),
            gr.Gallery(shown, visible=bool(shown)),
            gr.DownloadButton(value=path, visible=path is not None),
        )

    files = gr.File(
        label=f"Up to {MAX_PICTURES} pictures",
        file_count="multiple",
        file_types=["image"],
        elem_id="files",
        height=180,
    )
    summary, gallery, table = _outputs()
    files.change(
        answer,
        files,
        [summary, gallery, table],
        api_name="predict_many",
        show_progress_on=[summary],
        concurrency_id=MANY,
        # half of the workers, so that single pictures find one free
        concurrency_limit=max(1, queue.workers // 2),
    )


def answer_all(
    queue: AnswerQueue, uploads: Uploads, paths: Iterable[str], max_bytes: int, *, owner: str = ""
) -> tuple[list[PictureRow], list[Caption]]:
    """Return a row for each picture, and thumbnails with what they show; fewer than `paths` when
    the time is over. `owner`: the network that asks."""
    rows: list[PictureRow] = []
    shown: list[Caption] = []
    end = time.monotonic() + min(LONGEST_S, DEADLINES * queue.deadline_s)
    for path in paths:
        if queue.closing() or time.monotonic() > end:
            break
        name = Path(path).name
        try:
            picture = uploads.read(path, max_bytes)
            # one at a time: all at once would take the whole share of this address
            row, thumbnail = queue.answer(picture, partial(_row, name), owner=owner)
        except BadImage as error:
            rows.append(PictureRow(name, error=error.reason))
        except (Busy, Late):
            rows.append(PictureRow(name, error="the service was too busy"))
        else:
            rows.append(row)
            shown.append((thumbnail, _caption(row)))
    return rows, shown


def summarize(rows: list[PictureRow], count: int) -> str:
    """Return what became of `count` pictures, as HTML with a table."""
    parts = []
    if len(rows) < count:
        parts.append(
            answer_html.refusal(
                f"The time was over: {len(rows)} of {count} pictures were answered."
            )
        )
    if rows:
        parts.append(answer_html.answers_table(rows))
    return "".join(parts)


def _outputs() -> list[Any]:
    """Return the components for summary, gallery and table, in the way they stand on the page."""
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
    return [summary, gallery, table]


def _without_answers(summary: str) -> tuple[str, Any, Any]:
    """Return what the tab shows when no picture was answered."""
    return summary, gr.Gallery([], visible=False), gr.DownloadButton(visible=False)


def _row(name: str, answered: AnsweredPicture) -> tuple[PictureRow, Image.Image]:
    """Return the row of a picture, and its thumbnail, with a frame if it is called unknown."""
    answer = answered.prediction.answer
    nearest, probability = answer.top[0]
    thumbnail = Image.fromarray(answered.pixels)
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    if answer.label is None:
        thumbnail = ImageOps.expand(thumbnail, FRAME_PIXELS, FRAME)
    row = PictureRow(
        name,
        answer.label or f"unknown (nearest: {nearest})",
        probability,
        tuple(answer.prediction_set or ()),
        answer.unknown_score,
        answer.label is None,
    )
    return row, thumbnail


def _caption(row: PictureRow) -> str:
    if row.unknown:  # a probability among classes that it is none of would mislead
        return one_line(row.answer)
    return f"{one_line(row.answer)} {answer_html.percent(row.probability)}"


def _cells(row: PictureRow) -> tuple[Any, ...]:
    """One for each of `COLUMNS`."""
    score: float | str = ""
    if row.unknown_score is not None:
        score = row.unknown_score
    return row.file, row.answer, row.probability, " | ".join(row.prediction_set), score, row.error


def _table(rows: list[PictureRow], uploads: Uploads) -> str | None:
    """Return the path of the table, or None if there is no room for it now."""
    # names of uploads may hold what no encoding takes
    content = tables.as_text(COLUMNS, map(_cells, rows)).encode("utf-8", "backslashreplace")
    try:
        with uploads.room(len(content), 1):
            table = uploads.new_folder() / "answers.csv"
            table.write_bytes(content)
            uploads.wrote(len(content))
            return str(table)
    except (Full, OSError):
        return None
