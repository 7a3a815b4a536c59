"""What is borrowed from Gradio. Tried with Gradio 6.31.0 and gradio_client 2.7.2.

A page that is mounted in another application is not launched, so that what Gradio sets, checks and
forgets in `launch` is done here; and Gradio forgets neither uploads nor files by itself.
"""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.routes import file_upload_statuses
from gradio_client.utils import strip_invalid_filename_characters


def serve_own_files_only(demo: gr.Blocks) -> None:
    """Have Gradio refuse files that lie outside its folder; a page that was only mounted gives any
    file of this machine to anybody.

    Borrowed: `Blocks.has_launched`, which `launch` sets and `mount_gradio_app` does not.
    """
    demo.has_launched = True


def remember_sessions(demo: gr.Blocks, count: int) -> None:
    """Have Gradio remember the values of at most `count` pages; to be called before it is mounted.

    Borrowed: `Blocks.state_session_capacity`, which only `launch` takes as an argument.
    """
    demo.state_session_capacity = count


def leave_uploads_unopened() -> None:
    """Have every `gr.Image` give its function the path of an upload as it came: Gradio opens it
    with every plugin of Pillow, and may encode it anew.

    Borrowed: `Image.preprocess`, of the class: Gradio builds that of a session anew after an
    example was clicked. A subclass, the public way, makes Gradio write .pyi files.
    """
    gr.Image.preprocess = _path_only  # type: ignore[method-assign,assignment]


def _path_only(_: gr.Image, payload: Any) -> str | None:
    return None if payload is None else payload.path


@dataclass(frozen=True)
class PageFunction:
    """One function of the page."""

    number: int
    name: str
    """As programs call it; empty if only the page does."""
    components: tuple[Any, ...]
    """What gives it its inputs."""
    queued: bool


def functions(demo: gr.Blocks) -> Iterator[PageFunction]:
    """Return the functions of a page that run here, not in the browser.

    Borrowed: `Blocks.fns`, and of each its `fn`, `inputs`, `queue`, `api_name`, `api_visibility`.
    `get_api_info`, the public way, leaves out what only the page calls.
    """
    for number, function in demo.fns.items():
        if function.fn is None:
            continue
        name = str(function.api_name) if function.api_visibility == "public" else ""
        yield PageFunction(number, name, tuple(function.inputs), bool(function.queue))


def choices(component: Any) -> Container[Any] | None:
    """Return the values that a component has to choose from, as Gradio names them, and of examples
    their numbers; None: any value.

    Borrowed: `Dropdown.choices` as pairs, and `Dataset.samples`.
    """
    if isinstance(component, gr.Dropdown):
        return frozenset({None, *(value for _, value in component.choices)})
    if isinstance(component, gr.Dataset):
        return range(len(component.samples))
    return None


def is_awaited(demo: gr.Blocks, name: str) -> bool:
    """Tell whether answers wait, or are being made, for a session or an event of this name; for all
    others Gradio logs a traceback when they are asked for.

    Borrowed: `Blocks._queue` with its tables of sessions and events.
    """
    queue = demo._queue
    if name in queue.pending_messages_per_session or name in queue.event_ids_to_events:
        return True
    # a copy, because the queue changes it in other threads
    return any(name in events for events in [*queue.pending_event_ids_session.values()])


def forget_deleted_files(demo: gr.Blocks) -> None:
    """Forget the files that are no longer there: Gradio's lists of them only grow.

    Borrowed: `Blocks.temp_file_sets`. `Blocks(delete_cache=...)`, the public way, would delete by
    an age of its own.
    """
    for paths in demo.temp_file_sets:
        # a copy, because paths are taken out of the set
        for path in [*paths]:
            if not Path(path).exists():
                paths.discard(path)


def progress_of(upload_id: str) -> Callable[[str, bytes], None]:
    """Return what to call with the name and each piece of a file that arrives, so that the page
    shows how far the upload is; `upload_is_over` ends it. An empty `upload_id`: nobody looks.

    Borrowed: `file_upload_statuses`, which Gradio's own route of uploads writes to.
    """
    if not upload_id:
        return lambda name, content: None
    file_upload_statuses.track(upload_id)
    return lambda name, content: file_upload_statuses.append(upload_id, name, content)


def upload_is_over(upload_id: str) -> None:
    """End what `progress_of` began."""
    if upload_id:
        file_upload_statuses.set_done(upload_id)


def forget_progress() -> None:
    """Forget uploads that are over: Gradio remembers each whose progress nobody looked at for
    ever.

    Borrowed: `_statuses` and `_signals` of `file_upload_statuses`.
    """
    for upload_id, status in [*file_upload_statuses._statuses.items()]:
        if status.is_done:
            file_upload_statuses.stop_tracking(upload_id)
    for upload_id in [*file_upload_statuses._signals]:
        if upload_id not in file_upload_statuses._statuses:
            file_upload_statuses._signals.pop(upload_id, None)


def without_invalid_characters(name: str) -> str:
    """Return the name of a file without what a file system does not take, as Gradio names uploads.

    Borrowed: a function of gradio_client that it does not document.
    """
    return strip_invalid_filename_characters(name)
