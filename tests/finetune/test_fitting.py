"""Pictures that a network cannot take are refused by flag before anything is trained; what it takes
is not."""

from typing import Any

import pytest
import timm
import torch

from finetune.presets import fitting, resolve
from finetune.recipe.durations import check_durations
from finetune.recipe.facts import Facts
from tests.finetune.resolved_recipe import FACTS
from tests.made_recipe import made_recipe
from zoo.bases.catalog import find_architecture
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import describe
from zoo.network.trial import Trial


def trial_of(architecture: str) -> Trial:
    return Trial(find_architecture(architecture), weights.RANDOM)


def trains(architecture: str, side: int, pictures: int, *, frozen: bool) -> bool:
    """Whether timm's network really passes so many pictures in training."""
    network = timm.create_model(architecture, num_classes=2).train()
    for module in network.modules():
        if frozen and isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    try:
        network(torch.zeros(pictures, 3, side, side))
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


@pytest.mark.parametrize(
    ("architecture", "values", "words"),
    [
        (
            "skresnet18",
            {"image_size": 96, "batch_size": 2, "accumulate": 2},
            "--batch-size 2 --accumulate 2",
        ),
        ("test_resnet", {"image_size": 16, "batch_size": 1}, "--batch-size 1"),
        ("test_resnet", {"image_size": 96, "batch_size": 1}, None),
        ("test_resnet", {"image_size": 16, "batch_size": 1, "batch_norm": "frozen"}, None),
        (
            "test_resnet",
            {"image_size": 16, "batch_size": 5, "accumulate": 3},
            "--batch-size 5 --accumulate 3",
        ),
        ("test_resnet", {"image_size": 16, "batch_size": 4, "accumulate": 2}, None),
        ("inception_v3", {"image_size": 64, "batch_size": 2}, "--image-size 64: .*3 x 3"),
        ("bat_resnext26ts", {"image_size": 96, "batch_size": 2}, "--image-size 96: "),
        ("test_vit", {"image_size": 64, "batch_size": 1}, None),
        (
            "vit_tiny_patch16_224",
            {"image_size": 64, "batch_size": 1, "start_size": 32},
            "--start-size 32: .*size only, 64",
        ),
        ("test_resnet", {"image_size": 64, "batch_size": 2, "start_size": 32}, None),
    ],
)
def test_what_a_network_cannot_take_is_named_by_its_flag(
    architecture: str, values: dict[str, Any], words: str | None
) -> None:
    trial = trial_of(architecture)
    part = fitting.smallest_part(values["batch_size"], values.get("accumulate", 1), device="cpu")
    # the large ones take seconds to make
    if "start_size" not in values and architecture == "test_resnet":
        assert trains(architecture, values["image_size"], part, frozen="batch_norm" in values) is (
            words is None
        )
    if words is None:
        fitting.check_trainable(made_recipe(**values), trial, pictures=100, device="cpu")
        fitting.check_given(values, trial, device="cpu")
        return
    with pytest.raises(UserError, match=words):
        fitting.check_trainable(made_recipe(**values), trial, pictures=100, device="cpu")
    # before the data is read, where all that decides it was given
    with pytest.raises(UserError, match=words):
        fitting.check_given({"batch_norm": "train"} | values, trial, device="cpu")


def test_fewer_pictures_than_a_batch_count() -> None:
    recipe = made_recipe(image_size=16, batch_size=32, accumulate=2)
    fitting.check_trainable(recipe, trial_of("test_resnet"), pictures=4, device="cpu")
    with pytest.raises(UserError, match="--batch-size 3 --accumulate 2"):
        fitting.check_trainable(recipe, trial_of("test_resnet"), pictures=3, device="cpu")


def test_auto_chooses_a_side_that_the_network_takes() -> None:
    """bat_resnext26ts asks its own of 256; what takes every multiple of 32 keeps 96."""
    for architecture, side, expected in (("bat_resnext26ts", 192, 256), ("test_resnet", 96, 96)):
        trial, base = trial_of(architecture), find_architecture(architecture)
        facts = Facts(
            **vars(FACTS)
            | {
                "base": describe(base, weights.RANDOM),
                "short_side": side // 2,
                "takes": lambda side, trial=trial: trial.refused(side) is None,
            }
        )
        assert resolve.resolve(facts, {"from_scratch": True}).recipe.image_size == expected
        assert trial.refused(expected) is None


@pytest.mark.parametrize(("architecture", "rate"), [("vgg11", 0.0), ("vit_base_patch16_224", 0.1)])
def test_auto_sets_no_option_that_the_network_lacks(architecture: str, rate: float) -> None:
    """VGG has neither batch norm nor blocks that could be left out: `auto` gave it a drop path, and
    no run began."""
    trial, base = trial_of(architecture), describe(find_architecture(architecture), weights.RANDOM)
    facts = Facts(**vars(FACTS) | {"base": base, "takes_drop_path": trial.takes_drop_path})
    assert resolve.resolve(facts, {"image_size": 224}).recipe.drop_path == rate


def test_nothing_is_tried_twice_and_no_side_beside_one_set_by_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed: list[int] = []
    monkeypatch.setattr(Trial, "_pass", lambda self, built_for, side, pictures: passed.append(side))
    trial = trial_of("test_resnet")
    assert [trial.refused(side) for side in (32, 64, 32)] == [None] * 3
    assert passed == [32, 64]
    base = describe(find_architecture("test_resnet"), weights.RANDOM)
    facts = Facts(
        **vars(FACTS) | {"base": base, "takes": lambda side: pytest.fail("a side was tried")}
    )
    assert resolve.resolve(facts, {"from_scratch": True, "image_size": 64}).recipe.image_size == 64


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"warmup": "5 epochs", "epochs": 1}, "--warmup: duration '5 epochs'.*--epochs 1"),
        ({"warmup": "5"}, "--warmup: duration '5': expected a number with"),
        ({"warmup": ""}, "--warmup: duration ''"),
        ({"decay_at": "1 epoch, 30 epochs", "epochs": 3}, "--decay-at: duration ' 30 epochs'"),
        ({"decay_at": "150%"}, "--decay-at: duration '150%'"),
        ({"warmup": "-1 steps"}, "--warmup: duration '-1 steps'"),
        ({"warmup": "5 epochs"}, None),
        ({"warmup": "1000000 steps", "epochs": 1}, None),
        ({"decay_at": ""}, None),
        ({"decay_at": "30%,60 %, 2 epochs", "epochs": 2}, None),
        ({}, None),
    ],
)
def test_durations_are_refused_with_their_flag_before_the_data(
    given: dict[str, Any], words: str | None
) -> None:
    if words is None:
        check_durations(given)
        return
    with pytest.raises(UserError, match=words):
        resolve.check_given(given)
