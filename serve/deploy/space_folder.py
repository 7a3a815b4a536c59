"""The whole folder of a Space: the bundle, the code that answers, and what the Hub reads."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from serve.deploy import packed_bundle
from serve.deploy.requirements import requirements
from serve.deploy.space_readme import readme
from zoo.contract import bundle as bundles
from zoo.contract import rundir
from zoo.contract.bundle import Bundle

SERVE = Path(__file__).parents[1]
ZOO = SERVE.parent / "zoo"
ROOMS = ("answer", "contract", "files", "host", "picture")
"""The rooms of zoo that answering needs, copied whole; with them goes zoo/predictor.py."""
TARGET = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A bundle folder's name that is kept; any other becomes `onnx`."""


def write_space(bundle: Bundle, out: Path, *, title: str | None, with_examples: bool) -> None:
    """Write everything into `out`, a new folder; `UserError` if something private would be in
    it. `title`: the name on the Hub (None: that of the run)."""
    private = packed_bundle.private_of(bundle)
    target = bundle.place.name
    if not TARGET.fullmatch(target):
        target = bundles.DEFAULT_TARGET
    model = out / "model"
    packed_bundle.pack(
        bundle, model / bundles.BUNDLES / target, private, with_examples=with_examples
    )
    _copy_code(out)
    card = packed_bundle.model_card(bundle, private)
    if card is not None:
        rundir.write_text(model / rundir.CARD, card)
    title = title or private.cut(str(bundle.run.get("name", "classifier")))
    rundir.write_text(out / "README.md", readme(title, bundle, card))
    rundir.write_text(out / "requirements.txt", requirements(bundle))
    rundir.write_text(out / "app.py", _app(target))
    private.refuse({path.relative_to(out).as_posix(): path for path in files_below(model)})


def files_below(folder: Path) -> Iterator[Path]:
    """Return every file of a folder and of the folders in it, sorted by path."""
    return filter(Path.is_file, sorted(folder.rglob("*")))


def is_code(path: Path, out: Path) -> bool:
    """Tell whether a file of the Space `out` is part of this program."""
    return path.relative_to(out).parts[0] in ("zoo", "serve")


def _copy_code(out: Path) -> None:
    """Copy the modules that answer, page and API."""
    (out / "zoo").mkdir()
    for name in ("__init__.py", "predictor.py"):
        shutil.copyfile(ZOO / name, out / "zoo" / name)
    compiled = shutil.ignore_patterns("__pycache__")
    for room in ROOMS:
        shutil.copytree(ZOO / room, out / "zoo" / room, ignore=compiled)
    # a Space makes no further Space, so that this room stays here
    unused = shutil.ignore_patterns("__pycache__", "deploy", "*.pyi")
    shutil.copytree(SERVE, out / "serve", ignore=unused)
    shutil.copyfile(Path(__file__).parent / "Dockerfile", out / "Dockerfile")


def _app(target: str) -> str:
    """Return the program that the Hub starts; `target` is the folder of the bundle."""
    return f'''"""The service as a Hugging Face Space.

ZOOTUNE_AUTH and ZOOTUNE_TOKEN may be its secrets.
"""

import os
from pathlib import Path

from serve.options import ServiceOptions
from serve.start import start
from zoo.host.errors import run_main

options = ServiceOptions(
    Path(__file__).parent / "model" / {bundles.BUNDLES!r} / {target!r},
    host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
    port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
)
run_main(lambda: start(options))
'''
