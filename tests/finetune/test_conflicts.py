"""Settings of pictures and losses: which are decided together, and which are refused."""

import dataclasses
from typing import Any

import pytest
import tyro

from finetune.flags import LessUsual
from finetune.presets import resolve
from finetune.presets.conflicts import CONFLICTS, refuse
from tests.finetune.resolved_recipe import FACTS, recipe_of, refusal
from tests.made_recipe import made_recipe
from zoo.host.errors import UserError

LONG_TAIL = (500, 120, 40, 10)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"focal_gamma": 1.0},
            ["--focal-gamma", "--loss cross-entropy", "--recipe auto", "add --loss focal"],
        ),
        (
            {"ohem_share": 0.3, "loss": "focal"},
            ["--ohem-share", "--loss focal", "remove one of them"],
        ),
        (
            {"mixup": 0.2, "loss": "focal"},
            ["--mixup 0.2", "--loss focal", "one label", "Remove one of them"],
        ),
        ({"cutmix": 1.0, "loss": "ohem"}, ["--cutmix 1.0", "--loss ohem", "one label"]),
        ({"label_smoothing": 0.1, "loss": "focal"}, ["--label-smoothing 0.1", "--loss focal"]),
        (
            {"balance": "weights", "loss": "logit-adjusted"},
            ["--balance weights", "--loss logit-adjusted", "twice"],
        ),
        ({"accumulate": 2, "loss": "ohem"}, ["--accumulate 2", "--loss ohem", "part of a batch"]),
        ({"mixup": 0.2, "probe_only": True}, ["--mixup", "--probe-only"]),
        ({"balance": "auto", "probe_only": True}, ["--balance", "--probe-only"]),
        ({"policy": "augmix", "probe_only": True}, ["--policy", "--probe-only"]),
        ({"ohem_share": 1.0, "loss": "ohem"}, ["--ohem-share 1.0", "0.99"]),
        ({"mixup": -1.0}, ["--mixup -1.0", "from 0.0"]),
        ({"crop_ratio": 1.0, "crop_area": 1.0}, ["--crop-ratio 1.0", "--crop-area 1.0"]),
        ({"gridmask_kept": 0.5}, ["--gridmask-kept", "add that", "--gridmask"]),
        ({"erasing_area": 0.4, "erasing": 0.0}, ["--erasing-area has no effect without --erasing"]),
        ({"erasing_area": 0.01}, ["--erasing-area 0.01", "from 0.02 to 0.9"]),
        ({"cutout_side": 2.0, "cutout": 0.5}, ["--cutout-side 2.0", "from 0.05 to 1.0"]),
        ({"gridmask_rotate": 400.0}, ["--gridmask-rotate 400.0", "to 360.0"]),
        ({"policy_share": 0.5}, ["--policy-share", "--policy none", "add --policy autoaugment"]),
        (
            {"randaugment_magnitude": 9, "policy": "augmix"},
            ["--randaugment-magnitude", "--policy augmix", "remove one of them"],
        ),
        (
            {"policy": "randaugment", "randaugment_scale": "timm", "randaugment_magnitude": 15},
            ["--randaugment-magnitude 15: expected at most 10 on this scale", "timm"],
        ),
        ({"augmix_consistency": 12.0}, ["--augmix-consistency", "add --policy augmix"]),
        (
            {"policy": "augmix", "augmix_consistency": 12.0, "mixup": 0.2},
            ["--mixup 0.2", "--augmix-consistency 12.0", "exclude each other"],
        ),
        (
            {"policy": "augmix", "augmix_consistency": 12.0, "cutmix": 1.0},
            ["--cutmix 1.0", "--augmix-consistency 12.0", "views of one picture"],
        ),
    ],
)
def test_settings_that_would_have_no_effect(given: dict[str, Any], words: list[str]) -> None:
    message = refusal(given)
    assert not [word for word in words if word not in message], message


