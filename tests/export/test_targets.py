"""The targets beside onnx, each shown by the program that it is for."""

import importlib.util
import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock

from export import pipeline
from export.graph.deployed import Deployed
from export.options import ExportOptions
from export.pipeline import start
from export.proof import hard_pictures, judging, parity, sessions, unknown
from export.proof.open_run import open_run
from export.proof.product import Product
from export.proof.prove import Evidence, gather
from export.proof.trained_run import TrainedRun
from export.targets import int8, rows, tensorrt, tensorrt_builder, triton
from tests.export.made_export import (
    CALIBRATED,
    LABELS,
    SIDE,
    SMALL_VIT,
    Made,
    made_export,
    onnx_bundle,
)
from zoo.answer import onnx_runtime, openvino_runtime
from zoo.answer.predict import Predictor
from zoo.contract import decision, run_pictures
from zoo.contract.bundle import open_bundle
from zoo.host.errors import NotProved, UserError
from zoo.picture.preprocess import Preprocessing

SIZES = ((1, 1), (3, 60), (97, 200))
VIT = Made("test_vit", SMALL_VIT, Preprocessing(SIDE, "squash", 1.0), CALIBRATED)


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install -e '.[{module.partition('_')[0]}]'")


@pytest.fixture
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hard_pictures, "SIZES", SIZES)


