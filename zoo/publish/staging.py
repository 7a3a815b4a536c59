"""What leaves this machine when a run is published: a copy of the run folder with the files that
are named here.

    staged(run, into, ...)   name in the repository -> file; what has to differ from the run's own
    file lies in `into`

Pictures, their names and paths, tokens, and anything that is neither safetensors, ONNX nor text
stay at home. The copy is a finished run folder: its `FINISHED.json` lists what it has
(zoo/contract/rundir.py).
"""

import math
import re
from pathlib import Path
from typing import Any

from zoo.contract import bundle as bundles
from zoo.contract import listed_files, rundir
from zoo.contract.bundle import Bundle
from zoo.contract.examples import leaving
from zoo.contract.figures import without_pictures
from zoo.files import checks
from zoo.host import console
from zoo.host.errors import UserError
from zoo.hub.listing import ALLOWED
from zoo.picture.preprocess import FILTERS, Preprocessing
from zoo.publish import card
from zoo.publish.destination import Destination
from zoo.publish.picture_names import without_pictures_of_run
from zoo.publish.private import Private
from zoo.publish.stage import Stage

PREPROCESSOR = "preprocessor_config.json"
PLAIN = "onnx/model.onnx"
TENSORS = (rundir.WEIGHTS, rundir.BANK)
CLEANED = (rundir.CONFIG, rundir.RECIPE, rundir.DATA, rundir.REPORT, rundir.DECISION)
"""JSON files of a run; like all that is text, they are sent without what `Private` cuts."""
OF_ONE_FILE = (
    bundles.MODEL,
    bundles.BUNDLE,
    bundles.PARITY,
    bundles.PARITY_PAGE,
    bundles.TIMING,
    bundles.FINISHED,
)
"""Files of a bundle whose model is one ONNX file, its examples apart."""
TIMED = ("provider", "threads", "machine", "picture", "load_s", "model_mb", "peak_mib", "batches")
"""Keys of timing.json that are sent."""


def staged(run: Path, into: Path, *, repo: str, examples: bool) -> dict[str, Path]:
    """Name in the repository -> file, of all that a push of this run sends; `examples`: the
    bundles' pictures too.

    Writes the files that differ from the run's own below `into`. Raises `UserError` for a run that
    is unfinished or changed, for a bundle of an earlier state of it, for a file that holds other
    values than expected, and for a token in a file.
    """
    with checks.of(run, "Copy the run folder again, or train it again."):
        return _staged(run, into, repo=repo, examples=examples)


def _staged(run: Path, into: Path, *, repo: str, examples: bool) -> dict[str, Path]:
    manifest = rundir.open_finished(run, verify=True)
    stage = Stage(into, Private.of_run(run))
    for name in manifest["files"]:
        if name in TENSORS:
            stage.tensors(name, _regular(run, name))
        elif name == rundir.METRICS or re.fullmatch(r"figures/[\w-]+\.svg", name):
            stage.text(name, _regular(run, name))
    for name in CLEANED:
        if listed_files.listed_file(run, name):
            own = _regular(run, name)
            stage.json(name, without_pictures_of_run(name, rundir.read_json(own)), own)
    opened = list(bundles.of_run(run))
    targets = {bundle.target for bundle in opened}
    if (run / PLAIN).is_file() and bundles.DEFAULT_TARGET in targets:
        stage.onnx(PLAIN, _regular(run, PLAIN))
    for bundle in opened:
        _stage_bundle(stage, bundle, examples)
    # after all others, which the card and the list name
    _stage_descriptions(stage, run, repo)
    # last, over the very files that will be sent
    stage.private.refuse(stage.files)
    # what a pull would leave behind must not be sent either
    assert all(map(ALLOWED.fullmatch, stage.files)), "only what may be sent is staged"
    return dict(sorted(stage.files.items()))


