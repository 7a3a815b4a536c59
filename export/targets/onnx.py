"""`--to onnx`: the deployed graph in fp32, and beside the run the plain model that ecosystem tools
expect."""

from pathlib import Path

from export.graph.deployed import Deployed
from export.proof.product import Product
from export.proof.prove import Evidence
from zoo.contract import bundle
from zoo.host import console, disk
from zoo.host.text import shell_path

PLAIN = Path("onnx") / "model.onnx"
"""Below the run folder, for tools that prepare pictures themselves: `pixel_values` -> `logits`."""
MAY_MOVE = bundle.TOLERANCE / 2
"""A probability may move by this because of resizing; the other half of what the proof allows is
for the network."""


def make(evidence: Evidence, folder: Path) -> Product:
    """Write `model.onnx`, and `RUN/onnx/model.onnx`."""
    trained = evidence.trained
    deployed = resizing_unseen(evidence)
    trained.write(deployed, folder / bundle.MODEL)
    # under another name until the bundle is proved with it
    plain = disk.unfinished(trained.run / PLAIN)
    plain.parent.mkdir(exist_ok=True)
    trained.pieces.write_network(deployed, plain)
    return Product(
        deployed.outputs,
        deployed.resize,
        pixels=deployed,
        plain=plain,
        next_steps=lambda folder: [
            f"python -m serve {shell_path(trained.run)}",
            f"python -m zoo.predictor {shell_path(folder)} PICTURE...",
        ],
    )


def resizing_unseen(evidence: Evidence) -> Deployed:
    """Return the graph with ONNX's Resize, or with exact products if Resize would be seen in an
    answer.

    Resize is a level of 255 off where Pillow meets an exact half, which is common where pictures
    are enlarged, and a temperature below 1 makes more of it; products take 1 to 10 times as long,
    the more the larger the pictures.
    """
    fast = Deployed(evidence.trained.parts, resize="op").eval()
    # kept by `evidence`: the proof of this graph compares the same pictures
    pictures = evidence.compared(fast, "cpu")
    moved, picture = max((picture.moved, picture.name) for picture in pictures)
    if moved <= MAY_MOVE:
        return fast
    console.say(
        "pictures are resized by exact products: ONNX's Resize would move a probability by "
        f"{moved:.4f} on {picture}"
    )
    return Deployed(evidence.trained.parts, resize="matmul").eval()
