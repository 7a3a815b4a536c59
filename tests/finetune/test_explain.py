"""`python -m finetune.explain`: the recipe that a run gets, without the run."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from finetune import explain
from finetune.data.dataset import Data
from finetune.data.held_out import split
from finetune.data.picture_columns import Picture
from finetune.explain import Situation, explained, tenths
from finetune.run_folder import events
from tests.made_recipe import SHORT
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.network import weights


def test_it_says_what_a_run_does(finished_run: Path) -> None:
    """Same recipe, reasons, pictures and steps as those of a run on such pictures, but for what is
    measured on them."""
    counts = rundir.read_json(finished_run / rundir.DATA, kind=dict)["counts"]
    pictures = sum(counts["train"].values())
    situation = Situation(pictures=pictures, classes=10, side=8, has_val=True)
    resolved, trained_on, rates = explained(situation, dict(SHORT))
    recorded = rundir.read_json(finished_run / rundir.RECIPE, kind=dict)
    assert {
        name: row for name, row in resolved.to_json().items() if row != recorded[name]
    }.keys() <= {"features"}
    assert trained_on == pictures
    assert rates.total_steps == events.read_events(finished_run)["select/top1"][-1][0]


def test_it_cuts_as_many_validation_pictures_as_a_run() -> None:
    for pictures, classes in ((4, 2), (23, 4), (1_001, 10)):
        situation = Situation(pictures=pictures, classes=classes)
        rows = [
            Picture(
                f"{label}/{place}.png",
                label,
                "train",
                hashlib.sha256(f"{label} {place}".encode()).hexdigest(),
                8,
                8,
            )
            for label, count in enumerate(situation.counts())
            for place in range(count)
        ]
        names = tuple(map(str, range(classes)))
        cut = split(Data(Path(), names, tuple(rows), (), ()), "0.2")
        assert explained(situation, {})[1] == len(cut.of("train"))


def test_neither_pictures_nor_weights_are_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(weights, "fetch", fetched)
    monkeypatch.setattr(
        "sys.argv", ["explain", "--base=vit_base_21k", "--classes=100", "--device=cuda", "--json"]
    )
    explain.parse(explain.main, "finetune.explain", Situation)
    answer = json.loads(capsys.readouterr().out)
    recipe = {name: row["value"] for name, row in answer["recipe"].items()}
    assert (recipe["amp"], recipe["batch_size"]) == ("bf16", 64)
    assert all(row["why"] for row in answer["recipe"].values())
    per_epoch = answer["trained_on"] / recipe["batch_size"]
    assert answer["steps"] == math.ceil(recipe["epochs"] * per_epoch)
    rates = {row["step"]: row["lr"] for row in answer["lr"]}
    assert (min(rates), max(rates)) == (0, answer["steps"] - 1)
    assert max(rates.values()) <= recipe["lr"]


@pytest.mark.parametrize(
    ("values", "given", "expected"),
    [
        ({"pictures": 5, "classes": 4}, {}, "--pictures 5: expected two for each of 4 classes"),
        ({"classes": 0}, {}, "--classes 0: expected 1 to 1,000,000"),
        (
            {"processes": 64, "device": "cuda"},
            {"batch_size": 32},
            "32 pictures cannot be shared out",
        ),
        ({"base": "vit_base_21q"}, {}, "unknown base"),
        ({}, {"val": "elsewhere"}, "say --has-val"),
        ({}, {"image_size": 100}, "multiple of 32 px"),
        ({}, {"warmup": "9 epochs", "epochs": 2}, "--warmup"),
        ({}, {"gridmask": 0.5, "probe_only": True}, "--gridmask"),
    ],
)
def test_what_a_run_would_refuse_is_refused(
    values: dict[str, Any], given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        explained(Situation(**values), given)


def test_the_tenths_are_steps_of_the_run() -> None:
    for pictures in (20, 21, 1_000, 2_000_000):
        _, _, rates = explained(Situation(pictures=pictures), {})
        steps = tenths(rates)
        assert steps == sorted(set(steps))
        assert 0 == steps[0] <= steps[-1] == rates.total_steps - 1
        assert len(steps) <= explain.TENTHS + 1
