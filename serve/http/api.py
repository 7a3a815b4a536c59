"""The routes for programs. Every refusal is `{"error": "one sentence"}` with a status of its
own."""

import asyncio
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serve.engine.answer_queue import AnswerQueue, Busy, Late, Model
from serve.engine.render import answer_json
from serve.http.life import Life
from serve.http.openapi import ANSWER, ERRORS, PICTURES
from serve.http.pictures import read_pictures
from serve.http.prometheus import Metrics
from serve.http.refusals import error_body
from serve.limits import budgets
from zoo.host.errors import BadImage

T = TypeVar("T")


def create_api(queue: AnswerQueue, metrics: Metrics, life: Life) -> FastAPI:
    """Build the application with all routes but the page's."""
    api = FastAPI(
        title="zootune",
        version=version(),
        # their pages load scripts from another host, which the policy forbids
        docs_url=None,
        redoc_url=None,
        summary="Answers of a fine-tuned image classifier",
        description="All answers come from the exported model, calibrated as its report says.",
    )
    _health(api, queue, life, metrics)

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
        # before the body is read, whose time counts as well
        deadline = time.monotonic() + queue.deadline_s
        pictures = await read_pictures(request)
        make = partial(_with_model, heatmap=heatmap, embedding=embedding)
        owner = budgets.address(request.scope)
        # JSON is made by the worker, so that the pixels need not outlive it
        futures = queue.submit(pictures, make, top=top_k, deadline=deadline, owner=owner)
        answers = await _results(futures, deadline)
        return JSONResponse(
            {
                "model": describe(answers[0][0], short=True),
                "predictions": [prediction for _, prediction in answers],
            }
        )

    @api.get("/v1/models", tags=["about"])
    def models() -> dict[str, Any]:
        """What is served."""
        return {"models": [describe(queue.model)]}

    _refusals(api, metrics)
    return api


async def _results(futures: Sequence[Future[T]], deadline: float) -> list[T]:
    """Wait for all answers to a request, and return them; `Late` after the deadline, on the clock
    of `time.monotonic`. What is not answered then, or when the sender is gone, is taken back."""
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
    except TimeoutError:
        raise Late from None
    finally:
        for future in futures:
            future.cancel()


def _health(api: FastAPI, queue: AnswerQueue, life: Life, metrics: Metrics) -> None:
    """Add the routes for those who run the service."""

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
        elif queue.full:
            reason = "queue full"
        elif life.full():
            reason = "too much is being sent"
        if reason:
            not_ready = {"status": reason} | error_body(f"Not ready: {reason}.")
            return JSONResponse(not_ready, 503, {"retry-after": "1"})
        return JSONResponse({"status": "ready"})

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
        # here: loaded already where there is a model, and not at the import of this module
        import onnxruntime

        return {"zootune": version(), "onnxruntime": onnxruntime.__version__}


def describe(model: Model, *, short: bool = False) -> dict[str, Any]:
    """Describe a model for programs; `short`: as each answer carries it."""
    named = {"name": model.name, "digest": model.digest}
    if short:
        return named
    bundle = model.predictor.bundle
    return named | {
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


def version() -> str:
    """Return the version of this program; `unknown` where it was copied instead of installed."""
    try:
        return importlib.metadata.version("zootune")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _with_model(answered: Any, *, heatmap: bool, embedding: bool) -> tuple[Model, dict[str, Any]]:
    return answered.model, answer_json(answered, heatmap=heatmap, embedding=embedding)


def _refusals(api: FastAPI, metrics: Metrics) -> None:
    """Have every exception answered by a sentence."""

    def refuse(
        status: int, sentence: str, reason: str = "", headers: dict[str, str] | None = None
    ) -> Response:
        if reason:
            metrics.rejected(reason)
        return JSONResponse(error_body(sentence), status, headers)

    async def bad_image(_: Request, error: Any) -> Response:
        sentence = f"{error}."
        status = 422
        # a size, which the sender can change, has a status of its own
        if error.reason.startswith("too large"):
            status = 413
        return refuse(status, sentence[0].upper() + sentence[1:], "picture")

    async def busy(_: Request, error: Any) -> Response:
        return refuse(503, str(error), "queue", {"retry-after": str(error.retry_after_s)})

    async def late(_: Request, __: Any) -> Response:
        return refuse(504, "The answer was not ready in time.", "deadline")

    async def invalid(_: Request, error: Any) -> Response:
        first = error.errors()[0]
        # the first part names only where FastAPI looked: query, body
        place = ".".join(map(str, first["loc"][1:])) or "The request"
        return refuse(422, f"{place}: {first['msg']}.")

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
