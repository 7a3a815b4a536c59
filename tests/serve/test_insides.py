"""What `serve/insides` borrows is still there in the installed versions; if not, the failure names
the project, its version and what is gone."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.datastructures import Headers, UploadFile
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

from serve.insides import of_starlette, of_uvicorn
from tests import warm
from tests.borrowed import borrowed, lacking

SERVE = Path(of_uvicorn.__file__).parents[1]


def test_the_failure_names_version_and_inside() -> None:
    with (
        pytest.raises(pytest.fail.Exception, match=r"uvicorn \d+\.\d+\S* no longer has .*gone"),
        borrowed("uvicorn", "the attribute gone"),
    ):
        _ = uvicorn.gone


@pytest.mark.parametrize(
    "inside",
    [
        "AutoHTTPProtocol",
        "server_state",
        "response_complete",
        "spool_max_size",
        "has_launched",
        "state_session_capacity",
        "temp_file_sets",
        "LocalContext",
        "file_upload_statuses",
        "strip_invalid_filename_characters",
        "preprocess =",
        ".fns",
    ],
)
def test_insides_are_borrowed_in_one_room(inside: str) -> None:
    files = [path for path in SERVE.rglob("*.py") if inside in path.read_text(encoding="utf-8")]
    assert {path.parent.name for path in files} <= {"insides"}


class Transport(asyncio.Transport):
    """A connection in memory."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.aborted = self.closed = False

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: Any) -> None:
        pass


async def follow_a_connection() -> None:
    """One request on uvicorn's protocol, looked at before, while and after it is answered."""
    begun, answer = asyncio.Event(), asyncio.Event()
    sends: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sends.append(send)
        begun.set()
        await answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, http=of_uvicorn.bounded_protocol(1), log_config=None)  # type: ignore[arg-type]
    config.load()
    server, transport, second = uvicorn.Server(config), Transport(), Transport()
    with borrowed("uvicorn", "the keywords of AutoHTTPProtocol, server_state.connections"):
        arguments = {"config": config, "server_state": server.server_state, "app_state": {}}
        assert isinstance(server.server_state, ServerState)
        connection = config.http_protocol_class(**arguments)  # type: ignore[arg-type]
        connection.connection_made(transport)
        config.http_protocol_class(**arguments).connection_made(second)  # type: ignore[arg-type]
        assert (transport.aborted, second.aborted) == (False, True)
    with borrowed("uvicorn", "cycle of a connection, and its response_complete"):
        assert of_uvicorn.silent_connections(server) == {connection}
        connection.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")  # type: ignore[attr-defined]
        await asyncio.wait_for(begun.wait(), 5)
        assert of_uvicorn.silent_connections(server) == set()
    with borrowed("uvicorn", "transport of the object to which send belongs"):
        assert of_uvicorn.transport_of(sends[0]) is transport
    with borrowed("uvicorn", "response_complete after the answer"):
        answer.set()
        await asyncio.wait_for(asyncio.gather(*server.server_state.tasks), 5)
        assert of_uvicorn.silent_connections(server) == {connection}
    with borrowed("uvicorn", "transport of a connection"):
        of_uvicorn.close(connection)
        assert transport.closed
    connection.connection_lost(None)


def test_uvicorn_has_what_is_borrowed() -> None:
    asyncio.run(follow_a_connection())
    with borrowed("uvicorn", "send_400_response and service_unavailable of AutoHTTPProtocol"):
        protocol: Any = AutoHTTPProtocol
        assert callable(protocol.send_400_response)
        assert callable(vars(sys.modules[protocol.__module__])["service_unavailable"])


def test_starlette_has_what_is_borrowed() -> None:
    """A file that is larger than what Starlette keeps in memory by itself stays there."""
    head = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'

    async def body() -> Any:
        yield head + bytes(3_000_000) + b"\r\n--x--\r\n"

    async def on_disk() -> object:
        headers = Headers({"content-type": "multipart/form-data; boundary=x"})
        form = await of_starlette.parser_in_memory(headers, body(), most=1).parse()
        file = form["file"]
        assert isinstance(file, UploadFile)
        rolled = file.file._rolled  # type: ignore[attr-defined]
        await form.close()
        return rolled

    with borrowed("starlette", "MultiPartParser.spool_max_size"):
        assert asyncio.run(on_disk()) is False


GRADIO = """
import json, tempfile
from pathlib import Path
import gradio as gr
from gradio.routes import App, file_upload_statuses
from serve.insides import of_gradio

lacking = []

def borrow(inside, works):
    try:
        fine = works()
    except (AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
        lacking.append(f"{inside} ({type(error).__name__}: {error})")
    else:
        if not fine:
            lacking.append(inside)

def sessions():
    of_gradio.remember_sessions(demo, 3)
    return App.create_app(demo).state_holder.capacity == 3

def unopened():
    of_gradio.leave_uploads_unopened()
    return picture.preprocess(gr.data_classes.ImageData(path="/no/picture")) == "/no/picture"

def forgotten():
    gone, there = Path(tempfile.mkdtemp(), "gone"), Path(tempfile.mkdtemp())
    demo.temp_file_sets.append({str(gone), str(there)})
    of_gradio.forget_deleted_files(demo)
    return demo.temp_file_sets[-1] == {str(there)}

def awaited():
    queue, before = demo._queue, of_gradio.is_awaited(demo, "x")
    queue.pending_event_ids_session["session"] = {"x"}
    return not before and of_gradio.is_awaited(demo, "x")

def progress():
    of_gradio.progress_of("x")("name", b"content")
    kept = file_upload_statuses.pop("x").filename == "name"
    of_gradio.upload_is_over("x")
    of_gradio.forget_progress()
    return kept and "x" not in file_upload_statuses._statuses

def functions():
    [first, second] = of_gradio.functions(demo)
    return [(first.name, first.components, first.queued), (second.name, second.queued)] == [
        ("ask", (picture, word), True), ("", False)]

with gr.Blocks(analytics_enabled=False) as demo:
    picture, word = gr.Image(type="filepath"), gr.Dropdown(["a", ("b", "B")], value=None)
    few = gr.Dataset(components=[picture], samples=[["x"], ["y"]])
    picture.change(lambda picture, word: None, [picture, word], api_name="ask")
    picture.change(lambda: None, queue=False, api_visibility="private")
    picture.change(None, js="() => 1")

demo.queue()
borrow("Blocks.has_launched, False before launch", lambda: demo.has_launched is False)
borrow("Blocks.state_session_capacity", sessions)
borrow("Image.preprocess", unopened)
borrow("Blocks.fns, or what a function has", functions)
borrow("Dropdown.choices", lambda: of_gradio.choices(word) == {None, "a", "B"})
borrow("Dataset.samples", lambda: of_gradio.choices(few) == range(2))
borrow("Blocks._queue, or its tables", awaited)
borrow("the queue's table of messages", lambda: "x" not in demo._queue.pending_messages_per_session)
borrow("Blocks.temp_file_sets", forgotten)
borrow("file_upload_statuses, _statuses or _signals", progress)
borrow("strip_invalid_filename_characters",
       lambda: of_gradio.without_invalid_characters('a/b"c.png') == "abc.png")
print(json.dumps(lacking))
"""


def test_gradio_has_what_is_borrowed() -> None:
    ran = warm.run(warm.GRADIO, ["-c", GRADIO])
    with borrowed("gradio", f"what this ended with:\n{ran.stderr}"):
        assert ran.returncode == 0
    for inside in json.loads(ran.stdout.splitlines()[-1]):
        lacking("gradio", inside)
