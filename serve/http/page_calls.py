"""What a page or program may ask of the page's functions, put into one plain form before Gradio
sees it.

Gradio takes many forms of a file from outside (paths that it does not check, addresses that it
downloads, streams) and passes other fields on. Here a body is read once and written anew with what
the function takes: files that lie in the folder of uploads, short texts, small numbers.
"""

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from serve.limits.uploads import ELSEWHERE, Uploads

Input = Literal["file", "files", "text", "number"]
CALL, RUN = "/gradio_api/call/", "/gradio_api/run/"
"""Paths of calls by name, and of calls without the queue; all others are by number."""
MAX_FILES = 1_000
"""Files of one event that are looked at; the function itself takes fewer and says how many."""
MAX_TEXT = 10_000
"""Characters of a text."""
LARGEST = 1e6
"""Numbers lie between this and its negative."""
NOT_UPLOADED = f"The picture cannot be read: {ELSEWHERE}."
MALFORMED = "Expected a JSON object with the inputs of one of this page's functions in 'data'."
_SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)


class RefusedCall(Exception):
    """A body that is not passed on; its text is a sentence for the sender."""


@dataclass(frozen=True)
class Function:
    """What one function of the page takes."""

    name: str
    """As programs call it; empty for those that only the page calls."""
    inputs: tuple[Input, ...]
    queued: bool = True
    """Whether calls of it wait in Gradio's queue; only the others may be called directly."""
    choices: tuple[Container[Any] | None, ...] = ()
    """Of each input, the values that it may have; None: any of its kind."""


class PageCalls:
    """The functions of one page by their number, and the plain form of a call; final."""

    def __init__(self, functions: Mapping[int, Function], uploads: Uploads):
        self.functions = dict(functions)
        self._uploads = uploads

    def plain(self, body: bytes, path: str) -> bytes:
        """Return the body in plain form of a request to `path`. Raises `Refused`."""
        try:
            # the gate has bounded its size; nesting ends in a RecursionError
            call = json.loads(body)
        except (ValueError, RecursionError):
            raise RefusedCall(MALFORMED) from None
        if not isinstance(call, dict):
            raise RefusedCall(MALFORMED)
        name = None
        if path.startswith(CALL):
            name = path.removeprefix(CALL)
        number, function = self._function(call, name)
        # without the queue it would be answered beyond the number that may run at once
        if path.startswith(RUN) and function.queued:
            raise RefusedCall(MALFORMED)
        values, session = self._values(function, call.get("data")), call.get("session_hash")
        if session is not None and not (isinstance(session, str) and _SESSION.fullmatch(session)):
            raise RefusedCall(MALFORMED)
        plain_call: dict[str, Any] = {"data": values, "session_hash": session}
        if name is None:
            plain_call |= {"fn_index": number, "trigger_id": _trigger(call)}
        return json.dumps(plain_call).encode()

    def _values(self, function: Function, data: Any) -> list[Any]:
        """Return the inputs of a function in plain form."""
        if not isinstance(data, list) or len(data) != len(function.inputs):
            raise RefusedCall(MALFORMED)
        for value, choices in zip(data, function.choices, strict=False):
            if choices is not None and not (
                isinstance(value, str | int | None) and value in choices
            ):
                raise RefusedCall(MALFORMED)
        return [*map(self._value, function.inputs, data)]

    def _function(self, call: Mapping[str, Any], name: str | None) -> tuple[int, Function]:
        """Return the function that is called, by `name` if there is one, and its number."""
        number = call.get("fn_index")
        if name is None and type(number) is int and number in self.functions:
            return number, self.functions[number]
        for number, function in self.functions.items():
            if name and function.name == name:
                return number, function
        raise RefusedCall(MALFORMED)

    def _value(self, kind: Input, value: Any) -> Any:
        """One input in plain form."""
        if value is None:
            return None
        if kind == "file":
            return self._file(value)
        if kind == "files":
            if not isinstance(value, list) or len(value) > MAX_FILES:
                raise RefusedCall(NOT_UPLOADED)
            return [*map(self._file, value)]
        plain = isinstance(value, str) and len(value) <= MAX_TEXT
        if kind == "number":
            # a comparison tells NaN, infinity and integers of any length, which have no float; True
            # is an int as well
            plain = (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and abs(value) < LARGEST
            )
        if not plain:
            raise RefusedCall(MALFORMED)
        return value

    def _file(self, value: Any) -> dict[str, Any]:
        """Return a file in the folder of uploads, as Gradio describes it."""
        path = None
        if isinstance(value, dict):
            path = self._uploads.inside(value.get("path"))
        if path is None:
            raise RefusedCall(NOT_UPLOADED)
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def _trigger(call: Mapping[str, Any]) -> int | None:
    """Return the number of the component that called, if it can be one."""
    trigger = call.get("trigger_id")
    if type(trigger) is int and 0 <= trigger < 10_000:
        return trigger
    return None
