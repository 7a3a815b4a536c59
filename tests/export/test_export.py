"""`python -m export` on made runs: what a finished bundle is, and what the proof refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from timm.layers import Attention

from export.graph import onnx_file
from export.graph.deployed import AnswerGraph, Deployed, DeployedParts, Prepare
from export.graph.pieces import PREPARE, Pieces
from export.graph.resize import Resize
from export.options import ExportOptions
from export.pipeline import start
from export.place import check_writable, room_on_disk
from export.proof import hard_pictures, parity, predictor_process
from export.proof.judging import LOST_POINTS
from export.proof.open_run import open_run
from export.proof.parity import ComparedPicture
from export.targets.rows import LOSSY, TARGETS
from tests.export.made_export import (
    CALIBRATED,
    LABELS,
    SIDE,
    SMALL_VIT,
    WITH_STAGE,
    Made,
    made_export,
)
from tests.file_modes import odd_modes
from tests.unprivileged import read_only
from tests.zoo.made_bundle import made_bundle
from zoo import predictor
from zoo.answer import onnx_runtime
from zoo.answer.predict import Predictor
from zoo.contract import rundir
from zoo.contract.bundle import open_bundle
from zoo.host.errors import UserError
from zoo.picture import tta
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing

ROOT = Path(__file__).parents[2]
RUN_PREDICTOR = predictor_process.run_predictor
"""In a process of its own; conftest.py replaces it."""
FEWER_SIZES = ((1, 1), (3, 60), (60, 3), (97, 200), (160, 120))


# --- whole exports

EXPORTED = {
    # as in test_web.py: traced once
    "ResNet, center": Made(
        "test_resnet", pre=Preprocessing(64, "center", 0.875), decision=WITH_STAGE
    ),
    "ViT": Made(
        "test_vit",
        SMALL_VIT,
        Preprocessing(SIDE, "squash", 0.875, "bilinear"),
        replace(CALIBRATED, views="none"),
    ),
}
"""More families: tests/bench/architectures.py."""
FILES = {"model.onnx", "bundle.json", "parity.json", "parity.html", "FINISHED.json"}
EXAMPLES = {"examples/1.png", "examples/2.png", "examples/3.png", "examples/expected.json"}


@pytest.mark.parametrize("which", EXPORTED)
def test_an_export_answers_like_the_model(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        hard_pictures, "SIZES", FEWER_SIZES if "center" not in which else hard_pictures.SIZES
    )
    monkeypatch.setattr(predictor_process, "COMMAND_LINE", 3_000)
    if "center" in which:  # as users' proofs do
        monkeypatch.setattr(predictor_process, "run_predictor", RUN_PREDICTOR)
    run = made_export(tmp_path, EXPORTED[which])
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    folder, with_examples = run / "bundles" / "onnx", "ViT" not in which
    (folder / "old").mkdir(parents=True)  # of an earlier export
    (folder / "old" / "stale.json").write_text("{}")
    start(ExportOptions(run, examples=with_examples))
    capsys.readouterr()

    assert {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    } == FILES | (EXAMPLES if with_examples else set())
    assert {path.relative_to(run).as_posix() for path in run.iterdir()} >= {"bundles", "onnx"}
    assert [path.name for path in (run / "onnx").iterdir()] == ["model.onnx"]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert odd_modes(run / "bundles") == odd_modes(run / "onnx") == {}

    proof = json.loads((folder / "parity.json").read_text())
    assert {rung["verdict"] for rung in proof["rungs"]} == {"passed"}
    assert {rung["name"] for rung in proof["rungs"]} >= {
        "core",
        "pixels",
        "pixels off by 2",
        "probabilities",
        "top-1",
        "unknown_score",
        "embedding",
    }
    assert all(rung["pictures"] == proof["own"] + proof["made"] >= 20 for rung in proof["rungs"])

    page = (folder / "parity.html").read_text()
    own_rows = [row for row in page.split("<tr>") if "<td>val/" in row and "<bdi>" in row]
    assert own_rows
    assert all(("<img" in row) is with_examples for row in own_rows)

    pictures = sorted((tmp_path / "data" / "val").iterdir())
    assert predictor.main([str(folder), *map(str, pictures)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert {label for label, _ in lines[0]["top"]} == set(LABELS)
    if with_examples:
        kept = open_bundle(run).folder / "examples"
        for name, expected in json.loads((kept / "expected.json").read_text()).items():
            answered = Predictor(folder).predict(kept / name).probabilities
            assert answered[LABELS.index(expected["label"])] == pytest.approx(
                expected["probability"], abs=0.005
            )
    any_batch(folder, pictures[0])


def any_batch(folder: Path, picture: Path) -> None:
    """The model takes any number of pictures, and answers each as alone."""
    session, _ = onnx_runtime.load_session(folder / "model.onnx", "cpu")
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    assert {output.shape[0] for output in session.get_outputs()} == {"batch"}
    pixels = np.asarray(decode(picture))
    batch = np.stack([pixels, pixels[::-1], 255 - pixels])
    together = session.run(None, {"image": batch})
    for row in range(3):
        alone = session.run(None, {"image": batch[row : row + 1]})
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], many[row], atol=2e-4)


# --- the proof can fail

CONTROL = Made("test_vit", SMALL_VIT)


@dataclass(frozen=True)
class Proof:
    """A run, and its pictures as the proof prepares them."""

    parts: DeployedParts
    paths: dict[str, Path]
    """By name."""
    compared: list[ComparedPicture]
    folder: Path


@pytest.fixture(scope="module")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    folder = tmp_path_factory.mktemp("control")
    trained = open_run(made_export(folder, CONTROL))
    (folder / "made").mkdir()
    paths = trained.pictures | {
        path.name: path for path in hard_pictures.write_pictures(folder / "made")
    }
    pixels = folder / "pixels.onnx"
    # torch's own Resize is not ONNX Runtime's
    export_pixels(trained.parts, pixels, resize="matmul")
    return Proof(trained.parts, paths, compared(trained.parts, pixels, paths), folder)


def export_pixels(parts: DeployedParts, path: Path, *, resize: Resize) -> None:
    Pieces(parts, path.with_suffix(".log")).write_pixels(Deployed(parts, resize=resize), path)


def compared(parts: DeployedParts, pixels: Path, paths: dict[str, Path]) -> list[ComparedPicture]:
    return parity.compare_pictures(parts, onnx_runtime.load_session(pixels, "cpu")[0], paths)


def failed_rungs(proof: Proof, deployed: Deployed) -> set[str]:
    """What the proof says against the answers of this graph, run by torch."""
    given: dict[str, list[np.ndarray]] = {name: [] for name in deployed.outputs}
    for path in proof.paths.values():
        with torch.inference_mode():
            outputs = deployed(torch.from_numpy(np.array(decode(path)))[None])
        for name, value in zip(deployed.outputs, outputs, strict=True):
            given[name].append(value[0].numpy())
    rungs = parity.compare_outputs(
        proof.compared, {name: np.stack(values) for name, values in given.items()}
    )
    return {rung.name for rung in rungs if rung.verdict != "passed"}


def bgr(patch: pytest.MonkeyPatch) -> None:
    real = Prepare.normalised
    patch.setattr(Prepare, "normalised", lambda self, windows: real(self, windows.flip(1)))


def wrong_mean(patch: pytest.MonkeyPatch) -> None:
    real = Prepare.__init__

    def init(self: Prepare, *args: Any, **how: Any) -> None:
        real(self, *args, **how)
        self.mean = torch.full_like(self.mean, 0.3)

    patch.setattr(Prepare, "__init__", init)


def changed_outputs(
    patch: pytest.MonkeyPatch, change: Callable[[Deployed, dict[str, torch.Tensor]], None]
) -> None:
    real = Deployed.forward

    def forward(self: Deployed, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(self.outputs, real(self, image), strict=True))
        change(self, given)
        return tuple(given.values())

    patch.setattr(Deployed, "forward", forward)


def softmax_twice(patch: pytest.MonkeyPatch) -> None:
    changed_outputs(
        patch, lambda graph, given: given.update(probabilities=given["probabilities"].softmax(1))
    )


def permuted_classes(patch: pytest.MonkeyPatch) -> None:
    changed_outputs(
        patch, lambda graph, given: given.update(probabilities=given["probabilities"].roll(1, 1))
    )


def no_temperature(patch: pytest.MonkeyPatch) -> None:
    changed_outputs(
        patch,
        lambda graph, given: given.update(
            probabilities=(given["probabilities"].log() * graph.decision.temperature).softmax(1)
        ),
    )


def unit_embedding(patch: pytest.MonkeyPatch) -> None:
    changed_outputs(
        patch,
        lambda graph, given: given.update(
            embedding=torch.nn.functional.normalize(given["embedding"], dim=1)
        ),
    )


def nan_heatmap(patch: pytest.MonkeyPatch) -> None:
    changed_outputs(patch, lambda graph, given: given.update(heatmap=given["heatmap"] / 0 * 0))


def no_mirrored_view(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(tta.VIEWS, "flip", (tta.WHOLE, tta.WHOLE))


def last_view_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AnswerGraph, "first", lambda self, x: x.unflatten(0, (-1, self.views))[:, -1])


def nearest_neighbour_only(patch: pytest.MonkeyPatch) -> None:
    real = torch.Tensor.topk
    patch.setattr(torch.Tensor, "topk", lambda self, k, dim: real(self, 1, dim))


WRONG: dict[Callable[[pytest.MonkeyPatch], None], set[str]] = {
    bgr: {"probabilities", "embedding", "heatmap"},
    wrong_mean: {"probabilities", "embedding"},
    softmax_twice: {"probabilities"},
    permuted_classes: {"probabilities", "top-1"},
    no_temperature: {"probabilities"},
    unit_embedding: {"embedding"},
    nan_heatmap: {"heatmap"},
    no_mirrored_view: {"probabilities"},
    last_view_first: {"unknown_score", "embedding"},
    nearest_neighbour_only: {"unknown_score"},
}


def test_the_right_graph_passes(proof: Proof) -> None:
    assert not failed_rungs(proof, Deployed(proof.parts, resize="matmul").eval())
    assert all(rung.verdict == "passed" for rung in parity.pixels(proof.compared, by_products=True))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_wrong_graph_fails(
    wrong: Callable[[pytest.MonkeyPatch], None], proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)
    assert failed_rungs(proof, Deployed(proof.parts, resize="matmul").eval()) >= WRONG[wrong]


@pytest.mark.parametrize("provider", ["cpu", "openvino"])
def test_pixels_of_products_are_pillows(provider: str, proof: Proof) -> None:
    """Made and enlarged ones, whose values often lie between two levels: none is off, whatever
    fuses the operations."""
    if provider == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    session, _ = onnx_runtime.load_session(proof.folder / "pixels.onnx", provider)
    pre, views = proof.parts.pre, tta.VIEWS[proof.parts.decision.views]
    random = np.random.default_rng(0)
    small = [
        Image.fromarray(random.integers(0, 16, (*size, 3), np.uint8) * 16)
        for size in ((8, 8), (1, 1), (2, 3), (5, 9), (16, 8), (31, 17), (32, 64), (224, 300))
    ]
    for picture in (*small, *map(decode, proof.paths.values())):
        [windows] = session.run(["windows"], {"image": np.asarray(picture)[None]})
        expected = tta.prepare_views(picture, pre, views).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(windows, expected, err_msg=str(picture.size))


def test_pixels_without_antialias_fail(proof: Proof) -> None:
    exported = EXPORTED["ViT"]
    parts = replace(proof.parts, pre=exported.pre, decision=exported.decision)
    path = proof.folder / "aliased.onnx"
    export_pixels(parts, path, resize="op")
    model = onnx.load(path)
    [resize] = [node for node in model.graph.node if node.op_type == "Resize"]
    options = {option.name: option for option in resize.attribute}
    assert options["antialias"].i == 1
    # the second is for antialias and cubic filters only
    options["antialias"].i = options["exclude_outside"].i = 0
    onnx.save(model, path)
    furthest, share = parity.pixels(compared(parts, path, proof.paths), by_products=False)
    assert furthest.verdict == "failed"
    assert furthest.worst > 20
    assert share.verdict == "failed"


def other_mean_in_the_file(patch: pytest.MonkeyPatch) -> None:
    """Of the pieces that are right: what was traced for other tests is taken."""
    real = onnx_file.joined_graph

    def joined(parts: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
        model = real(parts)
        onnx_file.set_weight(model, f"{PREPARE}/prepare.mean", np.full((3, 1, 1), 0.3))
        return model

    patch.setattr(onnx_file, "joined_graph", joined)


def test_a_wrong_export_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hard_pictures, "SIZES", FEWER_SIZES)
    other_mean_in_the_file(monkeypatch)
    run = made_export(tmp_path, EXPORTED["ResNet, center"])
    with pytest.raises(UserError, match="does not answer like the trained one") as raised:
        start(ExportOptions(run))
    assert raised.value.exit_code == 1
    # to be looked at; the place of a finished one is as it was
    folder = run / "bundles" / "onnx.tmp"
    assert [path.name for path in (run / "bundles").iterdir() if path.is_dir()] == ["onnx.tmp"]
    assert {path.name for path in folder.iterdir()} >= FILES - {"FINISHED.json"}
    assert not (folder / "FINISHED.json").exists()
    rungs = {
        rung["name"]: rung for rung in json.loads((folder / "parity.json").read_text())["rungs"]
    }
    assert rungs["probabilities"]["verdict"] == "failed"
    assert rungs["core"]["verdict"] == "passed"
    worst = max(
        (rung for rung in rungs.values() if rung["verdict"] != "passed"),
        key=lambda rung: rung["worst"] / (rung["limit"] or 1),
    )
    [kept] = folder.glob("differs_most*")
    assert str(kept) in str(raised.value)
    assert worst["picture"] in str(raised.value)
    assert kept.suffix == Path(worst["picture"]).suffix.lower()
    assert decode(kept)
    assert not (run / "onnx" / "model.onnx").exists()  # nothing that is not proved stays
    assert "failed        probabilities" in capsys.readouterr().out
    with pytest.raises(UserError, match="how far its export came"):
        open_bundle(folder)


# --- bad input


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_export(tmp_path, CONTROL)


def test_pictures_fit_the_command_line_and_keep_their_order() -> None:
    """A name that alone is longer than a command line stands by itself."""
    paths = [Path(f"val/{place}-é.png") for place in range(2_000)]
    paths.insert(700, Path("x" * (predictor_process.COMMAND_LINE + 1)))
    groups = predictor_process.command_lines(paths)
    assert [path for group in groups for path in group] == paths
    assert [paths[700]] in groups
    lengths = [sum(len(os.fsencode(path)) + 1 for path in group) for group in groups]
    assert sum(length > predictor_process.COMMAND_LINE for length in lengths) == 1
    assert len(groups) <= 4


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("print('first'); print('last')", (True, "last\n", 2)),
        ("import sys; print('line'); sys.exit('what is wrong')", (False, "what is wrong\n", 1)),
        ("print('line'); import sys; sys.stderr.write('x' * 200_000)", (True, "x" * 200_000, 1)),
    ],
)
def test_what_a_predictors_process_says_is_read(
    program: str, expected: tuple[bool, str, int]
) -> None:
    """More errors than a pipe holds stop nothing; each line counts as a picture."""
    done = []
    ended_well, words = RUN_PREDICTOR([sys.executable, "-c", program], done.append)
    assert (ended_well, words, sum(done)) == expected


def test_an_unfinished_run_is_refused(run: Path) -> None:
    (run / "FINISHED.json").unlink()
    with pytest.raises(UserError, match="expected a finished run"):
        start(ExportOptions(run))
    assert not (run / "bundles").exists()


@pytest.mark.parametrize("closed", [".", "bundles", "bundles/onnx"])
def test_a_folder_that_may_only_be_read_is_named_before_anything_is_done(
    tmp_path: Path, closed: str
) -> None:
    made_bundle(tmp_path / "run")
    with read_only(tmp_path / "run", closed) as run:
        named = rf"{run / closed} cannot be written \(Permission denied\): expected a folder that"
        with pytest.raises(UserError, match=named):
            check_writable(run, ("onnx",))
        with (
            pytest.raises(UserError, match=f"{run / 'bundles'} cannot be written"),
            room_on_disk(run),
        ):
            (run / closed / "new").mkdir()


@pytest.mark.parametrize(
    "name", ["decision.json", "files.csv", "bank.safetensors", "model.safetensors"]
)
def test_a_changed_run_is_refused(run: Path, name: str) -> None:
    content = bytearray((run / name).read_bytes())
    content[-2] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} changed since the run finished"):
        start(ExportOptions(run))
    assert not (run / "bundles").exists()


def test_a_moved_data_folder_is_named_with_data(run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"lacks 3 of 3 validation pictures.* --data"):
        start(ExportOptions(run))
    assert not (run / "bundles").exists()
    found = open_run(run, data=tmp_path / "elsewhere").pictures
    assert found == {f"val/{i}.PNG": tmp_path / "elsewhere" / "val" / f"{i}.PNG" for i in range(3)}


def test_a_stage_that_the_network_does_not_have_is_refused(tmp_path: Path) -> None:
    run = made_export(tmp_path, EXPORTED["ResNet, center"])
    content = json.loads((run / "decision.json").read_text())
    content["unknown"]["early"]["stage"] = 7
    (run / "decision.json").write_text(json.dumps(content))
    rundir.finish(run)
    with pytest.raises(
        UserError, match=r"decision\.json .* stage .*test_resnet .*: run python -m finetune\.decide"
    ):
        open_run(run)


def test_parity_images_are_drawn_from_validation(run: Path) -> None:
    two = open_run(run, parity_images=2).pictures
    assert len(two) == 2
    assert two == open_run(run, parity_images=2).pictures  # seeded
    assert all(name.startswith("val/") for name in two)


def test_no_parity_images_are_refused(run: Path) -> None:
    with pytest.raises(UserError, match="expected 1 at least"):
        ExportOptions(run, parity_images=0)
    with pytest.raises(UserError, match="--to: expected one target at least"):
        ExportOptions(run, to=())


@pytest.mark.parametrize(
    ("flag", "values"),
    [("--max-loss", {"max_loss": 0.0}), ("--accept-inconclusive", {"accept_inconclusive": True})],
)
def test_a_flag_about_rounding_is_refused_where_nothing_rounds(
    flag: str, values: dict[str, Any]
) -> None:
    words = rf"{flag} has no effect with --to onnx web, .*: remove {flag}, or add tensorrt or int8"
    with pytest.raises(UserError, match=words):
        ExportOptions(Path("run"), to=("onnx", "web"), **values)
    for target in LOSSY:
        ExportOptions(Path("run"), to=("onnx", target), **values)


def test_the_targets_that_round_are_known_without_loading_them() -> None:
    rounding = [name for name, row in TARGETS.items() if set(row().make) & set(LOST_POINTS)]
    assert rounding == list(LOSSY)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "--to", "nothing"], "nothing"),
        (["RUN", "--parity-images", "0"], "expected 1 at least"),
        (["RUN", "--parity-image", "3"], "--parity-images"),
    ],
)
def test_a_wrong_command_exits_with_2(arguments: list[str], said: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "export", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert said in ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr


def test_a_refused_architecture_leaves_the_exporters_log(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **how: Any) -> None:
        raise torch.onnx.OnnxExporterError("Failed to export: " + "x" * 5000 + "\nsecond line")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(UserError, match="cannot be exported to ONNX: Failed to export") as raised:
        start(ExportOptions(run))
    said = str(raised.value)
    assert len(said) < 1000
    assert "second line" not in said
    log = run / "bundles" / "exporter.log"
    assert str(log) in said
    assert "second line" in log.read_text()
    assert not list((run / "bundles" / "onnx.tmp").iterdir())


def batch(*shape: int) -> onnx_file.Example:
    return onnx_file.Example("x", torch.zeros(shape), {0: onnx_file.ANY_BATCH})


def test_a_constant_batch_is_refused(tmp_path: Path) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum() + torch.zeros(2, 3)

    with pytest.raises(UserError, match="the batch of output 'logits' became the constant 2"):
        onnx_file.trace(Constant(), [batch(2, 3)], ["logits"], log=tmp_path / "log")


def test_activations_in_place_give_the_same_graph_and_stay_as_they_were(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU6(inplace=True))
    model = onnx_file.trace(network, [batch(2, 3, 8, 8)], ["y"], log=tmp_path / "log")
    assert network[1].inplace
    assert [node.op_type for node in model.graph.node] == ["Conv", "Clip"]


def test_attention_is_written_out_where_the_exporter_refuses_it_fused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some versions of the exporter do for BEiT."""
    real, asked = torch.onnx.export, []

    def export(module: torch.nn.Module, *args: Any, **how: Any) -> Any:
        asked.append(any(getattr(part, "fused_attn", False) for part in module.modules()))
        if asked[-1]:
            raise torch.onnx.OnnxExporterError("Cannot view a tensor with shape ...")
        return real(module, *args, **how)

    monkeypatch.setattr(torch.onnx, "export", export)
    network, x = (
        Attention(8, num_heads=2).eval(),
        torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)),
    )
    assert network.fused_attn
    with torch.no_grad():
        expected = network(x)
    path = tmp_path / "attention.onnx"
    onnx_file.save(onnx_file.trace(network, [batch(2, 5, 8)], ["y"], log=tmp_path / "log"), path)
    assert asked == [True, False]
    [answer] = onnx_runtime.load_session(path, "cpu")[0].run(None, {"x": x.numpy()})
    np.testing.assert_allclose(answer, expected.numpy(), atol=1e-6)


def test_a_model_is_one_file_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch itself writes weights above 1.5 GiB beside the model, whatever it is asked."""
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 1000)
    network, path = (
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 100)),
        tmp_path / "m.onnx",
    )
    model = onnx_file.trace(network, [batch(2, 3, 2, 2)], ["y"], log=tmp_path / "log")
    onnx_file.save(model, path)
    assert list(tmp_path.iterdir()) == [path]
    assert (onnx.load(path).ir_version, [one.version for one in onnx.load(path).opset_import]) == (
        9,
        [20],
    )
    x = np.ones((1, 3, 2, 2), np.float32)
    [answer] = onnx_runtime.load_session(path, "cpu")[0].run(None, {"x": x})
    np.testing.assert_allclose(answer, network(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    path.unlink()
    monkeypatch.setattr(onnx_file, "LARGEST_FILE", 1000)
    with pytest.raises(UserError, match="an ONNX file holds at most 2"):
        onnx_file.save(model, path)
    assert not list(tmp_path.iterdir())
