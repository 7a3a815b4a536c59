"""The predictor against NumPy, on a bundle made by hand: answers, batches, threads, providers, its
command."""

import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bad_pictures import encode, photo
from tests.zoo.made_bundle import (
    CALIBRATED,
    LABELS,
    made_bundle,
    made_content,
    make_endless,
    reference,
    write_model,
)
from zoo import predictor
from zoo.answer import onnx_runtime, predict
from zoo.answer.predict import NoAnswer, Prediction, Predictor
from zoo.contract import bundle, model_metadata
from zoo.contract.bundle import open_bundle
from zoo.contract.decision import Decision, Sets
from zoo.host.errors import BadImage, UserError
from zoo.picture import tta
from zoo.picture.decoding import decode

ROOT = Path(__file__).parent.parent.parent
RED, GREY = Image.new("RGB", (9, 5), (250, 20, 10)), Image.new("RGB", (9, 5), (90, 100, 80))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all outputs; not to be changed."""
    return made_bundle(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def loaded(made: Path) -> Predictor:
    return Predictor(made, threads=1)


def pictures(count: int) -> list[Image.Image]:
    """Different pictures of four sizes, mixed."""
    sizes = ((16, 12), (5, 7), (1, 1), (40, 2))
    noise = np.random.default_rng(0)
    return [
        Image.fromarray(noise.integers(0, 256, (*sizes[noise.integers(4)][::-1], 3), np.uint8))
        for _ in range(count)
    ]


def same(one: Prediction, other: Prediction) -> bool:
    """Equal in every bit."""
    return one.answer == other.answer and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in bundle.OUTPUTS
    )


# --- answers


def test_the_outputs_are_those_of_the_model(loaded: Predictor) -> None:
    for picture in (RED, GREY, photo(), *pictures(8)):
        got, expected = loaded.predict(picture), reference(np.asarray(picture))
        for name, values in expected.items():
            np.testing.assert_allclose(
                getattr(got, name), values, rtol=1e-4, atol=1e-5, err_msg=name
            )
        assert got.probabilities.dtype == got.embedding.dtype == np.float32
        best = int(expected["probabilities"].argmax())
        assert got.answer.top[0] == (LABELS[best], float(got.probabilities[best]))
        assert [name for name, _ in got.answer.top] == [
            LABELS[c] for c in np.argsort(-expected["probabilities"])
        ]


def test_known_unknown_and_prediction_set(loaded: Predictor) -> None:
    red, grey = loaded.predict(RED).answer, loaded.predict(GREY).answer
    assert (red.label, red.prediction_set) == ("red", ("red",))
    assert (grey.label, grey.prediction_set) == (None, ("green", "red", "blue"))
    assert red.unknown_score == pytest.approx(1 - 250 / 255, abs=1e-5)
    assert grey.unknown_score == pytest.approx(1 - 100 / 255, abs=1e-5)


def test_top_bounds_the_named_classes(loaded: Predictor) -> None:
    assert [name for name, _ in loaded.predict(RED, top=2).answer.top] == ["red", "green"]
    assert [name for name, _ in loaded.predict_many([RED], top=1)[0].answer.top] == ["red"]


def test_a_model_without_unknown_score_and_heatmap(tmp_path: Path) -> None:
    plain = Predictor(
        made_bundle(tmp_path / "run", decision=Decision(), outputs=("probabilities", "embedding"))
    )
    got = plain.predict(GREY)
    assert (got.unknown_score, got.heatmap) == (None, None)
    assert (got.answer.label, got.answer.unknown_score, got.answer.prediction_set) == (
        "green",
        None,
        None,
    )


def test_bytes_path_and_decoded_picture_are_the_same(loaded: Predictor, tmp_path: Path) -> None:
    data = encode(photo(), "JPEG", exif=_turned(6))
    (tmp_path / "x.jpg").write_bytes(data)
    from_bytes = loaded.predict(data)
    assert same(from_bytes, loaded.predict(tmp_path / "x.jpg"))
    assert same(from_bytes, loaded.predict(decode(data)))


def _turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def test_pictures_that_were_not_decoded_here_are_not_guessed_at(
    loaded: Predictor, tmp_path: Path
) -> None:
    photo().save(tmp_path / "turned.jpg", exif=_turned(3))
    transparent = RED.copy()
    transparent.info["transparency"] = (250, 20, 10)
    with Image.open(tmp_path / "turned.jpg") as opened:
        turned = opened.copy()
    for picture in (RED.convert("RGBA"), RED.convert("L"), transparent, turned):
        with pytest.raises(
            UserError, match=r"as zoo.picture.decoding.decode gives it .* the file's bytes or"
        ):
            loaded.predict(picture)
    for wrong in ("cat.jpg", None):
        with pytest.raises(
            UserError, match=r"bytes, pathlib.Path or PIL image, seen (str|NoneType)"
        ):
            loaded.predict(wrong)  # type: ignore[arg-type]
    for pixels in (
        np.zeros((2, 2, 3), np.float32),
        np.zeros((2, 2), np.uint8),
        np.zeros((1, 2, 2, 3), np.uint8),
    ):
        with pytest.raises(UserError, match=r"pixels as uint8 \[height, width, 3\], seen"):
            loaded.predict(pixels)
    assert same(loaded.predict(np.asarray(RED)), loaded.predict(RED))
    for width, height in ((41, 2), (1, 21), (0, 4), (0, 0)):
        with pytest.raises(BadImage, match=f"too elongated: {width} x {height}, at most 20:1"):
            loaded.predict(Image.new("RGB", (width, height)))


def test_a_corrupt_picture_is_an_error_with_its_name(loaded: Predictor, tmp_path: Path) -> None:
    broken = encode(photo(), "JPEG")[:300]
    (tmp_path / "broken.jpg").write_bytes(broken)
    with pytest.raises(BadImage, match=r"broken\.jpg: damaged"):
        loaded.predict(tmp_path / "broken.jpg")
    with pytest.raises(BadImage, match=r"^picture: damaged"):
        loaded.predict(broken)
    with pytest.raises(BadImage, match=r"^picture 2: damaged"):
        loaded.predict_many([RED, broken, RED])


# --- many pictures


def test_many_pictures_are_answered_in_order_and_as_alone(loaded: Predictor) -> None:
    many = pictures(150)
    got = loaded.predict_many(iter(many))
    assert len(got) == 150
    for one, alone in zip(got, map(loaded.predict, many), strict=True):
        for name in bundle.OUTPUTS:  # ONNX Runtime adds in another order when there are several
            np.testing.assert_allclose(getattr(one, name), getattr(alone, name), rtol=0, atol=1e-6)
        assert (one.answer.label, one.answer.prediction_set) == (
            alone.answer.label,
            alone.answer.prediction_set,
        )
        assert [label for label, _ in one.answer.top] == [label for label, _ in alone.answer.top]
    assert loaded.predict_many([]) == []
    assert same(loaded.predict_many([RED])[0], loaded.predict(RED))


@pytest.mark.parametrize(("views", "largest"), [("none", 32), ("five", 6)])
def test_batches_hold_one_size_and_at_most_32_passes(
    tmp_path: Path, views: str, largest: int
) -> None:
    several = Predictor(made_bundle(tmp_path / "run", decision=replace(CALIBRATED, views=views)))
    seen: list[tuple[int, ...]] = []
    run = several._session.run

    class Watched:
        def run(self, names: Any, given: dict[str, np.ndarray], options: Any) -> Any:
            seen.append(given["image"].shape)
            return run(names, given, options)

    several._session = Watched()
    assert largest == 32 // len(tta.VIEWS[views])
    sizes = [(8, 6)] * 40 + [(6, 8)] * 3
    several.predict_many([Image.new("RGB", size) for size in sizes])
    wide = [batch for batch, height, _, _ in seen if height == 6]
    assert wide == [largest] * (40 // largest) + [40 % largest]
    assert [batch for batch, height, _, _ in seen if height == 8] == [3]


def test_few_decoded_bytes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "WAITING_BYTES", 1000)
    alive, most = 0, 0

    def made_up() -> Any:
        nonlocal alive, most
        for i in range(50):
            alive += 1
            most = max(most, alive)
            yield Image.new("RGB", (10, 10 + i))

    places = []
    for batch in predict._batches(made_up(), 32):
        places += [place for place, _ in batch]
        alive -= len(batch)
    assert sorted(places) == list(range(50))
    assert most <= 4


def test_threads_share_a_predictor(loaded: Predictor) -> None:
    many = pictures(40)
    alone = [loaded.predict(picture) for picture in many]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda i: (i, loaded.predict(many[i])), [i % 40 for i in range(400)])
        )
    assert all(same(got, alone[i]) for i, got in together)


# --- loading


def test_a_run_a_bundle_and_an_opened_bundle_can_be_named(made: Path) -> None:
    for named in (made, str(made), made / "model.onnx", made.parent.parent, open_bundle(made)):
        named_so = Predictor(named)
        assert (named_so.provider, named_so.bundle.labels) == ("cpu", LABELS)


def test_a_changed_or_unfinished_bundle_is_refused(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"model\.onnx changed since the bundle finished"):
        Predictor(folder)
    with pytest.raises(UserError, match=r"has no FINISHED\.json"):
        Predictor(made_bundle(tmp_path / "other", finished=False))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"labels": ["green", "red", "blue"]}, "describe the same labels, run, seen two"),
        (
            {"decision": Decision(unknown=CALIBRATED.unknown, sets=Sets(0.9, 0.1))},
            "describe the same decision, run, seen",
        ),
    ],
)
def test_another_model_is_refused_though_digests_were_made_again(
    tmp_path: Path, other: Any, said: str
) -> None:
    folder = made_bundle(tmp_path / "run")
    write_model(folder / "model.onnx", made_content(**other))
    bundle.finish(folder)
    with pytest.raises(
        UserError, match=rf"model\.onnx is not the model of bundle\.json: expected that both {said}"
    ):
        Predictor(folder)


def test_a_model_without_description_or_outputs_is_refused(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    content = open_bundle(folder).content
    write_model(folder / "model.onnx", content, metadata={})
    with pytest.raises(
        UserError, match="describe the same labels, preprocessing, decision, outputs, run"
    ):
        Predictor(open_bundle(folder, verify=False))
    short = {**content, "outputs": ["probabilities", "embedding"]}
    write_model(folder / "model.onnx", short, metadata=model_metadata.metadata(content))
    with pytest.raises(
        UserError, match=r"tensor\(uint8\)'} without heatmap, unknown_score\. Export it: "
    ):
        Predictor(open_bundle(folder, verify=False))


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    for content in (b"", b"not a model", (folder / "model.onnx").read_bytes()[:200]):
        (folder / "model.onnx").write_bytes(content)
        bundle.finish(folder)
        with pytest.raises(
            UserError, match=rf"ONNX Runtime .* cannot load {folder}/model\.onnx: .* pip install -U"
        ):
            Predictor(folder)


@pytest.mark.parametrize("how", [{"provider": "gpu"}, {"provider": ""}, {"threads": -1}])
def test_wrong_settings_are_refused(made: Path, how: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match="expected a provider of auto, cpu, cuda and 0 or more threads, seen"
    ):
        Predictor(made, **how)


def test_more_threads_than_any_machine_has_are_refused(made: Path) -> None:
    with pytest.raises(UserError, match="expected at most 1024 threads, seen 100000"):
        Predictor(made, threads=100_000)


# --- providers and packages


def has_cuda(made: Path) -> bool:
    return Predictor(made).provider == "cuda"


def test_cuda_that_cannot_be_had_is_an_error(made: Path) -> None:
    if has_cuda(made):
        pytest.skip("CUDA can be had here")
    with pytest.raises(
        UserError, match=r"provider cuda was asked for and cannot be had: .*Or use provider cpu"
    ):
        Predictor(made, provider="cuda")


FORCED = """
import sys
from zoo.answer import onnx_runtime
from zoo.host.errors import UserError
from zoo.predictor import Predictor
onnx_runtime._has_driver = lambda: True
if sys.argv[2] == "old":  # fails while the session is made, as without a driver that fits
    import onnxruntime
    made = onnxruntime.InferenceSession
    def fails(model, options, providers, enable_fallback):
        assert enable_fallback == 0
        if len(providers) == 2:
            assert providers[0][1]["arena_extend_strategy"] == "kSameAsRequested"
            print("EP Error")
            raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient")
        return made(model, options, providers=providers, enable_fallback=0)
    onnxruntime.InferenceSession = fails
