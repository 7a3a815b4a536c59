"""What to do next: made-up curves and findings, one for each rule, and what must hold for any
curves."""

import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.presets.length import EPOCHS_IN_MINUTES
from finetune.recipe.fields import ROWS, TYPES
from finetune.report import advice
from finetune.report.advice import Advice, curves
from finetune.report.data_advice import DATA_RULES, Findings, data
from finetune.report.history import History, history_of
from finetune.run_folder import events
from tests.made_run import Made, made_run
from zoo.contract.finished_run import FinishedRun
from zoo.contract.report import ClassNumbers

VALUES: dict[str, Any] = {
    "epochs": 9,
    "lr": 0.0012,
    "optimizer": "adamw",
    "warmup": "10%",
    "decay_at": "",
    "weight_decay": 0.05,
    "label_smoothing": 0.05,
    "erasing": 0.1,
    "crop_area": 0.5,
    "drop_path": 0.0,
    "dropout": 0.0,
    "image_size": 96,
    "probe_only": False,
}
FINE = History(
    (1.40, 0.89, 0.70, 0.60, 0.54, 0.50, 0.48, 0.47, 0.46),
    (0.85, 0.99, 0.89, 0.66, 0.65, 0.645, 0.642, 0.641, 0.640, 0.641),
    (0.732, 0.681, 0.757, 0.819, 0.822, 0.823, 0.824, 0.826, 0.827, 0.826),
    276,
    9,
    75,
)
"""Like a real run: falls below the probe in the first epoch, rises, flattens."""


def changed(history: History = FINE, **parts: Any) -> History:
    """`history` with other curves; a train_loss of another length cuts the others."""
    parts = {name: tuple(part) if isinstance(part, list) else part for name, part in parts.items()}
    return replace(history, **parts)


def only(found: list[Advice]) -> Advice:
    assert len(found) == 1, found
    return found[0]


def test_fine_curves_need_no_advice() -> None:
    assert curves(FINE, VALUES) == []


def test_the_chosen_epoch_is_believed_where_top1_does_not_tell() -> None:
    """A run that counts its classes the same keeps weights whose top-1 is below the probe's."""
    fell = changed(select_top1=[0.83, 0.70, 0.72, 0.74, 0.75, 0.75, 0.76, 0.76, 0.77, 0.77])
    assert (fell.kept, fell.best) == (True, 8)
    assert (replace(fell, chosen=6).kept, replace(fell, chosen=6).best) == (False, 6)
    assert replace(fell, chosen=0).kept


OVERFITTED = changed(
    train_loss=[1.2, 0.8, 0.6, 0.45, 0.36, 0.30, 0.26, 0.23, 0.21],
    select_loss=[0.85, 0.80, 0.70, 0.64, 0.66, 0.70, 0.74, 0.79, 0.83, 0.86],
    select_top1=[0.73, 0.74, 0.78, 0.80, 0.805, 0.80, 0.80, 0.795, 0.79, 0.79],
)


def test_overfitted_by_loss() -> None:
    harder, shorter = curves(OVERFITTED, VALUES)
    assert "After epoch 3 of 9 the loss on select rose from 0.640 to 0.860 while" in harder.finding
    assert (harder.flags, shorter.flags) == ("--erasing 0.25 --label-smoothing 0.1", "--epochs 5")


def test_overfitted_by_top1() -> None:
    top1 = [0.73, 0.74, 0.78, 0.86, 0.83, 0.80, 0.78, 0.78, 0.77, 0.78]
    wavering = [0.85, 0.80, 0.70, 0.64, 0.63, 0.65, 0.64, 0.65, 0.64, 0.65]
    found = curves(changed(OVERFITTED, select_top1=top1, select_loss=wavering), VALUES)
    assert "top-1 on select fell from 86.0% to 78.0%" in found[0].finding
    # noise
    assert (
        curves(changed(OVERFITTED, select_top1=top1, select_loss=wavering, pictures=40), VALUES)
        == []
    )


@pytest.mark.parametrize(
    "select_loss",
    [
        [0.85, 0.80, 0.70, 0.64, 0.66, 0.70, 0.69, 0.69, 0.69, 0.69],  # rises twice in a row
        [
            0.85,
            0.80,
            0.70,
            0.64,
            0.641,
            0.642,
            0.643,
            0.644,
            0.645,
            0.646,
        ],  # by less than a twentieth
        [0.85, 0.80, 0.75, 0.72, 0.70, 0.68, 0.66, 0.60, 0.64, 0.68],  # ends before a third rise
    ],
)
def test_select_loss_that_hardly_rises_is_no_overfitting(select_loss: list[float]) -> None:
    assert curves(changed(OVERFITTED, select_loss=select_loss), VALUES) == []


