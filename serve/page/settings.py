"""What the page is told about where it runs, and who asks it."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from serve.limits import budgets
from serve.limits.uploads import Uploads

ANSWERS = "answers"
"""Gradio's name of the functions that share one limit of how many run at once: each holds a picture
in memory."""


@dataclass(frozen=True)
class PageSettings:
    """Where the page keeps uploads, and how it is reached."""

    uploads: Uploads
    root_path: str
    feedback: Path | None
    max_bytes: int
    """Of one picture."""


def owner_of(request: gr.Request | None) -> str:
    """Return the network that a call of the page comes from, as the owner of its pictures; empty if
    nobody is known."""
    if request is None:
        return ""
    if request.client is None:
        return budgets.network_of("")
    return budgets.network_of(request.client.host)
