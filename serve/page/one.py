"""The page: upload, paste or photograph a picture and see the answer, why, and how far to trust it.

Works without any other host, and hardened. Gradio 6.31 lets a mounted page read any file of the
machine unless `has_launched` is set, and even then where the description of a file lacks `meta`; it
opens uploads with every plugin of Pillow unless its own preprocessing is left out. So its routes
are chosen (`routes.py`), what its functions get is written anew (`events.py`), and they read files
through `Uploads.read` only.
"""

import html
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from serve.engine.engine import Answered, Busy, Engine, Late
from serve.engine.render import overlay, to_json
from serve.http.events import Events, Function, Input
from serve.http.gate import Page
from serve.limits.uploads import Uploads
from serve.page import cards, receive
from serve.page.feedback import Feedback
from serve.page.many import ANSWERS, asking, many_tab
from zoo.answer.self_check import examples
from zoo.host.errors import BadImage

WAITING = 64
"""Events of the page that may wait."""
SESSIONS = 500
"""Pages whose values Gradio remembers, about 200 kB each; the one used longest ago is forgotten
first."""
SHOWN = 5
"""Classes with bars."""


@dataclass(frozen=True)
class Setting:
    """Where the page keeps uploads, and how it is reached."""

    uploads: Uploads
    root_path: str
    feedback: Path | None
    max_bytes: int
    """Of one picture."""


def mount(app: ASGIApp, engine: Engine, setting: Setting) -> Page:
    """The page at `/`, behind the routes that `app` has already; gives what the gate needs to know
    of it."""
    assert isinstance(app, FastAPI)
    uploads = setting.uploads
    demo = build(engine, setting)
    demo.queue(max_size=WAITING, default_concurrency_limit=2 * engine.workers)
    demo.state_session_capacity = SESSIONS

    @app.post("/gradio_api/upload", include_in_schema=False)
    async def upload(request: Request) -> JSONResponse:
        """In place of Gradio's own."""
        return JSONResponse(await receive.receive(request, uploads, max_bytes=setting.max_bytes))

    gr.mount_gradio_app(
        app,
        demo,
        path="/",
        root_path=setting.root_path,
        show_error=False,
        max_file_size=setting.max_bytes,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        mcp_server=False,
        pwa=False,
        theme=gr.themes.Default(
            primary_hue="teal",
            secondary_hue="teal",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],
            font_mono=["ui-monospace", "monospace"],
        ),
        css=cards.STYLE,
        head='<meta name="color-scheme" content="light dark">',
    )
    demo.has_launched = True  # or Gradio serves any file of this machine to anybody
    uploads.keep()
    uploads.forget += [receive.forget_progress, partial(_forget_files, demo)]
    return Page(Events(functions(demo), uploads), uploads, partial(_is_awaited, demo))


_INPUTS: dict[str, Input] = {
    "Image": "file",
    "File": "files",
    "Dropdown": "text",
    "Dataset": "number",
}
"""What a component of the page gives to a function."""


def functions(demo: gr.Blocks) -> dict[int, Function]:
    """Every function of the page by its number, with what it takes."""
    found = {}
    for number, function in demo.fns.items():
        if function.fn is not None:  # the others run in the browser
            inputs = tuple(_INPUTS[type(block).__name__] for block in function.inputs)
            choices = tuple(_choices(block) for block in function.inputs)
            found[number] = Function(_name(function), inputs, bool(function.queue), choices)
    return found


def _choices(component: Any) -> Container[Any] | None:
    """The values of a component that has a few, as Gradio names them; of examples, their
    numbers."""
    if isinstance(component, gr.Dropdown):
        return frozenset({None, *(value for _, value in component.choices)})
    return range(len(component.samples)) if isinstance(component, gr.Dataset) else None


def _is_awaited(demo: gr.Blocks, name: str) -> bool:
    """Whether answers wait, or are being made, for a session or an event; Gradio logs a traceback
    for all others."""
    queue = demo._queue
    if name in queue.pending_messages_per_session or name in queue.event_ids_to_events:
        return True
    return any(name in events for events in [*queue.pending_event_ids_session.values()])


def _name(function: Any) -> str:
    """The name of a function for programs; empty if it is only for the page."""
    return str(function.api_name) if function.api_visibility == "public" else ""


def _forget_files(demo: gr.Blocks) -> None:
    """Forget the files that were deleted: Gradio's lists of them only grow."""
    for paths in demo.temp_file_sets:
        for path in [*paths]:
            if not Path(path).exists():
                paths.discard(path)


