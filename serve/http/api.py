"""The routes for programs. Every refusal is `{"error": "one sentence"}` with a status of its
own."""

import asyncio
import base64
import binascii
import importlib.metadata
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from serve.engine.engine import Busy, Engine, Late, Model
from serve.engine.render import to_json
from serve.http.life import Life
from serve.http.metrics import Metrics
from serve.http.openapi import ANSWER, ERRORS, PICTURES
from serve.http.refusals import error_body
from serve.limits import budgets
from zoo.host.errors import BadImage

MAX_PICTURES = 16
"""Pictures in one request."""
NEVER_TO_DISK = 0
"""Of Starlette's parser of forms: files stay in memory, where the gate counts them, and take no
open file each."""
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


def create_api(engine: Engine, metrics: Metrics, life: Life) -> FastAPI:
    """The application with all routes but the page's."""
    api = FastAPI(
        title="zootune",
        version=version(),
        docs_url=None,
        redoc_url=None,
        summary="Answers of a fine-tuned image classifier",
        description="All answers come from the exported model, calibrated as its report says.",
    )
    _health(api, engine, life, metrics)

    @api.post(
        "/v1/predict",
        tags=["answers"],
        responses=ANSWER | ERRORS,
        openapi_extra=PICTURES,
        response_class=JSONResponse,
    )
    async def predict(
        request: Request,
        top_k: Annotated[
            int, Query(ge=1, le=1000, description="So many classes, likeliest first.")
        ] = 5,
        heatmap: Annotated[
            bool,
            Query(
                description="Add the map of the likeliest class: rows of "
                "numbers from 0 to 1 over what the network sees."
            ),
        ] = False,
        embedding: Annotated[bool, Query(description="Add the features of the picture.")] = False,
    ) -> Response:
        """Answer one or several pictures, in their order."""
        deadline = time.monotonic() + engine.deadline_s
        pictures = await read_pictures(request)
        make = partial(_with_model, heatmap=heatmap, embedding=embedding)
        owner = budgets.address(request.scope)
        futures = engine.submit(pictures, make, top=top_k, deadline=deadline, owner=owner)
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
        except TimeoutError:
            raise Late from None
        finally:
            for future in futures:
                future.cancel()
        return JSONResponse(
            {
                "model": about(answers[0][0], short=True),
                "predictions": [said for _, said in answers],
            }
        )

    @api.get("/v1/models", tags=["about"])
    def models() -> dict[str, Any]:
        """What is served."""
        return {"models": [about(engine.model)]}

    _refusals(api, metrics)
    return api


def _health(api: FastAPI, engine: Engine, life: Life, metrics: Metrics) -> None:
    """Routes for those who run the service."""

    @api.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process is there."""
        return {"status": "ok"}

    @api.get("/readyz", tags=["health"], responses={503: ERRORS[503]})
    async def readyz() -> Response:
        """It takes requests: loaded, warm, not shutting down, queue not full, room for a body."""
        reason = ""
        if life.draining:
            reason = "shutting down"
        elif engine.full:
            reason = "queue full"
        elif life.full():
            reason = "too much is being sent"
        return JSONResponse(
            {"status": reason or "ready"},
            503 if reason else 200,
            {"retry-after": "1"} if reason else None,
        )

    @api.get(
        "/metrics",
        tags=["health"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def numbers() -> Response:
        """Prometheus' text format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @api.get("/version", tags=["about"])
    async def versions() -> dict[str, str]:
        """Versions of the programs that answer."""
        import onnxruntime

        return {"zootune": version(), "onnxruntime": onnxruntime.__version__}


def about(model: Model, *, short: bool = False) -> dict[str, Any]:
    """A model for programs; `short` is what each answer carries."""
    named = {"name": model.name, "digest": model.digest}
    bundle = model.predictor.bundle
    return (
        named
        if short
        else named
        | {
            "target": bundle.target,
            "provider": model.predictor.provider,
            "labels": list(bundle.labels),
            "image_size": bundle.pre.size,
            "outputs": list(bundle.outputs),
            "run": dict(bundle.run),
            "decision": bundle.decision.to_json(),
            "status": bundle.status,
            "loaded_at": model.loaded_at,
        }
    )


def version() -> str:
    """Version of this program; `unknown` where it was copied instead of installed."""
    try:
        return importlib.metadata.version("zootune")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


async def read_pictures(request: Request) -> list[bytes]:
    """The encoded pictures of a request, in their order; an HTTP error with one sentence
    otherwise."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _from_json(b"".join([part async for part in request.stream()]))
    if kind != "multipart/form-data":
        raise HTTPException(
            415,
            "Expected multipart/form-data with pictures in the field 'file', or application/json "
            "with 'images'.",
        )
    parser = MultiPartParser(
        request.headers, request.stream(), max_files=MAX_PICTURES, max_fields=MAX_PICTURES
    )
    parser.spool_max_size = NEVER_TO_DISK
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    files = form.getlist("file")
    whole = len(files) == len(form.multi_items()) and all(
        isinstance(file, UploadFile) for file in files
    )
    if not files or not whole:
        raise HTTPException(
            422, "Expected pictures in the field 'file', each as a file, and no other field."
        )
    return [await file.read() for file in files if isinstance(file, UploadFile)]


def _from_json(body: bytes) -> list[bytes]:
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
    """The bytes of base64 or of a data URL, as programs write them: in lines, without padding, in
    the alphabet for addresses. Raises `ValueError` for anything else."""
    if url := DATA_URL.match(text):
        text = text[url.end() :]
    plain = text.encode("ascii").translate(FOR_ADDRESSES, delete=b" \t\r\n").rstrip(b"=")
    return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)


def _not_json() -> HTTPException:
    return HTTPException(
        422,
        f'Expected {{"images": [...]}} with 1 to {MAX_PICTURES} pictures, each as base64 or '
        "data URL, and nothing else.",
    )


def _with_model(answered: Any, *, heatmap: bool, embedding: bool) -> tuple[Model, dict[str, Any]]:
    return answered.model, to_json(answered, heatmap=heatmap, embedding=embedding)


def _refusals(api: FastAPI, metrics: Metrics) -> None:
    """Exceptions -> sentences."""

    def refuse(
        status: int, sentence: str, reason: str = "", headers: dict[str, str] | None = None
    ) -> Response:
        if reason:
            metrics.rejected(reason)
        return JSONResponse(error_body(sentence), status, headers)

    async def bad_image(_: Request, error: Any) -> Response:
        sentence = f"{error}."
        return refuse(
            413 if error.reason.startswith("too large") else 422,
            sentence[0].upper() + sentence[1:],
            "picture",
        )

    async def busy(_: Request, error: Any) -> Response:
        return refuse(503, str(error), "queue", {"retry-after": str(error.retry_after_s)})

    async def late(_: Request, __: Any) -> Response:
        return refuse(504, "The answer was not ready in time.", "deadline")

    async def invalid(_: Request, error: Any) -> Response:
        first = error.errors()[0]
        return refuse(
            422, f"{'.'.join(map(str, first['loc'][1:])) or 'The request'}: {first['msg']}."
        )

    async def gone(_: Request, __: Any) -> Response:
        # nobody reads it; unhandled, it would fill the log
        return refuse(400, "The request broke off.")

    async def http(_: Request, error: Any) -> Response:
        return refuse(error.status_code, str(error.detail), "", error.headers)

    handlers: dict[type[Exception], Callable[[Request, Any], Any]] = {
        BadImage: bad_image,
        Busy: busy,
        Late: late,
        RequestValidationError: invalid,
        HTTPException: http,
        ClientDisconnect: gone,
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, handler)
