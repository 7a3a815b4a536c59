"""One export from a run folder to a finished bundle: graph, file, proof, examples."""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import timm
import torch
from rich.console import Console
from torch import Tensor, nn

from export import made, parity, to_onnx
from export.__main__ import Order
from export.graph import Deployed, Parts
from export.parity import Compared, Rung
from zoo import bundle, decision, rundir
from zoo.errors import NotProved, UserError
from zoo.model import load
from zoo.preprocess import Preprocessing

console = Console(highlight=False, soft_wrap=True)
EXAMPLES = 6
PLAIN = Path("onnx") / "model.onnx"
"""The plain model of the run folder, for tools that prepare pictures themselves."""
ANY_PICTURE = {0: "batch", 1: "height", 2: "width"}


class Pixels(nn.Module):
    """The part of the graph before normalisation, for the proof."""

    def __init__(self, deployed: Deployed):
        super().__init__()
        self.prepare = deployed.prepare

    def forward(self, image: Tensor) -> Tensor:
        return self.prepare.windows(image).float()


@dataclass(frozen=True)
class Subject:
    """A finished run, ready to be exported."""

    run: Path
    labels: list[str]
    parts: Parts
    pictures: dict[str, Path]
    """Validation pictures for the proof: path relative to the data folder -> file."""


def start(order: Order) -> None:
    """Export a run to every target of the order; `UserError` for what the user can put right, or a failed proof."""
    subject = open_run(order)
    for target in order.to:
        TARGETS[target](subject, examples=order.examples)


def open_run(order: Order) -> Subject:
    """Model, decision and pictures of a finished run, none of whose files has changed."""
    run = order.run
    rundir.open_finished(run, verify=True)
    config, made_decision = rundir.read_json(run / rundir.CONFIG), decision.read(run)
    bank = torch.from_numpy(decision.read_bank(run)) if made_decision.unknown else None
    parts = Parts(load(run), Preprocessing.from_config(config["pretrained_cfg"]), made_decision, bank)
    root = order.data or Path(rundir.read_json(run / rundir.LOCAL)["data"])
    rows = [row for row in rundir.read_files(run) if row["split"] == "val"]
    random.Random(0).shuffle(rows)
    pictures = {row["path"]: root / row["path"] for row in rows[:order.parity_images]}
    if gone := [name for name, path in pictures.items() if not path.is_file()]:
        raise UserError(f"{root} lacks {len(gone)} of {len(pictures)} validation pictures of {run}, for example "
                        f"{gone[0]}: name the folder that holds them with --data.")
    return Subject(run, config["label_names"], parts, pictures)


