"""The order of events: a finished run, each target's files, their proof, examples, FINISHED.json."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export import parity, proof, quantize, to_onnx, to_openvino, to_tensorrt, to_triton, to_web
from export.__main__ import Order
from export.proof import Evidence, Proof
from export.subject import Made, Subject, open_run
from zoo import bundle, console, rundir
from zoo.errors import UserError


@dataclass(frozen=True)
class Target:
    """How one name of `--to` is made."""

    make: Callable[[Subject, Path, str], Made]
    """(run, empty folder of the bundle, precision) -> what was written."""
    precisions: Sequence[str] = ("fp32",)
    """Tried in order until one is proved."""
    of_onnx: bool = False
    """Made from the finished bundle for `onnx`, which is exported first if there is none."""
    same_file: bool = False
    """Its model is that of the bundle for `onnx`, byte for byte, and so is its proof."""
    check: Callable[[], None] = lambda: None
    """Raises `UserError` if something has to be installed first."""
    advice: str = "Try another version of torch or onnxruntime, or report it with that file."


TARGETS = {
    "onnx": Target(to_onnx.make),
    "tensorrt": Target(to_tensorrt.make, ("fp16", "fp32"), check=to_tensorrt.check),
    "int8": Target(quantize.make, ("int8",), of_onnx=True, advice=quantize.ADVICE),
    "openvino": Target(to_openvino.make, check=to_openvino.check),
    "triton": Target(to_triton.make, of_onnx=True, same_file=True),
    "web": Target(to_web.make, of_onnx=True, same_file=True, check=to_web.check),
}


def start(order: Order) -> None:
    """Export a run to every target of the order; `UserError` for what the user can put right, or a failed proof."""
    for target in order.to:
        TARGETS[target].check()
    subject = open_run(order)
    check_writable(subject.run, order.to)
    with proof.gather(subject, examples=order.examples) as evidence:
        for name in wanted(order.to, subject.run):
            with room_on_disk(subject.run):
                export(evidence, name)


def check_writable(run: Path, names: Sequence[str]) -> None:
    """`UserError` if the run, or a bundle in it that will be made anew, may not be written."""
    bundles = run / bundle.BUNDLES
    for folder in (run, bundles, *(bundles / name for name in names)):
        if folder.is_dir():
            rundir.check_writable(folder)


def wanted(names: Sequence[str], run: Path) -> list[str]:
    """The targets in the order in which they are made: `onnx` first where another needs it and it is not there."""
    chosen = list(dict.fromkeys(names))
    if "onnx" not in chosen and any(TARGETS[name].of_onnx for name in chosen):
        try:
            bundle.open_bundle(run)
        except UserError:
            chosen.insert(0, "onnx")
    return sorted(chosen, key=lambda name: name != "onnx")


def export(evidence: Evidence, name: str) -> None:
    """`RUN/bundles/NAME`, finished only if the proof holds."""
    subject, target = evidence.subject, TARGETS[name]
    folder = subject.run / bundle.BUNDLES / name
    for precision in target.precisions:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with console.busy(f"exporting to {name}"):
            product = target.make(subject, folder, precision)
        bundle.write(folder, subject.describe(name, product, precision))
        if target.same_file:
            take_over(subject.run, folder, product, examples=evidence.examples)
            break
        found = proof.prove(evidence, folder, product, precision)
        proof.report(found.rungs)
        if not found.failed:
            if evidence.examples:
                proof.write_examples(evidence, folder, found)
            break
        if precision == target.precisions[-1]:
            give_up(evidence, folder, product, found, target.advice)
        console.warn(f"{precision} does not pass, so it is not used")
    bundle.finish(folder)
    shown = "" if product.status == "ok" else f" ({product.status})"
    does = "keeps the accuracy of" if precision in parity.LOST_POINTS else "answers like"
    console.say(f"{folder} {does} the trained model{shown}", style="bold green")
    console.say("\n  ".join(["next:", *product.next_steps]))


def give_up(evidence: Evidence, folder: Path, product: Made, found: Proof, advice: str) -> None:
    """Raise; nothing that is not proved stays beside the run."""
    if product.plain:
        product.plain.unlink()
    raise proof.refuse(evidence, folder, found, advice)


def take_over(run: Path, folder: Path, product: Made, *, examples: bool) -> None:
    """The proof of the bundle for `onnx`, whose model this one is."""
    source = bundle.open_bundle(run)
    assert rundir.digest(folder / product.model) == source.model_sha256, "the same file"
    for name in (bundle.PARITY, bundle.PARITY_PAGE):
        shutil.copyfile(source.folder / name, folder / name)
    if examples and (source.folder / bundle.EXAMPLES).is_dir():
        shutil.copytree(source.folder / bundle.EXAMPLES, folder / bundle.EXAMPLES)
    console.say(f"  the model is {source.model}, byte for byte, and so is its proof")


@contextmanager
def room_on_disk(run: Path) -> Iterator[None]:
    """A full disk, or one that may not be written, in words; the bundle that was being written stays unfinished."""
    try:
        with rundir.right_needed(run / bundle.BUNDLES):
            yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{error.filename}: expected to write a bundle there, seen something else of that name. "
                        "Remove it.") from None
    except OSError as error:
        if error.errno not in rundir.NO_ROOM:
            raise
        free = shutil.disk_usage(run).free / 1e6
        raise UserError(f"no space left for {run / bundle.BUNDLES}: {error.strerror}, {free:.0f} MB are free there; a "
                        "bundle needs some times the size of model.safetensors. Free some space and export again: what "
                        "was finished before is whole.") from None