def test_a_training_loss_that_rises_as_well_is_no_overfitting() -> None:
    assert (
        curves(
            changed(OVERFITTED, train_loss=[1.0, 0.8, 0.6, 0.62, 0.63, 0.64, 0.64, 0.65, 0.65]),
            VALUES,
        )
        == []
    )


def test_top1_that_still_rises_forbids_fewer_epochs() -> None:
    top1 = [0.73, 0.74, 0.78, 0.80, 0.805, 0.81, 0.81, 0.815, 0.815, 0.82]
    assert (
        only(curves(changed(OVERFITTED, select_top1=top1), VALUES)).flags
        == "--erasing 0.25 --label-smoothing 0.1"
    )


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"erasing": 0.25}, "--erasing 0.5 --label-smoothing 0.1"),
        ({"erasing": 0.5, "label_smoothing": 0.1}, "--crop-area 0.25 --weight-decay 0.1"),
        ({"erasing": 0.5, "label_smoothing": 0.1, "optimizer": "sgd"}, "--crop-area 0.25"),
        (
            {"erasing": 0.7, "label_smoothing": 0.2, "crop_area": 1.0, "weight_decay": 0.3},
            "--crop-area 0.5",
        ),
        ({"erasing": 0.7, "label_smoothing": 0.2, "crop_area": 0.08, "weight_decay": 0.3}, ""),
    ],
)
def test_next_strength_of_what_is_not_at_its_strongest(values: dict[str, Any], flags: str) -> None:
    harder = curves(OVERFITTED, VALUES | values)[0]
    assert harder.flags == flags
    assert ("Add training pictures" in harder.do) == (not flags)


@pytest.mark.parametrize(
    "durations", [{"warmup": "4 epochs"}, {"warmup": "500 steps"}, {"decay_at": "50%,8 epochs"}]
)
def test_fewer_epochs_are_not_proposed_where_a_duration_would_not_fit(
    durations: dict[str, str],
) -> None:
    assert only(curves(OVERFITTED, VALUES | durations)).flags.startswith("--erasing")


def test_fewer_epochs_leave_enough_steps() -> None:
    assert only(curves(changed(OVERFITTED, steps_per_epoch=11), VALUES)).flags.startswith(
        "--erasing"
    )
    assert curves(changed(OVERFITTED, steps_per_epoch=13), VALUES)[1].flags == "--epochs 8"


UNDERFITTED = changed(
    train_loss=[1.9, 1.7, 1.5, 1.35, 1.2, 1.1, 1.0, 0.92, 0.85],
    select_loss=[2.3, 1.8, 1.6, 1.4, 1.25, 1.12, 1.05, 0.98, 0.90, 0.84],
    select_top1=[0.11, 0.30, 0.40, 0.48, 0.54, 0.58, 0.61, 0.65, 0.68, 0.71],
    probe=False,
)


def test_underfitted() -> None:
    found = only(curves(UNDERFITTED, VALUES))
    assert "top-1 on select gained 10.0 points after epoch 6 of 9" in found.finding
    assert found.flags == "--epochs 18"
    assert only(curves(UNDERFITTED, VALUES | {"epochs": 60_000})).flags == "--epochs 18"


@pytest.mark.parametrize(
    "parts",
    [
        {"pictures": 40},  # noise
        {"train_loss": [1.9, 1.7, 1.5, 1.35, 1.2, 0.84, 0.84, 0.84, 0.85]},
        {"select_loss": [2.3, 1.8, 1.6, 1.4, 1.25, 1.12, 0.83, 0.98, 0.90, 0.84]},
        # best is not at the end
        {"select_top1": [0.11, 0.30, 0.40, 0.48, 0.54, 0.58, 0.61, 0.71, 0.68, 0.69]},
    ],
)
def test_more_epochs_need_that_all_still_gets_better(parts: dict[str, Any]) -> None:
    assert curves(changed(UNDERFITTED, **parts), VALUES) == []


