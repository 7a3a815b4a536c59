"""The tab for one picture: its answer, the heat map, the JSON of both, and corrections."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from serve.engine.answer_queue import AnsweredPicture, AnswerQueue, Busy, Late
from serve.engine.render import answer_json, with_heat_map
from serve.page import answer_html
from serve.page.feedback import Feedback
from serve.page.settings import ANSWERS, PageSettings, owner_of
from zoo.answer.self_check import examples
from zoo.host.errors import BadImage
from zoo.host.text import one_line

SHOWN = 5
"""Classes with bars."""


def one_tab(queue: AnswerQueue, settings: PageSettings) -> None:
    """Add the tab's content."""

    def answer(
        picture: str | None, request: gr.Request
    ) -> tuple[dict[str, Any] | None, str, gr.Image]:
        """JSON, card and heat map of the answer to one picture file."""
        if picture is None:
            return None, answer_html.NOTHING, gr.Image(None, visible=False)
        result = attempt(
            lambda: queue.answer(
                settings.uploads.read(picture, settings.max_bytes),
                _parts,
                top=SHOWN,
                owner=owner_of(request),
            )
        )
        if isinstance(result, str):
            return {"error": result}, answer_html.refusal(result), gr.Image(None, visible=False)
        data, card, heat = result
        return data, card, gr.Image(heat, visible=heat is not None)

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            question = _question(queue)
        with gr.Column(scale=6, min_width=300):
            card = gr.HTML(answer_html.NOTHING, elem_id="answer", padding=False)
            heat = _heat_map()
            if settings.feedback:
                _correction(queue, Feedback(settings.feedback), question, settings)
            with gr.Accordion("The same answer for programs", open=False):
                data = gr.JSON(show_label=False, elem_id="data", max_height=320)
                gr.Markdown(answer_html.curl(settings.root_path), elem_id="curl")
    question.change(
        answer,
        question,
        [data, card, heat],
        api_name="predict",
        show_progress="minimal",
        # who changes the picture meanwhile wants the answer to the last one
        trigger_mode="always_last",
        concurrency_id=ANSWERS,
    )


def attempt(work: Callable[[], Any]) -> Any:
    """Return what `work` gives, or the sentence why it could not."""
    try:
        return work()
    except BadImage as error:
        return f"This picture cannot be read: {error.reason}."
    except Busy as error:
        return str(error)
    except Late:
        return "The answer was not ready in time; try again."


def _parts(answered: AnsweredPicture) -> tuple[dict[str, Any], str, Any]:
    """Return the JSON, card and heat map of an answer."""
    return answer_json(answered), answer_html.answer_card(answered), with_heat_map(answered)


def _question(queue: AnswerQueue) -> gr.Image:
    """Add the place for a picture, and below it the examples of the bundle."""
    picture = gr.Image(
        label="Picture",
        type="filepath",
        # as it was sent: any mode would have Gradio decode and encode it anew
        image_mode=None,
        height=360,
        elem_id="picture",
        sources=["upload", "clipboard", "webcam"],
        buttons=["fullscreen"],
        placeholder="Drop a picture here, or click to choose one",
    )
    if shown := examples(queue.model.predictor.bundle):
        gr.Examples(
            [[str(path)] for path, _ in shown],
            picture,
            elem_id="examples",
            label="Or try one of the validation pictures",
            api_visibility="private",
        )
    return picture


def _heat_map() -> gr.Image:
    """Add the place where the heat map will appear."""
    return gr.Image(
        label="Where it found evidence for its first choice",
        interactive=False,
        height=330,
        elem_id="heat",
        buttons=["fullscreen"],
        format="jpeg",
        visible=False,
    )


def _correction(
    queue: AnswerQueue, feedback: Feedback, picture: gr.Image, settings: PageSettings
) -> None:
    """Add the button that stores a picture with its right class."""

    def store(path: str | None, label: str | None, request: gr.Request) -> str:
        """What happened, as HTML."""
        if not path or not label:
            return answer_html.note("Choose a picture and its right class first.")
        sentence = attempt(
            lambda: feedback.store(
                queue,
                settings.uploads.read(path, settings.max_bytes),
                label,
                owner=owner_of(request),
            )
        )
        return answer_html.note(sentence)

    # shown as text, but given back as it is
    labels = [(one_line(label), label) for label in queue.model.predictor.bundle.labels]
    with gr.Accordion("This is wrong", open=False, elem_id="wrong"):
        right = gr.Dropdown(labels, value=None, label="What is it?", elem_id="right")
        button = gr.Button("Keep picture and correction", elem_id="keep")
        result = gr.HTML("", elem_id="kept")
        button.click(store, [picture, right], result, api_name="correct", concurrency_id=ANSWERS)
        # another picture: neither its class nor its thanks belong to it
        picture.change(None, None, [right, result], js="() => [null, '']", api_visibility="private")
