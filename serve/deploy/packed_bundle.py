"""A bundle on its way to strangers: the files that answering needs, without what is private."""

import shutil
from pathlib import Path

from zoo.answer import onnx_runtime
from zoo.contract import bundle as bundles
from zoo.contract import listed_files, rundir
from zoo.contract.bundle import Bundle
from zoo.contract.examples import leaving
from zoo.contract.figures import without_pictures
from zoo.host import console
from zoo.host.errors import UserError
from zoo.publish.onnx_notes import write_without_notes
from zoo.publish.picture_names import without_names
from zoo.publish.private import Private

LONGEST_CARD = 1_000_000
"""Characters of a model card; the rest is left out."""


def private_of(bundle: Bundle) -> Private:
    """Return what must not stand in the folder."""
    run = _run_of(bundle)
    if run is not None and listed_files.listed_file(run, rundir.DATA):
        return Private.of_run(run)
    return Private.of_folder(bundle.folder, bundle.labels)


def pack(bundle: Bundle, folder: Path, private: Private, *, with_examples: bool) -> None:
    """Copy what answering needs, of the files that FINISHED.json lists; `UserError` if one of
    those is no plain file."""
    kept = {bundle.model.name, bundles.BUNDLE, bundles.PARITY}
    if onnx_runtime.provider_of(bundle.model) == onnx_runtime.OPENVINO:
        kept.add(bundle.model.with_suffix(".bin").name)
    for name in sorted(bundle.files):
        path = _plain_file(bundle, name)
        if name in kept:
            _copy(path, folder / name, private)
    if with_examples:
        _copy_examples(bundle, folder / bundles.EXAMPLES, private)
    # a list of its own: the files differ from those of the bundle
    bundles.finish(folder)


def model_card(bundle: Bundle, private: Private) -> str | None:
    """Return the model card of the run to which the bundle belongs, without what is private; None
    unless the run's FINISHED.json lists one."""
    run = _run_of(bundle)
    if run is None:
        return None
    path = listed_files.listed_file(run, rundir.CARD)
    if path is None or path.is_symlink():
        return None
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.read(LONGEST_CARD).splitlines(keepends=True)
    return "".join(map(private.cut, map(without_names, lines)))


def _run_of(bundle: Bundle) -> Path | None:
    """Return the finished run to which a bundle belongs, if it lies in one."""
    # RUN/bundles/TARGET
    run = bundle.folder.parent.parent
    if bundle.folder.parent.name == bundles.BUNDLES and rundir.is_finished(run):
        return run
    return None


def _plain_file(bundle: Bundle, name: str) -> Path:
    """Return the file of this name in the bundle; `UserError` if it is a link or lies elsewhere."""
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
    return path


def _copy(path: Path, copy: Path, private: Private) -> None:
    """Copy one file, changed only where it holds something private."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.name == bundles.PARITY:
        proof = without_pictures(rundir.read_json(path, kind=dict))
        rundir.write_json(copy, private.cut_json(proof))
        return
    if path.name == bundles.BUNDLE:
        content = rundir.read_json(path)
        public = private.cut_json(content)
        # else copied byte for byte, so that its digest stays
        if public != content:
            rundir.write_json(copy, public)
            return
    if copy.suffix == ".onnx":
        write_without_notes(path, copy, private)
    else:
        shutil.copyfile(path, copy)


def _copy_examples(bundle: Bundle, folder: Path, private: Private) -> None:
    """Copy the example pictures without their metadata, and what is expected of them."""
    found = leaving(bundle)
    for reason in found.staying:
        console.warn(f"{bundle.folder / bundles.EXAMPLES}: not packed: {reason}")
    if not found.pictures:
        return
    folder.mkdir()
    for name, content in found.pictures.items():
        (folder / name).write_bytes(content)
    rows = {name: private.cut_json(row) for name, row in found.expected.items()}
    rundir.write_json(folder / bundles.EXPECTED, rows)
