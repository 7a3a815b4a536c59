"""The folder of a Space: what is in it, and that it starts and answers from its own files."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import yaml

from tests.bad_pictures import encode, photo
from tests.serve.running import ROOT, ask, running
from zoo import minimum
from zoo.predictor import Predictor


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "serve.space", *map(str, arguments)], cwd=ROOT, capture_output=True,
                          text=True, timeout=60)


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
    with running(tmp_path / "log", module=["-X", "importtime", out / "app.py"], port=[], GRADIO_SERVER_PORT="0",
                 GRADIO_SERVER_NAME="127.0.0.1") as service:
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