def _stage_descriptions(stage: Stage, run: Path, repo: str) -> None:
    """What describes the files staged before: the configuration for transformers, the card, and
    last the list of digests."""
    pre = Preprocessing.from_config(rundir.read_json(run / rundir.CONFIG)["pretrained_cfg"])
    if config := preprocessor_config(pre):
        stage.write(PREPROCESSOR, config)
    page = stage.into / rundir.CARD
    rundir.write_text(page, card.text(run, Destination(repo, dict(stage.files), stage.private.cut)))
    stage.files[rundir.CARD] = page
    files = {}
    for name, path in stage.files.items():
        # bundles have lists of their own
        if name.split("/")[0] not in rundir.ADDED_LATER:
            files[name] = path
    origin = {rundir.RUN: rundir.finished_sha256(run)}
    stage.manifest(rundir.FINISHED, rundir.VERSION, files, origin)


def _regular(folder: Path, name: str) -> Path:
    """A file of a folder; `UserError` if it, or a folder on the way, is a link or anything but a
    file."""
    path = folder / name
    # the folders on the way as well: a link there leads out of the run too
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


def _stage_bundle(stage: Stage, bundle: Bundle, examples: bool) -> None:
    """The files of one bundle that its FINISHED.json lists, if it is a single ONNX file."""
    there = f"{bundles.BUNDLES}/{bundle.place.name}/"
    if not sendable(bundle):
        return
    staged_names = []
    for name in (bundles.MODEL, bundles.BUNDLE, bundles.PARITY):
        if not ALLOWED.fullmatch(there + name) or not bundle.file(name):
            continue
        staged_names.append(name)
        path = _regular(bundle.folder, name)
        if name == bundles.MODEL:
            stage.onnx(there + name, path)
        elif name == bundles.PARITY:
            proof = without_pictures(rundir.read_json(path, kind=dict))
            stage.write(there + name, stage.private.cut_json(proof))
        else:
            stage.json(there + name, rundir.read_json(path), path)
    if examples:
        staged_names += _stage_examples(stage, bundle, there)
    files = {there + name: stage.files[there + name] for name in staged_names}
    stage.manifest(there + bundles.FINISHED, bundles.VERSION, files, {})
    _stage_timing(stage, bundle, there)


def _stage_timing(stage: Stage, bundle: Bundle, there: str) -> None:
    """timing.json is measured at any time, so that no list has its digest."""
    timing = bundle.folder / bundles.TIMING
    if timing.is_file() and not timing.is_symlink():
        content = rundir.read_json(timing)
        # named one by one: a later version may write down more about the machine
        sent = {key: content[key] for key in TIMED if key in content}
        stage.json(there + bundles.TIMING, sent, timing)


def _stage_examples(stage: Stage, bundle: Bundle, there: str) -> list[str]:
    """The example pictures of a bundle, without their metadata, and what is expected of them; their
    names in it."""
    found = leaving(bundle)
    for why in found.staying:
        console.warn(f"{bundle.folder / bundles.EXAMPLES}: not sent: {why}")
    names = []
    for picture, content in found.pictures.items():
        name = f"{bundles.EXAMPLES}/{picture}"
        if ALLOWED.fullmatch(there + name):
            stage.picture(there + name, content)
            names.append(name)
    if not names:
        return []
    expected = f"{bundles.EXAMPLES}/{bundles.EXPECTED}"
    rows = {}
    for key, row in found.expected.items():  # keyed by the names that the examples have there
        if f"{bundles.EXAMPLES}/{key}" in names:
            rows[key] = stage.private.cut_json(row)
    stage.write(there + expected, rows)
    return [*names, expected]


def sendable(bundle: Bundle) -> bool:
    """Whether a bundle is one ONNX file and what describes it: engines, XML and programs are made
    again elsewhere."""
    if bundle.model.name != bundles.MODEL:
        return False
    for path in filter(Path.is_file, bundle.folder.rglob("*")):
        name = path.relative_to(bundle.folder).as_posix()
        if name not in OF_ONE_FILE and not name.startswith(f"{bundles.EXAMPLES}/"):
            return False
    return True


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
    size = {"height": side, "width": side}
    if pre.crop_mode == "center":
        size = {"shortest_edge": side}
    return {
        "image_processor_type": "TimmWrapperImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": size,
        "resample": int(FILTERS[pre.interpolation]),
        "do_center_crop": True,
        "crop_size": {"height": pre.size, "width": pre.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(pre.mean),
        "image_std": list(pre.std),
    }