def build(engine: Engine, setting: Setting) -> gr.Blocks:
    """The page, not yet mounted."""
    name = engine.model.name
    with gr.Blocks(title=name, analytics_enabled=False, fill_width=False) as demo:
        gr.HTML(partial(cards.head, engine), elem_id="head", padding=False)
        with gr.Tabs():
            with gr.Tab("One picture"):
                _one_tab(engine, setting)
            with gr.Tab("Many pictures"):
                many_tab(engine, setting.uploads, setting.max_bytes)
            with gr.Tab("About"):
                gr.Markdown(partial(cards.about, engine), elem_id="about")
    return demo


def _one_tab(engine: Engine, setting: Setting) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            picture = gr.Image(
                label="Picture",
                type="filepath",
                image_mode=None,
                height=360,
                elem_id="picture",
                sources=["upload", "clipboard", "webcam"],
                buttons=["fullscreen"],
                placeholder="Drop a picture here, or click to choose one",
            )
            if shown := examples(engine.model.predictor.bundle):
                gr.Examples(
                    [[str(path)] for path, _ in shown],
                    picture,
                    elem_id="examples",
                    label="Or try one of the validation pictures",
                    api_visibility="private",
                )
        with gr.Column(scale=6, min_width=300):
            answer = gr.HTML(cards.NOTHING, elem_id="answer", padding=False)
            heat = gr.Image(
                label="Where it found evidence for its first choice",
                interactive=False,
                height=330,
                elem_id="heat",
                buttons=["fullscreen"],
                format="jpeg",
                visible=False,
            )
            if setting.feedback:
                _correction(engine, Feedback(setting.feedback), picture, setting)
            with gr.Accordion("The same answer for programs", open=False):
                data = gr.JSON(show_label=False, elem_id="data", max_height=320)
                gr.Markdown(cards.curl(setting.root_path), elem_id="curl")
    picture.change(
        partial(_answer, engine, setting),
        picture,
        [data, answer, heat],
        api_name="predict",
        show_progress="minimal",
        trigger_mode="always_last",
        concurrency_id=ANSWERS,
    )


def _untouched(_: gr.Image, payload: Any) -> str | None:
    """The path of an upload as it came: Gradio opens it with every plugin of Pillow, and may encode
    it anew."""
    return None if payload is None else payload.path


# of the class: Gradio builds that of a session anew after an example was clicked; a subclass makes
# it write .pyi files
gr.Image.preprocess = _untouched  # type: ignore[method-assign,assignment]


def _answer(
    engine: Engine, setting: Setting, picture: str | None
) -> tuple[dict[str, Any] | None, str, Any]:
    """JSON, card and heat map of the answer to one picture file."""
    if picture is None:
        return None, cards.NOTHING, gr.Image(None, visible=False)
    said = attempt(
        lambda: engine.answer(
            setting.uploads.read(picture, setting.max_bytes), _parts, top=SHOWN, owner=asking()
        )
    )
    if isinstance(said, str):
        return {"error": said}, cards.refusal(said), gr.Image(None, visible=False)
    data, card, heat = said
    return data, card, gr.Image(heat, visible=heat is not None)


def attempt(work: Callable[[], Any]) -> Any:
    """What `work` gives, or the sentence why it could not."""
    try:
        return work()
    except BadImage as error:
        return f"This picture cannot be read: {error.reason}."
    except Busy as error:
        return str(error)
    except Late:
        return "The answer was not ready in time; try again."


def _parts(answered: Answered) -> tuple[dict[str, Any], str, Any]:
    return to_json(answered), cards.answer(answered), overlay(answered)


def _correction(engine: Engine, feedback: Feedback, picture: gr.Image, setting: Setting) -> None:
    """The button that stores a picture with its right class."""

    def store(path: str | None, label: str | None) -> str:
        """What happened, as HTML."""
        if not path or not label:
            return cards.note("Choose a picture and its right class first.")
        said = attempt(
            lambda: feedback.store(
                engine, setting.uploads.read(path, setting.max_bytes), label, owner=asking()
            )
        )
        return cards.note(html.escape(said))

    labels = list(engine.model.predictor.bundle.labels)
    with gr.Accordion("This is wrong", open=False, elem_id="wrong"):
        right = gr.Dropdown(labels, value=None, label="What is it?", elem_id="right")
        button = gr.Button("Keep picture and correction", elem_id="keep")
        said = gr.HTML("", elem_id="kept")
        button.click(store, [picture, right], said, api_name="correct", concurrency_id=ANSWERS)
        picture.change(None, None, [right, said], js="() => [null, '']", api_visibility="private")
