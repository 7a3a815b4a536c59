"""Several processes: they train like one, count each picture once, print once, and end together."""

import csv
import dataclasses
import os
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import yaml
from filelock import FileLock
from torch import nn
from torch.distributed.run import get_args_parser

from finetune.data.loader import PictureSource
from finetune.data.picture_columns import Picture
from finetune.evaluation.passes import Scores
from finetune.machine import device, distributed
from finetune.train import ddp, memory, step
from finetune.train.distill import Teacher
from tests.finetune import forked, rank_cases
from tests.finetune.forked import Command
from tests.finetune.rank_cases import CASES, COUNTS, PRE
from tests.made_recipe import made_recipe
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.network import of_torch

ROOT = Path(__file__).parents[2]
Results = dict[str, Any]
COMMANDS = {
    "finetune.__main__": ("--data", "x"),
    "finetune.find_lr": ("--data", "x"),
    "finetune.decide": ("x",),
    "finetune.compare": ("--data", "x", "--bases", "resnet18_1k", "efficientnet_lite0"),
    "finetune.predict": (),
    "finetune.show_augment": (),
    "export.__main__": (),
    "export.bench": (),
    "export.verify": (),
    "serve.__main__": (),
    "serve.space": (),
    "zoo.__main__": (),
    "zoo.predictor": (),
}
"""All commands, with the words after which they join the other processes; none: they are refused
there."""


@pytest.fixture(scope="session")
def results(digits: Path, tiny_base: Path, shared: Path) -> dict[str, Results]:
    """What each process of each group found: `1-0`, `2-0`, `2-1`, `3-0` ..., the pieces of a run,
    and a whole run. One for all workers."""
    out, printed = shared / "ranks", shared / "printed by the ranks.txt"
    with FileLock(shared / "ranks.lock"):
        if not printed.exists():
            out.mkdir()
            with forked.started(rank_cases.main, digits, tiny_base, out) as command:
                code, text = command.finish(timeout_s=200)
            assert code == 0, text
            printed.write_text(text, encoding="utf-8")
    found = {file.stem: torch.load(file, weights_only=True) for file in out.glob("*.pt")}
    return found | {"whole": {"out": out / "run", "printed": printed.read_text(encoding="utf-8")}}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_like_one(results: dict[str, Results], name: str) -> None:
    one, two, other = (results[which][name] for which in ("1-0", "2-0", "2-1"))
    limit = 1e-6 if name.startswith("float32") else 1e-10
    assert len(one["losses"]) == 3
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
        assert torch.equal(
            torch.bincount(other_labels * 10 + other_predicted, minlength=100), confusion
        )
        assert {
            name: value for name, value in other_scores.items() if value is not None
        } == pytest.approx(
            {name: value for name, value in scores.items() if value is not None}, rel=1e-5
        )
        assert other_scores["top1"] == scores["top1"]


def test_pictures_are_read_in_shares_and_flags_agreed(results: dict[str, Results]) -> None:
    assert len({one["digest"] for name, one in results.items() if "digest" in one}) == 1
    for name, agreed in ((name, one["agreed"]) for name, one in results.items() if "agreed" in one):
        ranks_of_all = list(range(int(name[0])))
        assert agreed == (max(ranks_of_all), sum(ranks_of_all), 0, ranks_of_all)
        # what decides on the best epoch and an early end is rank 0's
        assert results[name]["scores"] == 0.0


def test_a_run_goes_on_in_another_number_of_processes(results: dict[str, Results]) -> None:
    whole, last = results["piece0-0"], results["piece4-0"]
    assert (len(whole["losses"]), len(last["losses"])) == (14, 5)
    # SIGTERM to one of them stopped both after step 9
    assert results["piece3-0"] == results["piece3-1"] == {}
    for what in ("weights", "ema"):
        assert (whole[what] - last[what]).abs().max() <= 1e-10, what


def test_rank_0_may_take_longer_than_a_collective_waits(results: dict[str, Results]) -> None:
    """As when it unpacks ILSVRC2012 or downloads weights; an error of its own is told once and ends
    the others."""
    assert results["slow-0"] == results["slow-1"] == {"agreed after a wait": 0}
    assert results["whole"]["printed"].count("the slow one failed") == 1


def test_a_process_that_is_killed_ends_the_others_with_advice(results: dict[str, Results]) -> None:
    printed = results["whole"]["printed"]  # in the run above, which then went on
    assert printed.count("error: process 0 of 2 lost contact with another one") == 1, printed
    assert "goes on from the last checkpoint" in printed
    assert "Traceback" not in printed, printed


