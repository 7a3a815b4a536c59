"""`python -m export.verify`: examples answered again, accuracy on a labelled folder, and what it
refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from export.verify import VerifyOptions, evaluate, main
from tests.zoo.made_bundle import LABELS, made_bundle
from zoo.answer.predict import Predictor
from zoo.contract import bundle
from zoo.host.errors import UserError

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A finished bundle with two examples."""
    folder = made_bundle(tmp_path / "run")
    (folder / "examples").mkdir(exist_ok=True)
    expected = {}
    for name, colour in list(COLOURS.items())[:2]:
        path = folder / "examples" / f"{name}.png"
        Image.new("RGB", (12, 9), colour).save(path)
        p_C = Predictor(folder).predict(path).probabilities.tolist()
        expected[path.name] = {"label": name, "probability": max(p_C), "probabilities": p_C}
    (folder / "examples" / "expected.json").write_text(json.dumps(expected))
    bundle.finish(folder)
    return folder


def labelled(root: Path) -> Path:
    """Two pictures of each class; one red one lies in green, and one file is no picture."""
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        Image.new("RGB", (12, 9), colour).save(root / name / "1.png")
        Image.new("RGB", (20, 9), COLOURS["red"] if name == "green" else colour).save(
            root / name / "2.png"
        )
    (root / "blue" / "bad.png").write_bytes(b"not a picture")
    return root


def test_examples_and_a_labelled_folder(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = labelled(tmp_path / "data")
    assert main(VerifyOptions(made, data)) == 0
    out = capsys.readouterr().out
    assert "unchanged, on cpu; examples differ by at most 0" in out
    assert "top-1 83.33% of 6 pictures" in out
    assert "warning: left out:" in out
    assert "bad.png" in out
    found = evaluate(Predictor(made), data, LABELS)
    assert (found.pictures, found.right, len(found.unreadable)) == (6, 5, 1)


@pytest.mark.parametrize("changed", ["probabilities", "unknown_score"])
def test_an_example_that_is_answered_otherwise_gives_exit_code_1(made: Path, changed: str) -> None:
    path = made / "examples" / "expected.json"
    expected = json.loads(path.read_text())
    if changed == "probabilities":
        expected["red.png"]["probabilities"][0] -= 2 * bundle.TOLERANCE
    else:
        score = Predictor(made, check=False).predict(made / "examples" / "red.png").unknown_score
        assert score is not None
        expected["red.png"]["unknown_score"] = score + 2 * bundle.TOLERANCE
    path.write_text(json.dumps(expected))
    with pytest.raises(UserError, match=r"examples/expected\.json changed"):
        main(VerifyOptions(made))
    bundle.finish(made)
    assert main(VerifyOptions(made)) == 1


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["red", "gren"], "seen 'gren'; near: green"),
        ([], "expected pictures in class folders, seen none"),
        (None, "seen nothing"),
    ],
)
def test_what_is_no_labelled_folder(
    made: Path, tmp_path: Path, folders: list[str] | None, said: str
) -> None:
    for name in folders or ():
        (tmp_path / "data" / name).mkdir(parents=True)
    if folders == []:
        (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=said):
        main(VerifyOptions(made, tmp_path / "data"))


def test_it_leaves_torch_unloaded(made: Path) -> None:
    report = (
        "import sys; from pathlib import Path; from export.verify import VerifyOptions, main; "
        f"main(VerifyOptions(Path({str(made)!r}))); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    assert "onnxruntime" in ran.stdout.split()
    assert not set(ran.stdout.split()) & {"torch", "timm", "finetune"}
