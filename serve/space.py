"""`python -m serve.space RUN_OR_BUNDLE --out FOLDER`: the same page and API as the folder of a
Hugging Face Space.

    FOLDER/  app.py  requirements.txt  README.md  Dockerfile  zoo/  serve/  model/README.md
    model/bundles/onnx/

It needs no torch. `docker build FOLDER` makes an image of the same, which runs as a user without
rights.
"""

import importlib.metadata
import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoo.answer import onnx_runtime
from zoo.contract import bundle as bundles
from zoo.contract import listed_files, rundir
from zoo.contract.examples import leaving
from zoo.contract.figures import without_pictures
from zoo.host import console, minimum
from zoo.host.errors import UserError, run_main
from zoo.host.text import code, one_line, plain, shell_path
from zoo.publish.private import Private

HERE = Path(__file__).parent
ROOMS = ("answer", "contract", "files", "host", "picture")
"""The rooms of zoo that answering needs, copied whole; with them goes zoo/predictor.py."""
PACKAGES = (
    "fastapi",
    "gradio",
    "numpy",
    "pillow",
    "prometheus-client",
    "python-multipart",
    "tyro",
    "uvicorn",
)
"""Besides ONNX Runtime; pinned to what is installed here, which is what the tests ran with. What
they bring along and strangers' requests reach has its bound of zoo/host/minimum.py: a Space is on
the open internet."""


TARGET = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A bundle folder's name that is kept; any other becomes `onnx`."""
MOST_NAMED = 50
"""Classes at most that are named in the README."""
OPENVINO_FLOOR = ">=2025.0"
"""As in pyproject.toml."""
LONGEST_CARD, LONGEST_FRONT = 1_000_000, 2_000
"""Characters of a card and lines of its front matter; the rest is left out."""


