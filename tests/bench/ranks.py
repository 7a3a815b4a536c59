"""Runs under torchrun that are killed, stopped and continued: `python -m tests.bench.ranks
kill|stop|change ...`.

    kill      SIGKILL to one of two processes, twice in one run with --max-restarts: the same
              weights?
    stop      SIGTERM, then SIGUSR1 to torchrun: how long until it ends, is the checkpoint complete,
              the same weights?
    change    one process, then two, then one: how far are the weights from those of one process?
              (in float32)

On the digits sample with timm's tiny ResNet at 32 px. Equality to 1e-10 in float64 is a test
(tests/finetune/ test_ranks.py); here it is the command itself.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from finetune.run_folder import checkpoint, leftovers
from finetune.sources.digits import write_digits
from tests.made_base import made_base
from zoo.contract import rundir

SETTINGS = (
    "--epochs",
    "3",
    "--batch-size",
    "15",
    "--probe",
    "off",
    "--image-size",
    "32",
    "--threads",
    "1",
    "--lr",
    "1e-3",
    "--optimizer",
    "sgd",
    "--batch-norm",
    "frozen",
    "--erasing",
    "0",
    "--device",
    "cpu",
)


def started(place: Path, out: Path, processes: int, *launcher: str) -> subprocess.Popen[str]:
    """The command, under torchrun or alone."""
    torchrun = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        *launcher,
    )
    command = (
        sys.executable,
        *(torchrun if processes > 1 else ()),
        "-m",
        "finetune",
        "--data",
        str(place / "digits"),
        "--base",
        str(place / "base"),
        "--out",
        str(out),
        *SETTINGS,
    )
    return subprocess.Popen(
        command,
        stdout=(place / "log.txt").open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for_step(out: Path, step: int) -> None:
    """Until a step of at least this number is in the history."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        path = out / rundir.METRICS
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines and lines[-1].endswith("}") and json.loads(lines[-1])["step"] >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was not reached in 200 s")


def weights(out: Path) -> dict[str, torch.Tensor]:
    assert rundir.is_finished(out), out
    assert rundir.read_json(out / rundir.REPORT)["best"]["step"] > 0  # weights that were trained
    return load_file(out / "model.safetensors")


def far(one: Path, two: Path) -> float:
    """Largest difference of two runs' weights."""
    mine, theirs = weights(one), weights(two)
    return max((mine[name].double() - theirs[name].double()).abs().max().item() for name in mine)


def whole(place: Path, processes: int) -> Path:
    """The undisturbed run; made once."""
    out = place / f"whole-{processes}"
    if not rundir.is_finished(out):
        assert started(place, out, processes).wait() == 0
    return out


def kill(place: Path) -> None:
    """Two kills, of rank 1 and rank 0, at random moments."""
    out, generator = place / "killed", random.Random(0)
    began, process = time.monotonic(), started(place, out, 2, "--max-restarts", "3")
    step = 0
    for rank in (1, 0):
        step = generator.randint(step + 20, step + 100)
        wait_for_step(out, step)
        for child in psutil.Process(process.pid).children(recursive=True):
            if child.environ().get("LOCAL_RANK") == str(rank):
                child.send_signal(signal.SIGKILL)
                print(
                    f"killed rank {rank} after step {step}, at {time.monotonic() - began:.1f} s",
                    flush=True,
                )
                break
    assert process.wait() == 0
    print(
        f"ended after {time.monotonic() - began:.0f} s; largest difference to the undisturbed run: "
        f"{far(out, whole(place, 2)):g}; temporary files left: {len(list(out.rglob('*.tmp')))}"
    )


def stop(place: Path) -> None:
    """A signal to torchrun alone, twice in one run."""
    out = place / "stopped"
    for number, step in ((signal.SIGTERM, 30), (signal.SIGUSR1, 100)):
        process = started(place, out, 2, "--signals-to-handle", "SIGTERM,SIGINT,SIGUSR1")
        wait_for_step(out, step)
        process.send_signal(number)
        asked = time.monotonic()
        code = process.wait()
        took, state = time.monotonic() - asked, checkpoint.load_checkpoint(out)
        assert state is not None
        marker = json.loads((out / rundir.RESUME / leftovers.STOPPED).read_text())
        print(
            f"{number.name}: torchrun ended with {code} after {took:.1f} s; marker {marker}; "
            f"checkpoint of step {state.step}",
            flush=True,
        )
        assert state.step == marker["step"] >= step
    assert started(place, out, 2).wait() == 0
    print(f"largest difference to the undisturbed run: {far(out, whole(place, 2)):g}")


def change(place: Path) -> None:
    """1 -> 2 -> 1 processes, each stopped by SIGTERM."""
    out = place / "changed"
    for processes, step in ((1, 30), (2, 100)):
        process = started(place, out, processes)
        wait_for_step(out, step)
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert started(place, out, 1).wait() == 0
    print(f"1 -> 2 -> 1 processes: largest difference to one process {far(out, whole(place, 1)):g}")


if __name__ == "__main__":
    folder = Path(os.environ.get("PLACE") or tempfile.mkdtemp())
    if not (folder / "base").exists():
        write_digits(folder / "digits"), made_base(folder / "base")
    for name in sys.argv[1:]:
        {"kill": kill, "stop": stop, "change": change}[name](folder)
