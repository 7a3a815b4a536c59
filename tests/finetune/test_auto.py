"""The default recipe as a function of pictures, base, device and processes."""

import dataclasses
import itertools
from typing import Any

import pytest

from finetune.data.loader import steps_per_epoch
from finetune.presets import length, rate
from finetune.presets.every_preset import trained_on
from finetune.presets.resolve import resolve
from finetune.recipe.facts import Facts
from finetune.recipe.fields import TYPES, Recipe
from tests.finetune.resolved_recipe import FACTS, LITE, recipe_of
from zoo.bases import catalog
from zoo.network import weights
from zoo.network.build import Description, describe

PICTURES = [round(50 * 1.6**power) for power in range(27)]
"""50 to 10 million."""
BASES = {
    name: Description(name, params_m, batch_norm, 224, 32, "center", layers)
    for name, params_m, batch_norm, layers in (
        ("tf_efficientnet_lite0", 3.37, True, 18),
        ("mobilenetv4_conv_medium", 8.4, True, 20),
        ("resnet18", 11.2, True, 10),
        ("resnet50", 23.5, True, 18),
        ("tf_efficientnetv2_m", 52.9, True, 40),
        ("maxvit_base_tf_224", 118.7, True, 20),
        ("vgg16", 134.3, False, 14),
        ("resnetv2_50x1_bit", 23.5, False, 18),
        ("vit_tiny_patch16_224", 5.5, False, 14),
        ("vit_base_patch16_224", 85.8, False, 14),
        ("vit_large_patch16_224", 303.3, False, 26),
        ("vit_base_patch16_clip_224", 85.8, False, 14),
        ("vit_small_patch14_reg4_dinov2", 22.1, False, 14),
        ("deit3_base_patch16_224", 85.8, False, 14),
        ("cait_s24_224", 46.5, False, 26),
        ("hiera_base_224", 50.8, False, 26),
        ("caformer_s18", 23.2, False, 18),
        ("beitv2_base_patch16_224", 85.8, False, 14),
        ("beitv2_large_patch16_224", 303.4, False, 26),
        ("eva02_base_patch14_448", 86.3, False, 14),
        ("swin_tiny_patch4_window7_224", 27.5, False, 14),
        ("swin_base_patch4_window7_224", 86.7, False, 26),
        ("convnext_atto", 3.4, False, 14),
        ("convnext_base", 87.6, False, 38),
        ("convnext_large", 196.2, False, 38),
    )
}
"""Of every family of the catalogue."""
DEVICES = [("cpu", 1), ("mps", 1), ("cuda", 1), ("cuda", 2), ("cuda", 8)]
OPTIMIZERS = TYPES["optimizer"].__args__


def facts_of(pictures: int, base: Description, device: str = "cpu", processes: int = 1) -> Facts:
    return dataclasses.replace(
        FACTS, pictures=pictures, base=base, device=device, processes=processes, bf16=True
    )


def steps(facts: Facts, recipe: Recipe) -> float:
    return recipe.epochs * float(steps_per_epoch(trained_on(facts, {}), recipe.batch_size))


def along(
    base: Description, device: str = "cpu", processes: int = 1, **given: Any
) -> list[tuple[Facts, Recipe]]:
    """The recipes for more and more pictures."""
    every = [facts_of(pictures, base, device, processes) for pictures in PICTURES]
    return [(facts, resolve(facts, given).recipe) for facts in every]


