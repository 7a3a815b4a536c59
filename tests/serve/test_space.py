"""The folder of a Space: what is in it, and that it starts and answers from its own files."""

import ast
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import httpx
import pytest
import yaml
from PIL import Image

from serve import space
from serve.deploy import requirements, space_readme
from tests import warm
from tests.bad_pictures import encode, photo
from tests.export.made_export import Made
from tests.serve.running import ROOT, ask, running
from tests.zoo.made_bundle import made_bundle
from tests.zoo.made_published import made_bundle_of, made_finished
from zoo.answer.predict import Predictor
from zoo.contract import bundle as bundles
from zoo.contract import examples, run_pictures, rundir
from zoo.host import minimum
from zoo.host.errors import UserError


def make(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run(warm.GRADIO, ["-m", "serve.space", *arguments])


def test_an_alias_of_your_own_becomes_a_space(
    served: Path, tmp_path: Path, pulled_from_the_hub: Callable[[Path], list[str]]
) -> None:
    pulled = pulled_from_the_hub(served)
    for name in ("mine", "hf-hub:user/name"):
        out = tmp_path / f"space{len(pulled)}"
        space.main(space.Space(Path(name), out))
        assert (
            bundles.open_bundle(out / "model" / "bundles" / "onnx").labels
            == bundles.open_bundle(served).labels
        )
    assert pulled == ["mine", "hf-hub:user/name"]
    with pytest.raises(UserError, match="others"):
        space.main(space.Space(Path("others"), tmp_path / "none"))


def test_it_starts_and_answers(served: Path, tmp_path: Path) -> None:
    out = tmp_path / "space"
    made = make(served, "--out", out, "--title", 'Colours: "all"')
    assert made.returncode == 0, made.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "Dockerfile",
        "README.md",
        "app.py",
        "model",
        "requirements.txt",
        "serve",
        "zoo",
    ]
    front = yaml.safe_load((out / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (front["title"], front["sdk"], front["app_file"]) == (
        'Colours: "all"',
        "gradio",
        "app.py",
    )
    needed = (out / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+[=>]=[\w.]+", line) for line in needed)
    names = {re.split("[=>]=", line)[0] for line in needed}
    assert len(names) == len(needed)
    assert not {"torch", "timm"} & names
    assert {"onnxruntime", *map(str.lower, (*minimum.SERVE, *minimum.PAGE))} - {
        "pillow-heif"
    } <= names
    assert {"starlette>=1.3.1", "h11>=0.16"} <= set(needed)
    assert "USER 10001" in (out / "Dockerfile").read_text(encoding="utf-8")
    picture = encode(photo(), "PNG")
    with running(
        tmp_path / "log",
        module=["-X", "importtime", out / "app.py"],
        port=[],
        imports=None,
        GRADIO_SERVER_PORT="0",
        GRADIO_SERVER_NAME="127.0.0.1",
    ) as service:
        top = ask(service.url, picture).json()["predictions"][0]["top"]
        assert [(row["label"], row["probability"]) for row in top] == [
            *Predictor(served).predict(picture).answer.top
        ]
        assert "Which of 3 classes" in httpx.get(f"{service.url}/config").text
        assert service.stop() == 0
    imported = set(
        re.findall(r"\| +([\w.]+)$", (tmp_path / "log").read_text(encoding="utf-8"), re.M)
    )
    assert {"serve.page.mount", "zoo.answer.predict"} <= imported
    assert (
        not {
            "torch",
            "timm",
            "finetune",
            "export",
            "zoo.network.build",
            "serve.__main__",
        }
        & imported
    )
    for name in imported:
        if name.startswith("zoo."):  # taken along, not found in an installation beside it
            place = out / name.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), name


def test_a_folder_with_content_is_left_alone(served: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    made = make(served, "--out", tmp_path)
    assert made.returncode == 2
    assert f"--out {shlex.quote(str(tmp_path))}: expected a new or empty folder" in made.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name", ['x", *[print("CODE RAN")] and "', "a'b\nimport os", "${HOME}", "\x1b[2J"]
)
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
    assert space_readme.card_licence("---\nlicense: mit\n---\n") == "mit"
    assert space_readme.card_licence("---\nlicense: !!python/x\n---\n") is None
    assert space_readme.card_licence("license: mit\n") is None
    start = perf_counter()
    for card in ("---\n" * 100_000, "---\n" + "a\n" * 200_000, "---\nlicense: " + " " * 500_000):
        space_readme.card_licence(card)
    assert perf_counter() - start < 2


def packed(out: Path) -> dict[str, bytes]:
    """Name -> content of the files of a Space's model."""
    return {
        path.relative_to(out / "model").as_posix(): path.read_bytes()
        for path in (out / "model").rglob("*")
        if path.is_file()
    }


def test_only_examples_that_are_pictures_are_packed_and_only_when_asked(
    served: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(served / "bundles" / "onnx", tmp_path / "onnx"))
    exif = Image.Exif()
    exif[0x010E] = "PLANTED"
    planted = {
        "4.jpg": encode(photo(), "JPEG", exif=exif),
        "notes.txt": b"PLANTED",
        "5.png": b"PLANTED, no picture",
        "6.png.html": encode(photo(), "PNG"),
        "unlisted.png": encode(photo(), "PNG"),
    }
    expected = rundir.read_json(folder / "examples" / "expected.json")
    for name, content in planted.items():
        (folder / "examples" / name).write_bytes(content)
        if name != "unlisted.png":
            expected[name] = expected["red.png"]
    rundir.write_json(folder / "examples" / "expected.json", expected)
    (folder / bundles.PARITY_PAGE).write_text("PLANTED pictures")
    bundles.finish(folder)
    space.main(space.Space(folder, tmp_path / "without"))
    assert set(packed(tmp_path / "without")) == {
        f"bundles/onnx/{name}"
        for name in ("FINISHED.json", "bundle.json", "model.onnx", "parity.json")
    }
    said = capsys.readouterr().out
    assert "without pictures; nothing has been sent" in said
    assert said.index("model/bundles/onnx/model.onnx") < said.index("Upload it")
    space.main(space.Space(folder, tmp_path / "space", with_examples=True))
    found = packed(tmp_path / "space")
    names = {name.removeprefix("bundles/onnx/examples/") for name in found if "examples" in name}
    assert names == {"red.png", "green.png", "blue.png", "4.jpg", "expected.json"}
    assert not [name for name, content in found.items() if b"PLANTED" in content]
    opened = bundles.open_bundle(tmp_path / "space" / "model" / "bundles" / "onnx")
    assert set(examples.expected(opened)) == names - {"expected.json"}
    shown = capsys.readouterr()
    for name in names:
        assert f"model/bundles/onnx/examples/{name}" in shown.out
    for name in ("notes.txt", "5.png", "6.png.html", "unlisted.png"):
        assert f"not packed: {name} (" in shown.out + shown.err


def test_nothing_of_this_machine_is_packed(tmp_path: Path) -> None:
    run = made_finished(tmp_path / "bob" / "secret project")
    facts = rundir.read_json(run / rundir.DATA)
    root = run_pictures.data_root(run)
    text = (
        f"# card\n\n| val | `{root}/val` | set by hand: the folder {root}/val |\n- "
        f"{facts['findings'][0]}\n- folders beside train, val and test are ignored: of a customer\n"
    )
    rundir.write_text(run / rundir.CARD, text)
    shutil.rmtree(run / "bundles")
    shutil.rmtree(run / "onnx")
    rundir.finish(run)
    made_bundle_of(run, Made())
    space.main(space.Space(run, tmp_path / "out" / "space"))
    found = packed(tmp_path / "out" / "space")
    assert set(found) == {
        "README.md",
        *(
            f"bundles/onnx/{name}"
            for name in ("FINISHED.json", "bundle.json", "model.onnx", "parity.json")
        ),
    }
    for secret in (
        str(tmp_path),
        "secret project",
        "secret name",
        "private name",
        "holiday plan",
        "a customer",
    ):
        assert not [name for name, content in found.items() if secret.encode() in content], secret


@pytest.mark.parametrize("here", ["installed", "bundle", "neither"])
def test_a_space_of_an_openvino_bundle_asks_for_openvino(
    tmp_path: Path, here: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {} if here == "neither" else {"versions_of_target": {"openvino": "2025.3.1-19283-abc"}}
    folder = made_bundle(tmp_path / "run", target="openvino", finished=False, **facts)
    for name in ("model.xml", "model.bin"):  # what is packed is not opened
        shutil.copyfile(folder / bundles.MODEL, folder / name)
    (folder / bundles.MODEL).unlink()
    rundir.write_json(
        folder / bundles.BUNDLE, rundir.read_json(folder / bundles.BUNDLE) | {"model": "model.xml"}
    )
    bundles.finish(folder)
    version = importlib.metadata.version
    if here != "installed":

        def absent(name: str) -> str:
            if name == "openvino":
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(importlib.metadata, "version", absent)
    else:
        monkeypatch.setattr(
            importlib.metadata,
            "version",
            lambda name: "2026.4.1" if name == "openvino" else version(name),
        )
    space.main(space.Space(folder, tmp_path / "space"))
    needed = (tmp_path / "space" / "requirements.txt").read_text().splitlines()
    [line] = [line for line in needed if line.startswith("openvino")]
    assert (
        line
        == {
            "installed": "openvino==2026.4.1",
            "bundle": "openvino==2025.3.1",
            "neither": "openvino>=2025.0",
        }[here]
    )
    assert {"model.xml", "model.bin"} <= {Path(name).name for name in packed(tmp_path / "space")}
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]["openvino"]
    assert asked == [f"openvino{requirements.OPENVINO_FLOOR}"]


def test_class_names_cannot_break_the_readme(tmp_path: Path) -> None:
    names = [
        "<script>alert(1)</script>",
        "`code`",
        "two\n\n---\nlines",
        "[x](http://x.example)",
        "</div>",
        "![](y)",
    ]
    folder = made_bundle(tmp_path / "run", labels=[*names, *(f"class {i}" for i in range(60))])
    opened = bundles.open_bundle(folder, verify=False)
    text = space_readme.readme(
        "# <b>title</b> [x](y)", replace(opened, outputs=("probabilities", "embedding")), None
    )
    body = text.split("\n---\n", 1)[1]
    assert "<" not in re.sub(r"`[^`\n]*`", "", body)
    assert "](" not in re.sub(r"`[^`\n]*`", "", body).replace("\\]", "")
    assert body.count("\n---\n") == 0
    assert (
        "and 16 more) with calibrated probabilities and an answer for pictures that are none of "
        "these." in body
    )
    assert "heat maps" not in body
    front = yaml.safe_load(
        space_readme.readme("🔎 über \\ud83d\\udd0e \\", opened, None).split("\n---\n")[0]
    )
    assert (front["title"], front["emoji"]) == ("🔎 über \\ud83d\\udd0e \\", "🔎")
