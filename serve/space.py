"""`python -m serve.space RUN_OR_BUNDLE --out FOLDER`: the same page and API as the folder of a Hugging Face Space.

    FOLDER/  app.py  requirements.txt  README.md  Dockerfile  zoo/  serve/  model/README.md  model/bundles/onnx/

It needs no torch. `docker build FOLDER` makes an image of the same, which runs as a user without rights.
"""

import importlib.metadata
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoo import bundle as bundles
from zoo import console, minimum, rundir
from zoo.errors import UserError, run_main
from zoo.preprocess import without_metadata
from zoo.text import code, one_line, shell_path

HERE = Path(__file__).parent
ZOO = ("__init__", "bundle", "console", "decision", "disk", "errors", "exif", "fields", "file_kinds", "folders",
       "grey_bits", "jpeg_file", "machine", "minimum", "opened", "openvino_runtime", "picture_file", "predictor",
       "preprocess", "rundir", "runtime", "self_check", "strict_json", "tables", "text", "tiff_file", "tta")
"""The modules of zoo that answering needs."""
PACKAGES = ("fastapi", "gradio", "numpy", "pillow", "prometheus-client", "python-multipart", "tyro", "uvicorn")
"""Besides ONNX Runtime; pinned to what is installed here, which is what the tests ran with. What they bring along and
strangers' requests reach has its bound of zoo/minimum.py: a Space is on the open internet."""


TARGET = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A bundle folder's name that is kept; any other becomes `onnx`."""
LONGEST_CARD, LONGEST_FRONT = 1_000_000, 2_000
"""Characters of a card and lines of its front matter; the rest is left out."""


@dataclass(frozen=True)
class Space:
    """What becomes a Space."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A run folder with a bundle, a bundle folder, or its model.onnx; a published run by name or alias, as for
    `python -m serve`."""
    out: Path
    """Folder to write; it must not exist, or be empty."""
    title: str | None = None
    """Shown on the Hub; default: the name of the run."""


def main(space: tyro.conf.OmitArgPrefixes[Space]) -> None:
    """Write the folder of a Hugging Face Space with the page and the API of this model."""
    from serve.start import local  # --help needs none of it

    out = space.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: expected a new or empty folder, seen one with content: name another.")
    bundle = bundles.open_bundle(local(space.bundle))
    name = bundle.folder.name if TARGET.fullmatch(bundle.folder.name) else bundles.DEFAULT_TARGET
    _copy_bundle(bundle, out / "model" / bundles.BUNDLES / name)
    _copy_code(out)
    card = _card(bundle)
    if card is not None:
        rundir.write_text(out / "model" / rundir.CARD, card)
    title = space.title or str(bundle.run.get("name", "classifier"))
    rundir.write_text(out / "README.md", _readme(title, bundle, card))
    rundir.write_text(out / "requirements.txt", _requirements())
    rundir.write_text(out / "app.py", _app(name))
    console.say(f"{out} is the folder of a Space. Try it: python {shell_path(out / 'app.py')}\n"
                "Upload it: hf repo create NAME/SPACE --repo-type space --space-sdk gradio, then hf upload NAME/SPACE "
                f"{shell_path(out)} . --repo-type space")


def _copy_bundle(bundle: bundles.Bundle, folder: Path) -> None:
    """What answering needs of the files that FINISHED.json lists; without names and metadata of pictures."""
    for name in sorted(bundle.files):
        if name == bundles.PARITY_PAGE:  # shows pictures
            continue
        path = bundle.file(name)
        there = folder / name
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if path is None or not inside or path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            raise UserError(f"{bundle.folder / name} is no plain file of the bundle: copy the bundle again, or export "
                            "it again.")
        there.parent.mkdir(parents=True, exist_ok=True)
        if name == bundles.PARITY:
            rundir.write_json(there, bundles.without_pictures(rundir.read_json(path, kind=dict)))
        elif name.startswith(f"{bundles.EXAMPLES}/") and name != f"{bundles.EXAMPLES}/{bundles.EXPECTED}":
            there.write_bytes(without_metadata(path)[1])
        else:
            shutil.copyfile(path, there)
    bundles.finish(folder)


def _card(bundle: bundles.Bundle) -> str | None:
    """The model card of the run to which the bundle belongs, if the run's FINISHED.json lists one."""
    run = bundle.folder.parent.parent
    if bundle.folder.parent.name != bundles.BUNDLES or not rundir.is_finished(run):
        return None
    path = rundir.listed(run, rundir.CARD)
    if path is None or path.is_symlink():
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST_CARD)


def _copy_code(out: Path) -> None:
    """The modules that answer, page and API."""
    (out / "zoo").mkdir()
    for name in ZOO:
        shutil.copyfile(HERE.parent / "zoo" / f"{name}.py", out / "zoo" / f"{name}.py")
    shutil.copytree(HERE, out / "serve", ignore=shutil.ignore_patterns("__pycache__", "deploy", "*.pyi"))
    shutil.copyfile(HERE / "deploy" / "Dockerfile", out / "Dockerfile")


def _app(target: str) -> str:
    return f'''"""The service as a Hugging Face Space; ZOOTUNE_AUTH and ZOOTUNE_TOKEN may be its secrets."""

import os
from pathlib import Path

from serve.__main__ import Order
from serve.start import start
from zoo.errors import run_main

order = Order(Path(__file__).parent / "model" / {bundles.BUNDLES!r} / {target!r},
              host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
              port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
run_main(lambda: start(order))
'''


def _requirements() -> str:
    lines = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    import onnxruntime

    brought = [package for package in (*minimum.SERVE, *minimum.PAGE) if package.lower() not in PACKAGES]
    return "\n".join([*lines, f"onnxruntime=={onnxruntime.__version__}", *minimum.bounds(*brought)]) + "\n"


def _readme(title: str, bundle: bundles.Bundle, card: str | None) -> str:
    """Front matter as the Hub reads it (every text as JSON, which is YAML), and a word on what this is."""
    front = {"title": one_line(title), "emoji": "🔎", "colorFrom": "green", "colorTo": "blue", "sdk": "gradio",
             "sdk_version": importlib.metadata.version("gradio"), "python_version": "3.11", "app_file": "app.py",
             "pinned": False, "short_description": f"Image classifier with {len(bundle.labels)} classes"}
    if licence := _licence(card or ""):
        front["license"] = licence
    # JSON in ASCII: YAML takes fewer characters as they are
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in front.items())
    names = ", ".join(map(code, bundle.labels[:50]))
    return (f"---\n{lines}\n---\n\nAn image classifier ({names}) with calibrated probabilities, an answer for pictures "
            "that are none of these, and heat maps. Programs ask `POST /v1/predict`; see `/openapi.json`.\n")


def _licence(card: str) -> str | None:
    """`license` of a card's front matter, if it is an identifier."""
    lines = card.split("\n", LONGEST_FRONT)
    if lines[0] != "---" or "---" not in lines[1:]:
        return None
    for line in lines[1:lines.index("---", 1)]:
        key, _, value = line.partition(":")
        if key == "license" and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", value.strip()):
            return value.strip()
    return None


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m serve.space"))
