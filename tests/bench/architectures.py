"""Which architectures the export takes: random weights, dynamic batch, flip views; each proved on
made pictures.

    python -m tests.bench.architectures [NAME...]        (timm's names; default: all of FAMILIES)

Prints a Markdown table. Nothing is downloaded. Exit code 1 if one is refused or does not pass a
rung.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from export.graph.deployed import Deployed, DeployedParts
from export.graph.pieces import Pieces
from export.proof import hard_pictures, parity
from export.proof.judging import Rung
from zoo.answer import onnx_runtime
from zoo.contract.decision import Decision
from zoo.host.errors import UserError, first_line
from zoo.network.forward import data_config, head
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing

FAMILIES = (
    # convolutions
    "resnet18",
    "resnetv2_18",
    "resnext50_32x4d",
    "vgg11",
    "densenet121",
    "efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "mobilenetv3_small_100",
    "mobilenetv4_conv_small",
    "regnety_004",
    "convnext_atto",
    "convnextv2_atto",
    "repvgg_a0",
    "nf_regnet_b0",
    "ghostnet_100",
    "inception_v3",
    "mobileone_s0",
    "mambaout_femto",
    # transformers
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch14_dinov2",
    "beit_base_patch16_224",
    "eva02_tiny_patch14_224",
    "swin_tiny_patch4_window7_224",
    "vit_base_patch16_siglip_224",
    # both, or neither
    "maxvit_rmlp_pico_rw_256",
    "coatnet_0_rw_224",
    "efficientformerv2_s0",
    "mobilevit_xxs",
    "mixer_s32_224",
    "levit_128s",
    "poolformer_s12",
)
PICTURES = ("64x64.png", "17x33.png", "301x400.png", "97x500.png", "noise.png", "exif6.jpg")
CLASSES = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=FAMILIES, help="architectures of timm")
    failed = 0
    print(
        "| architecture | seconds | MB | core | probabilities | embedding | failed |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        hard_pictures.write_pictures(Path(folder))
        for name in parser.parse_args().names:
            try:
                with contextlib.redirect_stdout(sys.stderr):  # progress bars
                    line, wrong = row(name, Path(folder))
            except UserError as error:
                line, wrong = (
                    f"| {name} | refused: {first_line(error)[:160]} | | | | | export |",
                    True,
                )
            print(line, flush=True)
            failed += wrong
    return 1 if failed else 0


def row(name: str, folder: Path) -> tuple[str, bool]:
    """The architecture's line of the table, and whether a rung failed."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES).eval()
    spread(model)
    parts = DeployedParts(
        model, Preprocessing.from_config(data_config(model)), Decision(views="flip"), None
    )
    start = time.perf_counter()
    deployed = Deployed(parts, resize="op").eval()
    path = folder / "model.onnx"
    pieces = Pieces(parts, path.with_suffix(".log"))
    pieces.write(deployed, path)
    seconds, megabytes = time.perf_counter() - start, path.stat().st_size / 1e6
    pieces.write_network(deployed, folder / "plain.onnx")
    pieces.write_pixels(deployed, folder / "pixels.onnx")
    rungs = {rung.name: rung for rung in proved(parts, deployed, folder)}
    wrong = ", ".join(
        rung.name for rung in rungs.values() if rung.verdict not in ("passed", "not judged")
    )
    worst = " | ".join(
        f"{rungs[rung].worst:.1g}" for rung in ("core", "probabilities", "embedding")
    )
    return f"| {name} | {seconds:.1f} | {megabytes:.1f} | {worst} | {wrong} |", bool(wrong)


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Make the classifier's weights large enough for classes to differ."""
    last = head(model)
    if last is not None:
        last.weight.normal_(std=last.weight.flatten(1).shape[1] ** -0.5)


def proved(parts: DeployedParts, deployed: Deployed, folder: Path) -> list[Rung]:
    """The rungs on a few made pictures, in this process."""
    paths = {name: folder / name for name in PICTURES}
    pixels, _ = onnx_runtime.load_session(folder / "pixels.onnx", "cpu")
    pictures = parity.compare_pictures(parts, pixels, paths)
    session, _ = onnx_runtime.load_session(folder / "model.onnx", "cpu")
    given = [
        session.run(deployed.outputs, {"image": np.asarray(decode(path))[None]})
        for path in paths.values()
    ]
    outputs = {
        name: np.concatenate(values)
        for name, values in zip(deployed.outputs, zip(*given, strict=True), strict=True)
    }
    return [
        parity.core(folder / "plain.onnx", pictures),
        *parity.pixels(pictures, by_products=deployed.prepare.matmul),
        *parity.compare_outputs(pictures, outputs),
    ]


if __name__ == "__main__":
    sys.exit(main())
