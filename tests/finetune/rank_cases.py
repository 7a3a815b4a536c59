"""What test_ranks.py compares, computed in 1, 2 and 3 processes.

One process, `main`, forks the others, each of which is told by the environment, as torchrun does
it, who it is. Results: OUT/WORLD-RANK.pt.
"""

import copy
import dataclasses
import functools
import multiprocessing
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import ForkProcess
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from torch import nn

from finetune import find_lr, pipeline, write_run
from finetune.data import foreign
from finetune.data.dataset import Picture
from finetune.data.loader import PictureSource, evaluation_batches
from finetune.data.scanning import scan
from finetune.evaluation import choices, passes
from finetune.evaluation.passes import Scores, logits, score
from finetune.machine import distributed, signals
from finetune.recipe.run import Run
from finetune.run_folder import checkpoint
from finetune.sources.class_folders import read_folders
from finetune.train import loop, losses, lr_range
from finetune.train.distill import Teacher
from finetune.train.step import Job
from tests.made_base import end_quickly
from tests.made_recipe import made_recipe
from zoo.contract import rejection
from zoo.host.errors import UserError, run_main
from zoo.picture.preprocess import Preprocessing

PRE = Preprocessing(size=32)
PLAIN = {
    "image_size": 32,
    "batch_size": 9,
    "optimizer": "sgd",
    "lr": 0.05,
    "erasing": 0.0,
    "epochs": 1,
    "threads": 1,
    "batch_norm": "frozen",
}
"""Nine pictures a step: two processes have four and five of them."""
CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adamw": {"optimizer": "adamw", "lr": 1e-3},
    "float32 sgd": {},
    "frozen batch norm": {},
    "class weights": {"balance": "weights"},
    "mixup": {"mixup": 0.4},
    "mixup and cutmix": {"mixup": 0.4, "cutmix": 1.0},
    "accumulation": {"accumulate": 2},
    "ema": {"ema": 0.9},
    "sam, clipped": {"sam_rho": 0.05, "clip_norm": 0.5},
    "hardest": {"loss": "ohem"},
    "teacher": {"teacher": "one"},
}
COUNTS = (1, 2, 7, 101)


