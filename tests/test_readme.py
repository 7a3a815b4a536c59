"""What the README says is true."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_begins_with_two_commands_that_set_everything_up() -> None:
    first, second, *_ = re.findall(r"```bash\n(.*?)```", README, re.S)
    for block in (first, second):
        assert block.startswith("python3 -m venv .venv\n.venv/bin/pip install -q -e ")
    assert first.rstrip().endswith("python -m finetune --data digits --base efficientnet_lite0")
    assert second.rstrip().endswith("python -m pytest")
    assert len(README.splitlines()) <= 200


def commands() -> list[str]:
    return sorted(set(re.findall(r"python -m (?:finetune|zoo)[^\n`)]*", README)))


@pytest.mark.parametrize("command", commands())
def test_every_flag_in_its_commands_exists(command: str) -> None:
    words = command.split()
    tool = words[2:4] if words[2] == "zoo" else words[2:3]
    shown = subprocess.check_output([sys.executable, "-m", *tool, "--help"], cwd=ROOT, text=True)
    missing = [flag for flag in words if flag.startswith("--") and f"{flag} " not in shown]
    assert not missing


def test_the_flags_and_paths_it_names_exist() -> None:
    from dataclasses import fields

    from finetune.decide import Wish
    from finetune.recipe import Recipe
    from finetune.run import Run

    known = {"--" + f.name.replace("_", "-") for cls in (Run, Recipe, Wish) for f in fields(cls)}
    known |= {"--help", "--text", "--pretrained-on", "--max-params-m", "--commercial"}
    named_flags = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README))
    assert named_flags <= known
    tree = re.search(r"## Where things are\n```\n(.*?)```", README, re.S)
    assert tree
    named_files = {word for word in tree[1].split() if word.endswith(".py")}
    on_disk = {p.name for folder in ("zoo", "finetune") for p in (ROOT / folder).glob("[!_]*.py")}
    assert named_files <= on_disk
    assert on_disk - named_files <= {"events.py", "device.py", "sample.py", "progress.py", "plan.py"}
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_bases_it_counts_are_there() -> None:
    from zoo.catalog import ROWS, find

    assert len(ROWS) > 100
    for name in re.findall(r"--base ([\w-]+)", README):
        assert find(name).alias == name
