"""A published run, used by others: timm, transformers, ONNX Runtime, transformers.js, and by
ourselves again."""

import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import tests.hub_writing  # noqa: F401 - its routes
from tests import warm
from tests.export.made_export import Made
from tests.hub_server import TOKEN, HubServer, User
from tests.made_run import made_run
from tests.zoo.made_published import ROOT, Client, made_finished
from zoo.answer.predict import Predictor
from zoo.contract import bundle, rundir
from zoo.host.errors import UserError
from zoo.network.build import load_network
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, evaluate
from zoo.publish import card
from zoo.publish.staging import preprocessor_config, staged

REPO = "alice/insects"
SIDE = 48
READER = """
import contextlib, io, json, re, sys, warnings
import numpy as np
import timm, torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, pipeline
from zoo.bases.catalog import find_base
from zoo.hub.pulled_run import pull_run
from zoo.network.build import build_network, load_network
from zoo.network.forward import features
from zoo.predictor import Predictor
from zoo.network.weights import fetch
from pathlib import Path

repo, pictures = sys.argv[1], [Image.open(path).convert("RGB") for path in sys.argv[2:]]
model = timm.create_model(f"hf-hub:{repo}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
x = torch.stack([transform(picture) for picture in pictures])
pipe = pipeline("image-classification", model=repo)
processor = AutoImageProcessor.from_pretrained(repo)
with torch.inference_mode():
    processed = pipe.image_processor(pictures, return_tensors="pt")["pixel_values"]
    answer = {"timm": model(x).tolist(), "timm_labels": model.pretrained_cfg["label_names"],
              "pixels": x.tolist(),
              "transformers": pipe.model(pixel_values=x).logits.tolist(),
              "pipeline": [pipe(picture)[0] for picture in pictures],
              "processed": processor(pictures, return_tensors="pt")["pixel_values"].tolist(),
              "pipeline_processed": processed.tolist()}
    base = find_base(f"hf-hub:{repo}")
    fetched = fetch(base)
    further = build_network(base, ["x", "y"], fetched=fetched).eval()
    answer["base"] = [fetched.commit, fetched.sha256, features(further, x).tolist()]
got = pull_run(f"hf-hub:{repo}")
served = Predictor(got.folder).predict(Path(sys.argv[2]))
answer["served"] = [got.commit, served.probabilities.tolist()]
warnings.filterwarnings("error", message=".*requires_grad")
answer["snippets"], answer["odd"], answer["by_name"] = [], [], pipe("odd.png")
answer["without"] = pipe(ImageOps.exif_transpose(Image.open("odd.png")).convert("RGB"))
for code in re.findall(r"```python\\n(.*?)```", (got.folder / "README.md").read_text(), re.S):
    for key, name in (("snippets", "picture.jpg"), ("odd", "odd.png")):
        printed, names = io.StringIO(), {}
        with contextlib.redirect_stdout(printed):
            exec(code.replace('"picture.jpg"', repr(name)), names)
        answer[key].append(printed.getvalue())
print(json.dumps(answer))
"""

TRAINED = """
import runpy
import pytest
from tests.made_base import end_quickly
end_quickly(pytest.MonkeyPatch())
runpy.run_module("finetune", run_name="__main__", alter_sys=True)
"""
"""`python -m finetune` whose run ends without report.html."""