@pytest.fixture(scope="module")
def made_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small transformer."""
    return made_export(tmp_path_factory.mktemp("vit"), VIT)


def pictures(run: Path) -> list[Path]:
    return sorted((run.parent / "data" / "val").iterdir())


# --- tensorrt


@pytest.mark.usefixtures("few_sizes")
def test_tensorrt_is_fp16_and_taken_by_nvidias_builder(
    made_vit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("tensorrt_rtx")
    start(ExportOptions(made_vit, to=("tensorrt",)))
    folder = made_vit / "bundles" / "tensorrt"
    opened = open_bundle(folder)
    assert opened.content["precision"] == "fp16"
    assert (
        opened.status == f"{tensorrt.NOT_RUN}; no unknown answer: 1 training pictures, 2 are needed"
    )
    assert opened.decision.unknown is None
    assert opened.content["builder"]["engine_mb"] > 0
    said = capsys.readouterr().out
    assert (
        f"trtexec --onnx={folder / 'model.trt.onnx'} --saveEngine={folder / 'model.plan'} --noTF32 "
        in said
    )
    assert (
        "--minShapes=image:1x1x1x3 --optShapes=image:8x50x54x3 --maxShapes=image:32x2048x2048x3"
        in said
    )
    model = onnx.load(folder / "model.trt.onnx")
    graph = model.graph
    halves = [one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) > 10
    used = {
        one.type.tensor_type.elem_type
        for one in onnx.shape_inference.infer_shapes(model).graph.value_info
    }
    assert not used & {onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
    assert not [node for node in graph.node if node.op_type == "Resize"]
    proof = json.loads((folder / "parity.json").read_text())
    rungs = {rung["name"]: rung for rung in proof["rungs"]}
    assert rungs["accuracy"]["limit"] == 0.2
    assert rungs["pixels"]["worst"] <= 1
    assert rungs["probabilities"]["limit"] is None
    assert 0 < rungs["probabilities"]["worst"] < 0.02
    p_C = Predictor(folder).predict(pictures(made_vit)[0]).probabilities
    assert p_C.sum() == pytest.approx(1, abs=1e-5)


def test_a_precision_that_loses_accuracy_gives_way_to_the_next(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, tried = Path(shutil.copytree(trained, tmp_path / "digits run")), []

    def make(precision: str, evidence: Evidence, folder: Path) -> Product:
        tried.append(precision)
        shutil.copyfile(evidence.trained.onnx_model, folder / "model.onnx")
        deployed = evidence.trained.deployed_onnx()
        return Product(deployed.outputs, deployed.resize, pixels=deployed)

    real = parity.accuracy
    monkeypatch.setattr(
        parity,
        "accuracy",
        lambda precision, limit, labelled, p: real(precision, limit, labelled, -p),
    )
    makes = {precision: partial(make, precision) for precision in rows.TARGETS["tensorrt"]().make}
    without_check = replace(rows.TARGETS["tensorrt"](), make=makes, check=lambda: None)
    monkeypatch.setitem(rows.TARGETS, "tensorrt", lambda: without_check)
    start(ExportOptions(run, to=("tensorrt",), examples=False, parity_images=5))
    assert tried == ["fp16", "fp32"]
    assert open_bundle(run / "bundles" / "tensorrt").content["precision"] == "fp32"
    assert "warning: fp16 does not pass" in capsys.readouterr().out
    proof = json.loads((run / "bundles" / "tensorrt" / "parity.json").read_text())
    assert {rung["name"]: rung["limit"] for rung in proof["rungs"]}["probabilities"] == 0.005


def test_what_tensorrt_cannot_take_is_said_in_its_words(tmp_path: Path) -> None:
    needs("tensorrt_rtx")
    shapes = (["batch", "height", "width", 3], ["batch", 3, "height", "width"])
    given, turned = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape)
        for name, shape in zip(("image", "turned"), shapes, strict=True)
    )
    node = onnx.helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2])
    graph = onnx.helper.make_graph([node], "turned", [given], [turned])
    onnx.save(onnx.helper.make_model(graph, ir_version=10), tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"TensorRT's parser refuses model\.onnx: .*UInt8"):
        tensorrt_builder.build_engine(
            tensorrt_builder.import_tensorrt(),
            tmp_path / "model.onnx",
            {which: [1, 50, 60, 3] for which in ("min", "opt", "max")},
        )


def test_engines_keep_the_types_of_the_file_and_all_bits_of_float32() -> None:
    needs("tensorrt_rtx")
    trt = tensorrt_builder.import_tensorrt()
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    assert builder.create_builder_config().get_flag(trt.BuilderFlag.TF32)  # NVIDIA's default
    assert not tensorrt_builder.configuration(trt, builder).get_flag(trt.BuilderFlag.TF32)
    network = builder.create_network(tensorrt_builder.network_flags(trt))
    assert network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


class Timed:
    """Stands in for a builder's configuration and its timing cache: no GPU is needed to see what is
    kept."""

    def __init__(self, taken: list[bytes]):
        self.taken = taken

    def create_timing_cache(self, content: bytes) -> bytes | None:
        return None if content == b"broken" else content

    def set_timing_cache(self, timings: bytes, *, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.taken.append(timings)
        return timings != b"of another GPU"

    def get_timing_cache(self) -> SimpleNamespace:
        return SimpleNamespace(serialize=lambda: bytearray(self.taken[-1] + b" and new"))


@pytest.mark.parametrize("before", [None, b"known", b"broken", b"of another GPU"])
def test_times_of_kernels_are_kept_for_the_next_engine(
    before: bytes | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    gpu = SimpleNamespace(name="NVIDIA A/B", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    trt = SimpleNamespace(__name__="tensorrt", __version__="11.0.1")
    file = tensorrt_builder.timings_file(trt)
    assert file == tmp_path / "home" / "timings" / "NVIDIA_A_B-9.0-tensorrt-11.0.1"
    if before is not None:
        file.parent.mkdir(parents=True)
        file.write_bytes(before)
    taken: list[bytes] = []
    with tensorrt_builder.known_timings(trt, Timed(taken)):
        assert taken[-1] == (before if before == b"known" else b"")
    assert file.read_bytes() == taken[-1] + b" and new"
    ignored = before in (b"broken", b"of another GPU")
    assert (
        "is not a timing cache of this GPU" in " ".join(capsys.readouterr().out.split())
    ) is ignored
    # it measures nothing when built
    assert tensorrt_builder.timings_file(SimpleNamespace(__name__="tensorrt_rtx")) is None


def test_times_that_cannot_be_kept_do_not_stop_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tensorrt_builder, "timings_file", lambda trt: tmp_path / "file" / "timings")
    with tensorrt_builder.known_timings(None, Timed([])):
        pass
    assert "the times of kernels cannot be kept" in capsys.readouterr().out


# --- openvino


@pytest.mark.usefixtures("few_sizes")
def test_openvino_answers_in_fp32_and_knows_its_labels(made_vit: Path) -> None:
    needs("openvino")
    start(ExportOptions(made_vit, to=("openvino",)))
    folder = made_vit / "bundles" / "openvino"
    opened = open_bundle(folder)
    assert opened.model.name == "model.xml"
    assert opened.content["compile_with"] == {"INFERENCE_PRECISION_HINT": "f32"}
    proof = json.loads((folder / "parity.json").read_text())
    assert {rung["verdict"] for rung in proof["rungs"]} == {"passed"}
    predictor = Predictor(folder)
    assert predictor.provider == "openvino"
    found = predictor.predict_many(pictures(made_vit))
    assert {label for label, _ in found[0].answer.top} == set(LABELS)
    expected = json.loads((folder / "examples" / "expected.json").read_text())
    np.testing.assert_allclose(
        predictor.predict(folder / "examples" / "1.png").probabilities,
        expected["1.png"]["probabilities"],
        atol=1e-5,
    )
    with pytest.raises(UserError, match="a model for OpenVINO, which computes on the CPU"):
        Predictor(folder, provider="cuda")
    compiled = openvino_runtime.load_compiled(folder / "model.xml")._compiled
    # not what this CPU would like best
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    assert (folder / "model.bin").stat().st_size > 0.9 * sum(  # not rounded to float16
        4 * part.numel() for part in open_run(made_vit).parts.model.parameters()
    )


def test_a_missing_extra_is_named_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, target in (("openvino", "openvino"), ("tensorrt_rtx", "tensorrt")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(
            UserError, match=rf"the target {target} needs .*pip install -e \"\.\[{target}\]\""
        ):
            start(ExportOptions(tmp_path / "run", to=(target,)))


# --- int8 and triton, of one real network


@pytest.fixture(scope="session")
def trained(finished_run: Path, shared: Path) -> Path:
    """EfficientNet-Lite0 fine-tuned on digits, exported to onnx, int8 and triton; one for all
    workers."""
    run = shared / "trained" / "digits run"
    with FileLock(f"{run.parent}.lock"), pytest.MonkeyPatch.context() as patch:
        if not run.exists():
            shutil.copytree(finished_run, run)
            patch.setattr(hard_pictures, "SIZES", ((1, 1), (97, 200)))
            patch.setattr(int8, "FLOAT_LAYERS", (3,))
            # of 40 test pictures, one is 2.5 ± 6.6 points
            patch.setitem(judging.LOST_POINTS, "int8", 20.0)
            onnx_bundle(run)
            start(ExportOptions(run, to=("int8", "triton"), parity_images=20))
    return run


def test_int8_is_smaller_and_keeps_the_accuracy(trained: Path) -> None:
    opened = open_bundle(trained / "bundles" / "int8")
    assert opened.model.name == "model.int8.onnx"
    assert opened.content["precision"] == "int8"
    graph = onnx.load(opened.model).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QuantizeLinear") > 40
    scales = {one.name: one.dims for one in graph.initializer if one.name.endswith("_scale")}
    # one for each channel
    assert sum(list(dims) not in ([], [1]) for dims in scales.values()) >= 45
    [rung] = [
        rung
        for rung in json.loads((opened.folder / "parity.json").read_text())["rungs"]
        if rung["name"] == "accuracy"
    ]
    assert rung["verdict"] == "passed"
    assert 0.9 < rung["agreement"] <= 1
    assert rung["pictures"] == 40


def test_int8_for_tensorrt_is_signed_without_bias_and_taken_by_its_parser(trained: Path) -> None:
    folder = trained / "bundles" / "int8"
    about = open_bundle(folder).content["for_tensorrt"]
    assert about["file"] == "model.int8-trt.onnx"
    graph = onnx.load(folder / about["file"]).graph
    kinds = {one.name: one.data_type for one in graph.initializer}
    zeros = [
        kinds[node.input[2]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and len(node.input) > 2
    ]
    assert len(zeros) > 40
    assert set(zeros) == {onnx.TensorProto.INT8}
    needs("tensorrt_rtx")
    assert tensorrt_builder.build_engine(
        tensorrt_builder.import_tensorrt(),
        folder / about["file"],
        tensorrt.profile(open_run(trained)),
    )


def test_int8_has_an_unknown_answer_of_its_own(trained: Path) -> None:
    opened = open_bundle(trained / "bundles" / "int8")
    of_run, own = decision.read_decision(trained).unknown, opened.decision.unknown
    assert of_run
    assert own
    assert own.threshold != of_run.threshold
    # lengths of parts are scaled inside the network
    assert own == replace(of_run, threshold=own.threshold)
    [bank] = [
        onnx.numpy_helper.to_array(weight)
        for weight in onnx.load(opened.model).graph.initializer
        if weight.name == "answer/bank"
    ]
    assert bank.T.shape == (references := decision.read_bank(trained)).shape
    assert not np.allclose(bank.T, references, atol=1e-2)
    rungs = {
        rung["name"]: rung
        for rung in json.loads((opened.folder / "parity.json").read_text())["rungs"]
    }
    assert (
        rungs["own called unknown"]["verdict"] == rungs["noise told apart"]["verdict"] == "passed"
    )
    labelled = open_run(trained).labelled
    answers = [
        given.answer
        for given in Predictor(opened.folder).predict_many([one.path for one in labelled])
    ]
    before = float(np.mean([one.unknown_score > of_run.threshold for one in labelled]))
    assert abs(float(np.mean([answer.label is None for answer in answers])) - before) <= 0.02
    for_tensorrt = onnx.load(opened.folder / "model.int8-trt.onnx")
    assert [output.name for output in for_tensorrt.graph.output] == [
        name for name in opened.outputs if name != "unknown_score"
    ]


def test_an_unknown_answer_that_rounding_breaks_is_taken_out(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(unknown, "POINTS", -1.0)
    monkeypatch.setattr(
        TrainedRun, "training", lambda run, count: [one.path for one in run.labelled]
    )
    path = Path(
        shutil.copyfile(open_bundle(trained / "bundles" / "int8").model, tmp_path / "model.onnx")
    )
    opened = open_run(trained)
    fitted = unknown.fit(opened, opened.deployed_onnx(), path)
    assert fitted.decision == replace(opened.parts.decision, unknown=None)
    assert "points from the trained model's (at most -1)" in fitted.status
    assert {rung.verdict for rung in fitted.rungs} == {"not judged"}
    assert "gives no unknown answer" in " ".join(capsys.readouterr().out.split())
    model = onnx.load(path)
    assert "unknown_score" not in [output.name for output in model.graph.output]
    [told] = [json.loads(one.value) for one in model.metadata_props if one.key == "zoo"]
    assert told["decision"]["unknown"] is None
    assert "unknown_score" not in told["outputs"]


@pytest.mark.usefixtures("few_sizes")
def test_one_scale_for_a_whole_tensor_is_refused_with_what_to_try(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "digits run"))

    def per_tensor(evidence: Evidence, folder: Path) -> Product:
        trained = evidence.trained
        pictures, ranges = trained.training(50), tmp_path / "ranges"
        int8.quantize(trained.onnx_model, folder / int8.MODEL, pictures, ranges, per_channel=False)
        # no picture
        int8.quantize(trained.onnx_model, tmp_path / "again.onnx", [], ranges, per_channel=False)
        assert (tmp_path / "again.onnx").read_bytes() == (folder / int8.MODEL).read_bytes()
        deployed = trained.deployed_onnx()
        return Product(deployed.outputs, deployed.resize, int8.MODEL, pixels=deployed)

    row = replace(rows.TARGETS["int8"](), make={"int8": per_tensor})
    monkeypatch.setitem(rows.TARGETS, "int8", lambda: row)
    before = open_bundle(run / "bundles" / "int8")
    with pytest.raises(
        NotProved, match=r"loses .* points of accuracy on 40 pictures.*Try fine-tuning for longer"
    ):
        start(ExportOptions(run, to=("int8",), parity_images=5))
    assert open_bundle(run / "bundles" / "int8") == before
    assert not (run / "bundles" / "int8.tmp" / "FINISHED.json").exists()
    open_bundle(run)  # the failed target leaves the others alone


def test_a_file_for_tensorrt_that_loses_accuracy_is_left_out(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rung = judging.Rung("accuracy", 1.0, 3.0, "picture", 40)
    monkeypatch.setattr(
        int8, "best", lambda run, source, path, ranges, **how: path.write_bytes(b"model")
    )
    monkeypatch.setattr(int8, "judged", lambda *args, **how: rung)
    monkeypatch.setattr(int8, "side_by_side", lambda *args: [1.0, 1.0])
    monkeypatch.setattr(unknown, "fit", lambda run, *args: unknown.Fitted(run.parts.decision))
    monkeypatch.setattr(TrainedRun, "write", lambda *args: None)
    with gather(open_run(trained), examples=False) as evidence:
        about = int8.make(evidence, tmp_path).facts["for_tensorrt"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.int8.onnx"]
    assert about["file"] is None
    assert "model.int8-trt.onnx loses 3.00 ± 0.00 points of accuracy" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("pictures", "right", "asked"),
    [
        (127, 0.1, [127]),
        (128, 0.1, [64]),
        (640, 1.0, [64] * 10),
        (640, 0.998, [64] * 10),
        (640, 0.5, [64]),
        (200, 0.1, [67]),
    ],
)
def test_an_attempt_that_cannot_pass_any_more_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pictures: int, right: float, asked: list[int]
) -> None:
    """What can still pass is measured on all pictures, each of which is answered once."""
    labelled = [
        judging.Labelled(Path(str(place)), place % 2, place % 2) for place in range(pictures)
    ]
    answered: list[list[Path]] = []

    def run(session: str, names: list[str], paths: list[Path], batches: object) -> dict[str, Any]:
        assert session == "model, kernels of 8 bits: False"
        answered.append(paths)
        wrong = [int(path.name) >= right * pictures for path in paths]
        label = np.array([int(path.name) % 2 for path in paths])
        return {"probabilities": np.eye(2)[label ^ np.array(wrong)]}

    def load(model: Path, provider: str, *, eight_bit_kernels: bool) -> tuple[str, str]:
        return f"{model.name}, kernels of 8 bits: {eight_bit_kernels}", provider

    monkeypatch.setattr(sessions, "run", run)
    monkeypatch.setattr(onnx_runtime, "load_session", load)
    rung = int8.judged_early(tmp_path / "model", labelled, 1.0, as_stated=True)
    assert [len(paths) for paths in answered] == asked
    assert rung.pictures == sum(asked) == len({path for paths in answered for path in paths})
    wrong = sum(int(path.name) >= right * pictures for paths in answered for path in paths)
    assert rung.worst == pytest.approx(100 * wrong / rung.pictures)
    # early or not, the verdict is that of all pictures
    assert (rung.verdict == "passed") is (right > 0.99)


def test_triton_reads_its_configurations(trained: Path) -> None:
    protobuf = pytest.importorskip(
        "tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed"
    )
    from google.protobuf import text_format

    folder = trained / "bundles" / "triton"
    opened = open_bundle(folder)
    assert opened.model.relative_to(folder).as_posix() == "models/digits_run/1/model.onnx"
    assert opened.model.read_bytes() == open_bundle(trained).model.read_bytes()
    for kind, backend in (("models", "onnxruntime"), ("models-tensorrt", "tensorrt")):
        text = (folder / kind / "digits_run" / "config.pbtxt").read_text()
        config = text_format.Parse(text, protobuf.ModelConfig())
        assert (config.name, config.backend, config.max_batch_size) == ("digits_run", backend, 32)
        assert [
            (one.name, protobuf.DataType.Name(one.data_type), list(one.dims))
            for one in config.input
        ] == [("image", "TYPE_UINT8", [-1, -1, 3])]
        assert [one.name for one in config.output] == list(opened.outputs)
        assert list(config.output[0].dims) == [10]
        assert config.dynamic_batching.default_queue_policy.max_queue_size == 256
        assert config.model_warmup[0].inputs["image"].random_data
        labels = (folder / kind / "digits_run" / config.output[0].label_filename).read_text()
        assert labels.splitlines() == list(opened.labels)
        with pytest.raises(text_format.ParseError):
            text_format.Parse(
                text.replace("dynamic_batching", "dynamic_batchin"), protobuf.ModelConfig()
            )
    assert not (folder / "models-tensorrt" / "digits_run" / "1" / "model.plan").exists()


def test_names_that_triton_cannot_take() -> None:
    assert triton.model_name("my run/ü") == "my_run_"
    assert triton.one_line("two\nlines") == '"two\\nlines"'
    assert triton.one_line("Ünïcode ") == "Ünïcode "


# --- all of them


@pytest.mark.usefixtures("few_sizes")
def test_a_new_target_is_a_function_and_one_row(
    made_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a program that runs whole models only: their answers are compared, and no pixels."""

    def make(evidence: Evidence, folder: Path) -> Product:
        deployed = Deployed(evidence.trained.parts, resize="matmul").eval()
        evidence.trained.write(deployed, folder / "model.onnx")
        return Product(deployed.outputs, deployed.resize)

    monkeypatch.setitem(rows.TARGETS, "executorch", lambda: rows.Target({"fp32": make}))
    start(ExportOptions(made_vit, to=("executorch",)))
    opened = open_bundle(made_vit / "bundles" / "executorch")
    assert (opened.content["precision"], opened.content["resize"]) == ("fp32", "matmul")
    rungs = json.loads((opened.folder / "parity.json").read_text())["rungs"]
    assert {rung["verdict"] for rung in rungs} == {"passed"}
    assert [rung["name"] for rung in rungs] == ["probabilities", "top-1", *opened.outputs[1:]]


