"""Assembles a service from model, queue, API and page, and runs it."""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp

from serve.engine import reload
from serve.engine.answer_queue import AnswerQueue, default_workers
from serve.engine.decoder import give_memory_back
from serve.engine.decoders import Decoders
from serve.http import life as lives
from serve.http import refusals
from serve.http.api import create_api
from serve.http.door import Door, DoorLimits, Page
from serve.http.gate import Gate
from serve.http.life import Life
from serve.http.prometheus import Metrics
from serve.http.repeat import Repeat
from serve.insides import of_uvicorn
from serve.limits import budgets
from serve.limits.logins import Keys
from serve.limits.origins import Origins
from serve.limits.uploads import SWEEP_S, Uploads
from serve.options import ServiceOptions, check_auth, check_token
from zoo.answer.self_check import unchecked
from zoo.host import console, machine, minimum

PUBLISHED = "hf-hub:"
"""Prefix of a published run's name."""
LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""


@dataclass(frozen=True, eq=False)
class Service:
    """The parts of a running service that `start` needs."""

    app: ASGIApp
    life: Life
    queue: AnswerQueue
    keys: Keys


def start(options: ServiceOptions) -> None:
    """Serve until SIGTERM or Ctrl-C; `UserError` for what the user can put right."""
    give_memory_back()
    of_uvicorn.answer_errors_with(refusals.no_http(), refusals.overloaded)
    with ExitStack() as stack:
        service = stack.enter_context(build_service(options))
        lives.serve(
            service.app,
            service.life,
            host=options.host,
            port=options.port,
            ready=partial(_say, options, service),
        )
    # a thread may still compute or load a model; Python would wait for it, and a thread cannot be
    # stopped from outside
    if _other_threads():
        sys.stdout.flush()
        os._exit(0)


def _other_threads() -> list[threading.Thread]:
    """Return the other threads for which Python would wait at its exit."""
    this = threading.current_thread()
    return [thread for thread in threading.enumerate() if thread is not this and not thread.daemon]


@contextmanager
def build_service(options: ServiceOptions) -> Iterator[Service]:
    """Build the application that these options ask for, with its model loaded, warm and checked.

    All that was started is closed at the end.
    """
    minimum.require(*minimum.SERVE)
    # it would log a warning for every malformed form that a stranger sends
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    keys = _keys(options)
    origins, room = Origins(options.allow_origin), budgets.room(budgets.open_files())
    workers = options.workers or default_workers()
    # workers compute at the same time, and share the cores
    threads = max(1, machine.compute_threads() // workers)
    load = partial(
        reload.load_model,
        local(options.bundle),
        provider=options.provider,
        threads=threads,
        check=options.self_check,
    )
    max_pixels = round(options.max_megapixels * 1e6)
    with ExitStack() as stack:
        # these processes come first, so that they start while the model is loaded
        decoders = Decoders(workers, max_pixels)
        stack.callback(decoders.close)
        queue = AnswerQueue(
            load(),
            workers=workers,
            waiting=options.queue,
            deadline_s=options.deadline_s,
            max_pixels=max_pixels,
            decoders=decoders,
        )
        queue.decode_s = options.decode_s
        stack.callback(queue.close)
        # after the model was loaded, which takes longer than they do
        decoders.wait()
        metrics = Metrics(queue)
        life = Life(idle=lambda: queue.outstanding == 0, patience_s=options.deadline_s, room=room)
        queue.closing = lambda: life.closing
        app: ASGIApp = create_api(queue, metrics, life)
        page = None
        if not options.api_only:
            page = _with_page(app, queue, options, stack)
        if options.watch:
            watch = reload.Watch(queue, load, metrics.reloaded, keep_classes=page is not None)
            _repeat(watch.look, reload.EVERY_S, stack, name="watch")
        limits = DoorLimits(round(options.max_body_mb * 1e6), options.deadline_s)
        door = Door(limits, keys, origins, options.root_path, page)
        yield Service(Gate(app, life, metrics, door), life, queue, keys)


def _keys(options: ServiceOptions) -> Keys:
    """Return the password and token of the service, from the command line or else from the
    environment."""
    auth, token = options.auth, options.token
    if not auth and (auth := os.environ.get("ZOOTUNE_AUTH") or None):
        check_auth("ZOOTUNE_AUTH", auth)
    if not token and (token := os.environ.get("ZOOTUNE_TOKEN") or None):
        check_token("ZOOTUNE_TOKEN", token)
    return Keys(auth, token)


def local(bundle: Path) -> Path:
    """Return the folder of the bundle on this machine.

    A published run, given as hf-hub:user/name or by an alias of the user's own, is pulled first, at
    the commit and with the digests of its first pull.
    """
    if not _is_published(bundle):
        return bundle
    from zoo.hub.pulled_run import pull_run

    return pull_run(str(bundle)).folder


def _is_published(bundle: Path) -> bool:
    """Tell whether this names a published run; a path that exists never does."""
    if bundle.exists():
        return False
    if str(bundle).startswith(PUBLISHED):
        return True
    # only here: a Space has no such module, but a bundle that exists, and has returned above
    from zoo.bases import registry

    return str(bundle) in registry.own_aliases()


def _with_page(app: ASGIApp, queue: AnswerQueue, options: ServiceOptions, stack: ExitStack) -> Page:
    """Mount the page after the routes of the API; its uploads are deleted at the end."""
    minimum.require(*minimum.PAGE)
    folder = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="zootune-", ignore_cleanup_errors=True)
    )
    uploads = Uploads(Path(folder))
    # all that Gradio writes must lie in this folder too; that includes its cache of examples, which
    # it serves to anybody
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_TEMP_DIR": str(uploads.folder),
        "GRADIO_EXAMPLES_CACHE": str(uploads.folder / "cache"),
    }
    # imported only now, because Gradio reads these variables at its import
    from serve.page.mount import mount
    from serve.page.settings import PageSettings

    max_bytes = round(options.max_body_mb * 1e6)
    settings = PageSettings(uploads, options.root_path, options.feedback, max_bytes)
    mounted = mount(app, queue, settings)
    _repeat(uploads.sweep, SWEEP_S, stack, name="sweep")
    return mounted


def _repeat(work: Callable[[], None], seconds: float, stack: ExitStack, *, name: str) -> None:
    """Do `work` every `seconds` in a thread of that name, until `stack` is closed."""
    thread = Repeat(work, seconds=seconds, name=name)
    thread.start()
    stack.callback(thread.stop)


def _say(options: ServiceOptions, service: Service, port: int) -> None:
    """Print which model answers at which address, and warn if nothing protects it."""
    host = options.host
    if ":" in host:
        host = f"[{host}]"  # an IPv6 address in a URL
    address = f"http://{host}:{port}{options.root_path}"
    if options.api_only:
        address += "/v1/predict"
    model = service.queue.model
    console.say(
        f"{model.name} ({len(model.predictor.bundle.labels)} classes, {model.predictor.provider}) "
        f"answers at {address}"
    )
    if (checked := model.predictor.checked) and not checked.pictures:
        console.say(unchecked(model.predictor.bundle, model.predictor.provider))
    if options.host not in LOCAL and service.keys == Keys():
        console.warn("everybody who reaches this machine can use it; set --auth or --token")