print(Predictor(sys.argv[1]).provider, flush=True)
try:
    Predictor(sys.argv[1], provider="cuda")
except UserError as error:
    print(error)
"""


def test_memory_is_given_back_after_each_pass() -> None:
    for provider, arenas in (("cpu", "cpu:0"), ("cuda", "cpu:0;gpu:0")):
        options = onnx_runtime.run_options(provider)
        assert options.get_run_config_entry("memory.enable_memory_arena_shrinkage") == arenas


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (
            "none",
            "a session gets CPUExecutionProvider; it needs an NVIDIA GPU and the libraries of CUDA",
        ),
        ("old", "CUDA failure 35: CUDA driver version is insufficient"),
    ],
)
def test_a_session_that_falls_to_the_cpu_is_noticed(made: Path, driver: str, said: str) -> None:
    import onnxruntime

    if has_cuda(made) or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs an ONNX Runtime that offers CUDA, on a machine without")
    ran = subprocess.run(
        [sys.executable, "-c", FORCED, str(made), driver],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    provider, error = ran.stdout.splitlines()
    assert provider == "cpu"
    assert error.startswith("provider cuda was asked for and cannot be had: ")
    assert said in error


def test_auto_says_nothing_about_a_missing_gpu(made: Path) -> None:
    if has_cuda(made):
        pytest.skip("CUDA can be had here")
    script = FORCED.partition("try:")[0]
    ran = subprocess.run(
        [sys.executable, "-c", script, str(made), "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("cpu\n", "")


def installed(folder: Path, *names: str) -> None:
    """What pip leaves of a package, without the package."""
    for name in names:
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def test_both_packages_of_onnxruntime_are_refused(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "onnxruntime", "onnxruntime-gpu")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError) as error:
        Predictor(made)
    assert (
        "expected one package of ONNX Runtime, seen onnxruntime and onnxruntime-gpu, which "
        "overwrite" in str(error.value)
    )
    assert "pip uninstall -y onnxruntime onnxruntime-gpu " in str(error.value)
    assert str(error.value).endswith(f"then pip install {onnx_runtime.PACKAGE}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not installed"),
        ("import a_lib_that_is_missing", "is not installed"),
        ("", "ONNX Runtime is incomplete"),
        (
            "raise ImportError('libfoo.so: cannot open')",
            r"cannot be loaded \(libfoo\.so: cannot open\)",
        ),
    ],
)
def test_a_missing_or_broken_onnxruntime_says_what_to_install(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    if content is None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    else:
        (tmp_path / "onnxruntime.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"{said}.*pip install {onnx_runtime.PACKAGE}"):
        Predictor(made)


# --- the command


def command(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m zoo.predictor` as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "zoo.predictor", *map(str, args)],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A red picture, one that is broken, and a grey one."""
    names = [tmp_path / name for name in ("red.png", "broken 猫.png", "grey.png")]
    for path, content in zip(
        names, (encode(RED, "PNG"), b"\x89PNG", encode(GREY, "PNG")), strict=True
    ):
        path.write_bytes(content)
    return names