class Double(nn.Module):
    """A network in float64."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner.double()

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        return self.inner(x_BCHW.double())


@functools.cache
def made_network(name: str) -> nn.Module:
    """timm's tiny network of this name, with the same random weights each time. Not to be
    changed. Of the transformer two layers: what processes agree on is the same for each layer."""
    torch.manual_seed(0)
    shape = {"img_size": 32, "depth": 2} if name == "test_vit" else {}
    return timm.create_model(name, num_classes=10, **shape)


def made_job(name: str, pictures: list[Picture], digits: Path, folder: Path) -> Job:
    """The job of a case; `class weights` needs classes of unequal size."""
    torch.manual_seed(0)
    network = copy.deepcopy(
        made_network("test_resnet" if name == "frozen batch norm" else "test_vit")
    )
    model = network if name.startswith("float32") else Double(network)
    teacher = None
    if name == "teacher":
        teacher = Teacher(
            Double(copy.deepcopy(made_network("test_resnet"))).eval(), PRE, PRE, False
        )
    (folder / "resume").mkdir(parents=True, exist_ok=True)
    unequal = [p for i, p in enumerate(pictures) if i % 10 >= p.label % 6]
    recipe = made_recipe(**PLAIN | CASES[name])
    return Job(
        model,
        unequal[::2],
        PictureSource(digits, PRE, workers=0, pin=False),
        recipe,
        folder,
        lambda model: Scores(0.5, 1.0, 1.0, 10),
        teacher,
    )


def first_state(job: Job) -> checkpoint.State:
    return checkpoint.State(
        0,
        0,
        checkpoint.save_best(job.folder, job.model, Scores(0.0, 1.0, 1.0, 10), 0),
        {"model": job.model.state_dict()},
    )


def trained(job: Job, state: checkpoint.State) -> dict[str, torch.Tensor]:
    """Weights and losses after the job, and the moving average that it saved last."""
    losses: list[torch.Tensor] = []
    update, loop.update = loop.update, lambda *a: losses.append(one := update(*a)) or one
    loop.train(job, state)
    loop.update = update
    distributed.wait()
    assert checkpoint.has_state(job.folder)
    averaged = checkpoint.load(job.folder) if job.recipe.ema else None
    weights = torch.cat([t.flatten().double() for t in job.model.state_dict().values()])
    ema = torch.zeros(1)
    if averaged is not None:
        ema = torch.cat([t.flatten().double() for t in averaged.tensors["ema"].values()])
    return {"weights": weights, "losses": torch.stack(losses).double(), "ema": ema}


def in_pieces(job: Job, number: signal.Signals, until: int) -> dict[str, torch.Tensor]:
    """Go on with a job from its last checkpoint; a signal reaches the last of the processes within
    step `until`."""
    update = loop.update

    def stop(*a: Any) -> torch.Tensor:
        if a[-1] == until and distributed.rank() == distributed.world() - 1:
            os.kill(os.getpid(), number)
        return update(*a)

    loop.update = stop
    try:
        return trained(job, checkpoint.load(job.folder) or first_state(job))
    except signals.Stopped:
        return {}


def all_cases(digits: Path, out: Path) -> dict[str, Any]:
    """Everything, in this number of processes."""
    data = scan(read_folders(digits))
    folder, pictures = out / f"runs-{distributed.world()}", list(data.pictures)
    results: dict[str, Any] = {"digest": data.digest()}
    if distributed.world() < 3:
        for name in CASES:
            case = made_job(name, data.of("train"), digits, folder / name)
            kept = [picture for i, picture in enumerate(case.pictures) if i % 8 not in (1, 4, 6)]
            # 25 of all classes: three steps, the last of seven
            case = dataclasses.replace(case, pictures=kept)
            results[name] = trained(case, first_state(case))
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).eval()
    nn.init.normal_(model.get_classifier().weight)
    for n in COUNTS:
        chosen = pictures[:: len(pictures) // n][:n]
        batches = evaluation_batches(
            distributed.mine(chosen), PictureSource(digits, PRE, workers=0, pin=False)
        )
        answers, labels = logits(model, batches, PRE, total=n)
        scores = score(answers, labels)
        results[f"counts {n}"] = (
            answers.argmax(1),
            labels,
            {"top1": scores.top1, "loss": scores.loss},
        )
    results["scores"] = scores_of_first(pictures[:3], digits)
    rank = distributed.rank()
    results["agreed"] = (
        distributed.most(rank),
        distributed.total(rank),
        distributed.of_first(rank),
        distributed.everyone(rank),
    )
    return results


def scores_of_first(pictures: list[Picture], digits: Path) -> float:
    """The top-1 that this process goes on with where each computed another: its rank."""
    computed, passes.score = (
        passes.score,
        lambda *a, **k: Scores(float(distributed.rank()), 1.0, 1.0, 3),
    )
    plan: Any = SimpleNamespace(
        data=SimpleNamespace(of=lambda split: pictures),
        source=PictureSource(digits, PRE, 0, False),
        resolved=SimpleNamespace(recipe=made_recipe()),
    )
    top1 = pipeline.select_scores(plan, timm.create_model("test_resnet", num_classes=10)).top1
    passes.score = computed
    return top1


def piece(digits: Path, out: Path, number: signal.Signals, until: int) -> dict[str, Any]:
    """Part of a run whose number of processes changes: with moving average and AdamW, three
    epochs."""
    changing = made_job("adamw", scan(read_folders(digits)).of("train"), digits, out / "changing")
    recipe = dataclasses.replace(changing.recipe, ema=0.9, epochs=3)
    return in_pieces(dataclasses.replace(changing, recipe=recipe), number, until)


def whole_run(digits: Path, base: Path, out: Path) -> dict[str, Any]:
    """The commands themselves, their end shortened: a range test, the run that takes its rate, and
    its calibration once more; and what this process wrote, moved or removed below `out`."""
    touched: list[str] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        writes = (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if (writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")) and str(
            out
        ) in str(arguments[0]):
            touched.append(f"{event} {arguments[0]}")

    sys.addaudithook(note)
    end_quickly(pytest.MonkeyPatch())
    noise = [foreign.ForeignSet("noise", rejection.noise(foreign.PICTURES))]
    foreign.sets_for = lambda own: noise  # the other set takes scikit-learn
    lr_range.STEPS = 30
    given = SimpleNamespace(epochs=1, batch_size=9, threads=1, features="fp32")
    find_lr.main(
        Run(data=str(digits), base=str(base), out=out, device="cpu"), given, SimpleNamespace()
    )
    pipeline.carry_out(Run(resume=out, device="cpu"), {})
    distributed.wait_for_first()
    write_run.decide_again(choices.Place(out, device="cpu"), choices.Wish())
    return {"touched": touched}


def slow_first(fails: bool) -> dict[str, Any]:
    """Rank 0 takes longer than the processes wait for each other in a collective, and then may
    fail."""
    with distributed.first_before_others():
        if distributed.first():
            sleep(1.5 * distributed.PATIENCE.total_seconds())
            if fails:
                raise UserError("the slow one failed")
    distributed.wait_for_first()
    return {"agreed after a wait": distributed.of_first(distributed.rank())}


def process(
    number: int, world: int, port: int, file: str, work: Callable[[], dict[str, Any]]
) -> None:
    """One of `world` processes, as torchrun would have started it."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(world),
        "MASTER_PORT": str(port),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_RUN_ID": "test",
    }

    def main() -> None:
        with distributed.joined():
            distributed.wait()
        with distributed.joined():  # a program may carry out several runs
            torch.save(work(), f"{file}-{number}.pt")

    run_main(main, joins=True)


