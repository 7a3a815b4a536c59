"""The page: upload, paste or photograph a picture and see the answer, why, and how far to trust it.

Works without any other host, and hardened. Gradio 6.31 lets a mounted page read any file of the
machine unless it counts as launched, and even then where the description of a file lacks `meta`; it
opens uploads with every plugin of Pillow unless its own preprocessing is left out. So its routes
are chosen (`routes.py`), what its functions get is written anew (`page_calls.py`), and they read
files through `Uploads.read` only. What is changed in Gradio itself stands in
`insides/of_gradio.py`.
"""

from functools import partial
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from serve.engine.answer_queue import AnswerQueue
from serve.http.door import Page
from serve.http.page_calls import Function, Input, PageCalls
from serve.insides import of_gradio
from serve.page import answer_html, model_text
from serve.page.many_pictures import many_tab
from serve.page.one_picture import one_tab
from serve.page.receive import receive
from serve.page.settings import PageSettings
from zoo.host.text import one_line

WAITING = 64
"""PageCalls of the page that may wait."""
SESSIONS = 500
"""Pages whose values Gradio remembers, about 200 kB each; the one used longest ago is forgotten
first."""
_INPUTS: dict[str, Input] = {
    "Image": "file",
    "File": "files",
    "Dropdown": "text",
    "Dataset": "number",
}
"""What a component of the page gives to a function."""


def mount(app: ASGIApp, queue: AnswerQueue, settings: PageSettings) -> Page:
    """Mount the page at `/`, behind the routes that `app` has already; return what the gate needs
    to know of it."""
    assert isinstance(app, FastAPI)
    uploads = settings.uploads
    of_gradio.leave_uploads_unopened()
    demo = _build(queue, settings)
    demo.queue(max_size=WAITING, default_concurrency_limit=2 * queue.workers)
    of_gradio.remember_sessions(demo, SESSIONS)

    # before Gradio's routes, so that it takes the place of Gradio's own
    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request) -> JSONResponse:
        """The paths of the pictures that arrived."""
        return JSONResponse(await receive(request, uploads, max_bytes=settings.max_bytes))

    gr.mount_gradio_app(app, demo, path="/", **_appearance(), **_hardening(settings))
    of_gradio.serve_own_files_only(demo)
    uploads.keep()
    uploads.forget += [of_gradio.forget_progress, partial(of_gradio.forget_deleted_files, demo)]
    return Page(PageCalls(functions(demo), uploads), uploads, partial(of_gradio.is_awaited, demo))


def functions(demo: gr.Blocks) -> dict[int, Function]:
    """Return every function of the page by its number, with what it takes."""
    found = {}
    for function in of_gradio.functions(demo):
        inputs = tuple(_INPUTS[type(component).__name__] for component in function.components)
        choices = tuple(map(of_gradio.choices, function.components))
        found[function.number] = Function(function.name, inputs, function.queued, choices)
    return found


def _build(queue: AnswerQueue, settings: PageSettings) -> gr.Blocks:
    """Build the page, not yet mounted."""
    name = one_line(queue.model.name)
    with gr.Blocks(title=name, analytics_enabled=False, fill_width=False) as demo:
        gr.HTML(partial(answer_html.head, queue), elem_id="head", padding=False)
        with gr.Tabs():
            with gr.Tab("One picture"):
                one_tab(queue, settings)
            with gr.Tab("Many pictures"):
                many_tab(queue, settings)
            with gr.Tab("About"):
                gr.Markdown(partial(model_text.markdown, queue), elem_id="about")
    return demo


def _hardening(settings: PageSettings) -> dict[str, Any]:
    """Return what Gradio is told not to do, as arguments of `mount_gradio_app`."""
    return {
        "root_path": settings.root_path,
        "max_file_size": settings.max_bytes,
        "show_error": False,
        "ssr_mode": False,
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "pwa": False,
    }


def _appearance() -> dict[str, Any]:
    """Return how the page looks, as arguments of `mount_gradio_app`; fonts of the reader's own
    machine."""
    theme = gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return {
        "theme": theme,
        "css": answer_html.STYLE,
        "head": '<meta name="color-scheme" content="light dark">',
        "footer_links": [],
    }
