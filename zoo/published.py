"""What leaves this machine when a run is published: a copy of the run folder with the files that are named here.

    staged(run, into, ...)   name in the repository -> file; what has to differ from the run's own file lies in `into`

Pictures, their names and paths, tokens, and anything that is neither safetensors, ONNX nor text stay at home. The copy
is a finished run folder: its `FINISHED.json` lists what it has (zoo/rundir.py).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo import bundle as bundles
from zoo import card, minimum, rundir
from zoo.bundle import Bundle
from zoo.errors import UserError
from zoo.preprocess import FILTERS, Preprocessing

PREPROCESSOR = "preprocessor_config.json"
PLAIN = "onnx/model.onnx"
ALLOWED = re.compile(
    r"README\.md|LICENSE|FINISHED\.json|(model|bank)\.safetensors|metrics\.jsonl"
    r"|(config|preprocessor_config|decision|recipe|data|report)\.json|figures/[\w-]+\.svg|onnx/model\.onnx"
    r"|bundles/[\w-]+/(model\.onnx|(bundle|parity|timing|FINISHED)\.json"
    r"|examples/(expected\.json|\d+\.(png|jpe?g|webp|bmp|gif|tiff?)))")
"""Names in the repository that a push may send, and that a pull takes."""
AS_THEY_ARE = (rundir.WEIGHTS, rundir.BANK, rundir.DECISION, rundir.METRICS)
"""Files of a run that are sent unchanged."""
CLEANED = (rundir.CONFIG, rundir.RECIPE, rundir.DATA, rundir.REPORT)
"""Files of a run that are sent without paths of this machine and names of pictures."""
TEXT = (".json", ".jsonl", ".md", ".svg")
TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")
"""An access token of the Hub."""
ABSOLUTE = re.compile(r"""(?<![\w/:.<])(?:[A-Za-z]:[\\/]|~?/|\\\\)(?:[^\s"'<>|:,;]+[\\/])+""")
"""The folders of an absolute path, in running text."""


def staged(run: Path, into: Path, *, repo: str, examples: bool) -> dict[str, Path]:
    """Name in the repository -> file, of all that a push of this run sends; `examples`: the bundles' pictures too.

    Writes the files that differ from the run's own below `into`. Raises `UserError` for a run that is unfinished or
    changed, for a bundle of an earlier state of it, and for a token in a file.
    """
    manifest = rundir.open_finished(run, verify=True)
    stage = _Stage(into)
    stage.files |= {name: run / name for name in manifest["files"]
                    if name in AS_THEY_ARE or re.fullmatch(r"figures/[\w-]+\.svg", name)}
    for name in CLEANED:
        stage.write(name, cleaned(name, rundir.read_json(run / name)))
    opened = list(bundles.of_run(run))
    if (run / PLAIN).is_file() and any(one.target == bundles.DEFAULT_TARGET for one in opened):
        stage.onnx(PLAIN, run / PLAIN)
    for one in opened:
        _stage_bundle(stage, one, examples)
    pre = Preprocessing.from_config(rundir.read_json(run / rundir.CONFIG)["pretrained_cfg"])
    if config := preprocessor_config(pre):
        stage.write(PREPROCESSOR, config)
    page = into / rundir.CARD
    rundir.write_text(page, card.text(run, card.Place(repo, dict(stage.files))))
    stage.files[rundir.CARD] = page
    own = {name: path for name, path in stage.files.items() if name.split("/")[0] not in rundir.ADDED_LATER}
    stage.manifest(rundir.FINISHED, rundir.VERSION, own, {rundir.RUN: rundir.finished_sha256(run)})
    _refuse_secrets(stage.files)
    assert all(ALLOWED.fullmatch(name) for name in stage.files), "only what may be sent is staged"
    return dict(sorted(stage.files.items()))


class _Stage:
    """Files that will be sent, and a folder for those that are made for it; final."""

    def __init__(self, into: Path):
        self.into, self.files = into, dict[str, Path]()

    def write(self, name: str, content: Any) -> None:
        """A JSON file made for the repository."""
        path = self.into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rundir.write_json(path, content)
        self.files[name] = path

    def onnx(self, name: str, own: Path) -> None:
        """An ONNX file without the exporter's notes."""
        self.files[name] = self.into / name
        self.files[name].parent.mkdir(parents=True, exist_ok=True)
        write_without_notes(own, self.files[name])

    def manifest(self, name: str, version: int, files: Mapping[str, Path], also: Mapping[str, str]) -> None:
        """`FINISHED.json` over these files, with names relative to its own folder."""
        start = len(name) - len(rundir.FINISHED)
        digests = {other[start:]: rundir.digest(files[other]) for other in sorted(files)}
        self.write(name, {"version": version, **also, "files": digests})


def _stage_bundle(stage: _Stage, bundle: Bundle, examples: bool) -> None:
    """The files of one bundle, if it is a single ONNX file."""
    there = f"{bundles.BUNDLES}/{bundle.folder.name}/"
    if not sendable(bundle):
        return
    names = [bundles.BUNDLE]
    if examples:
        names += [path.relative_to(bundle.folder).as_posix() for path in bundle.folder.glob(f"{bundles.EXAMPLES}/*")]
    own = {there + name: bundle.folder / name for name in names if ALLOWED.fullmatch(there + name)}
    stage.files.update(own)
    stage.onnx(there + bundles.MODEL, bundle.model)
    stage.write(there + bundles.PARITY, _without_pictures(rundir.read_json(bundle.folder / bundles.PARITY)))
    own |= {there + name: stage.files[there + name] for name in (bundles.MODEL, bundles.PARITY)}
    stage.manifest(there + bundles.FINISHED, bundles.VERSION, own, {})
    if (bundle.folder / bundles.TIMING).is_file():
        stage.files[there + bundles.TIMING] = bundle.folder / bundles.TIMING


def write_without_notes(own: Path, copy: Path) -> None:
    """Copy an ONNX file without what torch's exporter noted at each node: lines of source code, with their paths.

    The graph, its weights and the description in its metadata stay as they are.
    """
    import onnx

    minimum.require("onnx", "protobuf")
    model = onnx.load(own)
    for part in (model.graph, *model.functions):
        _forget_notes(part)
    onnx.save(model, copy)


def _forget_notes(part: Any) -> None:
    """Clear the notes of a graph or a function, and of the graphs inside it."""
    part.ClearField("metadata_props")
    for one in (*part.node, *part.value_info, *getattr(part, "input", ()), *getattr(part, "output", ())):
        if not isinstance(one, str):
            one.ClearField("metadata_props")
    for node in part.node:
        node.ClearField("doc_string")
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _forget_notes(inner)


def sendable(bundle: Bundle) -> bool:
    """Whether a bundle is one ONNX file and what describes it: engines, XML and programs are made again elsewhere."""
    described = (bundles.BUNDLE, bundles.PARITY, bundles.PARITY_PAGE, bundles.TIMING, bundles.FINISHED)
    names = [path.relative_to(bundle.folder).as_posix() for path in bundle.folder.rglob("*") if path.is_file()]
    return bundle.model.name == bundles.MODEL and all(
        name in (bundles.MODEL, *described) or name.startswith(f"{bundles.EXAMPLES}/") for name in names)


def cleaned(name: str, content: Any) -> Any:
    """A JSON file of a run without names of pictures and paths of this machine."""
    if name == rundir.CONFIG:  # timm takes it from the top level; a second one breaks transformers' TimmWrapper
        content = content | {"model_args": {key: value for key, value in content.get("model_args", {}).items()
                                            if key != "num_classes"}}
        content = content if content["model_args"] else {k: v for k, v in content.items() if k != "model_args"}
    elif name == rundir.REPORT:
        content = {key: value for key, value in content.items() if key != "heatmaps"}
    elif name == rundir.DATA:
        left_out = [path for path, _ in content.get("left_out", ())]
        content = content | {"left_out": [], "findings": [_without_names(text, left_out)
                                                          for text in content.get("findings", ())]}
    return _without_paths(content)


def _without_names(text: str, names: list[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "a picture")
    return text


def _without_paths(content: Any) -> Any:
    """The same JSON, absolute paths in its texts cut to the last part. Class names are left alone: they have no `/`."""
    if isinstance(content, dict):
        return {key: _without_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_paths(value) for value in content]
    return ABSOLUTE.sub("", content) if isinstance(content, str) else content


def _without_pictures(parity: Mapping[str, Any]) -> dict[str, Any]:
    """parity.json without the names of the user's pictures."""
    rungs = [{key: value for key, value in rung.items() if key != "picture"} for rung in parity.get("rungs", ())]
    kept = {key: value for key, value in parity.items() if key != "pictures_sha256"}
    return kept | ({"rungs": rungs} if rungs else {})


def _refuse_secrets(files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        if path.suffix in TEXT and TOKEN.search(path.read_text(encoding="utf-8", errors="replace")):
            raise UserError(f"{name} holds what looks like an access token of the Hub: expected none, and nothing was "
                            "sent. Remove it where it came from (a class, a folder or a setting of the run), revoke it "
                            "at https://huggingface.co/settings/tokens, and train again.")


def preprocessor_config(pre: Preprocessing) -> dict[str, Any] | None:
    """`preprocessor_config.json` for transformers and transformers.js; None for a fit that they do not have (border).

    transformers reads the type and hands over to timm's own transform (its CLIP and ViT processors are up to a pixel
    off where an odd border is cropped); transformers.js does not know the type and follows the other keys.
    """
    if pre.crop_mode == "border":
        return None
    side = math.floor(pre.size / pre.crop_pct)
    return {
        "image_processor_type": "TimmWrapperImageProcessor", "do_convert_rgb": True, "do_resize": True,
        "size": {"shortest_edge": side} if pre.crop_mode == "center" else {"height": side, "width": side},
        "resample": int(FILTERS[pre.interpolation]), "do_center_crop": True,
        "crop_size": {"height": pre.size, "width": pre.size}, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(pre.mean), "image_std": list(pre.std)}
