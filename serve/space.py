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
from zoo import minimum, rundir
from zoo.errors import UserError, run_main

HERE = Path(__file__).parent
ZOO = ("__init__", "bundle", "decision", "errors", "exif", "fields", "folders", "jpeg_file", "minimum", "openvino_runtime",
       "picture_file", "predictor", "preprocess", "rundir", "runtime", "strict_json", "tables", "text", "tiff_file", "tta")
"""The modules of zoo that answering needs."""
PACKAGES = ("fastapi", "gradio", "numpy", "pillow", "prometheus-client", "python-multipart", "tyro", "uvicorn")
"""Besides ONNX Runtime; pinned to what is installed here, which is what the tests ran with. What they bring along and
strangers' requests reach has its bound of zoo/minimum.py: a Space is on the open internet."""


@dataclass(frozen=True)
class Space:
    """What becomes a Space."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A run folder with a bundle, a bundle folder, or its model.onnx."""
    out: Path
    """Folder to write; it must not exist, or be empty."""
    title: str | None = None
    """Shown on the Hub; default: the name of the run."""


def main(space: tyro.conf.OmitArgPrefixes[Space]) -> None:
    """Write the folder of a Hugging Face Space with the page and the API of this model."""
    bundle = bundles.open_bundle(space.bundle)
    out = space.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: expected a new or empty folder, seen one with content: name another.")
    model = out / "model" / bundles.BUNDLES / bundle.folder.name
    shutil.copytree(bundle.folder, model)
    _copy_code(out)
    card = bundle.folder.parent.parent / rundir.CARD
    if card.is_file():
        shutil.copyfile(card, out / "model" / rundir.CARD)
    title = space.title or str(bundle.run.get("name", "classifier"))
    rundir.write_text(out / "README.md", _readme(title, bundle, card))
    rundir.write_text(out / "requirements.txt", _requirements())
    rundir.write_text(out / "app.py", _app(bundle.folder.name))
    print(f"{out} is the folder of a Space. Try it: python {out}/app.py\nUpload it: hf repo create NAME/SPACE "
          f"--repo-type space --space-sdk gradio, then hf upload NAME/SPACE {out} . --repo-type space")


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

start(Order(Path(__file__).parent / "model" / "{bundles.BUNDLES}" / "{target}",
            host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
            port=int(os.environ.get("GRADIO_SERVER_PORT", "7860"))))
'''


def _requirements() -> str:
    lines = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    import onnxruntime

    brought = [package for package in (*minimum.SERVE, *minimum.PAGE) if package.lower() not in PACKAGES]
    return "\n".join([*lines, f"onnxruntime=={onnxruntime.__version__}", *minimum.bounds(*brought)]) + "\n"


def _readme(title: str, bundle: bundles.Bundle, card: Path) -> str:
    """Front matter as the Hub reads it (every text as JSON, which is YAML), and a word on what this is."""
    front = {"title": title, "emoji": "🔎", "colorFrom": "green", "colorTo": "blue", "sdk": "gradio",
             "sdk_version": importlib.metadata.version("gradio"), "python_version": "3.11", "app_file": "app.py",
             "pinned": False, "short_description": f"Image classifier with {len(bundle.labels)} classes"}
    licence = re.search(r"\A---\n(?:.*\n)*?license: *(\S+)\n", card.read_text("utf-8")) if card.is_file() else None
    if licence:
        front["license"] = licence[1]
    lines = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items())
    names = ", ".join(bundle.labels[:50])
    return (f"---\n{lines}\n---\n\nAn image classifier ({names}) with calibrated probabilities, an answer for pictures "
            "that are none of these, and heat maps. Programs ask `POST /v1/predict`; see `/openapi.json`.\n")


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m serve.space"))
