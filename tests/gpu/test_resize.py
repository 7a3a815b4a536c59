"""Does ONNX Runtime resize on CUDA as on the CPU? The faults that zoo/answer/self_check.py names,
at their root."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save

from export.graph.onnx_file import OPSET
from zoo.answer import onnx_runtime

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA GPU; torch sees none here"
)


@pytest.mark.parametrize("filtered", ["linear", "cubic"])
def test_cuda_resizes_within_one_level_of_the_cpu(tmp_path: Path, filtered: str) -> None:
    path = write_resize(tmp_path / "resize.onnx", filtered)
    on_cpu, on_gpu = (onnx_runtime.load_session(path, provider)[0] for provider in ("cpu", "cuda"))
    random = np.random.default_rng(0)
    for height, width in ((480, 640), (1200, 90), (64, 64), (30, 40), (1, 1), (7, 140)):
        feed = {"image": random.integers(0, 256, (1, 3, height, width), np.uint8)}
        expected, seen = (session.run(None, feed)[0].astype(int) for session in (on_cpu, on_gpu))
        assert np.abs(expected - seen).max() <= 1, f"{width} x {height}"


def write_resize(path: Path, filtered: str) -> Path:
    """A model of one Resize to 64 x 64, as export/graph/resize.py becomes one."""
    resize = helper.make_node(
        "Resize",
        ["image", "", "", "sizes"],
        ["resized"],
        mode=filtered,
        antialias=1,
        exclude_outside=1,
        cubic_coeff_a=-0.5,
        coordinate_transformation_mode="half_pixel",
        nearest_mode="floor",
    )
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], [1, 3, 64, 64])
    graph = helper.make_graph(
        [resize],
        "resize",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("resized", TensorProto.UINT8, [1, 3, 64, 64])],
        [sizes],
    )
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10),
        path,
    )
    return path