def test_a_whole_run_is_written_and_told_by_rank_0_alone(results: dict[str, Results]) -> None:
    out, printed = results["whole"]["out"], results["whole"]["printed"]
    assert rundir.is_finished(out)
    rundir.open_finished(out, verify=True)
    assert results["whole-0"]["touched"]
    assert results["whole-1"]["touched"] == []
    # a range test, its run, and the calibration again
    assert printed.count("device: cpu (2 processes") == 3, printed
    assert (
        printed.count("linear probe: top-1") == printed.count("suggested learning rate: ") == 1
    ), printed
    assert printed.count("going on after step 0") == 1, printed
    assert printed.count("epoch   1/1  train loss") == len(CASES) * 2 + 1, printed
    assert printed.count("next:") == 3, printed
    with (out / rundir.PREDICTIONS).open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    pictures = [path for path in paths if path.startswith(("val/", "test/"))]
    assert len(pictures) == len(set(pictures)) == 80
    assert len(paths) == 80 + 8  # the foreign set is whole, too


def read_until(command: Command, words: str) -> str:
    """What is printed up to a line with these words."""
    seen = ""
    for line in command.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} was never printed:\n{seen}")


@pytest.mark.filterwarnings("ignore:.*found in sys.modules after import:RuntimeWarning")
@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_joins_the_other_processes_or_is_refused_before_anything_else(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first process with a sentence, in the others without a word, and before any of them
    waits."""

    def joined() -> None:
        raise UserError("joined")

    monkeypatch.setattr(distributed, "joined_processes", joined)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", [module, *COMMANDS[module]])
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        assert ended.value.code == 2
        told = " ".join(capsys.readouterr().err.split())
        if COMMANDS[module]:
            assert told == "error: joined"
        else:
            assert told == (
                ""
                if rank == "1"
                else f"error: python -m {module.removesuffix('.__main__')} runs in one "
                "process: seen 2 that torchrun started. Start it without torchrun."
            )


def test_under_torchrun_a_picture_that_breaks_ends_all_and_is_named_once(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    data, out = Path(shutil.copytree(digits, tmp_path / "data")), tmp_path / "run"
    command = (
        "--data",
        str(data),
        "--base",
        str(tiny_base),
        "--out",
        str(out),
        "--epochs",
        "4",
        "--batch-size",
        "9",
        "--threads",
        "1",
        "--lr",
        "1e-3",
        "--probe",
        "off",
    )
    with forked.torchrun(2, *command) as launched:
        try:
            seen = read_until(launched, "epoch   1/4")
            picture = next((data / "train" / "3").iterdir())
            broken = time.monotonic()
            picture.write_bytes(b"")
            code, rest = launched.finish(timeout_s=100)
            assert time.monotonic() - broken < 60
        finally:
            if launched.is_alive():
                os.killpg(launched.pid, signal.SIGKILL)
    assert code == 1  # torchrun's own, whatever the processes exit with
    seen += rest
    assert seen.count(picture.name) == seen.count("error: ") == 1, seen
    assert "finetune/pipeline.py" not in seen, seen  # no traceback but torchrun's own
    assert not rundir.is_finished(out)


# --- what is said


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let this process believe that it is the first of so many, alike in everything."""

    def of(world: int) -> None:
        monkeypatch.setattr(distributed, "world", lambda: world)
        monkeypatch.setattr(distributed, "everyone", lambda value: [value] * world)
        monkeypatch.setattr(distributed, "most", lambda value: value)
        monkeypatch.setenv("LOCAL_RANK", "0")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(world))

    return of


def test_a_step_with_fewer_pictures_than_processes_is_refused() -> None:
    ddp.check_batch(1, made_recipe(accumulate=4), processes=1)
    ddp.check_batch(8, made_recipe(), processes=8)
    with pytest.raises(
        UserError, match=r"7 pictures .* 8 processes: .*fewer processes.*--batch-size"
    ):
        ddp.check_batch(7, made_recipe(), processes=8)
    with pytest.raises(UserError, match="8 processes in 2 parts"):
        ddp.check_batch(15, made_recipe(accumulate=2), processes=8)


class OnGpu(nn.Sequential):
    """Says that it is on a GPU."""

    def parameters(self, recurse: bool = True) -> Any:
        yield SimpleNamespace(device=torch.device("cuda", 0))


