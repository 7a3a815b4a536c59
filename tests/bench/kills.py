"""Interrupted runs at random moments, and what checkpoints cost.

    python -m tests.bench.kills reference --work DIR [--workers 0 1 2]
    python -m tests.bench.kills kill      --work DIR [--kills 20] [--seconds 200]
    python -m tests.bench.kills cost      --work DIR [--data digits] [--epochs 6] [--size 64]

`kill` ends the whole process group of a run with SIGKILL after a random time, starts it again, and
so on; a run that finished is compared with the reference (sha256 of weights, moving average,
optimiser and history) and the next begins. Every save is slowed down by random pauses, so that many
kills fall inside one. Called again, it goes on: the figures of all calls are in DIR/kills.jsonl.
`cost` is the time that checkpoints take in a plain run, and that resuming takes.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "epochs": 12,
    "batch_size": 4,
    "lr": 1e-3,
    "threads": 1,
    "features": "fp32",
    "ema": 0.9,
    "mixup": 0.2,
}
"""A recipe with everything that a checkpoint holds; 300 steps on 100 pictures of digits at 32 px, a
tenth of them between two checkpoints."""
INTERVAL = 10
"""Steps between two checkpoints: each look at the losses saves."""


# ---------------------------------------------------------------- the run that is killed


def sha256_of(value: Any) -> str:
    """sha256 of nested dicts and lists of tensors and numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        return hashlib.sha256(
            value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        ).hexdigest()
    if isinstance(value, dict):
        value = [(str(key), sha256_of(inner)) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        value = [sha256_of(inner) for inner in value]
    return hashlib.sha256(repr(value).encode()).hexdigest()


def child(out: Path, *, workers: int, pause_ms: float) -> None:
    """A run of timm's tiny ResNet that saves at each look, writes down each step, and its digest
    before it finishes."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune import pipeline, write_run
    from finetune.data import foreign
    from finetune.recipe.run import Run
    from finetune.run_folder import checkpoint, saver
    from finetune.train import loop
    from zoo.contract import rundir
    from zoo.host import disk

    saver.SAVE_EVERY_S, saver.SAVE_SHARE, foreign.PICTURES = 0.0, 1e9, 8
    beat = os.open(out.with_suffix(".beat"), os.O_RDWR | os.O_CREAT)
    update, write_run, sync_folder = loop.update, write_run.write_run, disk.sync_folder

    def counted(*arguments: Any) -> Any:
        loss = update(*arguments)
        os.pwrite(beat, f"{arguments[-1] + 1:9d}".encode(), 0)
        return loss

    def digested(plan: Any, best: Any, **how: Any) -> None:
        state = checkpoint.load_checkpoint(plan.folder)
        assert state is not None
        history = "".join(
            line
            for line in (plan.folder / rundir.METRICS).read_text().splitlines(keepends=True)
            if "probe/seconds" not in line
        )
        out.with_suffix(".sha256").write_text(
            sha256_of([state.tensors, state.best.sha256, history])
        )
        write_run(plan, best, **how)

    def slowed(folder: Path) -> None:
        time.sleep(random.random() * pause_ms / 1000)
        sync_folder(folder)
        time.sleep(random.random() * pause_ms / 1000)

    loop.update, write_run.write_run, write_run.write_report = counted, digested, lambda *_: None
    disk.sync_folder = slowed if pause_ms else sync_folder
    work = out.parent
    run = Run(
        data=str(work / "digits"), base=str(work / "tiny"), out=out, device="cpu", workers=workers
    )
    pipeline.start(run, SETTINGS)


def begin(work: Path) -> None:
    """The pictures and the base of all runs in this folder, as the tests' fixtures make them."""
    from tests.made_base import made_base, made_digits

    if not (work / "tiny").exists():
        made_digits(work / "digits")
        made_base(work / "tiny")


def spawn(out: Path, *, workers: int = 0, pause_ms: float = 0.0) -> subprocess.Popen[str]:
    """The child, with its lines on stdout, in a process group of its own."""
    words = [
        sys.executable,
        "-m",
        "tests.bench.kills",
        "child",
        "--work",
        str(out),
        "--workers",
        str(workers),
        "--pause-ms",
        str(pause_ms),
    ]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


# ---------------------------------------------------------------- reference and kills


def reference(work: Path, workers: list[int]) -> None:
    """Undisturbed runs: the digest that every other one must have."""
    for count in workers:
        out = work / f"whole-{count}"
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        said, _ = (process := spawn(out, workers=count)).communicate()
        assert process.returncode == 0, said
        digest = out.with_suffix(".sha256").read_text()
        print(f"workers {count}: {digest[:16]}  {time.monotonic() - began:.1f} s", flush=True)
        if not (work / "reference.sha256").exists():
            (work / "reference.sha256").write_text(digest)


def kill_once(out: Path, *, spare: bool) -> dict[str, Any] | None:
    """Start or continue a run, kill it at a random moment of its work; None: it finished first, or
    was spared."""
    from zoo.contract import rundir

    process = spawn(out, workers=random.choice([0, 0, 1]), pause_ms=40)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "going on after step" in line or "recipe:" in line:
            break
    after_s = 600.0 if spare else random.random() * 7
    try:
        process.wait(after_s)
        assert process.returncode == 0, said + process.stdout.read()
        return None
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    places = [
        path.name for path in (out / rundir.RESUME).iterdir() if path.name.startswith("step-")
    ]
    done = int(out.with_suffix(".beat").read_text() or 0)
    saved = max((int(name[5:]) for name in places if not name.endswith(".tmp")), default=0)
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.tmp"))
    passed_over = "Passed over" in said
    return {
        "after_s": round(after_s, 3),
        "step": done,
        "saved": saved,
        "left": left,
        "passed_over": passed_over,
    }


def kill(work: Path, kills: int, seconds: float) -> None:
    """Kill runs until there are as many kills, and a whole run after the last, or the time is
    over."""
    log, deadline = work / "kills.jsonl", time.monotonic() + seconds
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    while time.monotonic() < deadline:
        number = sum("sha256" in row for row in rows)
        out = work / f"killed-{number}"
        enough = sum("step" in row for row in rows) >= kills
        row = kill_once(out, spare=enough)
        if row is None:
            left = [path.name for path in out.rglob("*.tmp")]
            same = out.with_suffix(".sha256").read_text() == (work / "reference.sha256").read_text()
            row = {"run": number, "sha256": "same" if same else "DIFFERS", "left": left}
        rows.append(row)
        with open(log, "a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)
        if enough:
            break
    summary(rows)


def summary(rows: list[dict[str, Any]]) -> None:
    """All calls together."""
    killed, ended = [row for row in rows if "step" in row], [row for row in rows if "sha256" in row]
    inside = [
        row for row in killed if any("step-" in name or "best-" in name for name in row["left"])
    ]
    lost = [row["step"] - row["saved"] for row in killed]
    print(
        f"{len(killed)} kills, {len(inside)} of them inside a save; {len(ended)} runs finished, "
        f"{sum(row['sha256'] == 'same' for row in ended)} with the reference's digest; steps lost: "
        f"at most {max(lost, default=0)} (a checkpoint every {INTERVAL}); temporary files left in "
        f"finished runs: {sum(len(row['left']) for row in ended)}"
    )


# ---------------------------------------------------------------- cost


def cost(work: Path, data: str, epochs: int, size: int) -> None:
    """Seconds in `checkpoint.save_checkpoint` and `save_best` of a plain run at default intervals,
    and of going on from its end."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune import pipeline, write_run
    from finetune.recipe.run import Run
    from finetune.run_folder import checkpoint
    from finetune.train import loop

    spent: dict[str, list[float]] = {"save": [], "save_best": [], "load": [], "train": []}

    def timed(module: Any, name: str) -> None:
        function = getattr(module, name)

        def run(*arguments: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[name].append(time.perf_counter() - began)

        setattr(module, name, run)

    for module, name in (
        (checkpoint, "save"),
        (checkpoint, "save_best"),
        (checkpoint, "load"),
        (loop, "train"),
    ):
        timed(module, name)
    write_run.write_run = lambda *_, **__: None
    out = work / "cost"
    shutil.rmtree(out, ignore_errors=True)
    settings = {"epochs": epochs, "image_size": size, "features": "fp32", "ema": 0.99}
    pipeline.start(Run(data=data, out=out), settings)
    saves, best, train = sum(spent["save"]), sum(spent["save_best"]), sum(spent["train"])
    size_mb = (checkpoint.checkpoints(out)[0] / checkpoint.TENSORS).stat().st_size / 1e6
    print(
        f"train {train:.1f} s; {len(spent['save'])} checkpoints of {size_mb:.0f} MB, "
        f"{statistics.median(spent['save']):.3f} s each; {len(spent['save_best'])} best weights, "
        f"{statistics.median(spent['save_best']):.3f} s each; together "
        f"{100 * (saves + best) / train:.2f} %"
    )
    for name in spent:
        spent[name].clear()
    pipeline.start(Run(resume=out), {})
    print(
        f"going on: reading the checkpoint {sum(spent['load']):.2f} s, "
        f"the rest of the loop's start {sum(spent['train']):.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["child", "reference", "kill", "cost"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--workers", type=int, nargs="+", default=[0])
    parser.add_argument("--pause-ms", type=float, default=0.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=64)
    order = parser.parse_args()
    if order.what == "child":
        return child(order.work, workers=order.workers[0], pause_ms=order.pause_ms)
    order.work.mkdir(parents=True, exist_ok=True)
    begin(order.work)
    if order.what == "reference":
        reference(order.work, order.workers)
    elif order.what == "kill":
        kill(order.work, order.kills, order.seconds)
    else:
        cost(order.work, order.data, order.epochs, order.size)


if __name__ == "__main__":
    from zoo.host.errors import run_main

    run_main(main)
