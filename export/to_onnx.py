"""`--to onnx`: the deployed graph in fp32, and beside the run the plain model that ecosystem tools expect."""

from pathlib import Path

import torch

from export import onnx_file
from export.graph import Deployed
from export.subject import Made, Subject
from zoo import bundle, rundir
from zoo.text import shell_path

PLAIN = Path("onnx") / "model.onnx"
"""Below the run folder, for tools that prepare pictures themselves: `pixel_values` -> `logits`."""


def make(subject: Subject, folder: Path, precision: str) -> Made:
    """`model.onnx`, and `RUN/onnx/model.onnx`."""
    deployed = Deployed(subject.parts, resize="op").eval()
    onnx_file.export(deployed, onnx_file.PICTURE, folder / bundle.MODEL, names=(bundle.IMAGE, deployed.outputs),
                     dynamic=onnx_file.ANY_PICTURE, metadata=subject.metadata(deployed))
    plain, size = rundir.unfinished(subject.run / PLAIN), subject.parts.pre.size
    plain.parent.mkdir(exist_ok=True)
    onnx_file.export(subject.parts.model, torch.zeros(2, 3, size, size), plain, names=("pixel_values", ["logits"]),
                     dynamic={0: "batch"})
    return Made(deployed, plain=plain, next_steps=lambda folder: [
        f"python -m serve {shell_path(subject.run)}", f"python -m zoo.predictor {shell_path(folder)} PICTURE..."])