def test_still_below_the_probe_but_on_the_way_up() -> None:
    found = only(
        curves(
            changed(UNDERFITTED, select_top1=[0.75, *UNDERFITTED.select_top1[1:]], probe=True),
            VALUES,
        )
    )
    assert "gained 41.0 points after epoch 1 of 9" in found.finding
    assert found.flags == "--epochs 18"


@pytest.mark.parametrize(
    ("parts", "seen"),
    [
        ({"train_loss": [1.4, 0.9, 0.7, 1.4, 1.0, 0.9, 0.8, 0.7, 0.7]}, "jumped up by 0.70"),
        (
            {"train_loss": [7.0, 3.0, 2.0, 1.4, 1.0, 0.9, 0.8, 0.7, 0.7]},
            "three times that of guessing (ln 9 = 2.20)",
        ),
        (
            {"select_loss": [0.85, 0.99, 9.9, 0.66, 0.65, 0.645, 0.642, 0.641, 0.640, 0.641]},
            "three times",
        ),
        (
            {
                "select_loss": [
                    0.85,
                    math.nan,
                    0.89,
                    0.66,
                    0.65,
                    0.645,
                    0.642,
                    0.641,
                    math.inf,
                    0.641,
                ]
            },
            "three times",
        ),
        (
            {"select_top1": [0.732, 0.3, 0.3, 0.35, 0.4, 0.45, 0.5, 0.5, 0.5, 0.54]},
            "fell from the linear probe (73.2% on",
        ),
    ],
)
def test_learning_rate_too_high(parts: dict[str, Any], seen: str) -> None:
    found = only(curves(changed(**parts), VALUES))
    assert seen in found.finding
    assert found.flags == "--lr 0.0004"


def test_a_first_epoch_below_the_probe_is_usual() -> None:
    """Curves of a run on digits: 95.3 % by the probe, 98 % at the end."""
    run = History(
        (2.479, 0.930, 0.677, 0.566, 0.487, 0.464, 0.414, 0.411),
        (0.166, 0.948, 0.588, 0.148, 0.158, 0.113, 0.121, 0.113, 0.109),
        (0.9528, 0.7583, 0.8528, 0.9639, 0.9611, 0.9694, 0.9806, 0.9833, 0.9806),
        360,
        10,
        33,
    )
    assert curves(run, VALUES) == []


def test_a_late_fall_from_above_the_probe_is_overfitting() -> None:
    found = curves(
        changed(OVERFITTED, select_top1=[0.73, 0.74, 0.78, 0.80, 0.7, 0.6, 0.5, 0.5, 0.5, 0.5]),
        VALUES,
    )
    assert [item.flags for item in found] == ["--erasing 0.25 --label-smoothing 0.1", "--epochs 4"]


TOO_LOW = changed(
    train_loss=[1.50, 1.48, 1.47, 1.46, 1.45, 1.44, 1.44, 1.43, 1.43],
    select_top1=[0.732, 0.70, 0.70, 0.71, 0.71, 0.71, 0.72, 0.72, 0.72, 0.72],
)


def test_learning_rate_too_low() -> None:
    found = only(curves(TOO_LOW, VALUES))
    assert "hardly moved (1.50 to 1.43)" in found.finding
    assert found.flags == "--lr 0.0036"
    random_head = changed(
        train_loss=[2.20, 2.19, 2.17, 2.15, 2.13, 2.12, 2.10, 2.08, 2.07],
        probe=False,
        select_top1=[0.11, 0.13, 0.15, 0.18, 0.20, 0.22, 0.24, 0.26, 0.28, 0.30],
    )
    assert only(curves(random_head, VALUES)).flags == "--lr 0.0036"


@pytest.mark.parametrize(
    "parts",
    [
        # little is left to learn
        {"train_loss": [0.50, 0.49, 0.49, 0.49, 0.48, 0.48, 0.48, 0.48, 0.48]},
        # moved by more than a tenth
        {"train_loss": [1.50, 1.40, 1.38, 1.37, 1.36, 1.35, 1.35, 1.34, 1.34]},
    ],
)
def test_learning_rate_not_too_low(parts: dict[str, Any]) -> None:
    # the probe is kept
    assert only(curves(changed(TOO_LOW, **parts), VALUES)).flags == "--lr 0.0004"