def test_what_batch_norms_do_is_said(
    pretend: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    model, train = timm.create_model("test_resnet"), made_recipe(batch_norm="train")
    assert ddp.agree_on_batch_norms(model, train) is model
    pretend(2)
    assert ddp.agree_on_batch_norms(nn.Linear(2, 2), train)
    assert capsys.readouterr().out == ""
    assert ddp.agree_on_batch_norms(model, made_recipe(batch_norm="frozen")) is model
    assert "keep the base's statistics: 2 processes train like one" in capsys.readouterr().out
    assert ddp.agree_on_batch_norms(model, train) is model
    warned = " ".join(capsys.readouterr().out.split())
    assert "warning: batch norms" in warned
    assert "--batch-norm frozen" in warned
    names = list(OnGpu(model).state_dict())
    synced = ddp.agree_on_batch_norms(OnGpu(model), train)
    assert "over all 2 processes (SyncBatchNorm)" in capsys.readouterr().out
    kinds = {type(m) for m in synced.modules() if isinstance(m, of_torch.BatchNorm)}
    assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
    assert kinds
    assert list(synced.state_dict()) == names


def test_all_gpus_are_hinted_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Made")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(
        sys, "argv", ["/somewhere/finetune/__main__.py", "--data", "my pets", "--epochs", "3"]
    )
    device.choose("auto")
    assert (
        "torchrun --standalone --nproc-per-node 8 -m finetune --data 'my pets' --epochs 3\n"
        in capsys.readouterr().out
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    device.choose("auto")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(sys, "argv", ["/somewhere/pytest"])
    device.choose("auto")
    assert "torchrun" not in capsys.readouterr().out


def test_each_process_needs_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, pretend: Callable[[int], None]
) -> None:
    pretend(2)
    with pytest.raises(
        UserError, match=r"--device cuda:1: expected auto, cpu or cuda .*Remove --device"
    ):
        device.choose("cuda:1")
    with pytest.raises(UserError, match="0 GPUs for 2 processes"):
        device.choose("cuda")
    monkeypatch.setattr(distributed, "everyone", lambda value: ["cuda", "cpu"])
    with pytest.raises(UserError, match=r"different devices \(cpu, cuda\)"):
        device.choose("auto")


class Small(nn.Module):
    """A network on a made device that holds so many pictures at once."""

    def __init__(self, room: int):
        super().__init__()
        self.room, self.seen = room, []
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 10)

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(x_BCHW))
        logits = self.head(self.norm(x_BCHW).mean((2, 3)))
        if len(x_BCHW) > self.room:
            raise torch.OutOfMemoryError("made")
        return logits


def job_of(network: nn.Module, **values: Any) -> step.Job:
    pictures = [Picture("", label, "train", "", 1, 1) for label in range(10)] * 5
    return step.Job(
        network,
        pictures,
        PictureSource(Path(), PRE, 0, False),
        made_recipe(image_size=32, **values),
        Path(),
        lambda model: Scores(0, 0, 0, 0),
    )


