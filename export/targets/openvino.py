"""`--to openvino`: the deployed graph as OpenVINO's intermediate representation, all of it in fp32.

Resizing is done by matrix products: OpenVINO's own, with antialias, was up to 144 levels of 255 off
(a picture of 2000 x 1500 pixels, version 2026.4.1), which the proof refused.
"""

import tempfile
from pathlib import Path

from export.graph.deployed import Deployed
from export.proof.product import Product
from export.proof.prove import Evidence
from zoo.answer import openvino_runtime
from zoo.contract import bundle, model_metadata
from zoo.host.text import shell_path

MODEL = "model.xml"
ADVICE = "Try another version of openvino, or report it with that file."


def check() -> None:
    """`UserError` with the install line if OpenVINO is missing."""
    openvino_runtime.import_openvino()


def make(evidence: Evidence, folder: Path) -> Product:
    """Write `model.xml` and `model.bin`; weights stay float32 (OpenVINO's default rounds them to
    float16)."""
    openvino = openvino_runtime.import_openvino()
    trained = evidence.trained
    deployed = Deployed(trained.parts, resize="matmul").eval()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / bundle.MODEL
        trained.write(deployed, path)
        model = openvino.convert_model(path)
    description = model_metadata.metadata(trained.described(deployed.outputs))
    model.set_rt_info(description[model_metadata.METADATA], model_metadata.METADATA)
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
    return Product(
        deployed.outputs,
        deployed.resize,
        MODEL,
        pixels=deployed,
        facts={
            "compile_with": openvino_runtime.CONFIG,
            "versions_of_target": {"openvino": openvino.__version__},
        },
        next_steps=lambda folder: [f"python -m zoo.predictor {shell_path(folder)} PICTURE..."],
    )