def test_the_command_prints_a_line_of_json_per_picture(
    loaded: Predictor, files: list[Path]
) -> None:
    ran = command(loaded.bundle.folder, *files, "--provider", "cpu", "--threads", "1")
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        f"note: {loaded.bundle.folder} has no examples, so nothing was checked: "
    )
    assert ran.stderr.count("\n") == 1
    red, broken, grey = map(json.loads, ran.stdout.splitlines())
    expected = loaded.predict(RED)
    assert red == {
        "file": str(files[0]),
        "label": "red",
        "unknown": False,
        "set": ["red"],
        "top": [list(pair) for pair in expected.answer.top],
        "unknown_score": expected.unknown_score,
    }
    assert broken == {"file": str(files[1]), "error": "damaged: its header cannot be read"}
    assert (grey["label"], grey["unknown"], grey["set"]) == (None, True, ["green", "red", "blue"])
    assert command(loaded.bundle.folder, files[0]).returncode == 0


def test_the_command_saves_all_outputs(
    loaded: Predictor, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "answers"  # written under this very name, not answers.npz
    assert predictor.main([str(loaded.bundle.folder), *map(str, files), "--outputs", str(out)]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 3
    with np.load(out) as saved:
        assert {name: values.shape for name, values in saved.items()} == {
            "probabilities": (3, 3),
            "unknown_score": (3,),
            "embedding": (3, 3),
            "heatmap": (3, 1, 3),
        }
        for name, values in saved.items():
            assert values.dtype == np.float32
            assert np.isnan(values[1]).all()
            for row, picture in ((0, RED), (2, GREY)):
                assert np.array_equal(
                    values[row], np.float32(getattr(loaded.predict(picture), name))
                )
    assert predictor.main([str(loaded.bundle.folder), str(files[1]), "--outputs", str(out)]) == 1
    with np.load(out) as saved:
        assert {name: values.shape for name, values in saved.items()} == dict.fromkeys(
            bundle.OUTPUTS, (1,)
        )


def test_an_unfinished_bundle_is_answered_for_its_own_export_only(
    tmp_path: Path, files: list[Path]
) -> None:
    folder = made_bundle(tmp_path / "run", finished=False)
    ran = command(folder, files[0])
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "error: " in ran.stderr
    assert "has no FINISHED.json" in ran.stderr
    ran = command(folder, files[0], "--unfinished")
    assert (ran.returncode, json.loads(ran.stdout)["label"]) == (0, "red")


def test_what_the_command_refuses(made: Path, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected one picture file at least, seen none"):
        predictor.main([str(made)])
    with pytest.raises(
        UserError, match=r"expected a file, not a folder, in a folder that exists \(make .*/nowhere"
    ):
        predictor.main([str(made), str(files[0]), "--outputs", str(tmp_path / "nowhere/x.npz")])
    with pytest.raises(UserError, match="expected a file, not a folder"):
        predictor.main([str(made), str(files[0]), "--outputs", str(tmp_path)])
    ran = command(made, files[0], "--provders", "cpu")
    assert ran.returncode == 2
    assert "--provider" in ran.stderr


HEAVY = {"torch", "torchvision", "timm", "onnx", "huggingface_hub", "sklearn", "scipy"}


def loaded_by(statement: str, *args: str) -> set[str]:
    script = (
        f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}}, "
        "file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, *args], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ran.stderr.split())


def test_predicting_leaves_torch_unloaded(made: Path, files: list[Path], tmp_path: Path) -> None:
    imported = loaded_by("import zoo.predictor")
    assert {"zoo", "numpy", "PIL"} <= imported
    assert not imported & {*HEAVY, "onnxruntime", "tyro", "rich"}
    ran = loaded_by(
        "import sys, zoo.predictor; zoo.predictor.main(sys.argv[1:])",
        str(made),
        str(files[0]),
        "--outputs",
        str(tmp_path / "x.npz"),
    )
    assert "onnxruntime" in ran
    assert not ran & HEAVY


def test_help_loads_no_runtime() -> None:
    parsed = loaded_by(
        "import zoo.predictor\ntry: zoo.predictor.main(['--help'])\nexcept SystemExit: pass"
    )
    assert "tyro" in parsed
    assert not parsed & {*HEAVY, "onnxruntime"}


def test_predicting_issues_no_warnings(made: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Predictor(made).predict(RED)


def test_a_model_that_gives_other_shapes_is_refused(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run", labels=["red", "green", "blue", "grey"])
    with pytest.raises(
        UserError, match=r"gives probabilities as float32 \[1, 3\]: expected .* 4 classes"
    ):
        Predictor(folder).predict(np.zeros((8, 8, 3), np.uint8))


def test_a_model_that_computes_without_end_is_stopped(tmp_path: Path) -> None:
    folder = made_bundle(tmp_path / "run")
    make_endless(folder / "model.onnx")
    bundle.finish(folder)
    with pytest.raises(
        NoAnswer, match=r"model\.onnx: no answer within 0\.3 seconds to a picture of 5 x 4"
    ):
        Predictor(folder).predict(np.zeros((4, 5, 3), np.uint8), limit_s=0.3)