def test_the_command_line_offers_what_stands_in_the_table_and_loads_none_of_it() -> None:
    script = (
        "import sys, tyro\nfrom export.options import ExportOptions\n"
        "print(tyro.extras.get_parser(ExportOptions).format_help())\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    *help_text, loaded = ran.stdout.splitlines()
    assert f"{{{','.join(rows.TARGETS)}}}" in "".join(help_text)
    assert not {"torch", "onnx", "onnxruntime", "numpy", "rich"} & set(loaded.split())


@pytest.mark.parametrize("name", rows.TARGETS)
def test_each_row_has_a_function_for_each_precision(name: str) -> None:
    makes = rows.TARGETS[name]().make
    assert {f"export.targets.{name}"} == {make.__module__ for make in makes.values()}
    assert set(makes) <= {"fp32", *judging.LOST_POINTS}


def test_targets_that_need_onnx_make_it_first(trained: Path, tmp_path: Path) -> None:
    assert pipeline.wanted(("int8", "tensorrt", "triton"), tmp_path) == [
        "onnx",
        "int8",
        "tensorrt",
        "triton",
    ]
    assert pipeline.wanted(("int8", "tensorrt", "triton"), trained) == [
        "int8",
        "tensorrt",
        "triton",
    ]
    assert pipeline.wanted(("tensorrt", "openvino"), tmp_path) == ["tensorrt", "openvino"]
    assert pipeline.wanted(("web", "onnx", "web"), trained) == ["onnx", "web"]


def test_the_page_of_the_proof_stands_alone(trained: Path) -> None:
    page = (trained / "bundles" / "int8" / "parity.html").read_text()
    assert page.count("<img") == 8
    assert "http" not in page.replace("http-equiv", "")
    assert "accuracy" in page
    assert "Every comparison passed." in page


def test_the_proof_names_the_bytes_of_its_pictures(trained: Path) -> None:
    proof = json.loads((trained / "bundles" / "int8" / "parity.json").read_text())
    known = {row["path"]: row["sha256"] for row in run_pictures.read_files(trained)}
    assert len(proof["pictures_sha256"]) == 20
    assert all(known[name] == digest for name, digest in proof["pictures_sha256"].items())


def test_no_file_of_an_export_names_this_machine(trained: Path) -> None:
    here = str(Path(__file__).parents[2]).encode()
    for path in (trained / "bundles").rglob("*"):
        assert not path.is_file() or here not in path.read_bytes(), path


def test_a_file_that_may_not_be_so_large_is_told_and_what_was_finished_stays(
    trained: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000_000, hard))
    try:
        with pytest.raises(
            UserError, match=r"larger than this process or file system allows \(ulimit -f"
        ) as raised:
            start(ExportOptions(run, to=("triton",)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.exit_code == 2
    open_bundle(run / "bundles" / "triton")  # the one from before
    open_bundle(run)
