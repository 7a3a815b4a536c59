"""`python -m zoo compare` and aliases of one's own."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.zoo.made_published import made_finished
from zoo import __main__ as cli
from zoo import catalog, registry, rundir
from zoo.compare import draw, notes, rows_of
from zoo.errors import UserError


def test_runs_are_compared_in_a_table_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_finished(tmp_path)
    assert cli.main(["compare", str(run), "--out", str(tmp_path / "compare.png")]) == 0
    head = rundir.read_json(run / rundir.REPORT)["headline"]
    plain, onnx = [line for line in capsys.readouterr().out.splitlines() if line.startswith("insects")]
    assert plain.split()[1:3] == ["timm", f"{100 * head['plain']['top1']:.2f}"]
    assert onnx.split()[1:3] == ["onnx", f"{100 * head['top1']:.2f}"]
    assert onnx.split()[-2:] == ["3.2", f"{100 * head['ece']:.1f}"]
    with Image.open(tmp_path / "compare.png") as picture:
        assert picture.size == (1200, 750)
        assert len(set(picture.convert("RGB").resize((200, 125)).get_flattened_data())) > 20


def test_what_cannot_be_compared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = made_finished(tmp_path)
    rows = rows_of(run)
    assert notes(rows) == []
    other = replace(rows[1], data="other", split="val", measured_on="cuda")
    assert [note.split()[2] for note in notes([*rows, other])] == ["have", "are", "measured"]
    (run / "bundles/onnx/timing.json").unlink()
    assert cli.main(["compare", str(run), "--out", str(tmp_path / "none.png")]) == 0
    assert "no latency is known. Measure it: python -m export.bench RUN" in capsys.readouterr().out
    assert not (tmp_path / "none.png").exists()
    with pytest.raises(UserError, match="expected a file that can be written"):
        draw([replace(rows[1], latency_ms=2.0)], tmp_path / "absent" / "x.png")
    with pytest.raises(UserError, match="expected one run at least"):
        cli.main(["compare"])


def test_aliases_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                             capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    assert cli.main(["add", "mine", "hf-hub:alice/insects@v1"]) == 0
    base = catalog.find("mine")
    assert (base.alias, base.hub_id, base.architecture) == ("mine", "alice/insects@v1", None)
    assert cli.main(["list", "--text", "atto"]) == 0
    assert "your own: mine = hf-hub:alice/insects@v1" in capsys.readouterr().out
    assert cli.main(["show", "mine"]) == 0
    assert "alice/insects@v1" in capsys.readouterr().out
    assert catalog.nearest("minne")[0] == "mine"
    for alias, target, said in (("vit_base_21k", "hf-hub:a/b", "is an alias of the catalogue"),
                                ("x y", "hf-hub:a/b", "expected an alias of letters"),
                                ("other", "timm/x.y", "expected hf-hub:org/name"),
                                ("other", "hf-hub:a", "expected hf-hub:org/name")):
        with pytest.raises(UserError, match=said):
            cli.main(["add", alias, target])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a file or folder here has this name"):
        cli.main(["add", "home", "hf-hub:a/b"])
    assert cli.main(["remove", "mine"]) == 0
    with pytest.raises(UserError, match="unknown base 'mine'"):
        catalog.find("mine")
    with pytest.raises(UserError, match="is not an alias of yours: expected one of none"):
        cli.main(["remove", "mine"])
    registry.aliases_file().write_text("[1]")
    with pytest.raises(UserError, match="expected alias -> hf-hub:org/name"):
        catalog.find("anything")
    monkeypatch.delenv("ZOOTUNE_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert registry.aliases_file() == tmp_path / "config" / "zootune" / "aliases.json"