def begun(world: int, file: Path, work: Callable[[], dict[str, Any]]) -> list[ForkProcess]:
    """Processes that do this work together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    group = [
        fork.Process(target=process, args=(number, world, port, str(file), work))
        for number in range(world)
    ]
    for one in group:
        one.start()
    return group


def ended(group: list[ForkProcess]) -> list[int | None]:
    """Their exit codes."""
    for one in group:
        one.join()
    return [one.exitcode for one in group]


def in_processes(world: int, file: Path, work: Callable[[], dict[str, Any]]) -> list[int | None]:
    """Their exit codes when they have done this work together."""
    return ended(begun(world, file, work))


PIECES = (
    (1, signal.SIGTERM, -1),
    (1, signal.SIGTERM, 5),
    (2, signal.SIGKILL, 7),
    (2, signal.SIGTERM, 8),
    (1, signal.SIGTERM, -1),
)
"""Processes, and the signal within a step (-1: none); the first is the undisturbed run, the others
are another."""


def main(digits: Path, base: Path, out: Path) -> None:
    """Compute everything; not in a process that has other work, for functions of the packages are
    replaced."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    in_float32 = losses.class_weights
    losses.class_weights = lambda *a: (
        None if (weights_C := in_float32(*a)) is None else weights_C.double()
    )
    os.fsync = lambda _: None  # no power is cut here
    patience = distributed.PATIENCE
    distributed.PATIENCE = timedelta(seconds=6)  # of the next two groups, which mostly sleep
    slow = begun(2, out / "slow", lambda: slow_first(False))
    slow_and_failing = begun(2, out / "slow and failing", lambda: slow_first(True))
    distributed.PATIENCE = patience
    for world in (1, 2, 3):
        assert in_processes(world, out / str(world), lambda: all_cases(digits, out)) == [0] * world
    for i, (world, number, until) in enumerate(PIECES):
        if i == 1:
            (out / "changing").rename(out / "undisturbed")
        codes = in_processes(
            world, out / f"piece{i}", lambda n=number, until=until: piece(digits, out, n, until)
        )
        assert codes == ([2, -signal.SIGKILL] if number == signal.SIGKILL else [0] * world), codes
    assert in_processes(2, out / "whole", lambda: whole_run(digits, base, out / "run")) == [0, 0]
    assert ended(slow) == [0, 0]
    assert ended(slow_and_failing) == [2, 2]