@pytest.mark.parametrize(
    ("room", "world", "given", "accumulate"),
    [
        (100, 1, 1, 1),
        (32, 1, 1, 1),
        (31, 1, 1, 2),
        (9, 1, 1, 4),
        (1, 1, 1, 32),
        (9, 2, 1, 2),
        (9, 1, 3, 6),
    ],
)
def test_a_batch_that_does_not_fit_is_passed_in_parts(
    pretend: Callable[[int], None],
    room: int,
    world: int,
    given: int,
    accumulate: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = Small(room)
    job = job_of(network, accumulate=given)
    parts = step.prepare_training(job)
    pretend(world)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    fitted = memory.fitted(job, parts)
    assert fitted.recipe == dataclasses.replace(job.recipe, accumulate=accumulate)
    assert network.seen[-1] <= room
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    said = f"is passed in {accumulate} parts, whose gradients add up (--accumulate {accumulate})"
    assert (said in " ".join(capsys.readouterr().out.split())) is (accumulate > given)


def test_a_picture_that_does_not_fit_alone_is_told() -> None:
    job = job_of(Small(0))
    with pytest.raises(UserError, match="not even one picture of 32 px fits"):
        memory.fitted(job, step.prepare_training(job))


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("made"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (
            RuntimeError(
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
            ),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_every_librarys_words_for_a_full_device_count(
    monkeypatch: pytest.MonkeyPatch, error: Exception, full: bool
) -> None:
    def passed(*_: Any) -> None:
        raise error

    monkeypatch.setattr(memory, "_pass", passed)
    job = job_of(Small(9))
    if full:
        assert memory.fits(job, step.prepare_training(job), 2) is False
        return
    with pytest.raises(type(error)):
        memory.fits(job, step.prepare_training(job), 2)


def test_the_trial_holds_what_a_step_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole batch, the optimiser's values, SAM's copies, and the teacher's pass."""
    made: list[torch.Size] = []
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda t: made.append(t.shape) or empty_like(t))
    taught = Small(100)
    job = job_of(Small(100), sam_rho=0.05, teacher="one", batch_size=32)
    job = dataclasses.replace(job, teacher=Teacher(taught, PRE, PRE, own_size_only=False))
    zeros, largest = torch.zeros, []
    monkeypatch.setattr(torch, "zeros", lambda *a, **k: largest.append(a) or zeros(*a, **k))
    assert memory.fits(job, step.prepare_training(job), 8)
    assert taught.seen == [8]
    assert (32, 3, 32, 32) in largest
    for weight in job.model.parameters():
        assert made.count(weight.shape) >= 4


class Pooled(Small):
    """Its batch norm stands behind the pooling: one value a channel for each picture."""

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        if len(x_BCHW) > self.room:
            raise torch.OutOfMemoryError("made")
        return self.head(self.norm(x_BCHW.mean((2, 3), keepdim=True)).flatten(1))


def test_a_batch_norm_that_needs_two_pictures_is_told_where_one_fits() -> None:
    job = job_of(Pooled(1))
    running = job.model.norm.running_mean.clone()
    with pytest.raises(
        UserError, match=r"only one picture of 32 px .*--image-size .*--batch-norm frozen"
    ):
        memory.fitted(job, step.prepare_training(job))
    assert torch.equal(job.model.norm.running_mean, running)
    frozen = job_of(Pooled(1), batch_norm="frozen")
    assert memory.fitted(frozen, step.prepare_training(frozen)).recipe.accumulate == 32


# --- files to start a run with

LAUNCH = ROOT / "finetune" / "launch"


def parsed(words: list[str]) -> tuple[Any, list[str]]:
    """What torchrun itself makes of its arguments, and those of `-m finetune`."""
    options = get_args_parser().parse_args(words)
    assert (options.module, options.training_script) == (True, "finetune")
    assert options.rdzv_backend == "c10d"
    assert options.max_restarts == 3
    return options, options.training_script_args


def test_the_sbatch_file_starts_torchrun_and_queues_a_stopped_run_again(tmp_path: Path) -> None:
    stand_ins = {
        "srun": f'printf "%s\\n" "$@" > {tmp_path}/srun.txt; exit 1',
        "scontrol": f'echo "$@" >> {tmp_path}/scontrol.txt; '
        '[ "$1" = show ] && printf "node7\\nnode8\\n"',
    }
    for name, content in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{content}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    out = tmp_path / "my run"
    command = (
        "bash",
        str(LAUNCH / "slurm.sbatch"),
        "--data",
        "my pets",
        "--out",
        str(out),
        "--epochs",
        "3",
    )

    assert subprocess.run(command, env=slurm).returncode == 1
    words = (tmp_path / "srun.txt").read_text().splitlines()
    options, own = parsed(words[words.index("torchrun") + 1 :])
    assert (options.nnodes, options.nproc_per_node, options.rdzv_endpoint, options.rdzv_id) == (
        "2",
        "8",
        "node7:29400",
        "42",
    )
    assert "SIGUSR1" in options.signals_to_handle.split(",")
    assert own == ["--data", "my pets", "--out", str(out), "--epochs", "3"]
    # it failed: the queue would not help
    assert "requeue" not in (tmp_path / "scontrol.txt").read_text()

    (out / "resume").mkdir(parents=True)
    (out / "resume" / "stopped.json").write_text("{}")
    assert subprocess.run(command, env=slurm).returncode == 1
    assert (tmp_path / "scontrol.txt").read_text().splitlines()[-1] == "requeue 42"


def test_the_kubeflow_file_starts_torchrun() -> None:
    runtime, job = yaml.safe_load_all((LAUNCH / "kubeflow.yaml").read_text())
    assert (runtime["kind"], job["kind"]) == ("TrainingRuntime", "TrainJob")
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    line = job["spec"]["trainer"]["args"][0].replace(
        "$PET_MASTER_ADDR:$PET_MASTER_PORT", "node:29500"
    )
    words = shlex.split(line)
    assert words[:2] == ["exec", "torchrun"]
    options, own = parsed(words[2:])
    assert (options.rdzv_endpoint, own[0]) == ("node:29500", "--data")
    pod = runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"][
        "spec"
    ]
    assert pod["terminationGracePeriodSeconds"] > options.shutdown_timeout
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes
    assert any(mount["mountPath"] == "/shared" for mount in pod["containers"][0]["volumeMounts"])
    assert all(own[own.index(flag) + 1].startswith("/shared/") for flag in ("--data", "--out"))