@dataclass(frozen=True)
class Space:
    """What becomes a Space."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A run folder with a bundle, a bundle folder, or its model.onnx; a published run by name or
    alias, as for `python -m serve`."""
    out: Path
    """Folder to write; it must not exist, or be empty."""
    title: str | None = None
    """Shown on the Hub; default: the name of the run."""
    with_examples: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also pack the up to six validation pictures in the bundle, without their metadata."""


def main(space: tyro.conf.OmitArgPrefixes[Space]) -> None:
    """Write the folder of a Hugging Face Space with the page and the API of this model.

    What it holds is listed, and nothing is sent. Pictures, their names, folders and people stay out
    of it.
    """
    from serve.start import local  # --help needs none of it

    out = space.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"--out {out}: expected a new or empty folder, seen one with content: name another."
        )
    bundle = bundles.open_bundle(local(space.bundle))
    name = bundle.folder.name if TARGET.fullmatch(bundle.folder.name) else bundles.DEFAULT_TARGET
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "space"
        _write(space, bundle, name, whole)
        shutil.copytree(whole, out, dirs_exist_ok=True)
    _show(out, pictures=space.with_examples)
    console.say(
        f"{out} is the folder of a Space. Try it: python {shell_path(out / 'app.py')}\nUpload it: "
        "hf repo create NAME/SPACE --repo-type space --space-sdk gradio, then hf upload NAME/SPACE "
        f"{shell_path(out)} . --repo-type space"
    )


def _write(space: Space, bundle: bundles.Bundle, name: str, out: Path) -> None:
    private = _private(bundle)
    _copy_bundle(
        bundle, out / "model" / bundles.BUNDLES / name, private, examples=space.with_examples
    )
    _copy_code(out)
    card = _card(bundle, private)
    if card is not None:
        rundir.write_text(out / "model" / rundir.CARD, card)
    title = space.title or private.cut(str(bundle.run.get("name", "classifier")))
    rundir.write_text(out / "README.md", _readme(title, bundle, card))
    rundir.write_text(out / "requirements.txt", _requirements(bundle))
    rundir.write_text(out / "app.py", _app(name))
    private.refuse(
        {
            path.relative_to(out).as_posix(): path
            for path in (out / "model").rglob("*")
            if path.is_file()
        }
    )


def _show(out: Path, *, pictures: bool) -> None:
    """What will leave this machine once the folder is uploaded: name and size of each file, the
    code in one line."""
    files = {
        path.relative_to(out).as_posix(): path.stat().st_size
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    code = [name for name in files if name.split("/")[0] in ("zoo", "serve")]
    console.say(
        f"{len(files)} files, {'with' if pictures else 'without'} pictures; nothing has been sent:"
    )
    for name, size in files.items():
        if name not in code:
            console.say(f"  {size:>12,}  {name}")
    console.say(
        f"  {sum(files[name] for name in code):>12,}  zoo/ and serve/, {len(code)} files of this "
        "program"
    )


def _run_of(bundle: bundles.Bundle) -> Path | None:
    """The finished run to which a bundle belongs, if it lies in one."""
    run = bundle.folder.parent.parent
    return run if bundle.folder.parent.name == bundles.BUNDLES and rundir.is_finished(run) else None


def _private(bundle: bundles.Bundle) -> Private:
    """What must not stand in the folder."""
    run = _run_of(bundle)
    if run is not None and listed_files.listed(run, rundir.DATA):
        return Private.of_run(run)
    return Private.of_folder(bundle.folder, bundle.labels)


def _copy_bundle(bundle: bundles.Bundle, folder: Path, private: Private, *, examples: bool) -> None:
    """What answering needs, of the files that FINISHED.json lists; without what is private."""
    from zoo.publish.onnx_notes import write_without_notes

    kept = {bundle.model.name, bundles.BUNDLE, bundles.PARITY}
    if onnx_runtime.provider_of(bundle.model) == onnx_runtime.OPENVINO:
        kept.add(bundle.model.with_suffix(".bin").name)
    for name in sorted(bundle.files):
        path = bundle.file(name)
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if (
            path is None
            or not inside
            or path.is_symlink()
            or path.parent.is_symlink()
            or not path.is_file()
        ):
            raise UserError(
                f"{bundle.folder / name} is no plain file of the bundle: copy the bundle again, or "
                "export it again."
            )
        if name not in kept:
            continue
        there = folder / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if name == bundles.PARITY:
            proof = without_pictures(rundir.read_json(path, kind=dict))
            rundir.write_json(there, private.cut_json(proof))
        elif (
            name == bundles.BUNDLE
            and private.cut_json(content := rundir.read_json(path)) != content
        ):
            rundir.write_json(there, private.cut_json(content))
        elif there.suffix == ".onnx":
            write_without_notes(path, there, private)
        else:
            shutil.copyfile(path, there)
    if examples:
        _copy_examples(bundle, folder / bundles.EXAMPLES, private)
    bundles.finish(folder)


def _copy_examples(bundle: bundles.Bundle, folder: Path, private: Private) -> None:
    """The example pictures without their metadata, and what is expected of them."""
    found = leaving(bundle)
    for why in found.staying:
        console.warn(f"{bundle.folder / bundles.EXAMPLES}: not packed: {why}")
    if found.pictures:
        folder.mkdir()
        for name, content in found.pictures.items():
            (folder / name).write_bytes(content)
        rows = {name: private.cut_json(row) for name, row in found.expected.items()}
        rundir.write_json(folder / bundles.EXPECTED, rows)


def _card(bundle: bundles.Bundle, private: Private) -> str | None:
    """The model card of the run to which the bundle belongs, if the run's FINISHED.json lists
    one."""
    from zoo.publish.picture_names import without_names

    run = _run_of(bundle)
    path = listed_files.listed(run, rundir.CARD) if run else None
    if path is None or path.is_symlink():
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(
            private.cut(without_names(line))
            for line in file.read(LONGEST_CARD).splitlines(keepends=True)
        )


def _copy_code(out: Path) -> None:
    """The modules that answer, page and API."""
    (out / "zoo").mkdir()
    for name in ("__init__.py", "predictor.py"):
        shutil.copyfile(HERE.parent / "zoo" / name, out / "zoo" / name)
    for room in ROOMS:
        shutil.copytree(
            HERE.parent / "zoo" / room,
            out / "zoo" / room,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    shutil.copytree(
        HERE, out / "serve", ignore=shutil.ignore_patterns("__pycache__", "deploy", "*.pyi")
    )
    shutil.copyfile(HERE / "deploy" / "Dockerfile", out / "Dockerfile")


def _app(target: str) -> str:
    return f'''"""The service as a Hugging Face Space.

