"""What leaves this machine when a run is published: a copy of the run folder with the files that
are named here.

    staged(run, into, ...)   name in the repository -> file; what has to differ from the run's own
    file lies in `into`

Pictures, their names and paths, tokens, and anything that is neither safetensors, ONNX nor text
stay at home. The copy is a finished run folder: its `FINISHED.json` lists what it has
(zoo/contract/rundir.py).
"""

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.contract import bundle as bundles
from zoo.contract import rundir
from zoo.contract.bundle import Bundle
from zoo.contract.examples import leaving
from zoo.contract.figures import without_pictures
from zoo.files import fields, strict_json
from zoo.files.folders import read_bytes
from zoo.host import console
from zoo.host.errors import UserError
from zoo.hub.listing import ALLOWED
from zoo.network import tensor_file
from zoo.picture.preprocess import FILTERS, Preprocessing
from zoo.publish import card
from zoo.publish.onnx_notes import write_without_notes
from zoo.publish.picture_names import without_pictures_of_run
from zoo.publish.place import Place
from zoo.publish.private import Private

PREPROCESSOR = "preprocessor_config.json"
PLAIN = "onnx/model.onnx"
TENSORS = (rundir.WEIGHTS, rundir.BANK)
CLEANED = (rundir.CONFIG, rundir.RECIPE, rundir.DATA, rundir.REPORT, rundir.DECISION)
"""JSON files of a run; like all that is text, they are sent without what `Private` cuts."""
TIMED = ("provider", "threads", "machine", "picture", "load_s", "model_mb", "peak_mib", "batches")
"""Keys of timing.json that are sent."""
LARGEST_TEXT = 100_000_000
"""Bytes of a text file, such as metrics.jsonl."""


def staged(run: Path, into: Path, *, repo: str, examples: bool) -> dict[str, Path]:
    """Name in the repository -> file, of all that a push of this run sends; `examples`: the
    bundles' pictures too.

    Writes the files that differ from the run's own below `into`. Raises `UserError` for a run that
    is unfinished or changed, for a bundle of an earlier state of it, for a file that holds other
    values than expected, and for a token in a file.
    """
    with fields.of(run, "Copy the run folder again, or train it again."):
        return _staged(run, into, repo=repo, examples=examples)


def _staged(run: Path, into: Path, *, repo: str, examples: bool) -> dict[str, Path]:
    manifest = rundir.open_finished(run, verify=True)
    stage = _Stage(into, Private.of_run(run))
    for name in manifest["files"]:
        if name in TENSORS:
            stage.tensors(name, _regular(run, name))
        elif name == rundir.METRICS or re.fullmatch(r"figures/[\w-]+\.svg", name):
            stage.text(name, _regular(run, name))
    for name in CLEANED:
        if rundir.listed(run, name):
            stage.json(
                name,
                without_pictures_of_run(name, rundir.read_json(_regular(run, name))),
                _regular(run, name),
            )
    opened = list(bundles.of_run(run))
    if (run / PLAIN).is_file() and any(one.target == bundles.DEFAULT_TARGET for one in opened):
        stage.onnx(PLAIN, _regular(run, PLAIN))
    for one in opened:
        _stage_bundle(stage, one, examples)
    pre = Preprocessing.from_config(rundir.read_json(run / rundir.CONFIG)["pretrained_cfg"])
    if config := preprocessor_config(pre):
        stage.write(PREPROCESSOR, config)
    page = into / rundir.CARD
    rundir.write_text(page, card.text(run, Place(repo, dict(stage.files), stage.private.cut)))
    stage.files[rundir.CARD] = page
    own = {
        name: path
        for name, path in stage.files.items()
        if name.split("/")[0] not in rundir.ADDED_LATER
    }
    stage.manifest(rundir.FINISHED, rundir.VERSION, own, {rundir.RUN: rundir.finished_sha256(run)})
    stage.private.refuse(stage.files)
    assert all(ALLOWED.fullmatch(name) for name in stage.files), "only what may be sent is staged"
    return dict(sorted(stage.files.items()))


def _regular(folder: Path, name: str) -> Path:
    """A file of a folder; `UserError` if it, or a folder on the way, is a link or anything but a
    file."""
    path = folder / name
    for part in (path, *path.parents[: len(Path(name).parts) - 1]):
        if part.is_symlink():
            raise UserError(
                f"{part} is a link: expected a file of the run itself, so nothing was sent. Copy "
                "the folder again, or export the run again."
            )
    if not path.is_file():
        raise UserError(
            f"{path} is not a file, so nothing was sent. Copy the folder again, or export the run "
            "again."
        )
    return path


