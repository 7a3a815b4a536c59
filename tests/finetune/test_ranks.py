"""Several processes: they train like one, count each picture once, print once, and end together."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune import device, joint, loop, memory, ranks, resume
from finetune.dataset import scan
from finetune.loader import Source
from finetune.step import Job, prepare
from finetune.tree import read_tree
from tests.finetune.rank_cases import CASES, COUNTS, PRE
from tests.made_recipe import made_recipe
from zoo import rundir
from zoo.errors import UserError

ROOT = Path(__file__).parents[2]
Results = dict[str, Any]


@pytest.fixture(scope="module")
def results(digits: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """What each process of each group found: `1-0`, `2-0`, `2-1`, `3-0` ..., the pieces of a run, and a whole run."""
    out = tmp_path_factory.mktemp("ranks")
    command = (sys.executable, "-W", "error", "-m", "tests.finetune.rank_cases", str(digits), str(tiny_base), str(out))
    ran = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = {file.stem: torch.load(file, weights_only=True) for file in out.glob("*.pt")}
    return found | {"whole": {"out": out / "run", "printed": ran.stdout}}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_like_one(results: dict[str, Results], name: str) -> None:
    one, two, other = (results[which][name] for which in ("1-0", "2-0", "2-1"))
    limit = 1e-6 if name.startswith("float32") else 1e-10
    assert len(one["losses"]) == 4
    for what in ("weights", "ema"):
        assert (one[what] - two[what]).abs().max() <= limit, what
        assert torch.equal(two[what], other[what]), what  # both processes hold the same bits
    assert (one["losses"] - two["losses"]).abs().max() <= 1e-6  # kept in float32
    assert torch.equal(two["losses"], other["losses"])


def test_each_case_does_what_it_is_named_after(results: dict[str, Results]) -> None:
    weights = {name: results["1-0"][name]["weights"] for name in CASES}
    for name in set(CASES) - {"sgd", "float32 sgd", "frozen batch norm"}:
        same = name in ("accumulation", "ema")  # which leave the plain weights as they were
        assert torch.allclose(weights[name], weights["sgd"], rtol=0, atol=1e-10) is same, name
    assert results["1-0"]["ema"]["ema"].abs().max() > 0


@pytest.mark.parametrize("n", COUNTS)
def test_each_picture_is_counted_once(results: dict[str, Results], n: int) -> None:
    predicted, labels, scores = results["1-0"][f"counts {n}"]
    assert len(labels) == n
    confusion = torch.bincount(labels * 10 + predicted, minlength=100)
    for which in ("2-0", "2-1", "3-0", "3-1", "3-2"):
        other_predicted, other_labels, other_scores = results[which][f"counts {n}"]
        assert torch.equal(other_labels, labels)
        assert torch.equal(torch.bincount(other_labels * 10 + other_predicted, minlength=100), confusion)
        assert other_scores == pytest.approx(scores, rel=1e-5)
        assert other_scores["top1"] == scores["top1"]


def test_pictures_are_read_in_shares_and_flags_agreed(results: dict[str, Results]) -> None:
    assert len({one["digest"] for name, one in results.items() if "digest" in one}) == 1
    for name, (flag, of_first, everyone) in ((name, one["agreed"]) for name, one in results.items() if "agreed" in one):
        assert (flag, of_first, everyone) == (True, 0, list(range(int(name[0]))))


def test_a_run_goes_on_in_another_number_of_processes(results: dict[str, Results]) -> None:
    whole, last = results["piece0-0"], results["piece3-0"]
    assert (len(whole["losses"]), len(last["losses"])) == (12, 4)
    assert results["piece2-0"] == results["piece2-1"] == {}  # stopped
    for what in ("weights", "ema"):
        assert (whole[what] - last[what]).abs().max() <= 1e-10, what


def test_a_whole_run_is_written_and_told_by_rank_0_alone(results: dict[str, Results]) -> None:
    out, printed = results["whole"]["out"], results["whole"]["printed"]
    assert rundir.is_finished(out)
    rundir.open_finished(out, verify=True)
    assert results["whole-0"]["touched"]
    assert results["whole-1"]["touched"] == []
    assert printed.count("device: cpu (2 processes") == printed.count("linear probe: top-1") == 1, printed
    assert printed.count("epoch   2/2") == printed.count("next:") == 1, printed
    with (out / rundir.PREDICTIONS).open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    pictures = [path for path in paths if path.startswith(("val/", "test/"))]
    assert len(pictures) == len(set(pictures)) == 80
    assert len(paths) == 80 + 2 * 8  # of which each foreign set is whole, too


def torchrun(processes: int, *arguments: str) -> subprocess.Popen[str]:
    """`torchrun --standalone`, in a process group of its own."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    return subprocess.Popen([*launcher, "-m", "finetune", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """What is printed up to a line with these words."""
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} was never printed:\n{seen}")


def test_under_torchrun_a_picture_that_breaks_ends_all_and_is_named_once(digits: Path, tiny_base: Path,
                                                                         tmp_path: Path) -> None:
    data, out = Path(shutil.copytree(digits, tmp_path / "data")), tmp_path / "run"
    command = ("--data", str(data), "--base", str(tiny_base), "--out", str(out), "--epochs", "4", "--batch-size", "9",
               "--threads", "1", "--lr", "1e-3", "--features", "fp32")
    process = torchrun(2, *command)
    try:
        seen = read_until(process, "linear probe: top-1")
        picture = next((data / "train" / "3").iterdir())
        broken = time.monotonic()
        picture.write_bytes(b"")
        seen += process.communicate(timeout=100)[0]
        assert time.monotonic() - broken < 60
    finally:
        with suppress(ProcessLookupError):  # it ended
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1  # torchrun's own, whatever the processes exit with
    assert seen.count(picture.name) == seen.count("error: ") == 1, seen
    assert "Traceback" not in seen.split("ChildFailedError")[0].split("error: ")[1], seen
    assert not rundir.is_finished(out)