def test_a_recipes_own_setting_is_named_with_the_way_out() -> None:
    with pytest.raises(UserError, match=r"--mixup 0\.2 .*--recipe auto .*add --mixup 0\."):
        refuse(made_recipe(mixup=0.2, loss="focal", label_smoothing=0.0), {"loss": "focal"})
    with pytest.raises(
        UserError, match=r"--balance weights .*--recipe auto .*add --balance none\."
    ):
        refuse(made_recipe(balance="weights", loss="logit-adjusted"), {"loss": "logit-adjusted"})
    with pytest.raises(
        UserError, match=r"--loss ohem .*--recipe auto .*add --loss cross-entropy\."
    ):
        refuse(made_recipe(loss="ohem", cutmix=1.0), {"cutmix": 1.0})
    with pytest.raises(
        UserError,
        match=r"--from-scratch .*remove --probe on, .*another recipe",
    ):
        refuse(made_recipe(from_scratch=True, probe="on"), {"probe": "on"})


def test_every_conflict_is_of_fields_and_off_by_default() -> None:
    for one, other, excluded, why in CONFLICTS:
        assert hasattr(made_recipe(), one)
        assert hasattr(made_recipe(), other)
        assert not excluded(made_recipe())
        assert why


@pytest.mark.parametrize(
    "given",
    [
        {"mixup": 0.2, "cutmix": 1.0},
        {"mixup": 0.2, "loss": "logit-adjusted"},
        {"loss": "focal", "balance": "effective"},
        {"loss": "ohem", "label_smoothing": 0.2},
        {"mixup": 0.2, "balance": "weights"},
        {"crop_padding": 4, "rotate": 15.0},
        {"focal_gamma": 1.0, "loss": "focal"},
        {"label_smoothing": 0.0, "loss": "focal"},
        {"policy": "augmix", "augmix_consistency": 12.0, "augmix_severity": 1, "cutout": 0.5},
        {"gridmask": 0.8, "gridmask_kept": 0.5, "gridmask_rotate": 360.0, "gridmask_growth": 0.8},
    ],
)
def test_what_goes_together(given: dict[str, Any]) -> None:
    recipe = recipe_of(given, class_counts=LONG_TAIL)
    assert {name: getattr(recipe, name) for name in given} == given


def test_focal_loss_switches_smoothing_off_and_says_so() -> None:
    resolved = resolve.resolve(FACTS, {"loss": "focal"})
    assert resolved.recipe.label_smoothing == 0
    assert "focal" in resolved.why["label_smoothing"]
    assert recipe_of().label_smoothing > 0


# --- balance


@pytest.mark.parametrize(
    ("counts", "imbalanced"),
    [
        ((100,) * 10, False),
        ((128, 236, 438, 214, 412, 638, 274, 362, 344), False),
        ((99, 10), False),
        ((100, 10), True),
        (LONG_TAIL, True),
    ],
)
def test_auto_decides_balance_by_the_measured_imbalance(
    counts: tuple[int, ...], imbalanced: bool
) -> None:
    for given in ({}, {"balance": "auto"}, {"balance": "auto", "recipe": "warmup-step"}):
        resolved = resolve.resolve(dataclasses.replace(FACTS, class_counts=counts), given)
        assert (resolved.recipe.balance != "none") == imbalanced
        assert f"{max(counts) / min(counts):.3g} times" in resolved.why["balance"]


def test_auto_can_be_asked_for_on_the_command_line() -> None:
    for value in ("auto", "sqrt-resample"):
        assert tyro.cli(LessUsual, args=["--balance", value]).balance == value  # type: ignore[attr-defined]


def test_balance_stays_with_what_was_said() -> None:
    assert recipe_of({"balance": "none"}, class_counts=LONG_TAIL).balance == "none"
    # as published
    assert recipe_of({"recipe": "warmup-step"}, class_counts=LONG_TAIL).balance == "none"
    assert recipe_of({"loss": "logit-adjusted"}, class_counts=LONG_TAIL).balance == "none"


def test_balance_of_equal_classes_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipe_of({"balance": "weights"}).balance == "weights"
    said = " ".join("".join(capsys.readouterr()).split())
    for part in ("--balance weights", "all classes", "100 training pictures"):
        assert part in said
    recipe_of({"balance": "weights"}, class_counts=LONG_TAIL)
    recipe_of({"balance": "none"})
    assert "".join(capsys.readouterr()) == ""
