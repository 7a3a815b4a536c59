"""What the README says is true."""

import functools
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "tests" / "bench" / "RESULTS.md"


def test_it_begins_with_two_commands_that_set_everything_up() -> None:
    first, second, *_ = re.findall(r"```bash\n(.*?)```", README, re.S)
    for block in (first, second):
        assert block.startswith("python3 -m venv .venv\n.venv/bin/pip install -q -e ")
    *_, train, export = first.splitlines()
    assert train.endswith("python -m finetune --data digits --base efficientnet_lite0")
    assert export.endswith("python -m export runs/digits-efficientnet_lite0")
    assert second.rstrip().endswith("python -m pytest -n 2 --dist worksteal")
    assert len(README.splitlines()) <= 200


def commands() -> list[str]:
    return sorted(set(re.findall(r"python -m (?:finetune|zoo|export|serve)[^\n`)]*", README)))


@functools.cache
def help_of(*tool: str) -> str:
    return warm.run(warm.HUB, ["-m", *tool, "--help"], check=True).stdout


@pytest.mark.parametrize("command", commands())
def test_every_flag_in_its_commands_exists(command: str) -> None:
    words = command.split()
    tool = words[2:4] if words[2] == "zoo" else words[2:3]
    missing = [flag for flag in words if flag.startswith("--") and f"{flag} " not in help_of(*tool)]
    assert not missing


def test_the_flags_and_paths_it_names_exist() -> None:
    from dataclasses import fields

    from export import verify
    from export.options import ExportOptions
    from finetune import compare, explain
    from finetune.evaluation.choices import Wish
    from finetune.prediction.request import Request
    from finetune.recipe.fields import Recipe
    from finetune.recipe.run import Run
    from serve import space
    from serve.options import ServiceOptions
    from zoo.publish import push_command

    orders = (
        Run,
        Recipe,
        explain.Situation,
        compare.Comparison,
        Wish,
        Request,
        ExportOptions,
        verify.VerifyOptions,
        push_command.PushOptions,
        ServiceOptions,
        space.Space,
    )
    known = {"--" + f.name.replace("_", "-") for cls in orders for f in fields(cls)}
    known |= {
        "--help",
        "--check",
        "--text",
        "--pretrained-on",
        "--max-params-m",
        "--commercial",
        "--dist",
        "--standalone",
        "--nproc-per-node",
    }
    named_flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README))
    assert named_flags <= known
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_map_names_all_that_stands_in_a_package() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = re.search(r"## Where things are\n```\n(.*?)```", contributing, re.S)
    assert tree
    places = re.split(r"^(\w+)/ ", tree[1], flags=re.M)[1:]
    assert places[::2] == ["zoo", "finetune", "export", "serve"]
    for package, text in zip(places[::2], places[1::2], strict=True):
        named = set(re.findall(r"(?<![\w/])\w+(?:\.py|/)", text))
        folders = {
            f"{p.name}/"
            for p in (ROOT / package).iterdir()
            if p.is_dir() and p.name != "__pycache__"
        }
        assert named == folders | {p.name for p in (ROOT / package).glob("[!_]*.py")}, package


def test_the_bases_it_counts_are_there() -> None:
    from zoo.bases.catalog import ROWS, find_base

    assert len(ROWS) > 100
    tried = re.search(
        r"## Every base of the catalogue\n(.*?)\n## ", RESULTS.read_text(encoding="utf-8"), re.S
    )
    assert tried
    passed = [
        name
        for row in re.findall(r"^\| \d+ \| (.*) \|$", tried[1], re.M)
        for name in row.split(", ")
    ]
    assert sorted(passed) == sorted(row.alias for row in ROWS)
    assert f"({len(passed)} of\n{len(ROWS)} pass" in README
    for name in re.findall(r"--base ([\w-]+)(?![\w:-])", README):
        assert find_base(name).alias == name


@pytest.mark.parametrize(
    ("model", "knows_unknown"),
    [("model.onnx", True), ("model.int8.onnx", True), ("model.int8.onnx", False)],
)
def test_its_script_runs_a_bundle_with_onnxruntime_numpy_and_pillow_alone(
    tmp_path: Path, model: str, knows_unknown: bool
) -> None:
    from PIL import Image

    from tests.zoo.made_bundle import CALIBRATED, made_bundle
    from zoo.answer.predict import Predictor
    from zoo.contract import bundle as bundles
    from zoo.contract import rundir

    how = (
        {}
        if knows_unknown
        else {
            "decision": replace(CALIBRATED, unknown=None),
            "outputs": tuple({*bundles.OUTPUTS} - {bundles.UNKNOWN_SCORE}),
        }
    )
    bundle = made_bundle(tmp_path / "run", finished=False, **how)
    (bundle / bundles.MODEL).rename(bundle / model)
    rundir.write_json(
        bundle / bundles.BUNDLE, rundir.read_json(bundle / bundles.BUNDLE) | {"model": model}
    )
    bundles.finish(bundle)
    Image.new("RGBA", (30, 20), (0, 200, 30, 180)).save(tmp_path / "picture.png")
    script = next(
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.S)
        if "InferenceSession" in block
    )
    script += (
        "\nprint(*sorted({name.split('.')[0] for name in sys.modules} - "
        "set(sys.stdlib_module_names)))"
    )
    (tmp_path / "script.py").write_text(script)
    ran = subprocess.run(
        [sys.executable, tmp_path / "script.py", bundle, tmp_path / "picture.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    said, loaded = ran.stdout.splitlines()
    expected = Predictor(bundle).predict(tmp_path / "picture.png").answer
    assert said.split()[-2:] == [expected.top[0][0], f"{expected.top[0][1]:.3f}"]
    assert said.startswith("unknown") == (expected.label is None)
    assert {"numpy", "onnxruntime", "PIL"} <= set(loaded.split())
    assert not set(loaded.split()) & {
        "torch",
        "timm",
        "zoo",
        "finetune",
        "export",
        "safetensors",
        "rich",
    }