def is_rising(values: list[float]) -> bool:
    return all(a <= b for a, b in itertools.pairwise(values))


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize(("device", "processes"), DEVICES)
@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_more_pictures_mean_longer_runs_and_milder_regularisation(
    base: Description, device: str, processes: int
) -> None:
    recipes = along(base, device, processes)
    assert is_rising([recipe.epochs * trained_on(facts, {}) for facts, recipe in recipes])
    assert is_rising([-recipe.epochs for _, recipe in recipes])
    assert is_rising([recipe.batch_size for _, recipe in recipes])
    assert is_rising([-recipe.weight_decay for _, recipe in recipes])
    assert is_rising([-recipe.crop_area for _, recipe in recipes])
    lengths = [steps(facts, recipe) for facts, recipe in recipes]
    # a batch that grows with the processes is a multiple of their number
    slack = processes / length.ON_A_GPU if processes > 1 else 0
    assert all(b >= a * (1 - slack) for a, b in itertools.pairwise(lengths))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_more_pictures_never_lower_the_rate(optimizer: str) -> None:
    for name, base in BASES.items():
        assert is_rising([recipe.lr for _, recipe in along(base, optimizer=optimizer)]), name


def test_larger_bases_are_regularised_more_and_trained_at_lower_rates() -> None:
    for names in (
        ("tf_efficientnet_lite0", "mobilenetv4_conv_medium", "resnet18", "tf_efficientnetv2_m"),
        ("vit_tiny_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224"),
        ("convnext_atto", "convnext_base"),
        ("swin_tiny_patch4_window7_224", "swin_base_patch4_window7_224"),
    ):
        recipes = [recipe_of(base=BASES[name]) for name in names]
        for field in ("label_smoothing", "erasing", "drop_path", "layer_decay"):
            assert is_rising([getattr(recipe, field) for recipe in recipes]), (names, field)
        assert is_rising([-recipe.lr for recipe in recipes])


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_adamw_stays_near_what_is_published_for_the_family(base: Description) -> None:
    """At equal batch, by the square root: within 4 times of the published rate of fine-tuning."""
    published = {"convnext": 5e-5, "swin": 2e-5, "beit": 2e-5, "eva": 2e-5}
    for family, at_512 in published.items():
        if base.architecture.startswith(family):
            for facts, recipe in along(base, "cuda"):
                at_this_batch = at_512 * (recipe.batch_size / 512) ** 0.5
                assert at_this_batch / 4 <= recipe.lr <= 4 * at_this_batch, facts.pictures
    if base.batch_norm and base.params_m >= 23:  # usual for ResNet-50
        assert all(5e-5 <= recipe.lr <= 5e-4 for _, recipe in along(base, "cuda"))


# ---------------------------------------------------------------- length and batch


@pytest.mark.parametrize(
    ("pictures", "least", "most"),
    [(40, 500, 500), (200, 500, 500), (1_000, 1_500, 1_500), (10_000, 1_250, 3_750)],
)
def test_steps_on_a_gpu(pictures: int, least: int, most: int) -> None:
    """500 for 200 pictures, 1,500 for 1,000, and 10 to 30 epochs of 10,000."""
    facts = facts_of(pictures, BASES["vit_base_patch16_224"], "cuda")
    assert least <= steps(facts, resolve(facts, {}).recipe) <= most


def test_a_batch_set_by_hand_leaves_the_passes_as_they_are() -> None:
    facts = facts_of(1_000, LITE, "cuda")
    usual = resolve(facts, {}).recipe.epochs
    assert {resolve(facts, {"batch_size": size}).recipe.epochs for size in (8, 512)} == {usual}


@pytest.mark.parametrize("processes", [1, 2, 3, 8, 100])
def test_several_gpus_make_larger_steps_where_enough_of_them_are_left(processes: int) -> None:
    for facts, recipe in along(LITE, "cuda", processes):
        assert recipe.batch_size % processes == 0
        assert recipe.batch_size <= max(length.ON_A_GPU, processes) * processes
        if recipe.batch_size > max(length.ON_A_GPU, processes):
            assert steps(facts, recipe) >= length.STEPS_BEFORE_LARGER_BATCHES
    assert recipe.batch_size == length.ON_A_GPU * processes  # 10 million pictures


@pytest.mark.parametrize("pictures", [pictures for pictures, _ in length.EPOCHS_IN_MINUTES])
def test_a_run_without_a_gpu_takes_minutes(pictures: int) -> None:
    assert recipe_of(pictures=pictures).epochs == dict(length.EPOCHS_IN_MINUTES)[pictures]
    for device in ("cpu", "mps"):
        _, why = resolve(facts_of(pictures, LITE, device), {}).to_json()["epochs"].values()
        assert "minutes" in why


