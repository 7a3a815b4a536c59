"""`--to openvino`: the deployed graph as OpenVINO's intermediate representation, all of it in fp32."""

from pathlib import Path

from export.graph import Deployed
from export.subject import Made, Subject
from zoo import bundle, openvino_runtime

MODEL = "model.xml"


def check() -> None:
    """`UserError` with the install line if OpenVINO is missing."""
    openvino_runtime.import_openvino()


def make(subject: Subject, folder: Path, precision: str) -> Made:
    """`model.xml` and `model.bin`, converted from the proved `model.onnx`; weights stay float32 (the default rounds)."""
    openvino = openvino_runtime.import_openvino()
    deployed = Deployed(subject.parts, resize="op")
    model = openvino.convert_model(subject.onnx_model)
    model.set_rt_info(subject.metadata(deployed)[bundle.METADATA], bundle.METADATA)
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)
    return Made(deployed, model=MODEL, facts={"compile_with": openvino_runtime.CONFIG,
                                              "versions_of_target": {"openvino": openvino.__version__}},
                next_steps=[f"python -m zoo.predictor {folder} PICTURE..."])
