"""`--to triton`: a model repository for NVIDIA's Triton Inference Server, for its ONNX Runtime and
TensorRT back ends.

`models/NAME/` holds the proved `model.onnx` and runs as it is. `models-tensorrt/NAME/` is the same
service for a TensorRT engine, which has to be built on the GPU that runs it: `--to tensorrt` makes
the file and says how.
"""

import json
import re
import shutil
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from export.proof.product import Product
from export.proof.prove import Evidence
from zoo.contract import bundle, rundir
from zoo.host.text import shell, shell_path

LARGEST_BATCH = 32
PREFERRED = (8, 32)
DELAY_US = 2_000
"""How long a picture may wait for others of its size to share a pass with, in microseconds."""
QUEUE = 256
"""Pictures that may wait; more are rejected at once instead of waiting for ever."""
WARM_UP_SIDE = 256
"""Height and width in pixels of the picture that is answered before the server says that it is
ready."""
LABELS = "labels.txt"
KIND = {"onnx": ("onnxruntime", bundle.MODEL), "tensorrt": ("tensorrt", "model.plan")}
"""What the repository is for -> Triton's back end and the file it expects."""
FOLDER = {"onnx": "models", "tensorrt": "models-tensorrt"}


def make(evidence: Evidence, folder: Path) -> Product:
    """Write both repositories; the model of the bundle is that of `models/NAME/1/`."""
    trained = evidence.trained
    deployed, source = trained.deployed_onnx(), trained.onnx_model
    name = model_name(trained.run.resolve().name)
    dimensions = outputs(deployed.outputs, len(trained.labels))
    for kind, (_, file) in KIND.items():
        model = folder / FOLDER[kind] / name
        (model / "1").mkdir(parents=True)
        rundir.write_text(model / "config.pbtxt", config(name, kind, dimensions))
        # Triton counts lines, and a label with a line break would shift all that follow
        rundir.write_text(model / LABELS, "\n".join([*map(one_line, trained.labels), ""]))
        if kind == "onnx":
            # of TensorRT's repository the engine is missing, which only its own GPU can build
            shutil.copyfile(source, model / "1" / file)
    return Product(
        deployed.outputs,
        deployed.resize,
        f"{FOLDER['onnx']}/{name}/1/{bundle.MODEL}",
        pixels=deployed,
        status="checked as a configuration, not run by a Triton server",
        next_steps=lambda folder: [
            f"tritonserver --model-repository {shell_path(folder / FOLDER['onnx'])}",
            f"python -m export {shell_path(trained.run)} --to tensorrt    "
            f"# says how to make {shell(folder / FOLDER['tensorrt'] / name / '1' / 'model.plan')}",
        ],
    )


def outputs(names: Sequence[str], classes: int) -> dict[str, list[int]]:
    """Return output of the graph -> its dimensions without the batch, -1 = any."""
    known: dict[str, list[int]] = {
        bundle.PROBABILITIES: [classes],
        bundle.UNKNOWN_SCORE: [],
        bundle.EMBEDDING: [-1],
        bundle.HEATMAP: [-1, -1],
    }
    return {name: known[name] for name in names}


def config(name: str, kind: str, outputs: Mapping[str, Sequence[int]]) -> str:
    """Return the text of `config.pbtxt` (github.com/triton-inference-server/common,
    protobuf/model_config.proto)."""
    blocks: list[str] = []
    for output, dims in outputs.items():
        shape = f"dims: [ {', '.join(map(str, dims))} ]"
        if not dims:
            # a scalar a picture has no dimension besides the batch; Triton wants one, and reshapes
            # it away
            shape = "dims: [ 1 ]\n    reshape: { shape: [ ] }"
        labels = ""
        if output == bundle.PROBABILITIES:
            labels = f'\n    label_filename: "{LABELS}"'
        blocks.append(
            f'  {{\n    name: "{output}"\n    data_type: TYPE_FP32\n    {shape}{labels}\n  }}'
        )
    return TEMPLATE.substitute(
        name=name,
        backend=KIND[kind][0],
        file=KIND[kind][1],
        largest=LARGEST_BATCH,
        image=bundle.IMAGE,
        outputs=",\n".join(blocks),
        preferred=", ".join(map(str, PREFERRED)),
        delay=DELAY_US,
        queue=QUEUE,
        side=WARM_UP_SIDE,
    )


def model_name(run: str) -> str:
    """Return the run's name as Triton takes it in its addresses."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", run)


def one_line(label: str) -> str:
    """Return a class name as a line of labels.txt; one with line breaks as JSON writes it."""
    return label if label.splitlines() == [label] else json.dumps(label, ensure_ascii=False)


TEMPLATE = string.Template("""\
name: "$name"
backend: "$backend"
default_model_filename: "$file"
max_batch_size: $largest
input [
  {
    name: "$image"
    data_type: TYPE_UINT8
    dims: [ -1, -1, 3 ]
  }
]
output [
$outputs
]
dynamic_batching {
  preferred_batch_size: [ $preferred ]
  max_queue_delay_microseconds: $delay
  default_queue_policy {
    max_queue_size: $queue
    timeout_action: REJECT
  }
}
model_warmup [
  {
    name: "one picture"
    batch_size: 1
    inputs {
      key: "$image"
      value: {
        data_type: TYPE_UINT8
        dims: [ $side, $side, 3 ]
        random_data: true
      }
    }
  }
]
""")
