"""A run folder with `resume/` may be a stranger's: checkpoints whose digests fit and whose content
lies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.evaluation.passes import Scores
from finetune.run_folder import checkpoint
from finetune.run_folder.fitting_tensors import fitting
from finetune.train.step import check_optimizer
from zoo.contract import rundir
from zoo.host.errors import UserError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkpoint of a tiny model."""
    (tmp_path / "resume").mkdir()
    model = torch.nn.Linear(3, 2)
    best = checkpoint.save_best(tmp_path, model, Scores(0.5, 1.0, 1.0, 10), 0)
    checkpoint.save_checkpoint(
        tmp_path, checkpoint.State(1, 0, best, {"model": model.state_dict()})
    )
    (tmp_path / rundir.METRICS).write_text("")
    assert checkpoint.load_checkpoint(tmp_path) is not None
    return tmp_path / "resume" / "step-000000001"


def changed(place: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change state.json, and make the digests fit again."""
    state = json.loads((place / checkpoint.STATE).read_text())
    change(state)
    (place / checkpoint.STATE).write_text(json.dumps(state))
    rundir.write_manifest(place, version=checkpoint.VERSION)


def tensors(place: Path, value: Any) -> None:
    torch.save(value, place / checkpoint.TENSORS)
    rundir.write_manifest(place, version=checkpoint.VERSION)


LIES: dict[str, Callable[[Path], object]] = {
    "weights elsewhere": lambda place: changed(
        place, lambda state: state["best"].update(file="../../x.safetensors")
    ),
    "weights without a name": lambda place: changed(
        place, lambda state: state["best"].update(file=None)
    ),
    "no best": lambda place: changed(place, lambda state: state.pop("best")),
    "best is a list": lambda place: changed(place, lambda state: state.update(best=[1])),
    "no scores": lambda place: changed(place, lambda state: state["best"].pop("scores")),
    "other scores": lambda place: changed(place, lambda state: state["best"]["scores"].update(x=1)),
    "step is text": lambda place: changed(place, lambda state: state.update(step="1")),
    "place is text": lambda place: changed(place, lambda state: state.update(events_position="1")),
    "place is negative": lambda place: changed(
        place, lambda state: state.update(events_position=-1)
    ),
    "another key": lambda place: changed(place, lambda state: state.update(tensors={})),
    "a list of tensors": lambda place: tensors(place, [torch.ones(2)]),
    "model is a tensor": lambda place: tensors(place, {"model": torch.ones(2)}),
    "losses are a number": lambda place: tensors(place, {"model": {}, "losses": torch.tensor(1.0)}),
    "code": lambda place: tensors(place, {"model": {}, "x": Path("x")}),
}


@pytest.mark.parametrize("name", LIES)
def test_a_checkpoint_that_lies_is_refused(place: Path, name: str) -> None:
    LIES[name](place)
    with pytest.raises(UserError):
        checkpoint.load_checkpoint(place.parents[1])


def test_other_folders_in_resume_are_no_checkpoints(place: Path) -> None:
    (place.parent / "step-x").mkdir()
    (place.parent / "step-\u0661").mkdir()
    assert checkpoint.checkpoints(place.parents[1]) == [place]


def test_best_weights_of_another_network_are_refused(place: Path) -> None:
    state = checkpoint.load_checkpoint(place.parents[1])
    assert state is not None
    with pytest.raises(UserError, match="does not fit this run"):
        checkpoint.load_best(place.parents[1], torch.nn.Linear(4, 2), state.best)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda saved: saved["param_groups"][0].update(lr="1"), "lr has another type"),
        (
            lambda saved: saved["param_groups"][0].update(betas=[0.9, 0.99]),
            "betas has another type",
        ),
        (lambda saved: saved["param_groups"][0].update(more=1), "more has another type"),
        (
            lambda saved: saved["state"][0].update(exp_avg=torch.ones(7)),
            r"shape \[7\], its weight \[2, 3\]",
        ),
        (lambda saved: saved["param_groups"].pop(), "shorter"),
        (lambda saved: saved.pop("state"), "KeyError|state"),
    ],
)
def test_an_optimisers_state_has_the_types_and_shapes_of_its_own(
    change: Callable[[Any], object], words: str
) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = optimizer.state_dict()
    check_optimizer(optimizer, saved)
    saved = {
        "state": {key: dict(value) for key, value in saved["state"].items()},
        "param_groups": [dict(group) for group in saved["param_groups"]],
    }
    change(saved)
    with pytest.raises(UserError, match=words), fitting("the checkpoint"):
        check_optimizer(optimizer, saved)


def test_a_checkpoint_of_an_earlier_version_is_told_as_that(place: Path) -> None:
    """Its steps saw other pictures: to go on from it would be neither the one run nor the other."""
    rundir.write_manifest(place, version=1)
    with pytest.raises(UserError, match=r"earlier version, .*remove .* and start the run again"):
        checkpoint.load_checkpoint(place.parents[1])


@pytest.mark.parametrize(
    "tuned",
    [
        {"scores": {}, "step": 1},
        {"step": 1},
        [1],
        "0.5",
        {"scores": {"top1": 0.5, "top5": 1.0, "loss": 1.0, "pictures": 10}, "step": 0},
    ],
)
def test_a_best_epoch_of_another_form_is_refused(place: Path, tuned: Any) -> None:
    changed(place, lambda state: state.update(tuned=tuned))
    with pytest.raises(UserError):
        checkpoint.load_checkpoint(place.parents[1])