@pytest.mark.parametrize(
    ("lr", "history"), [(1e-9, changed(train_loss=[7.0] * 9)), (900.0, TOO_LOW)]
)
def test_a_rate_out_of_bounds_is_not_proposed(lr: float, history: History) -> None:
    assert only(curves(history, VALUES | {"lr": lr})).flags == ""
    assert only(curves(changed(train_loss=[7.0] * 9), VALUES | {"lr": 3e-9})).flags == "--lr 1e-09"


KEPT = changed(select_top1=[0.732, 0.70, 0.71, 0.72, 0.71, 0.72, 0.71, 0.72, 0.71, 0.72])


def test_probe_kept() -> None:
    found = only(curves(KEPT, VALUES))
    assert found.finding.startswith("No epoch of 9 beat the linear probe (73.2% on select)")
    assert found.flags == "--lr 0.0004"


def test_no_gain_can_be_measured_above_a_perfect_probe() -> None:
    found = only(curves(changed(KEPT, select_top1=[1.0, *[0.99] * 9]), VALUES))
    assert (found.flags, "no gain to be measured on 276 pictures" in found.finding) == ("", True)


def test_without_a_probe_it_is_not_named() -> None:
    found = only(curves(changed(KEPT, probe=False), VALUES))
    assert found.finding.startswith("No epoch of 9 beat the untrained head")


def first(history: History, epochs: int, **parts: Any) -> History:
    """The first epochs of a history."""
    return replace(
        history,
        train_loss=history.train_loss[:epochs],
        select_loss=history.select_loss[: epochs + 1],
        select_top1=history.select_top1[: epochs + 1],
        **parts,
    )


def test_no_epoch() -> None:
    assert curves(first(FINE, 0), VALUES) == []
    assert "remove --probe-only" in only(curves(first(FINE, 0), VALUES | {"probe_only": True})).do


def test_one_epoch() -> None:
    # below the probe, as first epochs are
    assert only(curves(first(FINE, 1), VALUES)).flags == "--epochs 4"
    better = changed(train_loss=[1.4], select_loss=[0.85, 0.6], select_top1=[0.73, 0.83])
    assert only(curves(better, VALUES | {"epochs": 1})).flags == "--epochs 2"
    assert curves(changed(better, select_top1=[0.73, 0.74]), VALUES) == []


def test_two_epochs() -> None:
    # 7.6 points after epoch 1
    assert only(curves(first(FINE, 2), VALUES | {"epochs": 2})).flags == "--epochs 4"
    assert curves(first(FINE, 2, pictures=100), VALUES) == []  # noise
    assert only(curves(first(KEPT, 2), VALUES)).flags == "--epochs 4"
    assert only(curves(first(KEPT, 2, steps_per_epoch=3), VALUES)).flags == "--epochs 34"


def test_a_few_steps_tell_nothing_about_the_rate() -> None:
    fallen = changed(select_top1=[0.85, *[0.3] * 9], steps_per_epoch=3)
    assert only(curves(fallen, VALUES)).flags == "--epochs 34"
    assert only(curves(changed(fallen, steps_per_epoch=30), VALUES)).flags == "--lr 0.0004"
    jumping = changed(train_loss=[1.4, 0.9, 0.7, 1.4, 1.0, 0.9, 0.8, 0.7, 0.7])
    assert curves(changed(jumping, steps_per_epoch=11), VALUES) == []