@dataclass
class Published:
    """A run, where it was published, and what a process made of it that knows only the Hub's
    address."""

    run: Path
    hub: HubServer
    home: Path
    seen: dict[str, Any]
    pictures: list[Path]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("published")
    run = made_finished(folder, Made(pre=Preprocessing(SIDE, "center", 0.9)))
    export_plain(run)
    pictures = [folder / "picture.jpg", folder / "tall.png", folder / "wide.png"]
    random = np.random.default_rng(3)
    for path, (height, width) in zip(pictures, ((60, 80), (120, 50), (61, 97)), strict=True):
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    odd_pictures()["transparent and turned.png"].save(folder / "odd.png", exif=exif(6))
    with HubServer() as hub:
        hub.log_in(TOKEN, User("alice"))
        env = hub.env(folder / "home") | {"HF_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        warm.run(warm.TORCH, ["-m", "zoo", "push", str(run), REPO, "--public"], env=env, check=True)
        del env["HF_TOKEN"]
        ran = warm.run(
            warm.TORCH,
            ["-W", "error::UserWarning:zoo", "-c", READER, REPO, *pictures],
            env=env,
            cwd=folder,
            check=True,
        )
        yield Published(run, hub, folder / "home", json.loads(ran.stdout), pictures)


def export_plain(run: Path) -> None:
    """`onnx/model.onnx` of the run's own weights; what is exported and how it is proved is tested
    in tests/export."""
    x = torch.zeros(2, 3, SIDE, SIDE)
    batch = ({0: torch.export.Dim("batch", min=1)},)
    program = torch.onnx.export(
        load_network(run),
        (x,),
        dynamo=True,
        external_data=False,
        verbose=False,
        opset_version=20,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_shapes=batch,
    )
    assert program is not None
    program.save(run / "onnx" / "model.onnx", external_data=False)


def exif(held: int) -> Image.Exif:
    """A block that says how a picture was held."""
    block = Image.Exif()
    block[0x0112] = held
    return block


def odd_pictures() -> dict[str, Image.Image]:
    """Name of a file -> a picture that is not plain RGB: black ink with alpha, palettes, grey,
    CMYK."""
    random = np.random.default_rng(5)
    ink = np.zeros((40, 60, 4), np.uint8)
    ink[..., 3] = random.integers(0, 256, (5, 60), dtype=np.uint8).repeat(8, 0)
    drawing, colours = (
        Image.fromarray(ink),
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)),
    )
    palette = colours.quantize(8)
    palette.info["transparency"] = 3
    keyed = colours.quantize(4).convert("RGB")
    keyed.info["transparency"] = keyed.getpixel((5, 5))
    return {
        "transparent and turned.png": drawing,
        "grey and transparent.png": drawing.convert("LA"),
        "transparent.webp": drawing,
        "one colour of a palette.png": palette,
        "one colour of a palette.gif": palette,
        "one colour.png": keyed,
        "turned.jpg": colours,
        "grey.png": colours.convert("L"),
        "bits.png": colours.convert("1"),
        "cmyk.jpg": colours.convert("CMYK"),
        "cmyk.tif": colours.convert("CMYK"),
    }


def close(one: Any, other: Any) -> float:
    """Largest difference."""
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def test_timm_and_transformers_give_the_logits_of_the_run(published: Published) -> None:
    seen, pre = published.seen, Preprocessing(SIDE, "center", 0.9)
    x = torch.from_numpy(
        np.stack([evaluate(Image.open(path).convert("RGB"), pre) for path in published.pictures])
    )
    with torch.inference_mode():
        logits = load_network(published.run)(x)
    assert close(seen["pixels"], x) == 0
    assert close(seen["timm"], logits) < 1e-5
    assert close(seen["transformers"], seen["timm"]) == 0
    assert seen["timm_labels"] == ["ant", "bee", "cat"]
    for row, said in zip(logits.softmax(1), seen["pipeline"], strict=True):
        assert said["label"] == seen["timm_labels"][int(row.argmax())]
        assert abs(said["score"] - float(row.max())) < 1e-5


def test_preprocessor_config_is_timms_transform(published: Published) -> None:
    assert close(published.seen["processed"], published.seen["pixels"]) == 0
    assert close(published.seen["pipeline_processed"], published.seen["pixels"]) == 0
    assert ("GET", "preprocessor_config.json") in {
        (method, path.rpartition("/")[2]) for method, path in published.hub.requests
    }


def test_the_plain_onnx_model_gives_the_same_logits(published: Published) -> None:
    import onnxruntime

    repo = published.hub.repos[REPO]
    blob = repo.commits[repo.refs["main"]]["onnx/model.onnx"]
    content = b"".join(blob.chunks(0, blob.size))
    assert b"site-packages" in (published.run / "onnx" / "model.onnx").read_bytes()
    assert b"site-packages" not in content  # what the exporter noted of this machine stays here
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [logits] = session.run(
        ["logits"], {"pixel_values": np.array(published.seen["pixels"], np.float32)}
    )
    assert close(logits, published.seen["timm"]) < 1e-4


