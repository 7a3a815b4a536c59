"""The order of events: a finished run, each target's files, their proof, examples,
FINISHED.json."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export.order import Order
from export.place import alone, check_writable, room_on_disk, take_place
from export.proof import judging, prove
from export.proof.prove import Evidence
from export.proof.trained_run import Made, all_of, open_run
from export.targets import int8, onnx, openvino, tensorrt, triton, web
from zoo.contract import bundle, rundir
from zoo.host import console, disk
from zoo.host.errors import NotProved, UserError
from zoo.host.text import one_line

SHOWN = 90
"""Characters of an error in the table of several targets; the whole of it stands above."""


INCONCLUSIVE = (
    "Label more pictures, say with --max-loss what may be lost, or keep it as it is, and named so, "
    "with --accept-inconclusive."
)
"""Advice where there are too few pictures to tell."""


@dataclass(frozen=True)
class Target:
    """How one name of `--to` is made."""

    make: Callable[[Evidence, Path, str], Made]
    """(the run and its pictures, empty folder of the bundle, precision) -> what was written."""
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
    "onnx": Target(onnx.make),
    "tensorrt": Target(tensorrt.make, ("fp16", "fp32"), check=tensorrt.check),
    "int8": Target(int8.make, ("int8",), of_onnx=True, advice=int8.ADVICE),
    "openvino": Target(openvino.make, check=openvino.check, advice=openvino.ADVICE),
    "triton": Target(triton.make, of_onnx=True, same_file=True),
    "web": Target(web.make, of_onnx=True, same_file=True, check=web.check),
}


def start(order: Order) -> None:
    """Export a run to every target of the order; one that fails does not stop the others.

    Raises `UserError` for what the user can put right, or a failed proof; of several targets, after
    a table of what became of each, `NotProved`.
    """
    failed: dict[str, UserError] = {
        name: error for name in order.to if (error := _refused(TARGETS[name].check))
    }
    if len(failed) == len(set(order.to)):
        raise next(iter(failed.values()))
    for error in failed.values():
        console.error(error)
    subject = open_run(order)
    check_writable(subject.run, order.to)
    names = wanted([name for name in order.to if name not in failed], subject.run)
    gathered = prove.gather(
        subject, examples=order.examples, accept_inconclusive=order.accept_inconclusive
    )
    with alone(subject.run), gathered as evidence:
        for name in names:
            if error := _refused(lambda name=name: attempt(evidence, name, failed)):  # type: ignore[misc]
                failed[name] = error
                if len(order.to) == 1:
                    raise error
                console.error(error)
    if len(order.to) > 1:
        report([*names, *(name for name in order.to if name not in names)], failed)


def _refused(work: Callable[[], None]) -> UserError | None:
    """What was wrong, if something was."""
    try:
        work()
    except UserError as error:
        return error
    return None


def attempt(evidence: Evidence, name: str, failed: Mapping[str, UserError]) -> None:
    """Export to one target; `failed`: those before it that could not be."""
    if TARGETS[name].of_onnx and "onnx" in failed:
        raise UserError(f"{name} is made from the bundle for onnx, which could not be exported.")
    with room_on_disk(evidence.subject.run):
        export(evidence, name)


def report(names: Sequence[str], failed: Mapping[str, UserError]) -> None:
    """A table of what became of each target; `NotProved` if one failed."""
    console.table(
        [console.Column("target"), console.Column("result")],
        [
            (name, one_line(failed[name])[:SHOWN] if name in failed else "finished")
            for name in names
        ],
        red=[row for row, name in enumerate(names) if name in failed],
    )
    if failed:
        raise NotProved(
            f"{len(failed)} of {len(names)} targets could not be exported: {', '.join(failed)}. "
            "The reasons stand above; the others are finished."
        )


def wanted(names: Sequence[str], run: Path) -> list[str]:
    """The targets in the order in which they are made: `onnx` first where another needs it and it
    is not there."""
    chosen = list(dict.fromkeys(names))
    if "onnx" not in chosen and any(TARGETS[name].of_onnx for name in chosen):
        try:
            bundle.open_bundle(run)
        except UserError:
            chosen.insert(0, "onnx")
    return sorted(chosen, key=lambda name: name != "onnx")


def export(evidence: Evidence, name: str) -> None:
    """`RUN/bundles/NAME`. It is made and proved beside an earlier one, and takes its place when it
    is finished.

    What is refused stays beside it for the user to look at, until the next export.
    """
    subject, target = evidence.subject, TARGETS[name]
    place = subject.run / bundle.BUNDLES / name
    folder, plain = disk.unfinished(place), disk.unfinished(subject.run / onnx.PLAIN)
    to_look_at = False
    try:
        product = _made(evidence, name, target, folder)
        bundle.finish(folder)
        if product.plain:
            product.plain.replace(subject.run / onnx.PLAIN)
        take_place(folder, place)
    except UserError:
        to_look_at = True
        raise
    finally:
        plain.unlink(missing_ok=True)
        if not to_look_at:
            shutil.rmtree(folder, ignore_errors=True)
    shown = "" if product.status == "ok" else f" ({product.status})"
    does = "keeps the accuracy of" if product.lossy else "answers like"
    does = "was made from" if product.status.startswith("inconclusive") else does
    console.say(f"{place} {does} the trained model{shown}", style="bold green")
    console.say("\n  ".join(["next:", *product.next_steps(place)]))


def _made(evidence: Evidence, name: str, target: Target, folder: Path) -> Made:
    """A bundle in the first of the target's precisions that is proved; `NotProved` if none is."""
    subject = evidence.subject
    for precision in target.precisions:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        with console.busy(f"exporting to {name}"):
            product = target.make(evidence, folder, precision)
        bundle.write(folder, subject.describe(name, product, precision))
        if target.same_file:
            take_over(subject.run, folder, product, examples=evidence.examples)
            return product
        found = prove.prove(evidence, folder, product, precision)
        prove.report(found.rungs)
        doubts = found.inconclusive
        if not found.failed and (not doubts or evidence.accept_inconclusive):
            if doubts:
                too_few = f"inconclusive: it loses {doubts[0].lost}, which are too few to tell"
                product = replace(product, status=all_of(too_few, product.status))
                bundle.write(folder, subject.describe(name, product, precision))
            if evidence.examples:
                prove.write_examples(evidence, folder, found)
            return replace(product, lossy=precision in judging.LOST_POINTS)
        if precision != target.precisions[-1]:
            console.warn(f"{precision} does not pass, so it is not used")
    raise prove.refuse(evidence, folder, found, INCONCLUSIVE if not found.failed else target.advice)


def take_over(run: Path, folder: Path, product: Made, *, examples: bool) -> None:
    """The proof of the bundle for `onnx`, whose model this one is."""
    source = bundle.open_bundle(run)
    assert rundir.digest(folder / product.model) == source.model_sha256, "the same file"
    for name in (bundle.PARITY, bundle.PARITY_PAGE):
        shutil.copyfile(source.folder / name, folder / name)
    if examples and (source.folder / bundle.EXAMPLES).is_dir():
        shutil.copytree(source.folder / bundle.EXAMPLES, folder / bundle.EXAMPLES)
    console.say(f"  the model is {source.model}, byte for byte, and so is its proof")
