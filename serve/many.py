"""The tab for many pictures: a gallery with answers, and a table to take away."""

import uuid
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from serve import cards
from serve.engine import Answered, Busy, Engine, Late
from zoo.errors import BadImage
from zoo.text import csv_text

MAX_PICTURES = 200
"""At once."""
THUMBNAIL = 320
"""Longest side in pixels."""
PROGRESS = gr.Progress()
COLUMNS = ("file", "answer", "probability", "prediction_set", "unknown_score", "error")


def many_tab(engine: Engine, folder: Path) -> None:
    """Add the tab's content; tables are written below `folder`."""
    def answer(paths: list[str] | None, progress: gr.Progress = PROGRESS) -> tuple[str, Any, Any]:
        """Summary, gallery and table."""
        if not paths:
            return "", gr.Gallery([], visible=False), gr.DownloadButton(visible=False)
        if len(paths) > MAX_PICTURES:
            return (cards.refusal(f"{len(paths)} pictures are too many: at most {MAX_PICTURES} at once."),
                    gr.Gallery([], visible=False), gr.DownloadButton(visible=False))
        rows, shown = [], []
        for path in progress.tqdm([Path(path) for path in paths], desc="Answering", unit="pictures"):
            row, thumbnail = _one(engine, path)
            rows.append(row)
            if thumbnail:
                shown.append((thumbnail, f"{row[1]} {row[2]:.0%}"))
        table = folder / uuid.uuid4().hex / "answers.csv"
        table.parent.mkdir()
        table.write_text(csv_text(COLUMNS, rows), encoding="utf-8", newline="")
        return (cards.summary(rows), gr.Gallery(shown, visible=bool(shown)),
                gr.DownloadButton(value=str(table), visible=True))

    files = gr.File(label=f"Up to {MAX_PICTURES} pictures", file_count="multiple", file_types=["image"],
                    elem_id="files", height=180)
    summary = gr.HTML("", elem_id="summary")
    table = gr.DownloadButton("Download the table (CSV)", visible=False, elem_id="table", size="sm")
    gallery = gr.Gallery([], label="Answers", columns=4, height="auto", visible=False, elem_id="gallery",
                         object_fit="contain", interactive=False)
    files.change(answer, files, [summary, gallery, table], api_name="predict_many", show_progress_on=[summary])


def _one(engine: Engine, path: Path) -> tuple[tuple[Any, ...], Image.Image | None]:
    """(a row of `COLUMNS`, thumbnail) of one file."""
    try:
        row, thumbnail = engine.answer(path.read_bytes(), _row)
        return (path.name, *row, ""), thumbnail
    except BadImage as error:
        return (path.name, "", 0.0, "", "", error.reason), None
    except (Busy, Late):
        return (path.name, "", 0.0, "", "", "the service was too busy"), None


def _row(answered: Answered) -> tuple[tuple[Any, ...], Image.Image]:
    answer = answered.prediction.answer
    thumbnail = Image.fromarray(answered.pixels)
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    nearest, probability = answer.top[0]
    score = "" if answer.unknown_score is None else answer.unknown_score
    return (answer.label or f"unknown (nearest: {nearest})", probability, " | ".join(answer.prediction_set or ()),
            score), thumbnail