loss = st.floats(0, 30)
share = st.floats(0, 1)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Any finite curves; mostly sorted ones, so that every rule is met."""
    epochs = draw(st.integers(0, 12))

    def curve(kind: st.SearchStrategy[float], length: int) -> tuple[float, ...]:
        found = draw(st.lists(kind, min_size=length, max_size=length))
        order = draw(st.sampled_from(["any", "up", "down"]))
        return tuple(found if order == "any" else sorted(found, reverse=order == "down"))

    scale = draw(st.sampled_from([0.5, 3.0, 30.0]))
    return History(
        curve(st.floats(0, scale), epochs),
        curve(st.floats(0, scale), epochs + 1),
        curve(share, epochs + 1),
        draw(st.integers(0, 3000)),
        draw(st.integers(1, 1000)),
        draw(st.integers(1, 200)),
        draw(st.booleans()),
        draw(st.none() | st.tuples(share, st.integers(1, 256))),
    )


RECIPES = st.fixed_dictionaries(
    {
        "epochs": st.integers(1, 100_000),
        "lr": st.floats(1e-9, 1e3),
        "erasing": share,
        "weight_decay": st.floats(0, 10),
        "crop_area": st.floats(0.05, 1),
        "label_smoothing": st.floats(0, 0.9),
        "warmup": st.sampled_from(["10%", "1 epoch"]),
        "optimizer": st.sampled_from(["adamw", "sgd"]),
        "decay_at": st.sampled_from(["", "75%", "30 epochs"]),
    }
)


@settings(max_examples=400, deadline=None)
@given(histories(), RECIPES)
def test_any_curves_get_sound_advice(history: History, values: dict[str, Any]) -> None:
    values["epochs"] = history.epochs or values["epochs"]
    found = curves(history, values)
    proposed = [item.changes for item in found]
    for name, value in (pair for part in proposed for pair in part.items()):
        assert type(value) is TYPES[name]  # it goes into recipe.json unchanged
        assert ROWS[name].low <= value <= ROWS[name].high
        assert value != values[name]
    named = [name for part in proposed for name in part]
    assert len(set(named)) == len(named)  # never up and down at once
    merged: dict[str, Any] = {name: value for part in proposed for name, value in part.items()}
    assert "lr" not in merged or len(merged) == 1  # one change at a time where the rate is wrong
    if merged.get("epochs", 0) > values["epochs"]:
        assert len(merged) == 1  # more epochs are no cure beside stronger augmentation
    assert all(
        "nan" not in item.finding and item.finding.endswith(".") and item.do.endswith(".")
        for item in found
    )


BELOW = replace(FINE, training=(0.70, 256))
"""Training pictures are answered worse than those of select (82.6 %)."""


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({}, "--label-smoothing 0 --weight-decay 0.017 --crop-area 0.8"),
        ({"erasing": 0.5}, "--label-smoothing 0 --weight-decay 0.017 --erasing 0.25"),
        ({"mixup": 0.2}, "--label-smoothing 0 --weight-decay 0.017 --mixup 0"),
        (
            {"policy": "randaugment", "policy_share": 1.0},
            "--label-smoothing 0 --weight-decay 0.017 --policy-share 0.5",
        ),
        (
            {"policy": "none", "policy_share": 1.0, "gridmask": 0.8, "label_smoothing": 0.0},
            "--weight-decay 0.017 --gridmask 0.5",
        ),
    ],
)
def test_training_below_select_is_regularised_less(values: dict[str, Any], flags: str) -> None:
    """PaddleClas, Tricks for Training, section 2.2.8: less decay, fewer changes of the pictures,
    larger crops, no smoothing."""
    found = only(curves(BELOW, VALUES | values))
    assert (
        "on 256 training pictures, not augmented, ends at 70.0%, below the 82.6%" in found.finding
    )
    assert found.flags == flags


@pytest.mark.parametrize("training", [None, (0.79, 256), (0.70, 20), (0.95, 256)])
def test_training_that_is_not_surely_below_select_weakens_nothing(
    training: tuple[float, int] | None,
) -> None:
    assert curves(replace(FINE, training=training), VALUES) == []


def test_nothing_left_to_weaken_is_said() -> None:
    none = {"label_smoothing": 0.0, "weight_decay": 0.0, "erasing": 0.0, "crop_area": 1.0}
    found = only(curves(BELOW, VALUES | none))
    assert (found.flags, "larger base" in found.do) == ("", True)


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 75), (3, 3), (9, 75)])
def test_a_probe_at_100_percent_is_not_told_to_train_longer(
    epochs: int, steps_per_epoch: int
) -> None:
    perfect = changed(select_top1=[1.0, *[0.97] * 9], pictures=36)
    found = only(curves(first(perfect, epochs, steps_per_epoch=steps_per_epoch), VALUES))
    assert (found.flags, "no gain to be measured" in found.finding) == ("", True)


@pytest.mark.parametrize("name", [rule.__name__ for rule in advice.DIAGNOSES])
def test_each_diagnosis_is_reached(name: str) -> None:
    """No rule is hidden behind those before it."""
    examples = [
        FINE,
        OVERFITTED,
        UNDERFITTED,
        TOO_LOW,
        KEPT,
        first(FINE, 1),
        changed(train_loss=[7.0] * 9),
        BELOW,
        changed(KEPT, select_top1=[1.0, *[0.99] * 9]),
    ]
    fits = [
        next((rule.__name__ for rule in advice.DIAGNOSES if rule(history, VALUES)), None)
        for history in examples
    ]
    assert name in fits
    assert fits[0] is None


def test_least_training_is_that_of_the_recipe() -> None:
    pictures, epochs = EPOCHS_IN_MINUTES[0]
    assert epochs * math.ceil(pictures / 32) >= advice.ENOUGH_STEPS
    assert min(epochs for _, epochs in EPOCHS_IN_MINUTES) == advice.ENOUGH_EPOCHS


def test_history_of_a_run_folder(tmp_path: Any) -> None:
    run, _ = made_run(tmp_path, made=Made(epochs=3), pictures=4)
    series = events.read_events(run)
    found = history_of(series, FinishedRun(run).report)
    assert (found.epochs, found.steps_per_epoch, found.pictures, found.classes, found.probe) == (
        3,
        34,
        300,
        10,
        True,
    )
    assert found.select_top1 == tuple(value for _, value in series["select/top1"])
    # 34 steps are logged as the means of 10, 10, 10 and 4
    values = dict(series["train/loss"])
    assert found.train_loss[0] == pytest.approx(
        (10 * (values[10] + values[20] + values[30]) + 4 * values[34]) / 34
    )


def test_history_of_a_probe_alone(tmp_path: Any) -> None:
    run, _ = made_run(tmp_path, made=Made(epochs=0), pictures=4)
    recipe = {
        name: row["value"] for name, row in json.loads((run / "recipe.json").read_text()).items()
    }
    found = history_of(events.read_events(run), FinishedRun(run).report)
    assert found.epochs == 0
    assert "probe" in only(curves(found, recipe)).finding


NAMES = ("cat", "dog", "fox")
GOOD = Findings(
    split="test",
    pictures=900,
    top1=0.9,
    interval=(0.88, 0.92),
    has_test=True,
    train_counts={"cat": 500, "dog": 400, "fox": 300},
    per_class=[
        ClassNumbers(name, pictures=300, precision=0.9, recall=0.9, f1=0.9) for name in NAMES
    ],
    confusion=Counter({(a, b): 272 if a == b else 14 for a in NAMES for b in NAMES}),
    confident_wrong=4,
    image_size=96,
    median_short_side=200,
    small_slice=(0.88, 0.91),
)


def test_good_data_need_no_advice() -> None:
    assert data(GOOD) == []


def test_a_val_that_flatters() -> None:
    found = only(data(replace(GOOD, val=(0.95, 0.921))))
    assert found.finding == "Top-1 is 95.0% on val, but 90.0% on test, more than chance explains."
    assert "--val" in found.do
    assert data(replace(GOOD, val=(0.94, 0.92))) == []  # the intervals meet


def test_label_errors() -> None:
    found = only(data(replace(GOOD, confident_wrong=9)))
    assert found.finding.startswith(
        "9 of 84 wrong answers on test were given with 95% confidence or more"
    )
    assert data(replace(GOOD, confident_wrong=8)) == []  # less than a tenth of the mistakes
    few = Counter({(a, a): 300 for a in NAMES} | {("cat", "dog"): 6})
    assert data(replace(GOOD, confusion=few, confident_wrong=4)) == []
    assert len(data(replace(GOOD, confusion=few, confident_wrong=5))) == 1


@pytest.mark.parametrize(
    ("there", "back", "found"), [(15, 15, True), (15, 14, False), (14, 15, False), (60, 0, False)]
)
def test_confused_both_ways(there: int, back: int, found: bool) -> None:
    pair = {
        ("cat", "fox"): there,
        ("fox", "cat"): back,
        ("cat", "cat"): 300 - there,
        ("fox", "fox"): 300 - back,
    }
    advices = data(replace(GOOD, confusion=Counter(pair)))
    assert [item.finding for item in advices] == [
        "Taken for each other, both ways: cat and fox (30 pictures)."
    ] * found


def test_four_confusions_are_too_few_to_tell() -> None:
    pair = {("cat", "fox"): 4, ("fox", "cat"): 4, ("cat", "cat"): 6, ("fox", "fox"): 6}
    assert data(replace(GOOD, confusion=Counter(pair))) == []


def weak(
    recall: float | None, *, pictures: int = 300, counts: dict[str, int] | None = None
) -> list[Advice]:
    """Advice for foxes of a recall."""
    cat, dog, fox = GOOD.per_class
    rows = [cat, dog, replace(fox, recall=recall, pictures=pictures)]
    return data(replace(GOOD, per_class=rows, train_counts=counts or GOOD.train_counts))


def test_weak_class() -> None:
    found = only(weak(0.6))
    assert "below the median recall of 90%: fox (60%, 300 training pictures)" in found.finding
    assert "up to the median of 400" in found.do
    assert weak(0.8) == []
    assert weak(0.6, pictures=4) == []  # noise
    assert weak(None) == []
    # it has as many as the others
    assert weak(0.6, counts={"cat": 300, "dog": 300, "fox": 300}) == []


def test_larger_input() -> None:
    worse = replace(GOOD, small_slice=(0.8, 0.86))
    assert only(data(worse)).flags == "--image-size 128"
    assert "takes about 1.8 times as long" in only(data(worse)).do
    assert (
        only(data(replace(worse, image_size=224, median_short_side=500))).flags
        == "--image-size 320"
    )
    assert (
        only(data(replace(worse, image_size=224, median_short_side=230))).flags
        == "--image-size 256"
    )
    assert only(data(replace(worse, size_step=14, image_size=98))).flags == "--image-size 140"
    for none in (
        {"small_slice": None},
        {"median_short_side": None},
        {"size_step": None},
        {"median_short_side": 96},
        {"image_size": 32, "median_short_side": 40},
        {"image_size": 4096, "median_short_side": 9000},
    ):
        assert data(replace(worse, **none)) == [], none


def test_wide_interval() -> None:
    few = replace(GOOD, pictures=100, interval=(0.82, 0.94), top1=0.9, small_slice=None)
    found = only(data(few))
    assert "known to ±6.0 points from 100 pictures" in found.finding
    wanted = int(found.do.split("about ")[1].split()[0].replace(",", ""))
    assert 1.96 * math.sqrt(0.9 * 0.1 / wanted) == pytest.approx(0.02, rel=0.1)
    assert data(replace(few, interval=(0.84, 0.94))) == []
    assert len(data(replace(few, interval=(0.835, 0.94)))) == 1


@pytest.mark.parametrize("top1", [0.0, 1.0])
def test_wide_interval_of_all_or_none(top1: float) -> None:
    interval = (0.72 * top1, 0.28 + 0.72 * top1)
    found = only(data(replace(GOOD, pictures=10, top1=top1, interval=interval, small_slice=None)))
    assert "Bring test/ to about 740 pictures" in found.do


def test_no_test_split() -> None:
    found = only(data(replace(GOOD, has_test=False, split="calibrate")))
    assert (
        "no test split; the headline, ±2.0 points from 900 pictures, is that of calibrate"
        in found.finding
    )
    assert "Add a test/ folder, best of about 880 pictures" in found.do
    assert (
        "about 200 pictures"
        in only(data(replace(GOOD, has_test=False, top1=1.0, small_slice=None))).do
    )


def test_imbalance() -> None:
    counts = {"cat": 500, "dog": 50, "fox": 300}
    found = only(data(replace(GOOD, train_counts=counts)))
    assert found.finding.endswith("largest one's 500 training pictures: 1; the rarest: dog (50).")
    assert data(replace(GOOD, train_counts=counts | {"dog": 51})) == []


def test_nothing_known() -> None:
    nothing = Findings("val", 0, 0.0, (0.0, 1.0), False, {}, [], Counter(), 0, 96)
    assert "no test split" in only(data(nothing)).finding


def test_each_data_rule_speaks_for_itself() -> None:
    rows = [
        ClassNumbers(name, 100, precision=None, recall=0.1 if name == "dog" else 0.9, f1=None)
        for name in NAMES
    ]
    bad = Findings(
        "val",
        100,
        0.8,
        (0.71, 0.87),
        False,
        {"cat": 500, "dog": 40, "fox": 300},
        rows,
        Counter({("cat", "dog"): 20, ("dog", "cat"): 20}),
        30,
        96,
        300,
        (0.6, 0.7),
        (0.95, 0.9),
    )
    found = data(bad)
    assert found == [rule(bad) for rule in DATA_RULES]
    assert [item.flags for item in found] == ["", "", "", "", "--image-size 128", "", ""]
    assert all(item.finding.endswith(".") and item.do.endswith(".") for item in found)