def export_onnx(subject: Subject, *, examples: bool) -> None:
    """`RUN/bundles/onnx` and `RUN/onnx/model.onnx`, finished only if the proof holds."""
    folder, plain = subject.run / bundle.BUNDLES / "onnx", subject.run / PLAIN
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plain.parent.mkdir(exist_ok=True)
    deployed = Deployed(subject.parts, resize="op").eval()
    content = describe(subject, deployed)
    size = subject.parts.pre.size
    picture = torch.zeros(2, 120, 160, 3, dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as temporary:
        pixels = Path(temporary) / "pixels.onnx"
        with stage("exporting the deployed graph"):
            to_onnx.export(deployed, picture, folder / bundle.MODEL, names=(bundle.IMAGE, deployed.outputs),
                           dynamic=ANY_PICTURE, metadata=bundle.metadata(content))
        with stage("exporting the plain model"):
            to_onnx.export(subject.parts.model, torch.zeros(2, 3, size, size), plain,
                           names=("pixel_values", ["logits"]), dynamic={0: "batch"})
        with stage("exporting the pixels for the proof"):
            to_onnx.export(Pixels(deployed), picture, pixels, names=(bundle.IMAGE, ["windows"]), dynamic=ANY_PICTURE)
        bundle.write(folder, content)
        hard = Path(temporary) / "made"
        hard.mkdir()
        paths = subject.pictures | {f"made {path.name}": path for path in made.write(hard)}
        pictures = parity.compared(subject.parts, pixels, paths)
        with stage(f"answering {len(paths)} pictures by the exported file"):
            outputs = parity.predicted(folder, list(paths.values()))
            rungs = [parity.core(plain, pictures), *parity.pixels(pictures, by_products=deployed.prepare.matmul),
                     *parity.compare(pictures, outputs)]
        rundir.write_json(folder / bundle.PARITY, {"rungs": parity.to_json(rungs), "own": len(subject.pictures),
                                                   "made": len(paths) - len(subject.pictures)})
        report(rungs)
        if failed := [rung for rung in rungs if not rung.passed]:
            plain.unlink()  # nothing that is not proved stays
            refuse(folder, failed, paths)
    if examples:
        write_examples(folder, subject, pictures)
    bundle.finish(folder)
    console.print(f"{folder} answers like the trained model", style="bold green")
    console.print(f"next:\n  python -m zoo.predictor {folder} PICTURE...", markup=False)


TARGETS: dict[str, Callable[..., None]] = {"onnx": export_onnx}
"""Name for `--to` -> what makes it."""


def describe(subject: Subject, deployed: Deployed) -> dict[str, Any]:
    """The content of bundle.json."""
    run = subject.run
    return {
        "target": "onnx", "labels": subject.labels, "preprocessing": subject.parts.pre.to_config(),
        "decision": subject.parts.decision.to_json(), "outputs": deployed.outputs,
        "run": {"name": run.resolve().name, "architecture": rundir.read_json(run / rundir.CONFIG)["architecture"],
                "weights_sha256": rundir.digest(run / rundir.WEIGHTS),
                "finished_sha256": rundir.digest(run / rundir.FINISHED)},
        "versions": {"torch": torch.__version__, "timm": timm.__version__, "onnx": onnx.__version__,
                     "opset": to_onnx.OPSET},
        "status": "ok"}


def report(rungs: list[Rung]) -> None:
    """One line for each comparison."""
    for rung in rungs:
        console.print(f"  {'passed' if rung.passed else 'FAILED'}  {rung.name:<16} worst {rung.worst:.2g} "
                      f"(limit {rung.limit:g}), {rung.pictures} pictures", style=None if rung.passed else "bold red")


def refuse(folder: Path, failed: list[Rung], paths: dict[str, Path]) -> None:
    """Keep the picture that differs most beside the numbers, and raise."""
    worst = max(failed, key=lambda rung: rung.worst / (rung.limit or 1))
    kept = folder / f"differs_most{paths[worst.picture].suffix}"
    shutil.copyfile(paths[worst.picture], kept)
    raise NotProved(f"the exported model does not answer like the trained one: {worst.name} differs by "
                    f"{worst.worst:.3g} on {worst.picture}, expected at most {worst.limit:g}. The bundle is not "
                    f"finished; numbers in {folder / bundle.PARITY}, the picture is {kept}. Try another version of "
                    "torch or onnxruntime, or report it with that file.")


def write_examples(folder: Path, subject: Subject, pictures: list[Compared]) -> None:
    """Some validation pictures and what is answered to them."""
    (folder / bundle.EXAMPLES).mkdir()
    expected: dict[str, dict[str, Any]] = {}
    for path, one in list(zip(subject.pictures.values(), pictures, strict=False))[:EXAMPLES]:
        name = f"{len(expected) + 1}{path.suffix.lower()}"
        shutil.copyfile(path, folder / bundle.EXAMPLES / name)
        p_C = one.reference.outputs["probabilities"]
        expected[name] = {"label": subject.labels[int(p_C.argmax())], "probability": float(p_C.max()),
                          "probabilities": [round(float(p), 6) for p in p_C]}
    rundir.write_json(folder / bundle.EXAMPLES / bundle.EXPECTED, expected)


@contextmanager
def stage(title: str) -> Iterator[None]:
    """A spinner while something takes seconds."""
    with console.status(title):
        yield
