"""What `export/insides` borrows is still there in the installed versions; if not, the failure names
the project, its version and what is gone."""

import logging
from inspect import signature
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnxruntime import quantization
from timm.layers import Attention
from torch import nn

from export.insides import of_onnxruntime, of_timm, of_torch
from tests.borrowed import borrowed

EXPORT = Path(of_torch.__file__).parents[1]


@pytest.mark.parametrize(
    "inside",
    [
        "torch.onnx.export",
        "OnnxExporterError",
        "metadata_props.clear",
        "model_proto",
        ".inplace",
        "fused_attn",
        "quantize_static",
        "calibration_cache_path",
        "getLogger",
    ],
)
def test_insides_are_borrowed_in_one_room(inside: str) -> None:
    files = [path for path in EXPORT.rglob("*.py") if inside in path.read_text(encoding="utf-8")]
    assert {path.parent.name for path in files} == {"insides"}


class Scaled(nn.Module):
    """A network with a parameter, a buffer, and an activation that writes in place."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.activation = nn.Linear(4, 3), nn.ReLU6(inplace=True)
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.layer(x)) * self.scale  # type: ignore[no-any-return]


def test_torchs_exporter_has_what_is_borrowed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    module = Scaled()
    options = {
        "input_names": ["x"],
        "output_names": ["y"],
        "dynamic_shapes": ({0: torch.export.Dim("batch", min=1)},),
        "opset_version": 20,
    }
    with borrowed("torch", "the model of a program, as objects of onnx_ir"):
        model = of_torch.exported(module, (torch.zeros(2, 4),), options)
    with borrowed("torch", "weights that are called like parameters and buffers"):
        names = {weight.name for weight in model.graph.initializer}
        assert names >= {"layer.weight", "layer.bias", "scale"}
    with borrowed("torch", "inputs and outputs that are called as asked, of any batch"):
        for value, name in ((model.graph.input[0], "x"), (model.graph.output[0], "y")):
            assert (value.name, value.type.tensor_type.shape.dim[0].dim_param) == (name, "batch")
    with borrowed("torch", "all that names this machine in metadata_props"):
        assert str(Path(__file__).parent).encode() not in model.SerializeToString()
    with borrowed("torch", "a log of the exporter that can be silenced, and one way to print"):
        assert [record for record in caplog.records if record.name.startswith("torch")] == []
        assert capfd.readouterr().out == ""
    assert module.activation.inplace


def test_what_the_exporter_refuses_is_one_of_two_errors() -> None:
    class ByValue(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(Exception, match=r".") as raised:
        of_torch.exported(ByValue(), (torch.zeros(2),), {})
    with borrowed("torch", "OnnxExporterError or RuntimeError for what it cannot take"):
        assert isinstance(raised.value, of_torch.REFUSED)


def test_timm_has_what_is_borrowed() -> None:
    attention = Attention(8, num_heads=2)
    with borrowed("timm", "fused_attn of an attention"):
        assert attention.fused_attn
        assert of_timm.write_out_attention(nn.Sequential(attention))
        assert not attention.fused_attn
    assert not of_timm.write_out_attention(nn.Linear(1, 1))


class OnePicture(quantization.CalibrationDataReader):
    """What a quantiser calibrates on, once."""

    def __init__(self, feed: dict[str, Any]):
        self._left = [feed]

    def get_next(self) -> dict[str, Any] | None:
        return self._left.pop() if self._left else None


def test_onnx_runtimes_quantiser_has_what_is_borrowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info, weight = onnx.helper.make_tensor_value_info, torch.ones(4, 3).numpy()
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "product",
        [info("x", onnx.TensorProto.FLOAT, [1, 4])],
        [info("y", onnx.TensorProto.FLOAT, [1, 3])],
        [onnx.numpy_helper.from_array(weight, "weight")],
    )
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), tmp_path / "model.onnx"
    )
    level = logging.getLogger().level
    reader = OnePicture({"x": torch.ones(1, 4).numpy()})
    of_onnxruntime.quantize(
        tmp_path / "model.onnx", tmp_path / "small.onnx", reader, tmp_path / "ranges.json"
    )
    kinds = {node.op_type for node in onnx.load(tmp_path / "small.onnx").graph.node}
    with borrowed("onnxruntime", "pairs of QuantizeLinear and DequantizeLinear"):
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    with borrowed("onnxruntime", "a quantiser that writes its advice to the root of all logs"):
        assert caplog.records == []
    assert logging.getLogger().level == level
    if of_onnxruntime.CACHE in signature(quantization.quantize_static).parameters:
        with borrowed("onnxruntime", "the file of what was seen of the pictures"):
            assert (tmp_path / "ranges.json").is_file()