ZOOTUNE_AUTH and ZOOTUNE_TOKEN may be its secrets.
"""

import os
from pathlib import Path

from serve.__main__ import Order
from serve.start import start
from zoo.host.errors import run_main

order = Order(Path(__file__).parent / "model" / {bundles.BUNDLES!r} / {target!r},
              host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
              port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
run_main(lambda: start(order))
'''


def _requirements(bundle: bundles.Bundle) -> str:
    """What answering with this bundle needs, as pip reads it."""
    import onnxruntime

    lines = [f"{name}=={importlib.metadata.version(name)}" for name in PACKAGES]
    lines.append(f"onnxruntime=={onnxruntime.__version__}")
    if onnx_runtime.provider_of(bundle.model) == onnx_runtime.OPENVINO:
        lines.append(f"openvino{_openvino(bundle)}")
    brought = [
        package for package in (*minimum.SERVE, *minimum.PAGE) if package.lower() not in PACKAGES
    ]
    return "\n".join([*lines, *minimum.bounds(*brought)]) + "\n"


def _openvino(bundle: bundles.Bundle) -> str:
    """The version of OpenVINO that is installed here; else the one that made the bundle, else any
    that may do."""
    try:
        return f"=={importlib.metadata.version('openvino')}"
    except importlib.metadata.PackageNotFoundError:
        made_with = bundle.content.get("versions_of_target")
        version = str(made_with.get("openvino")) if isinstance(made_with, dict) else ""
        numbers = re.match(r"\d{4}\.\d{1,2}(?:\.\d{1,2})?(?![\d.])", version)
        return f"=={numbers[0]}" if numbers else OPENVINO_FLOOR


def _readme(title: str, bundle: bundles.Bundle, card: str | None) -> str:
    """Front matter as the Hub reads it (every text as JSON, which is YAML), and a word on what this
    is."""
    front = {
        "title": one_line(title),
        "emoji": "🔎",
        "colorFrom": "green",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": importlib.metadata.version("gradio"),
        "python_version": "3.11",
        "app_file": "app.py",
        "pinned": False,
        "short_description": f"Image classifier with {len(bundle.labels)} classes",
    }
    if licence := _licence(card or ""):
        front["license"] = licence
    lines = "\n".join(f"{key}: {_yaml(value)}" for key, value in front.items())
    names = ", ".join(map(code, bundle.labels[:MOST_NAMED]))
    if len(bundle.labels) > MOST_NAMED:
        names += f", and {len(bundle.labels) - MOST_NAMED} more"
    gives = ["calibrated probabilities"]
    gives += ["an answer for pictures that are none of these"] if bundle.decision.unknown else []
    gives += ["heat maps"] if bundles.HEATMAP in bundle.outputs else []
    return (
        f"---\n{lines}\n---\n\n# {plain(title)}\n\nAn image classifier ({names}) with "
        f"{_listed(gives)}. Programs ask `POST /v1/predict`; see `/openapi.json`.\n"
    )


def _yaml(value: object) -> str:
    """JSON in ASCII, because YAML takes fewer characters as they are; but YAML knows no pairs of
    surrogates."""
    return re.sub(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", _whole, json.dumps(value))


def _whole(pair: re.Match[str]) -> str:
    character = json.loads(f'"{pair[0]}"')
    return f"\\U{ord(character):08x}"


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, or `a, b, and c`."""
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])}, and {words[-1]}"


def _licence(card: str) -> str | None:
    """`license` of a card's front matter, if it is an identifier."""
    lines = card.split("\n", LONGEST_FRONT)
    if lines[0] != "---" or "---" not in lines[1:]:
        return None
    for line in lines[1 : lines.index("---", 1)]:
        key, _, value = line.partition(":")
        if key == "license" and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", value.strip()):
            return value.strip()
    return None


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m serve.space"))
