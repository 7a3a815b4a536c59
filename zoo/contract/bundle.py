"""The bundle (contract, version 1): a model file that answers by itself, with the proof that it
does.

    RUN/bundles/onnx/  model.onnx  bundle.json  parity.json  parity.html  examples/  FINISHED.json
                       [timing.json, at any time]

`export` writes `bundle.json`, proves the model, and only then writes `FINISHED.json`; everybody
else goes through `open_bundle`. The same description stands in the ONNX file under the metadata key
`zoo` (zoo/contract/model_metadata.py). Needs neither torch nor ONNX Runtime.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.contract import listed_files, rundir, swaps
from zoo.contract.decision import Decision
from zoo.files import checks
from zoo.files.folders import is_plain, look_through
from zoo.host import disk
from zoo.host.errors import UserError
from zoo.host.text import shell, shell_path
from zoo.picture.preprocess import Preprocessing

VERSION = 1

BUNDLES = "bundles"
MODEL = "model.onnx"
BUNDLE = "bundle.json"
PARITY = "parity.json"
PARITY_PAGE = "parity.html"
TIMING = "timing.json"
EXAMPLES = "examples"
EXPECTED = "expected.json"
"""In `examples/`: name of the picture -> label, probability, probabilities and, if there is one,
unknown score, as the bundle gave them where it was exported. Its proof says how far they are from
the trained model's."""
TOLERANCE = 0.005
"""Largest difference of a probability from the trained model's."""
FINISHED = rundir.FINISHED

DEFAULT_TARGET = "onnx"
IMAGE = "image"
INPUT = {"name": IMAGE, "type": "uint8", "shape": ["batch", "height", "width", 3]}
"""The graph's input: RGB as `zoo.picture.decoding.decode` gives it, one picture size per
batch."""
OUTPUTS = ("probabilities", "unknown_score", "embedding", "heatmap")
PROBABILITIES, UNKNOWN_SCORE, EMBEDDING, HEATMAP = OUTPUTS
"""The graph's outputs, all float32; unknown_score and heatmap may be missing."""
_FILES = frozenset({MODEL, BUNDLE, PARITY, PARITY_PAGE, TIMING, f"{EXAMPLES}/{EXPECTED}", FINISHED})