# ---------------------------------------------------------------- rate and decay


def test_the_rate_meets_its_anchors() -> None:
    for pictures, measured in rate.SMALL_BATCH_NORM.rates:
        assert recipe_of(pictures=pictures).lr == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize(
    ("optimizer", "power"),
    [
        *((name, 0.5) for name in ("adamw", "adam", "ranger", "adagrad")),
        *((name, 1.0) for name in ("sgd", "momentum", "rmsprop", "lars")),
        ("adadelta", 0.0),
    ],
)
def test_how_the_rate_follows_the_batch(optimizer: str, power: float) -> None:
    given = {"optimizer": optimizer}
    rates = {batch: recipe_of({**given, "batch_size": batch}).lr for batch in (8, 32, 128)}
    assert rates[8] == pytest.approx(rates[32] / 4**power, rel=0.05)
    assert rates[128] == pytest.approx(rates[32] * 4**power, rel=0.05)
    gpu = recipe_of(given, device="cuda", bf16=True)
    # also where the larger batch was not set by hand
    assert gpu.lr == recipe_of({**given, "batch_size": gpu.batch_size}).lr


def test_each_kind_of_optimizer_has_its_own_rate_and_decay() -> None:
    recipes = {name: recipe_of({"optimizer": name}) for name in OPTIMIZERS}
    assert recipes["adam"].lr == recipes["ranger"].lr == recipes["adamw"].lr
    assert recipes["sgd"].lr == recipes["momentum"].lr
    own = {"adamw", "sgd", "rmsprop", "adagrad", "adadelta", "lars"}
    assert len({recipes[name].lr for name in own}) == len(own)
    assert {name for name, recipe in recipes.items() if not recipe.weight_decay} == {
        "adam",
        "ranger",
        "adagrad",
        "adadelta",
    }
    assert recipes["adamw"].weight_decay > recipes["sgd"].weight_decay


def test_heavy_augmentation_needs_less_weight_decay() -> None:
    usual = recipe_of().weight_decay
    for given in ({"policy": "randaugment"}, {"mixup": 0.2}, {"gridmask": 0.5}):
        assert recipe_of(given).weight_decay == pytest.approx(0.7 * usual)


def test_layer_decay_keeps_the_share_of_the_first_of_twelve_blocks() -> None:
    vit, large = BASES["vit_base_patch16_224"], BASES["vit_large_patch16_224"]
    assert recipe_of(base=vit).layer_decay == 0.75
    assert recipe_of(base=large).layer_decay ** 24 == pytest.approx(0.75**12, rel=0.15)
    assert recipe_of({"from_scratch": True}, base=vit).layer_decay == 1.0
    assert recipe_of({"optimizer": "lars"}, base=vit).layer_decay == 1.0
    for base in BASES.values():
        decay = recipe_of(base=base).layer_decay
        convolutional = base.batch_norm or base.architecture.startswith(("vgg", "resnetv2"))
        assert decay == 1 if convolutional else 0.65 <= decay <= 0.9


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_was_not_measured_says_so(optimizer: str) -> None:
    of_adamw = optimizer in ("adamw", "adam", "ranger")
    for name, base in BASES.items():
        why = resolve(facts_of(1_000, base), {"optimizer": optimizer}).why["lr"]
        measured = base.batch_norm and base.params_m < 5 and of_adamw
        assert ("measured on" in why) if measured else ("not measured" in why), name


@pytest.mark.parametrize("alias", ["vit_tiny_21k", "convnext_atto_1k", "eva02_tiny_21k"])
def test_layers_of_a_base(alias: str) -> None:
    base = describe(catalog.find_base(alias), weights.RANDOM)
    assert (base.layers, base.batch_norm) == (14, False)
