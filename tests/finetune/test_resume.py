"""Interrupted runs: killed with SIGKILL and started again, they end with the same bits."""

import dataclasses
import io
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from finetune.data.loader import PictureSource
from finetune.data.scanning import scan
from finetune.evaluation import passes
from finetune.machine import disk_space, signals
from finetune.pipeline import start
from finetune.recipe.run import Run
from finetune.run_folder import checkpoint, leftovers, made_with, saver
from finetune.sources.class_folders import read_folders
from finetune.train import loop
from tests.finetune import forked
from tests.finetune.forked import Command
from tests.made_base import fit_quickly
from tests.made_recipe import SHORT, made_recipe
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.picture.preprocess import Preprocessing


def command(data: Path, base: Path, out: Path, *more: str) -> AbstractContextManager[Command]:
    """A short run in a process of its own."""
    settings = [
        word
        for name, value in SHORT.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return forked.finetune(
        "--data", str(data), "--base", str(base), "--out", str(out), *settings, *more
    )


@contextmanager
def killed(starting: AbstractContextManager[Command]) -> Iterator[Command]:
    """At the end, SIGKILL to the whole group."""
    with starting as process:
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def wait_for_line(process: Command, words: str) -> None:
    """Wait until a line with these words is printed."""
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return
    raise AssertionError(f"{words!r} was never printed:\n{seen}")


def wait_for_state(folder: Path, step: int) -> None:
    """Wait until a state of this step, or a later one, is on disk."""
    deadline = time.monotonic() + 100
    while (state := checkpoint.load(folder)) is None or state.step < step:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("quick_end")
def test_a_killed_run_keeps_its_folder_to_itself_and_ends_with_the_same_bits(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start(Run(data=str(digits), base=str(tiny_base), out=whole), SHORT)
    with killed(command(digits, tiny_base, broken)) as process:
        wait_for_line(process, "linear probe")  # before a state of the loop exists
    assert not rundir.is_finished(broken)
    with killed(command(digits, tiny_base, broken)) as process:
        wait_for_line(process, "linear probe")
        with pytest.raises(UserError, match="in use by another process"):
            start(Run(data=str(digits), base=str(tiny_base), out=broken), SHORT)
        wait_for_line(process, "epoch   1/2")
        wait_for_state(broken, 4)
    state = checkpoint.load(broken)
    assert state is not None
    # 3.125 steps an epoch; the second epoch's state may be on disk already
    assert state.step in (4, 7)
    # the same command goes on; the number of workers does not matter
    with command(digits, tiny_base, broken, "--workers", "1") as last:
        code, out = last.finish(timeout_s=200)
    assert code == 0, out
    assert f"going on after step {state.step}" in out
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (broken / "metrics.jsonl").read_text().replace(_seconds(broken), "") == (
        whole / "metrics.jsonl"
    ).read_text().replace(_seconds(whole), "")
    assert (broken / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()
    assert not (broken / "resume").exists()


def _seconds(run: Path) -> str:
    """The one line of metrics.jsonl that measures time."""
    return next(
        line for line in (run / "metrics.jsonl").read_text().splitlines() if "probe/seconds" in line
    )


@pytest.fixture
def small_job(digits: Path, tmp_path: Path) -> loop.Job:
    """Six steps of timm's tiny ResNet with random weights on digits."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=10).to(memory_format=torch.channels_last)
    data = scan(read_folders(digits))
    source = PictureSource(digits, Preprocessing(size=32), workers=0, pin=False)
    (tmp_path / "run" / "resume").mkdir(parents=True)
    recipe = made_recipe(image_size=32, threads=torch.get_num_threads())
    return loop.Job(
        model, data.of("train"), source, recipe, tmp_path / "run", lambda model: _scores(0.5)
    )


def _scores(top1: float) -> passes.Scores:
    return passes.Scores(top1, 1.0, 1.0, 10)


def first_state(job: loop.Job, top1: float = 0.0) -> checkpoint.State:
    best = checkpoint.save_best(job.folder, job.model, _scores(top1), 0)
    return checkpoint.State(0, 0, best, {"model": job.model.state_dict()})


def test_losses_at_a_fixed_seed_are_pinned(
    small_job: loop.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    update = loop.update
    monkeypatch.setattr(
        loop, "update", lambda *a, **k: losses.append((seen := update(*a, **k))[0].item()) or seen
    )
    loop.train(small_job, first_state(small_job))
    assert losses == pytest.approx(PINNED, rel=1e-3)


PINNED = [2.434106, 2.361702, 2.449960, 2.409243, 2.337986, 2.343395, 2.270614]


def test_the_best_weights_are_not_overwritten_by_a_worse_epoch(
    small_job: loop.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    # these epochs are over before a checkpoint is worth its time
    monkeypatch.setattr(saver, "SAVE_SHARE", 1e9)
    given, states = iter([0.6, 0.9, 0.3]), []

    def scores(model: torch.nn.Module) -> passes.Scores:
        states.append({name: t.clone() for name, t in small_job.model.state_dict().items()})
        return _scores(next(given))

    job = dataclasses.replace(
        small_job, evaluate=scores, recipe=made_recipe(image_size=32, epochs=3)
    )
    best = loop.train(job, first_state(job, 0.5))
    assert (best.scores.top1, best.step) == (0.9, 7)
    checkpoint.load_best(job.folder, job.model, best)
    assert all(torch.equal(t, states[1][name]) for name, t in job.model.state_dict().items())
    assert [p.name for p in (job.folder / "resume").glob("best-*")] == ["best-7.safetensors"]


@pytest.mark.parametrize(
    ("values", "stop", "saved"),
    [
        ({"batch_size": 4}, 22, 20),  # 12.5 steps an epoch: seven into the second
        (
            {
                "batch_size": 8,
                "ema": 0.9,
                "sam_rho": 0.05,
                "accumulate": 2,
                "optimizer": "ranger",
                "mixup": 0.4,
                "balance": "sqrt-resample",
                "layer_decay": 0.8,
                "start_size": 16,
            },
            12,
            10,
        ),  # 6.25 an epoch
    ],
    ids=["plain", "all parts"],
)
def test_stopped_within_an_epoch_the_weights_are_the_same_bits(
    small_job: loop.Job,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    stop: int,
    saved: int,
) -> None:
    job = dataclasses.replace(
        small_job, pictures=small_job.pictures[::2], recipe=made_recipe(image_size=32, **values)
    )
    untrained = {k: t.clone() for k, t in job.model.state_dict().items()}
    judged: list[dict[str, torch.Tensor]] = []  # the moving average, where there is one

    def scores(model: torch.nn.Module) -> passes.Scores:
        judged.append({name: t.clone() for name, t in model.state_dict().items()})
        return _scores(0.5)

    job = dataclasses.replace(job, evaluate=scores)
    loop.train(job, first_state(job))
    whole = {name: t.clone() for name, t in job.model.state_dict().items()}

    update = loop.update

    def stop_there(*arguments: Any) -> torch.Tensor:
        if arguments[-1] == stop:
            raise KeyboardInterrupt
        return update(*arguments)

    job.model.load_state_dict(untrained)
    monkeypatch.setattr(saver, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(saver, "SAVE_SHARE", 1e9)
    monkeypatch.setattr(loop, "update", stop_there)
    with pytest.raises(KeyboardInterrupt):
        loop.train(job, first_state(job))
    monkeypatch.setattr(loop, "update", update)
    state = checkpoint.load(job.folder)
    assert state is not None
    assert state.step == saved  # the last look at the losses before it stopped
    loop.train(job, state)
    assert all(torch.equal(t, whole[name]) for name, t in job.model.state_dict().items())
    assert all(torch.equal(t, judged[1][name]) for name, t in judged[-1].items())


@pytest.mark.parametrize(
    ("probe", "patience", "start", "given", "best"),
    [
        (
            "on",
            2,
            0.0,
            [0.6, 0.5, 0.6],
            1,
        ),  # the third is no better, so the fourth epoch does not come
        ("on", 2, 0.8, [0.4, 0.6, 0.75, 0.85], 4),  # it rises towards its probe, and above it
        ("on", 2, 0.8, [0.4, 0.6, 0.5, 0.6], 0),  # it stopped rising below its probe
        ("off", 1, 0.9, [0.3, 0.2], 1),  # a random head that was lucky is no result
        ("off", 0, 0.9, [0.3, 0.2, 0.4, 0.1], 3),
        ("on", 0, 0.9, [0.3, 0.2, 0.4, 0.1], 0),
    ],
)
def test_which_epoch_is_kept_and_when_patience_ends(
    small_job: loop.Job,
    monkeypatch: pytest.MonkeyPatch,
    probe: str,
    patience: int,
    start: float,
    given: list[float],
    best: int,
) -> None:
    """Also for a run that is stopped in its second epoch and goes on, and for one that was killed
    at its end."""
    recipe = made_recipe(image_size=32, epochs=4, patience=patience, probe=probe)
    scores = iter([given[0], *given])
    # one step an epoch
    job = dataclasses.replace(
        small_job,
        pictures=small_job.pictures[::10],
        recipe=recipe,
        evaluate=lambda model: _scores(next(scores)),
    )
    update = loop.update

    def stop_after_the_second(*arguments: Any) -> torch.Tensor:
        if arguments[-1] == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(*arguments)

    monkeypatch.setattr(loop, "update", stop_after_the_second)
    with pytest.raises(signals.Stopped):
        loop.train(job, first_state(job, start))
    monkeypatch.setattr(loop, "update", update)
    scores = iter(given[1:])
    kept = loop.train(job, loaded(job))
    assert (kept.scores.top1, kept.step) == ((given[best - 1] if best else start), best)
    assert next(scores, None) is None
    assert loaded(job).step == len(given)
    # killed before its folder was finished, it does not train on
    assert loop.train(job, loaded(job)) == kept


def loaded(job: loop.Job) -> checkpoint.State:
    state = checkpoint.load(job.folder)
    assert state is not None
    return state


def test_the_moving_average_is_what_is_kept(small_job: loop.Job) -> None:
    seen: list[torch.nn.Module] = []

    def scores(model: torch.nn.Module) -> passes.Scores:
        seen.append(model)
        return _scores(0.5 + len(seen) / 10)

    job = dataclasses.replace(
        small_job, recipe=made_recipe(image_size=32, ema=0.9), evaluate=scores
    )
    best = loop.train(job, first_state(job))
    assert job.model not in seen
    name = "fc.weight" if "fc.weight" in job.model.state_dict() else "head.fc.weight"
    trained, average = job.model.state_dict()[name].clone(), seen[-1].state_dict()[name].clone()
    checkpoint.load_best(job.folder, job.model, best)
    assert torch.equal(job.model.state_dict()[name], average)
    assert not torch.equal(trained, average)


def test_frozen_batch_norm_keeps_the_base_statistics(small_job: loop.Job) -> None:
    before = {
        name: t.clone() for name, t in small_job.model.state_dict().items() if "running" in name
    }
    assert before
    loop.train(
        dataclasses.replace(small_job, recipe=made_recipe(image_size=32, batch_norm="frozen")),
        first_state(small_job),
    )
    after = small_job.model.state_dict()
    assert all(torch.equal(t, after[name]) for name, t in before.items())


def test_a_limit_on_the_size_of_files_is_told_and_the_old_state_stays(small_job: loop.Job) -> None:
    state = first_state(small_job)
    checkpoint.save(small_job.folder, state)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # for torch.save and safetensors alike
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        limit = (
            r"larger than this process or file system allows "
            r"\(ulimit -f .*raise the limit .*same command"
        )
        with pytest.raises(UserError, match=rf"step-000000000: .*{limit}"):
            checkpoint.save(small_job.folder, state)
        with pytest.raises(UserError, match=rf"best-3\.safetensors: .*{limit}"):
            checkpoint.save_best(small_job.folder, small_job.model, _scores(0.7), 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.load(small_job.folder) is not None
    assert not list((small_job.folder / "resume").rglob("*.tmp"))


def test_the_space_that_is_needed_is_told_before_training(tmp_path: Path) -> None:
    disk_space.check_space(tmp_path, 1)
    with pytest.raises(
        UserError, match=r"expected 1,000,000,000,000\.0 MB .*, seen [\d,.]+ MB: .*--out"
    ):
        disk_space.check_space(tmp_path, 10**18)


@pytest.mark.parametrize(
    ("since_s", "took_s", "epoch_ended", "due"),
    [
        (119, 0.1, False, False),
        (121, 0.1, False, True),
        (6, 0.1, True, True),
        (4, 0.1, True, False),
        (121, 3.0, False, False),
        (151, 3.0, False, True),
        (1199, 60.0, True, False),
        (1201, 60.0, False, True),
    ],
)
def test_checkpoints_take_two_percent_of_the_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    since_s: float,
    took_s: float,
    epoch_ended: bool,
    due: bool,
) -> None:
    clock = iter([0.0, 10.0, 10.0 + took_s, 10.0 + took_s + since_s, 10.0 + took_s + since_s])
    monkeypatch.setattr(saver, "monotonic", lambda: next(clock))
    monkeypatch.setattr(checkpoint, "save", lambda *_: None)
    state = checkpoint.State(0, 0, checkpoint.Best(_scores(0.5), 0, "", ""), {})
    its = saver.Saver(tmp_path, state)
    its.save(dataclasses.replace(state, step=1))
    assert its.due(epoch_ended=epoch_ended, last=False) == due
    assert its.due(epoch_ended=False, last=True)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> Path:
    """A run folder with the checkpoints of steps 3 and 6, each with best weights of its own; an
    older one is gone."""
    model = torch.nn.Linear(3, 2)
    (tmp_path / "resume").mkdir()
    for step in (0, 3, 6):
        best = checkpoint.save_best(tmp_path, model, _scores(step / 10), step)
        checkpoint.save(tmp_path, checkpoint.State(step, 0, best, {"model": model.state_dict()}))
    assert sorted(path.name for path in (tmp_path / "resume").iterdir()) == [
        "best-3.safetensors",
        "best-6.safetensors",
        "step-000000003",
        "step-000000006",
    ]
    return tmp_path


@pytest.mark.parametrize("damage", [cut, flip, zero, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "step-000000006/tensors.pt",
        "step-000000006/state.json",
        "step-000000006/FINISHED.json",
        "best-6.safetensors",
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_said(
    two_checkpoints: Path,
    name: str,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(two_checkpoints / "resume" / name)
    state = checkpoint.load(two_checkpoints)
    assert state is not None
    assert (state.step, state.best.step) == (3, 3)
    said = capsys.readouterr().out
    assert said.startswith(f"warning: {two_checkpoints / 'resume' / name.split('/')[0]}")
    assert "going on from the checkpoint before it" in said
    # the damaged one is later: it does not stay
    checkpoint.save(two_checkpoints, dataclasses.replace(state, step=4))
    assert [path.name for path in checkpoint.checkpoints(two_checkpoints)] == [
        "step-000000004",
        "step-000000003",
    ]


def test_without_an_intact_checkpoint_nothing_is_guessed(two_checkpoints: Path) -> None:
    for place in checkpoint.checkpoints(two_checkpoints):
        flip(place / "tensors.pt")
    with pytest.raises(UserError, match=r"2 checkpoints, all of them damaged.*start again"):
        checkpoint.load(two_checkpoints)


def test_a_history_that_was_cut_is_not_gone_on_with(two_checkpoints: Path) -> None:
    state = checkpoint.load(two_checkpoints)
    assert state is not None
    checkpoint.save(two_checkpoints, dataclasses.replace(state, step=9, events_position=8))
    (two_checkpoints / "metrics.jsonl").write_bytes(b"1234567")
    state = checkpoint.load(two_checkpoints)
    assert state is not None
    assert state.step == 6


def test_a_checkpoint_made_with_other_settings_is_refused_by_name(
    two_checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def about(base: str = "tiny", classes: str = "ab", **values: Any) -> dict[str, Any]:
        return made_with.about(made_recipe(**values), base, list(classes))

    state = checkpoint.load(two_checkpoints)
    assert state is not None
    state = dataclasses.replace(state, about=about())
    made_with.check_same(state, about())
    for now, words in (
        (about(lr=0.5), "lr is 0.5, but the checkpoint of step 6 was made with 0.001"),
        (about("other"), "base is other, .* with tiny"),
        (about(classes="ba"), "classes is .'b', 'a'"),
    ):
        with pytest.raises(UserError, match=words):
            made_with.check_same(state, now)
    now = about()
    earlier = now | {
        "recipe": {name: value for name, value in now["recipe"].items() if name != "ema"}
    }
    # of a version that had no ema yet
    made_with.check_same(dataclasses.replace(state, about=earlier), now)
    with pytest.raises(UserError, match=r"ema is 0\.9, .* step 6 .*with 0(\.0)?: .*--out"):
        made_with.check_same(dataclasses.replace(state, about=earlier), about(ema=0.9))
    assert capsys.readouterr().out == ""
    made_with.check_same(state, now | {"versions": now["versions"] | {"torch": "9.9"}})
    warned = " ".join(capsys.readouterr().out.split())
    assert f"torch {torch.__version__} -> 9.9" in warned
    assert "not with the same bits" in warned


FILE_EVENTS = ("open", "os.", "shutil.")
"""Beginnings of the audit events of all that Python does to files and folders."""


def save_watched(folder: Path, copies: Path) -> None:
    """Save step 9 in a process of its own, and copy the folder just before each of its file
    operations, to `copies / "0"` and so on: what a SIGKILL there would leave, since a killed
    process leaves all that it wrote to the system, flushed or not. The last copy is what it leaves
    at its end."""
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        return
    events = iter(range(10_000))
    copying = False

    def copy() -> None:
        nonlocal copying
        copying = True
        shutil.copytree(folder / "resume", copies / str(next(events)) / "resume")
        copying = False

    def watch(name: str, _: object) -> None:
        if name.startswith(FILE_EVENTS) and not copying:
            copy()

    status = 1
    try:
        model = torch.nn.Linear(3, 2)
        sys.addaudithook(watch)
        os.fsync = lambda _: None
        best = checkpoint.save_best(folder, model, _scores(0.9), 9)
        checkpoint.save(folder, checkpoint.State(9, 0, best, {"m": model.state_dict()}))
        copy()
        status = 0
    finally:
        os._exit(status)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_before_any_file_operation_of_a_save_a_whole_checkpoint_is_left(
    two_checkpoints: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = tmp_path / "copies"
    save_watched(two_checkpoints, copies)
    steps = []
    for event in range(len(list(copies.iterdir()))):
        folder = copies / str(event)
        leftovers.sweep(folder)
        state = checkpoint.load(folder)
        assert state is not None
        steps.append(state.step)
        assert len(checkpoint.checkpoints(folder)) >= 2
    assert event > 30
    assert steps == sorted(steps)  # the old one up to some operation, the new one from then on
    assert set(steps) == {6, 9}
    assert "Passed over" not in capfd.readouterr().out
    assert sorted(path.name for path in (folder / "resume").rglob("*") if path.suffix) == [
        "FINISHED.json",
        "FINISHED.json",
        "best-6.safetensors",
        "best-9.safetensors",
        "state.json",
        "state.json",
        "tensors.pt",
        "tensors.pt",
    ]


def test_what_killed_writers_left_is_swept(two_checkpoints: Path) -> None:
    before = sorted(two_checkpoints.rglob("*"))
    (two_checkpoints / "resume" / "step-000000009.tmp").mkdir()
    (two_checkpoints / "resume" / "step-000000009.tmp" / "tensors.pt.tmp").write_bytes(b"half")
    (two_checkpoints / "config.json.tmp").write_bytes(b"half")
    state = checkpoint.load(two_checkpoints)
    assert state is not None
    assert state.step == 6
    leftovers.sweep(two_checkpoints)
    assert sorted(two_checkpoints.rglob("*")) == before


@pytest.fixture(scope="module")
def stopped(
    digits: Path, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A run, on pictures beside it, that stopped with Ctrl-C after its first epoch; and what it
    printed."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("stopped")
    data, out = Path(shutil.copytree(digits, folder / "data")), folder / "run"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        fit_quickly(patch)
        patch.setattr(loop, "report_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            start(Run(data=str(data), base=str(tiny_base), out=out), {"epochs": 2})
    return out, printed.getvalue()


@pytest.mark.usefixtures("quick_end")
def test_ctrl_c_says_how_to_go_on_and_resume_goes_on(
    stopped: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, printed = stopped
    assert f"python -m finetune --resume {run}" in printed
    out = Path(shutil.copytree(run, tmp_path / "run"))
    start(Run(resume=out), {})
    assert "going on after step 0" in capsys.readouterr().out
    assert rundir.is_finished(out)


def test_changed_pictures_are_refused_when_going_on(
    stopped: tuple[Path, str], tmp_path: Path
) -> None:
    run, _ = stopped
    picture = next((run.parent / "data" / "train" / "0").iterdir())
    picture.rename(tmp_path / "away.png")
    try:
        with pytest.raises(UserError, match="changed since this run began"):
            start(Run(resume=run), {})
    finally:
        (tmp_path / "away.png").rename(picture)


def test_another_list_of_classes_is_refused_by_name(stopped: tuple[Path, str]) -> None:
    run, _ = stopped
    ten = run.parent / "data" / "train" / "ten"
    ten.mkdir()
    Image.new("RGB", (8, 8), "red").save(ten / "x.png")
    try:
        with pytest.raises(UserError, match=r"the classes of .*: ten is new\..* another --out"):
            start(Run(resume=run), {})
    finally:
        shutil.rmtree(ten)


def test_another_base_on_the_same_folder_is_refused_by_name(stopped: tuple[Path, str]) -> None:
    run, _ = stopped
    with pytest.raises(UserError, match=r"--base is efficientnet_lite0, .* was /.* another --out"):
        start(Run(data=str(run.parent / "data"), out=run), {"epochs": 2})


def test_another_command_on_the_same_folder_is_refused_by_name(
    stopped: tuple[Path, str], tiny_base: Path
) -> None:
    run, _ = stopped
    with pytest.raises(UserError, match=r"--epochs is 3, in that run it was 2"):
        start(Run(data=str(run.parent / "data"), base=str(tiny_base), out=run), {"epochs": 3})
