"""The folder of a Space: what is in it, and that it starts and answers from its own files."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import httpx
import pytest
import yaml
from PIL import Image

from serve import space
from tests.bad_pictures import encode, photo
from tests.serve.running import ROOT, ask, running
from zoo import bundle as bundles
from zoo import hub, minimum, registry
from zoo.errors import UserError
from zoo.predictor import Predictor


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "serve.space", *map(str, arguments)], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)


def test_an_alias_of_your_own_becomes_a_space(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    registry.add("mine", "hf-hub:user/name")
    pulled: list[str] = []

    def pull_run(name: str) -> hub.PulledRun:
        pulled.append(name)
        return hub.PulledRun(served, "c0ffee", None)

    monkeypatch.setattr(hub, "pull_run", pull_run)
    for name in ("mine", "hf-hub:user/name"):
        out = tmp_path / f"space{len(pulled)}"
        space.main(space.Space(Path(name), out))
        assert bundles.open_bundle(out / "model" / "bundles" / "onnx").labels == bundles.open_bundle(served).labels
    assert pulled == ["mine", "hf-hub:user/name"]
    with pytest.raises(UserError, match="others"):
        space.main(space.Space(Path("others"), tmp_path / "none"))


def test_it_starts_and_answers(served: Path, tmp_path: Path) -> None:
    out = tmp_path / "space"
    made = make(served, "--out", out, "--title", 'Colours: "all"')
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "Dockerfile", "README.md", "app.py", "model", "requirements.txt", "serve", "zoo"]
    front = yaml.safe_load((out / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (front["title"], front["sdk"], front["app_file"]) == ('Colours: "all"', "gradio", "app.py")
    needed = (out / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+[=>]=[\w.]+", line) for line in needed)
    names = {re.split("[=>]=", line)[0] for line in needed}
    assert len(names) == len(needed)
    assert not {"torch", "timm"} & names
    assert {"onnxruntime", *map(str.lower, (*minimum.SERVE, *minimum.PAGE))} - {"pillow-heif"} <= names
    assert {"starlette>=1.3.1", "h11>=0.16"} <= set(needed)
    assert "USER 10001" in (out / "Dockerfile").read_text(encoding="utf-8")
    picture = encode(photo(), "PNG")
    with running(tmp_path / "log", module=["-X", "importtime", out / "app.py"], port=[], imports=None,
                 GRADIO_SERVER_PORT="0", GRADIO_SERVER_NAME="127.0.0.1") as service:
        top = ask(service.url, picture).json()["predictions"][0]["top"]
        assert [(row["label"], row["probability"]) for row in top] == [*Predictor(served).predict(picture).answer.top]
        assert "Which of 3 classes" in httpx.get(f"{service.url}/config").text
        assert service.stop() == 0
    imported = set(re.findall(r"\| +([\w.]+)$", (tmp_path / "log").read_text(encoding="utf-8"), re.M))
    assert {"serve.page", "zoo.predictor"} <= imported
    assert not {"torch", "timm", "finetune", "export", "zoo.model"} & imported
    code = {path.name for path in (out / "zoo").iterdir() if path.suffix == ".py"}
    assert {f"{name.removeprefix('zoo.')}.py" for name in imported if name.startswith("zoo.")} <= code


def test_a_folder_with_content_is_left_alone(served: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    made = make(served, "--out", tmp_path)
    assert made.returncode == 2
    assert f"--out {shlex.quote(str(tmp_path))}: expected a new or empty folder" in made.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ['x", *[print("CODE RAN")] and "', "a'b\nimport os", "${HOME}", "\x1b[2J"])
def test_a_folder_name_is_no_code(served: Path, tmp_path: Path, name: str) -> None:
    odd, out = tmp_path / name, tmp_path / "space"
    shutil.copytree(served / "bundles" / "onnx", odd)
    (odd / "beside.txt").write_text("BESIDE-IT", encoding="utf-8")
    (odd / "examples" / "9.png").symlink_to(odd / "beside.txt")
    with pytest.raises(UserError, match=r"9\.png is a link"):
        space.main(space.Space(odd, out))
    (odd / "examples" / "9.png").unlink()
    space.main(space.Space(odd, out, title='a"\n---\n!!python/x: \x1b'))
    assert [path.name for path in (out / "model" / "bundles").iterdir()] == ["onnx"]
    code = (out / "app.py").read_text(encoding="utf-8")
    constants = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    assert {"model", "bundles", "onnx"} <= constants
    assert name not in code
    copied = [path for path in out.rglob("*") if not path.is_dir()]
    assert not [path for path in copied if path.is_symlink() or b"BESIDE-IT" in path.read_bytes()]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert text.count("\n---\n") == 1
    front = yaml.safe_load(text.split("\n---\n")[0])
    assert front["title"] == 'a"\\n---\\n!!python/x: \\x1b'
    bundles.open_bundle(out / "model" / "bundles" / "onnx")


def test_the_licence_is_read_in_linear_time() -> None:
    assert space._licence("---\nlicense: mit\n---\n") == "mit"
    assert space._licence("---\nlicense: !!python/x\n---\n") is None
    assert space._licence("license: mit\n") is None
    start = perf_counter()
    for card in ("---\n" * 100_000, "---\n" + "a\n" * 200_000, "---\nlicense: " + " " * 500_000):
        space._licence(card)
    assert perf_counter() - start < 2


def test_examples_of_old_bundles_lose_their_metadata(served: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(served / "bundles" / "onnx", tmp_path / "onnx"))
    exif = Image.Exif()
    exif[0x010e] = "PLANTED"
    (folder / "examples" / "4.jpg").write_bytes(encode(photo(), "JPEG", exif=exif))
    bundles.finish(folder)
    space.main(space.Space(folder, tmp_path / "space"))
    assert (tmp_path / "space" / "model" / "bundles" / "onnx" / "examples" / "4.jpg").is_file()
    assert not [path for path in (tmp_path / "space").rglob("*") if path.is_file() and b"PLANTED" in path.read_bytes()]