def test_the_cards_snippets_run_and_agree(published: Published) -> None:
    timm_said, transformers_said, onnx_said = published.seen["snippets"]
    best = published.seen["pipeline"][0]
    assert timm_said.split()[0] == best["label"]
    assert float(timm_said.split()[1]) == pytest.approx(best["score"], abs=1e-5)
    assert f"{{'label': '{best['label']}'" in transformers_said
    expected = Predictor(published.run).predict(published.pictures[0])
    assert onnx_said.split()[0] == expected.answer.top[0][0]
    assert float(onnx_said.split()[1]) == pytest.approx(expected.answer.top[0][1], abs=1e-5)


@pytest.mark.parametrize("held", range(1, 9))
@pytest.mark.parametrize("name", odd_pictures())
def test_the_cards_decoding_is_ours(tmp_path: Path, name: str, held: int) -> None:
    """The two lines that stand in each example give the pixels of `zoo.picture.decoding.decode`,
    bit for bit."""
    template = card.TEMPLATE.read_text(encoding="utf-8")
    [lines] = re.findall(r"macro decoding.*?\n(.*?)\{%", template, re.S)
    assert (
        template.count("{{ decoding() }}")
        == len(re.findall("^picture = |Image.open", template, re.M))
        == 3
    )
    picture, path = odd_pictures()[name], tmp_path / name
    turned = {"exif": exif(held)} if path.suffix != ".gif" else {}
    picture.save(
        path,
        **{key: picture.info[key] for key in ("transparency",) if key in picture.info},
        **turned,
    )
    names: dict[str, Any] = {
        "Image": Image,
        "ImageOps": ImageOps,
        "file": io.BytesIO(path.read_bytes()),
    }
    exec(lines.replace('"picture.jpg"', "file"), names)
    assert names["picture"].mode == "RGB"
    assert names["picture"].tobytes() == decode(path).tobytes()
    assert names["picture"].size == decode(path).size


def test_the_cards_snippets_give_the_class_of_the_run_to_what_is_transparent_and_turned(
    published: Published,
) -> None:
    timm_said, transformers_said, onnx_said = published.seen["odd"]
    path, pre = published.pictures[0].parent / "odd.png", Preprocessing(SIDE, "center", 0.9)
    with torch.inference_mode():
        probabilities = load_network(published.run)(
            torch.from_numpy(evaluate(decode(path), pre))[None]
        ).softmax(1)[0]
    label = published.seen["timm_labels"][int(probabilities.argmax())]
    assert timm_said.split()[0] == label
    assert float(timm_said.split()[1]) == pytest.approx(float(probabilities.max()), abs=1e-5)
    assert transformers_said.startswith(
        f"[{{'label': '{label}', 'score': {float(probabilities.max()):.3f}"
    )
    assert onnx_said.split()[0] == Predictor(published.run).predict(path).answer.top[0][0]
    # what the card says of pipeline: upright, but not on white
    assert published.seen["by_name"] == published.seen["without"]
    assert published.seen["by_name"][0]["score"] != pytest.approx(
        float(probabilities.max()), abs=1e-3
    )


