"""The pictures of a request for programs, as a form or as JSON."""

import base64
import binascii
import re

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from serve.insides.of_starlette import parser_in_memory

MAX_PICTURES = 16
"""Pictures in one request."""
DATA_URL = re.compile(r"\s*data:[^,]{0,200},", re.IGNORECASE)
FOR_ADDRESSES = bytes.maketrans(b"-_", b"+/")
"""The alphabet of base64 for addresses (RFC 4648, 5) to the usual one."""
MAX_SIGNS = 10 * MAX_PICTURES
"""Brackets, commas and colons in the JSON form of a request: it has 2 + 3 for each picture as data
URL."""


class Encoded(BaseModel):
    """The JSON form of a request."""

    model_config = ConfigDict(extra="forbid")
    images: list[str] = Field(min_length=1, max_length=MAX_PICTURES)


async def read_pictures(request: Request) -> list[bytes]:
    """Return the encoded pictures of a request, in their order; an HTTP error with one sentence
    otherwise."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        # not request.body(), which would hold it until the answer is there
        return _from_json(b"".join([part async for part in request.stream()]))
    if kind == "multipart/form-data":
        return await _from_form(request)
    raise HTTPException(
        415,
        "Expected multipart/form-data with pictures in the field 'file', or application/json "
        "with 'images'.",
    )


async def _from_form(request: Request) -> list[bytes]:
    """Return the files of the field `file`, in which nothing else may stand."""
    parser = parser_in_memory(request.headers, request.stream(), most=MAX_PICTURES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    pictures = []
    for field, value in form.multi_items():
        if field != "file" or not isinstance(value, UploadFile):
            raise _not_files()
        pictures.append(await value.read())
    if not pictures:
        raise _not_files()
    return pictures


def _from_json(body: bytes) -> list[bytes]:
    """Return the pictures of a body that is `Encoded`."""
    # pictures as base64 hold none of these signs: a body with more is something else, and parsed it
    # would take 30 times its size in memory
    if sum(body.count(sign) for sign in b"[{,:") > MAX_SIGNS:
        raise _not_json()
    try:
        return [_from_base64(image) for image in Encoded.model_validate_json(body).images]
    except ValidationError:
        raise _not_json() from None
    except (binascii.Error, ValueError):
        raise HTTPException(
            422, "Expected each of 'images' as base64 or as a data URL (data:image/png;base64,...)."
        ) from None


def _from_base64(text: str) -> bytes:
    """Return the bytes of base64 or of a data URL, as programs write them: in lines, without
    padding, in the alphabet for addresses. Raises `ValueError` for anything else."""
    if url := DATA_URL.match(text):
        text = text[url.end() :]
    # UnicodeEncodeError is a ValueError
    plain = text.encode("ascii").translate(FOR_ADDRESSES, delete=b" \t\r\n").rstrip(b"=")
    return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)


def _not_files() -> HTTPException:
    return HTTPException(
        422, "Expected pictures in the field 'file', each as a file, and no other field."
    )


def _not_json() -> HTTPException:
    return HTTPException(
        422,
        f'Expected {{"images": [...]}} with 1 to {MAX_PICTURES} pictures, each as base64 or '
        "data URL, and nothing else.",
    )