class _Stage:
    """Files that will be sent, and a folder for those that are made for it; final."""

    def __init__(self, into: Path, private: Private):
        self.into, self.private, self.files = into, private, dict[str, Path]()

    def write(self, name: str, content: Any) -> None:
        """A JSON file made for the repository."""
        self.files[name] = self._place(name)
        rundir.write_json(self.files[name], content)

    def json(self, name: str, content: Any, own: Path) -> None:
        """A JSON file without what is private; the run's own if there is nothing to change."""
        kept = self.private.cut_json(content)
        if kept == rundir.read_json(own):
            self.files[name] = own
        else:
            self.write(name, kept)

    def text(self, name: str, own: Path) -> None:
        """A text file without what is private, line by line; lines of JSON value by value."""
        lines = read_bytes(own, LARGEST_TEXT).decode("utf-8").splitlines(keepends=True)
        kept = [
            self._line(line) if name.endswith(".jsonl") else self.private.cut(line)
            for line in lines
        ]
        if kept == lines:
            self.files[name] = own
            return
        self.files[name] = self._place(name)
        rundir.write_text(self.files[name], "".join(kept))

    def _line(self, line: str) -> str:
        if not line.strip():
            return line
        try:
            content = strict_json.parse(line.encode(), finite=False)
        except ValueError:
            return self.private.cut(line)
        kept = self.private.cut_json(content)
        return line if kept == content else json.dumps(kept) + "\n"

    def tensors(self, name: str, own: Path) -> None:
        """A safetensors file without what is private in its header's notes."""
        self.files[name] = own
        tensor_file.check(own)
        with open(own, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            notes = header.get("__metadata__", {})
            kept = self.private.cut_json(notes)
            if kept == notes:
                return
            written = json.dumps(header | {"__metadata__": kept}, ensure_ascii=False).encode()
            written += b" " * (-len(written) % 8)  # the data that follow stay aligned
            self.files[name] = self._place(name)
            with open(self.files[name], "wb") as copy:
                copy.write(len(written).to_bytes(8, "little") + written)
                shutil.copyfileobj(file, copy)

    def picture(self, name: str, content: bytes) -> None:
        """An encoded picture."""
        self.files[name] = self._place(name)
        self.files[name].write_bytes(content)

    def onnx(self, name: str, own: Path) -> None:
        """An ONNX file without the exporter's notes and what is private in the description."""
        self.files[name] = self._place(name)
        write_without_notes(own, self.files[name], self.private)

    def _place(self, name: str) -> Path:
        path = self.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def manifest(
        self, name: str, version: int, files: Mapping[str, Path], also: Mapping[str, str]
    ) -> None:
        """`FINISHED.json` over these files, with names relative to its own folder."""
        start = len(name) - len(rundir.FINISHED)
        digests = {other[start:]: rundir.digest(files[other]) for other in sorted(files)}
        self.write(name, {"version": version, **also, "files": digests})


def _stage_bundle(stage: _Stage, bundle: Bundle, examples: bool) -> None:
    """The files of one bundle that its FINISHED.json lists, if it is a single ONNX file."""
    there = f"{bundles.BUNDLES}/{bundle.folder.name}/"
    if not sendable(bundle):
        return
    own = [
        name
        for name in (bundles.MODEL, bundles.BUNDLE, bundles.PARITY)
        if ALLOWED.fullmatch(there + name) and bundle.file(name)
    ]
    for name in own:
        path = _regular(bundle.folder, name)
        if name == bundles.MODEL:
            stage.onnx(there + name, path)
        elif name == bundles.PARITY:
            proof = without_pictures(rundir.read_json(path, kind=dict))
            stage.write(there + name, stage.private.cut_json(proof))
        else:
            stage.json(there + name, rundir.read_json(path), path)
    if examples:
        own += _stage_examples(stage, bundle, there)
    stage.manifest(
        there + bundles.FINISHED,
        bundles.VERSION,
        {there + name: stage.files[there + name] for name in own},
        {},
    )
    timing = bundle.folder / bundles.TIMING  # measured at any time, so that no list has its digest
    if timing.is_file() and not timing.is_symlink():
        content = rundir.read_json(timing)
        stage.json(
            there + bundles.TIMING, {key: content[key] for key in TIMED if key in content}, timing
        )


def _stage_examples(stage: _Stage, bundle: Bundle, there: str) -> list[str]:
    """The example pictures of a bundle, without their metadata, and what is expected of them; their
    names in it."""
    found = leaving(bundle)
    for why in found.staying:
        console.warn(f"{bundle.folder / bundles.EXAMPLES}: not sent: {why}")
    names = {f"{bundles.EXAMPLES}/{name}": content for name, content in found.pictures.items()}
    names = {name: content for name, content in names.items() if ALLOWED.fullmatch(there + name)}
    if not names:
        return []
    for name, content in names.items():
        stage.picture(there + name, content)
    # its keys are the names that the examples have there
    expected = f"{bundles.EXAMPLES}/{bundles.EXPECTED}"
    rows = {
        key: stage.private.cut_json(row)
        for key, row in found.expected.items()
        if f"{bundles.EXAMPLES}/{key}" in names
    }
    stage.write(there + expected, rows)
    return [*names, expected]


def sendable(bundle: Bundle) -> bool:
    """Whether a bundle is one ONNX file and what describes it: engines, XML and programs are made
    again elsewhere."""
    described = (
        bundles.BUNDLE,
        bundles.PARITY,
        bundles.PARITY_PAGE,
        bundles.TIMING,
        bundles.FINISHED,
    )
    names = [
        path.relative_to(bundle.folder).as_posix()
        for path in bundle.folder.rglob("*")
        if path.is_file()
    ]
    return bundle.model.name == bundles.MODEL and all(
        name in (bundles.MODEL, *described) or name.startswith(f"{bundles.EXAMPLES}/")
        for name in names
    )


def preprocessor_config(pre: Preprocessing) -> dict[str, Any] | None:
    """`preprocessor_config.json` for transformers and transformers.js; None for a fit that they do
    not have (border).

    transformers reads the type and hands over to timm's own transform (its CLIP and ViT processors
    are up to a pixel off where an odd border is cropped); transformers.js does not know the type
    and follows the other keys.
    """
    if pre.crop_mode == "border":
        return None
    side = math.floor(pre.size / pre.crop_pct)
    return {
        "image_processor_type": "TimmWrapperImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side}
        if pre.crop_mode == "center"
        else {"height": side, "width": side},
        "resample": int(FILTERS[pre.interpolation]),
        "do_center_crop": True,
        "crop_size": {"height": pre.size, "width": pre.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pre.mean),
        "image_std": list(pre.std),
    }