@dataclass(frozen=True)
class Bundle:
    """What `bundle.json` says."""

    folder: Path
    target: str
    """What it was exported to: onnx, tensorrt, int8, ..."""
    model: Path
    """The model file."""
    labels: tuple[str, ...]
    """Class names, in the order of `probabilities`."""
    pre: Preprocessing
    decision: Decision
    outputs: tuple[str, ...]
    """Of `OUTPUTS`, those that the model has."""
    run: Mapping[str, Any]
    """Where it comes from: name, architecture, weights_sha256, finished_sha256 of the run."""
    versions: Mapping[str, Any]
    """Of the programs that made it."""
    status: str
    """`ok`, or what could not be shown on the machine that made it."""
    model_sha256: str | None
    """Digest of the model file; None while the bundle is not finished."""
    content: Mapping[str, Any]
    """All of `bundle.json`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Name -> sha256 of the files that its FINISHED.json lists."""

    @property
    def place(self) -> Path:
        """Where its folder stands, unless its successor is about to take that place."""
        return disk.place_of(self.folder)

    def file(self, name: str) -> Path | None:
        """A file of the finished bundle that its FINISHED.json lists, as
        `listed_files.listed_file`; None if it lists none."""
        return listed_files.listed_file(self.folder, name) if name in self.files else None


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `bundle.json`: target, labels, preprocessing, decision, outputs, run, versions, status.

    `version`, `model` (`model.onnx`) and `input` are filled in where `content` has none.
    """
    whole = {"version": VERSION, "model": MODEL, "input": INPUT, **content}
    _parse(folder, whole, None)
    rundir.write_json(folder / BUNDLE, whole)


def finish(folder: Path) -> None:
    """Write `FINISHED.json` with the digest of every file; `timing.json` may be written later."""
    # exporters and copies leave files with other permissions than any new file here has
    disk.share_as_usual(*(folder / name for name in look_through(folder).files))
    rundir.write_manifest(folder, version=VERSION, leave_out=(TIMING,))


@swaps.awaited
def open_bundle(
    path: str | Path, *, verify: bool | Collection[str] = True, finished: bool = True
) -> Bundle:
    """The bundle at `path`: its folder, its model file, or a run folder (then its bundle for
    `onnx`).

    Raises `UserError` for what is missing, unfinished, of a newer contract, or not as it was
    exported (`verify` compares the digests of all files or of those named, False of none); a bundle
    that is reached through its run must have been made from the run as it is now. `finished=False`
    also opens one that has not been proved yet.
    """
    path = Path(path)
    folder = _find(path)
    # a bundle that is reached through its run: no folder on the way may be a link either
    check_folder(folder)
    through_run = folder.parent.parent == path
    if through_run:
        rundir.check_folder(path)
    must = finished or (folder / FINISHED).is_file()
    files = _files(folder, verify) if must else None
    if not (folder / BUNDLE).is_file() or (files is not None and BUNDLE not in files):
        raise UserError(
            f"{folder} has no {BUNDLE} of its export: expected a whole bundle. {export_it(folder)}"
        )
    bundle = _parse(folder, rundir.read_json(folder / BUNDLE), files)
    if path.is_file() and path.suffix == ".onnx" and path.name != bundle.model.name:
        raise UserError(f"{path} is not the model of this bundle: expected {bundle.model}.")
    if through_run:
        return _of_this_state(bundle, path)
    return bundle


def check_folder(folder: Path) -> None:
    """`UserError` unless a bundle's folder is safe to read and to write: no links, and files where
    files belong."""
    look_through(folder).check_kinds(folder, files=_FILES, folders=frozenset({EXAMPLES}))


def of_run(run: Path) -> Iterator[Bundle]:
    """The finished bundles of a run, `onnx` first; `UserError` for one that changed or is of an
    earlier state of it."""
    rundir.check_folder(run)
    found = _finished_names(run)
    for name in sorted(found, key=lambda name: (name != DEFAULT_TARGET, name)):
        yield _of_this_state(open_bundle(run / BUNDLES / name), run)


def _finished_names(run: Path) -> set[str]:
    """The names of the places of finished bundles, without those that are about to take one."""
    folders = (path.parent for path in run.glob(f"{BUNDLES}/*/{FINISHED}"))
    names = {disk.place_of(folder).name for folder in folders}
    return {name for name in names if not name.endswith(disk.UNFINISHED)}


def _of_this_state(bundle: Bundle, run: Path) -> Bundle:
    if _finished_sha256(run) != bundle.run.get("finished_sha256"):
        raise UserError(
            f"{bundle.folder} was exported from an earlier state of {run}: expected a bundle of "
            f"the run as it is now. {export_it(bundle.folder)}"
        )
    return bundle


def _finished_sha256(run: Path) -> str:
    if not rundir.is_finished(run):
        rundir.open_finished(run)  # raises, and says how to finish it
    return rundir.finished_sha256(run)


def _find(path: Path) -> Path:
    """The folder of the bundle that is meant; it exists, but may be incomplete."""
    if path.parent.name == BUNDLES:
        path = disk.standing(path, FINISHED)
    elif path.parent.parent.name == BUNDLES:
        path = disk.standing(path.parent, FINISHED) / path.name
    if path.is_file() and (path.parent / BUNDLE).is_file():
        return path.parent
    if (path / BUNDLE).is_file() or (path.is_dir() and path.parent.name == BUNDLES):
        return path
    if (path / rundir.CONFIG).is_file():
        return _of_run(path)
    if path.parent.name == BUNDLES:
        return _of_run(path.parent.parent, path.name)
    seen = "nothing"
    if path.exists():
        kind = "folder" if path.is_dir() else "file"
        seen = f"a {kind} of something else"
    raise UserError(
        f"{path}: expected a bundle (RUN/{BUNDLES}/{DEFAULT_TARGET}), its {MODEL} or a run folder, "
        f"seen {seen}. Export a run: python -m export RUN --to {DEFAULT_TARGET}"
    )


def _of_run(run: Path, target: str = DEFAULT_TARGET) -> Path:
    folder = disk.standing(run / BUNDLES / target, FINISHED)
    if folder.is_dir():
        return folder
    if run.is_dir():
        _finished_sha256(run)
    there = sorted(_finished_names(run))
    raise UserError(
        f"{run} has no bundle for {target}: expected {folder}, seen {', '.join(there) or 'none'} "
        f"in {run / BUNDLES}. {export_it(folder)}"
    )


def _files(folder: Path, verify: bool | Collection[str]) -> Mapping[str, str]:
    """Name -> sha256 of the files of a finished bundle."""
    if not (folder / FINISHED).is_file():
        seen = "its export was stopped"
        if (folder / PARITY).is_file():
            seen = f"{PARITY} tells how far its export came"
        raise UserError(
            f"{folder} has no {FINISHED}: expected a finished bundle; {seen}. {export_it(folder)}"
        )
    again = f"export it again: {_command(folder)}"
    manifest = rundir.read_manifest(folder, "bundle", again=again, version=VERSION, verify=verify)
    return manifest["files"]


def export_it(folder: Path) -> str:
    """The sentence that tells how to make the bundle of this folder."""
    return f"Export it: {_command(folder)}"


def _command(folder: Path) -> str:
    """What makes the bundle of this folder."""
    if folder.parent.name != BUNDLES:
        return f"python -m export RUN --to {DEFAULT_TARGET}"
    target = disk.place_of(folder).name.removesuffix(disk.UNFINISHED)
    return f"python -m export {shell_path(folder.parent.parent)} --to {shell(target)}"


def _parse(folder: Path, content: Any, files: Mapping[str, str] | None) -> Bundle:
    """`content` as a `Bundle`; `files` are the digests, None for a bundle that is not finished."""
    where = folder / BUNDLE
    try:
        if checks.whole(content["version"], 1, 10**9) > VERSION:
            raise UserError(
                f"{where} has version {content['version']}; this program reads up to {VERSION}: "
                "update it with pip."
            )
        labels, outputs = checks.names(content["labels"]), checks.names(content["outputs"])
        name = content["model"]
        if not is_plain(name):
            raise ValueError(
                f"expected the name of a file in this folder under model, seen {checks.seen(name)}"
            )
        bundle = Bundle(
            folder,
            checks.name(content["target"]),
            folder / name,
            labels,
            _preprocessing(content["preprocessing"]),
            Decision.from_json(content["decision"], str(where)),
            outputs,
            checks.facts(content["run"]),
            checks.facts(content["versions"]),
            checks.name(content["status"]),
            None if files is None else files[name],
            content,
            {} if files is None else files,
        )
        checks.name(bundle.run.get("name", "model"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{where} is not what an export wrote ({checks.seen(error)}). {export_it(folder)}"
        ) from None
    _check_outputs(folder, bundle)
    return bundle


def _preprocessing(content: Any) -> Preprocessing:
    try:
        return Preprocessing.from_config(content)
    except UserError as error:
        raise ValueError(str(error)) from None


def _check_outputs(folder: Path, bundle: Bundle) -> None:
    """`UserError` unless the labels and outputs are those that an answer needs."""
    labels, outputs = bundle.labels, bundle.outputs
    needed = {PROBABILITIES, EMBEDDING}
    if bundle.decision.unknown:
        needed.add(UNKNOWN_SCORE)
    if not needed <= set(outputs) <= set(OUTPUTS) or not labels:
        raise UserError(
            f"{folder / BUNDLE}: expected labels and the outputs {', '.join(sorted(needed))}, seen "
            f"{len(labels)} labels and the outputs {', '.join(outputs)}. {export_it(folder)}"
        )
