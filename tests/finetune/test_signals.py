"""SIGTERM, SIGINT and SIGUSR1: the step is finished and saved, the exit code says which, and no bit
is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from finetune.data.loader import PictureSource
from finetune.data.scanning import scan
from finetune.evaluation import passes
from finetune.machine import signals
from finetune.run_folder import checkpoint
from finetune.sources.class_folders import read_folders
from finetune.train import loop, step
from tests.bench import kills
from tests.finetune import forked
from tests.made_recipe import made_recipe
from zoo.host.errors import run_main
from zoo.picture.preprocess import Preprocessing


@dataclass
class Trial:
    """Two epochs of three steps of timm's tiny ResNet, with a moving average, from the same weights
    each time."""

    digits: Path
    folder: Path
    at_step: Callable[[int], None] = lambda _: None
    at_evaluation: Callable[[], None] = lambda: None

    def job(self) -> step.Job:
        torch.manual_seed(0)
        model = timm.create_model("test_resnet", num_classes=10).to(
            memory_format=torch.channels_last
        )
        recipe = made_recipe(image_size=32, ema=0.9, threads=torch.get_num_threads())
        source = PictureSource(self.digits, Preprocessing(size=32), workers=0, pin=False)
        return step.Job(
            model,
            scan(read_folders(self.digits)).of("train"),
            source,
            recipe,
            self.folder,
            self.scores,
        )

    def scores(self, model: torch.nn.Module) -> passes.Scores:
        self.at_evaluation()
        return passes.Scores(next(model.parameters()).mean().item(), 1.0, 1.0, 10)

    def train(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Begin, or go on with what is in the folder."""
        update, job = step.update, self.job()
        (self.folder / "resume").mkdir(parents=True, exist_ok=True)

        def counted(*arguments: Any) -> torch.Tensor:
            loss = update(*arguments)
            self.at_step(arguments[-1] + 1)
            return loss

        monkeypatch.setattr(loop, "update", counted)
        begin = checkpoint.load(self.folder)
        if begin is None:
            best = checkpoint.save_best(
                self.folder, job.model, passes.Scores(-1.0, 1.0, 1.0, 10), 0
            )
            begin = checkpoint.State(0, 0, best, {"model": job.model.state_dict()})
        loop.train(job, begin)

    def digest(self) -> str:
        """Of weights, moving average, optimiser, best weights and history."""
        state = checkpoint.load(self.folder)
        assert state is not None
        return kills.sha256_of(
            [
                state.step,
                state.tensors,
                state.best.sha256,
                (self.folder / "metrics.jsonl").read_text(),
            ]
        )


@pytest.fixture(scope="module")
def whole(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of an undisturbed trial."""
    with pytest.MonkeyPatch.context() as patch:
        (trial := Trial(digits, tmp_path_factory.mktemp("whole"))).train(patch)
    return trial.digest()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("name", "stopped_at", "code"),
    [
        ("SIGTERM", 2, 143),
        ("SIGUSR1", 4, 143),  # 4: before the evaluation at the end of an epoch
        ("SIGINT", 6, 130),
    ],
)
def test_the_step_is_finished_and_saved_and_no_bit_is_lost(
    whole: str,
    digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stopped_at: int,
    code: int,
) -> None:
    number = getattr(signal, name)
    stopped = Trial(
        digits, tmp_path, at_step=lambda done: send(number) if done == stopped_at else None
    )
    with pytest.raises(signals.Stopped) as end:
        stopped.train(monkeypatch)
    assert (end.value.code, end.value.name) == (code, name)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert state.step == stopped_at
    assert json.loads((tmp_path / "resume" / "stopped.json").read_text()) == {
        "signal": name,
        "step": stopped_at,
    }
    monkeypatch.undo()
    (again := Trial(digits, tmp_path)).train(monkeypatch)
    assert again.digest() == whole


def test_an_evaluation_is_not_waited_for_and_done_again(
    whole: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long_evaluation() -> None:
        send(signal.SIGTERM)
        raise AssertionError("the signal did not end the evaluation")

    with pytest.raises(signals.Stopped):
        Trial(digits, tmp_path, at_evaluation=long_evaluation).train(monkeypatch)
    state = checkpoint.load(tmp_path)
    assert state is not None
    assert (state.step, len(state.tensors["losses"])) == (4, 4)
    monkeypatch.undo()
    (again := Trial(digits, tmp_path)).train(monkeypatch)
    assert again.digest() == whole


STUCK = """
import time
from finetune.machine import signals
with signals.raised(), signals.held() as asked:
    print("held", flush=True)
    while not asked():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)  # a save that takes long
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_the_process_at_once_and_a_double_one_does_not(
    number: int, code: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=kills.ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)  # a launcher passes on what the terminal sent to all
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(signals.SAME_S)
        process.send_signal(number)
        assert process.wait(1) == code


def test_outside_a_step_a_signal_ends_the_work_where_it_stands() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(signals.Stopped) as end, signals.raised():  # noqa: PT012 (the signal need not come at once)
        send(signal.SIGTERM)
        time.sleep(5)
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    with signals.held() as asked:  # the first signal is forgotten with the work that it ended
        assert asked() == 0


def _killable(out: Path) -> None:
    run_main(lambda: kills.child(out, workers=2, pause_ms=0.0))


@pytest.mark.parametrize("number", signals.STOPS)
def test_a_signal_after_the_last_question_is_answered_where_the_step_ends(number: int) -> None:
    def step_that_a_signal_meets() -> None:
        with signals.raised(), signals.held() as asked:
            assert not asked()
            signal.raise_signal(number)

    with pytest.raises(signals.Stopped) as stopped:
        step_that_a_signal_meets()
    assert stopped.value.code == signals.exit_code(number)
    with signals.raised(), signals.held():
        pass


def test_a_signal_to_the_whole_group_leaves_the_decoding_processes_at_work(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    """The command as it is: 143 within five seconds and a step, and a checkpoint of the step that
    it finished."""
    shutil.copytree(digits, tmp_path / "digits")
    shutil.copytree(tiny_base, tmp_path / "tiny")
    out = tmp_path / "run"
    with forked.started(_killable, out) as command:
        try:
            deadline = time.monotonic() + 120
            while not (beat := out.with_suffix(".beat")).exists() or int(beat.read_text() or 0) < 5:
                assert time.monotonic() < deadline
                assert command.is_alive(), command.stdout.read()
                time.sleep(0.02)
            began = time.monotonic()
            os.killpg(command.pid, signal.SIGTERM)
            code, said = command.finish(timeout_s=60)
        finally:
            if command.is_alive():
                os.killpg(command.pid, signal.SIGKILL)
    assert code == 143, said
    assert time.monotonic() - began < 6
    assert f"python -m finetune --resume {out}" in said
    state = checkpoint.load(out)
    assert state is not None
    assert json.loads((out / "resume" / "stopped.json").read_text()) == {
        "signal": "SIGTERM",
        "step": state.step,
    }
    assert int(out.with_suffix(".beat").read_text()) == state.step
    assert not list(out.rglob("*.tmp"))