def test_the_cards_server_snippet_answers(published: Published) -> None:
    if not (ROOT / "serve" / "__main__.py").is_file():
        pytest.skip("there is no python -m serve in this checkout")
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    repo = published.hub.repos[REPO]
    card = repo.commits[repo.refs["main"]]["README.md"]
    [block] = re.findall(
        r"```bash\n(.*?)```", b"".join(card.chunks(0, card.size)).decode(), re.DOTALL
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve, curl = (shlex.split(line) for line in block.replace("8000", str(port)).splitlines())
    env = published.hub.env(published.home) | {"PYTHONPATH": str(ROOT)}
    expected = Predictor(published.run).predict(published.pictures[0])
    with warm.Process(
        warm.GRADIO, serve[1:], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout
            assert " answers at " in server.stdout.readline()
            ran = subprocess.run(
                [
                    *curl,
                    "--silent",
                    "--fail",
                    "--retry",
                    "60",
                    "--retry-delay",
                    "1",
                    "--retry-connrefused",
                ],
                cwd=published.pictures[0].parent,
                capture_output=True,
                text=True,
                timeout=90,
            )
        finally:
            server.terminate()
            server.communicate(timeout=20)
    assert ran.returncode == 0, ran.stderr
    assert expected.answer.top[0][0] in ran.stdout


def test_it_is_a_base_and_is_served_at_a_recorded_commit(published: Published) -> None:
    head = published.hub.repos[REPO].refs["main"]
    commit, sha256, features = published.seen["base"]
    assert (commit, sha256) == (head, rundir.digest(published.run / rundir.WEIGHTS))
    from zoo.network import forward

    with torch.inference_mode():
        expected = forward.features(
            load_network(published.run), torch.tensor(published.seen["pixels"])
        )
    assert close(features, expected) < 1e-5
    served, probabilities = published.seen["served"]
    assert served == head
    assert (
        close(probabilities, Predictor(published.run).predict(published.pictures[0]).probabilities)
        == 0
    )
    pin = rundir.read_json(published.home / "zootune" / "pins.json")[REPO]
    assert pin["commit"] == head
    assert (
        pin["run"]["bundles/onnx/model.onnx"]
        == bundle.open_bundle(published.home / f"zootune/runs/alice--insects/{head}").model_sha256
    )


def test_zoo_pull_says_where_the_run_lies(published: Published) -> None:
    head = published.hub.repos[REPO].refs["main"]
    env = published.hub.env(published.home)
    ran = warm.run(warm.HUB, ["-m", "zoo", "pull", f"hf-hub:{REPO}"], env=env, check=True)
    folder = published.home / f"zootune/runs/alice--insects/{head}"
    words = " ".join(ran.stdout.split())
    assert f"run {folder}" in words
    assert f"python -m export {folder} --data FOLDER" in words


def test_it_is_fine_tuned_further(published: Published, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "further"
    command = [
        "-c",
        TRAINED,
        "--data",
        digits,
        "--base",
        f"hf-hub:{REPO}",
        "--out",
        out,
        "--epochs",
        "1",
        "--lr",
        "1e-5",
        "--probe",
        "off",
    ]
    warm.run(warm.TORCH, command, env=published.hub.env(published.home), check=True)
    assert rundir.read_json(out / rundir.REPORT)["base"]["hub_id"] == REPO
    before, after = load_network(published.run).state_dict(), load_network(out).state_dict()
    # the body is what was published, moved by an epoch of 3 steps at 1e-5
    [name] = [name for name in before if name.endswith("layer4.0.conv1.weight")]
    assert close(after[name], before[name]) <= 5e-5


def test_a_pulled_run_is_pinned_and_needs_no_network(published: Published, tmp_path: Path) -> None:
    client = Client(published.hub.env(published.home), tmp_path / "log")
    pin = published.hub.repos[REPO].refs["main"]
    published.hub.add(REPO, {"FINISHED.json": b"{}", "model.safetensors": b"other"})
    before = len(published.hub.requests)
    assert client("pull_run", f"hf-hub:{REPO}")["commit"] == pin
    assert len(published.hub.requests) == before
    kept = published.home / f"zootune/runs/alice--insects/{pin}" / "decision.json"
    content = kept.read_bytes()
    kept.write_bytes(content.replace(b"1.7", b"1.8"))
    assert "decision.json is damaged" in client("pull_run", f"hf-hub:{REPO}")["error"]
    # the damaged copy was fetched again
    assert client("pull_run", f"hf-hub:{REPO}")["commit"] == pin
    assert kept.read_bytes() == content
    before = len(published.hub.requests)
    shutil.rmtree(kept.parent)
    # put together again from the cache
    assert client("pull_run", f"hf-hub:{REPO}")["folder"] == str(kept.parent)
    assert kept.read_bytes() == content
    assert not [path for path in kept.parent.rglob("*") if path.is_symlink()]
    assert len(published.hub.requests) == before
    client.stop()
    published.hub.repos[REPO].refs["main"] = pin


def test_a_repository_that_is_no_published_run_is_refused(
    published: Published, tmp_path: Path
) -> None:
    published.hub.add("alice/weights", {"model.safetensors": b"x", "evil.py": b"import os"})
    client = Client(published.hub.env(tmp_path), tmp_path / "log")
    assert (
        "expected a run that python -m zoo push published"
        in client("pull_run", "hf-hub:alice/weights")["error"]
    )
    client.stop()
    assert not [path for _, path in published.hub.requests if "evil.py" in path]


@pytest.mark.parametrize(
    ("pre", "size"),
    [
        (Preprocessing(64, "squash", 1.0), {"height": 64, "width": 64}),
        (Preprocessing(64, "center", 0.9), {"shortest_edge": 71}),
        (Preprocessing(64, "border", 1.0), None),
    ],
)
def test_preprocessor_config_by_fit(pre: Preprocessing, size: dict[str, int] | None) -> None:
    config = preprocessor_config(pre)
    assert (config and config["size"]) == size


SCRIPT = """
import { AutoModel, AutoImageProcessor, RawImage, Tensor, env } from '@huggingface/transformers';
import { readFileSync } from 'fs';
env.remoteHost = process.argv[2]; env.allowLocalModels = false; env.cacheDir = process.argv[4];
const { repo, pixels, dims, pictures } = JSON.parse(readFileSync(process.argv[3]));
const model = await AutoModel.from_pretrained(repo, { dtype: 'fp32' });
const processor = await AutoImageProcessor.from_pretrained(repo);
const pixel_values = new Tensor('float32', Float32Array.from(pixels), dims);
const { logits } = await model({ pixel_values });
const own = [];
for (const path of pictures) {
  const answer = await model(await processor(await RawImage.read(path)));
  own.push([...answer.logits.data]);
}
console.log('ANSWER' + JSON.stringify({ logits: [...logits.data], own }));
"""


def test_transformers_js_gives_the_same_logits(published: Published, tmp_path: Path) -> None:
    """`npm install --ignore-scripts @huggingface/transformers` in a folder, and that folder in
    ZOOTUNE_NODE."""
    packages = Path(os.environ.get("ZOOTUNE_NODE") or ROOT)
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    if not (packages / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip(
            f"{packages} has no node_modules/@huggingface/transformers: npm install "
            "--ignore-scripts it there, or name the folder in ZOOTUNE_NODE"
        )
    pixels = np.array(published.seen["pixels"], np.float32)
    smooth = [tmp_path / f"{i}.png" for i in range(3)]
    for path, source in zip(smooth, published.pictures, strict=True):
        # what resizing does to noise is up to its filter; so without noise
        with Image.open(source) as picture:
            picture.convert("RGB").resize((4, 4)).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            ).save(path)
    order = {
        "repo": REPO,
        "pixels": pixels.ravel().tolist(),
        "dims": pixels.shape,
        "pictures": [*map(str, smooth)],
    }
    (tmp_path / "order.json").write_text(json.dumps(order))
    (tmp_path / "script.mjs").write_text(SCRIPT)
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    words = [
        tmp_path / "script.mjs",
        published.hub.url,
        tmp_path / "order.json",
        tmp_path / "cache",
    ]
    ran = subprocess.run(
        ["node", "--preserve-symlinks-main", *map(str, words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    found = re.search(r"^ANSWER(.*)$", ran.stdout, re.MULTILINE)
    assert found, ran.stdout
    answer = json.loads(found[1])
    assert close(np.reshape(answer["logits"], (3, 3)), published.seen["timm"]) < 1e-4
    pre = Preprocessing(SIDE, "center", 0.9)
    x = torch.from_numpy(
        np.stack([evaluate(Image.open(path).convert("RGB"), pre) for path in smooth])
    )
    with torch.inference_mode():
        expected = load_network(published.run)(x).numpy()
    assert (np.argmax(answer["own"], 1) == expected.argmax(1)).all()
    assert close(answer["own"], expected) < 0.1 * float(np.ptp(expected))


@pytest.mark.parametrize("name", ["data.json", "config.json", "report.json", "recipe.json"])
@pytest.mark.parametrize("content", [[], "x", {"classes": 5}, {"pretrained_cfg": [1]}])
def test_a_malformed_run_is_one_error(tmp_path: Path, name: str, content: Any) -> None:
    run, _ = made_run(tmp_path / "made", pictures=2)
    rundir.write_json(run / name, content)
    rundir.finish(run)
    (tmp_path / "into").mkdir()
    with pytest.raises(UserError):
        staged(run, tmp_path / "into", repo="a/b", examples=False)
