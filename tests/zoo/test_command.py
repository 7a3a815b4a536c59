"""`zootune`: each command is what `python -m` runs."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import warm
from zoo.command import COMMANDS

ROOT = Path(__file__).parents[2]
START = "import sys; from zoo.command import main; sys.argv[0] = 'zootune'; main()"


def zootune(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", START, *words],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_package_installs_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"zootune": "zoo.command:main"}


def test_every_command_of_a_package_has_its_name() -> None:
    named = {target.split()[0] for target, _ in COMMANDS.values()}
    there = set()
    for package in ("finetune", "export", "serve"):
        there.add(package)
        for path in (ROOT / package).glob("[!_]*.py"):
            if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8"):
                there.add(f"{package}.{path.stem}")
    assert named - {"zoo", "zoo.predictor"} == there
    assert all(importlib.util.find_spec(name) for name in named)
    inner = {target.split()[1] for target, _ in COMMANDS.values() if target.startswith("zoo ")}
    help_text = warm.run(warm.HUB, ["-m", "zoo", "--help"], check=True).stdout
    listed = re.search(r"\{([a-z,\-\n│ ]+)\}", help_text)
    assert listed
    assert inner == set(re.sub(r"[\s│]", "", listed[1]).split(","))


def test_it_lists_its_commands_at_once(tmp_path: Path) -> None:
    ran = zootune(tmp_path, "--help")
    assert ran.returncode == 0
    assert all(re.search(rf"^  {re.escape(name)} ", ran.stdout, re.M) for name in COMMANDS)


def test_it_runs_a_command_with_its_flags(tmp_path: Path) -> None:
    ran = zootune(tmp_path, "list", "--text", "lite0")
    assert ran.returncode == 0, ran.stderr
    assert "efficientnet_lite0" in ran.stdout
    assert zootune(tmp_path, "list", "--text", "no such base").returncode == 1


def test_a_file_of_the_user_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text("print('the file of the user')")
    (tmp_path / "zoo.py").write_text("print('the file of the user')")
    ran = zootune(tmp_path, "serve", "no-such-run")
    assert "the file of the user" not in ran.stdout + ran.stderr
    assert ran.returncode == 2
    assert "no-such-run" in ran.stderr


@pytest.mark.parametrize(("word", "hint"), [("finetun", "finetune"), ("--versio", "")])
def test_an_unknown_command_is_one_sentence(tmp_path: Path, word: str, hint: str) -> None:
    ran = zootune(tmp_path, word)
    assert ran.returncode == 2
    assert f"zootune {word}: expected one of" in " ".join(ran.stderr.split())
    assert (f"Did you mean {hint}?" in " ".join(ran.stderr.split())) is bool(hint)
