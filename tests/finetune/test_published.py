"""The published recipes: their values pinned, their schedules against tables from the formulas,
each run end to end."""

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import timm
import torch
from torch import nn

from finetune import pipeline, plan
from finetune.augment.policy import CIFAR_POLICY_UP_TO_PX
from finetune.presets.other_optimizer import FROM_SCRATCH
from finetune.presets.rate import rate_row
from finetune.presets.resolve import RECIPES, resolve
from finetune.recipe.facts import Facts
from finetune.recipe.fields import TYPES, Recipe
from finetune.recipe.run import Run
from finetune.train.initialise import initialise
from finetune.train.schedule import schedule
from tests.finetune.resolved_recipe import FACTS
from tests.made_recipe import made_recipe
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.network.build import Description

RESNET50D = Description("resnet50d", 23.5, True, 224, 32, "center", 18)
LARGE = Facts(
    pictures=200_000,
    class_counts=(2_000,) * 100,
    has_val=True,
    short_side=400,
    base=RESNET50D,
    device="cuda",
    bf16=True,
    cores=16,
)
PINNED = Path(__file__).parent / "recipes"
PER_EPOCH = 7
KIN = ({"sgd", "momentum"}, {"adamw", "adam", "ranger"})
RATE_KIN = {optimizer: kin for kin in KIN for optimizer in kin}
"""Optimiser -> those that share its rate."""


def recipe_of(name: str, facts: Facts = FACTS, **given: Any) -> Recipe:
    return resolve(facts, {"recipe": name, **given}).recipe


# ---------------------------------------------------------------- values


def pinned(name: str) -> dict[str, dict[str, Any]]:
    """recipes/NAME.json: by situation, the value and the reason of each field."""
    content = json.loads((PINNED / f"{name}.json").read_text(encoding="utf-8"))
    return cast("dict[str, dict[str, Any]]", content)


def of_situations(name: str) -> dict[str, dict[str, Any]]:
    given = {"recipe": name, "from_scratch": True}
    return {
        "fine-tuning a small base on the CPU": resolve(FACTS, {"recipe": name}).to_json(),
        "a large base from scratch on a GPU": resolve(LARGE, given).to_json(),
    }


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_json_is_pinned(name: str) -> None:
    """A change of a recipe is a change of tests/finetune/recipes/NAME.json, to be read and meant:
    auto.json has every field, the others only what they have in another way."""
    common = {} if name == "auto" else pinned("auto")
    for situation, recipe in of_situations(name).items():
        of_auto = common.get(situation, {})
        differences = {field: row for field, row in recipe.items() if of_auto.get(field) != row}
        assert differences == pinned(name)[situation]
        assert recipe.keys() >= of_auto.keys()


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "auto"])
def test_a_docstring_names_source_figures_and_command(name: str) -> None:
    text = " ".join((RECIPES[name].__doc__ or "").split())
    assert f"--recipe {name}" in text
    assert "python -m finetune --data" in text
    assert "ublished" in text
    assert "ot reproduced here" in text


def test_rates_scale_linearly_with_the_batch() -> None:
    for name, batch, rate in (
        ("paddleclas", 256, 0.1),
        ("bag-of-tricks", 256, 0.1),
        ("cifar-sam", 128, 0.1),
        ("resnet18-imagenet", 256, 0.1),
    ):
        for k in (1, 2, 8):
            seen = recipe_of(name, LARGE, from_scratch=True, batch_size=k * batch)
            assert seen.lr == pytest.approx(k * rate, rel=0.01), name


@pytest.mark.parametrize(
    ("pictures", "rate"),
    [(100, 0.001), (1_000, 0.001), (10_000, 0.00316), (100_000, 0.01), (10**6, 0.01)],
)
def test_paddleclas_rate_of_fine_tuning(pictures: int, rate: float) -> None:
    assert recipe_of(
        "paddleclas", dataclasses.replace(LARGE, pictures=pictures)
    ).lr == pytest.approx(rate, rel=0.03)


def test_paddleclas_is_milder_for_small_bases_and_heavy_augmentation() -> None:
    small, large = recipe_of("paddleclas"), recipe_of("paddleclas", LARGE)
    assert (small.weight_decay, small.label_smoothing, small.crop_area) == (3e-5, 0.0, 0.2)
    assert (large.weight_decay, large.label_smoothing, large.crop_area) == (1e-4, 0.1, 0.08)
    resnet18 = dataclasses.replace(LARGE, base=dataclasses.replace(RESNET50D, params_m=11.2))
    # published: 70.98 without, 70.81 with
    assert recipe_of("paddleclas", resnet18).label_smoothing == 0.0
    for name, value in (
        ("policy", "randaugment"),
        ("policy", "autoaugment"),
        ("mixup", 0.2),
        ("cutmix", 0.2),
        ("cutout", 0.5),
        ("gridmask", 0.5),
        ("hide_and_seek", 0.5),
        ("erasing", 0.5),
    ):
        assert recipe_of("paddleclas", LARGE, **{name: value}).weight_decay == 7e-5


@pytest.mark.parametrize("scratch", [False, True])
@pytest.mark.parametrize("name", [name for name in RECIPES if name != "auto"])
def test_another_optimizer_gets_its_own_rate_and_decay(name: str, scratch: bool) -> None:
    """A recipe's are of its own optimiser: SGD's rate is no rate of AdamW's."""
    scratch = scratch or name == "resnet18-imagenet"
    own = recipe_of(name, from_scratch=scratch)
    for optimizer in get_args(TYPES["optimizer"]):
        resolved = resolve(FACTS, {"recipe": name, "optimizer": optimizer, "from_scratch": scratch})
        changed, kin = resolved.recipe, RATE_KIN.get(optimizer, {optimizer})
        assert changed.optimizer == optimizer
        assert (changed.lr == own.lr) is (own.optimizer in kin), optimizer
        if own.optimizer not in kin:
            row = (
                FROM_SCRATCH[min(kin & set(FROM_SCRATCH))]
                if scratch
                else rate_row(FACTS, optimizer)
            )
            assert changed.lr == row.rate(FACTS.pictures, changed.batch_size)
            assert f"the recipe's is of {own.optimizer}; for {optimizer} " in resolved.why["lr"]
        if optimizer in ("adam", "ranger", "adagrad", "adadelta"):
            assert changed.weight_decay == 0
        elif optimizer == "adamw":
            assert changed.weight_decay >= 0.01
        else:
            assert 3e-5 <= changed.weight_decay <= 5e-4
    by_hand = recipe_of(name, optimizer="adagrad", lr=0.5, weight_decay=0.25)
    assert (by_hand.lr, by_hand.weight_decay) == (0.5, 0.25)


def test_the_rate_of_another_optimizer_follows_the_batch() -> None:
    for scratch in (False, True):
        small, large = (
            recipe_of("paddleclas", optimizer="adamw", batch_size=size, from_scratch=scratch).lr
            for size in (32, 128)
        )
        assert large == pytest.approx(small * (4 if scratch else 2), rel=0.05)


def test_paddleclas_augmentations_are_as_strong_as_in_its_files() -> None:
    """ppcls/configs/ImageNet/DataAugment/*.yaml and ppcls/data/preprocess/ops/*.py."""
    recipe = recipe_of("paddleclas", LARGE)
    published = {
        "erasing_area": 0.4,  # RandomErasing: sh; sl is 0.02
        "erasing_ratio": pytest.approx(1 / 0.3),  # r1
        "erasing_fill": "mean",
        "cutout_side": 112 / 224,
        "gridmask_kept": 0.5,  # ratio
        "gridmask_rotate": 0.0,  # rotate 1: np.random.randint(1)
        "gridmask_growth": 240 / 300,
        "hide_and_seek_share": 0.5,
        "randaugment_scale": "paddleclas",
        "randaugment_ops": 2,  # num_layers
        "randaugment_magnitude": 5,
    }
    assert {name: getattr(recipe, name) for name in published} == published
    written = resolve(LARGE, {"recipe": "paddleclas"}).why
    assert all("published: PaddleClas, " in written[name] for name in published)
    # another scale has its own magnitude
    given = {"policy": "randaugment", "randaugment_scale": "torchvision"}
    assert recipe_of("paddleclas", LARGE, **given).randaugment_magnitude == 9
    timm_scale = {"policy": "randaugment", "randaugment_scale": "timm"}
    assert recipe_of("auto", LARGE, **timm_scale).randaugment_magnitude == 9


def test_bag_of_tricks_scales_hue_saturation_and_brightness() -> None:
    recipe = recipe_of("bag-of-tricks", LARGE)
    assert (recipe.hue_jitter, recipe.color_jitter, recipe.pca_noise) == (0.4, 0.4, 0.1)


def test_scratch_changes_what_its_source_says() -> None:
    assert (recipe_of("bag-of-tricks").zero_gamma, recipe_of("bag-of-tricks").init) == (
        False,
        "timm",
    )
    scratch = recipe_of("bag-of-tricks", from_scratch=True)
    assert (scratch.zero_gamma, scratch.init, scratch.epochs) == (True, "xavier", 200)
    assert recipe_of("cifar-sam", from_scratch=True).init == "kaiming"
    assert recipe_of("resnet18-imagenet").from_scratch


def test_cifar_sam_trains_small_pictures_as_its_source_does() -> None:
    """ResNets from scratch at 32 px, with the stem for it; padding and flip are the source's."""
    resnet = dataclasses.replace(RESNET50D, architecture="resnet18", cifar_stem=True)
    small = dataclasses.replace(LARGE, short_side=32, base=resnet)
    given = {"recipe": "cifar-sam", "from_scratch": True}
    resolved = resolve(small, given)
    recipe = resolved.recipe
    assert (recipe.stem, recipe.image_size, recipe.crop_padding, recipe.flip) == (
        "cifar",
        32,
        4,
        0.5,
    )
    assert recipe.policy == "autoaugment"
    assert recipe.image_size <= CIFAR_POLICY_UP_TO_PX
    assert resolved.why["stem"] == "published: ResNets for 32 px"
    # the largest pictures that count as CIFAR's, and the first that do not
    assert resolve(dataclasses.replace(small, short_side=40), given).recipe.stem == "cifar"
    assert resolve(dataclasses.replace(small, short_side=41), given).recipe.stem == "own"
    other = resolve(dataclasses.replace(small, base=RESNET50D), given)
    assert (other.recipe.stem, other.recipe.image_size) == ("own", 96)
    trained = resolve(small, {"recipe": "cifar-sam"})
    assert (trained.recipe.stem, trained.recipe.image_size) == ("own", 96)
    assert trained.why["stem"].startswith("that of the trained weights")
    asked = resolve(small, {"recipe": "cifar-sam", "stem": "cifar"}).recipe
    assert (asked.stem, asked.image_size) == ("cifar", 32)
    by_hand = resolve(small, {**given, "stem": "own", "image_size": 64}).recipe
    assert (by_hand.stem, by_hand.image_size) == ("own", 64)
    assert (
        resolve(dataclasses.replace(small, short_side=70), {"stem": "cifar"}).recipe.image_size
        == 64
    )
    with pytest.raises(UserError, match="--stem cifar: expected a ResNet that has it"):
        resolve(LARGE, {"stem": "cifar"})


# ---------------------------------------------------------------- schedules, from their formulas,
# step by step


def warmed(epochs: int, warm_epochs: float, after: Any) -> list[float]:
    """Shares of the peak: a straight line to 1 over the warm-up, then `after(step, of how many,
    epochs since)`."""
    total, warm = epochs * PER_EPOCH, round(warm_epochs * PER_EPOCH)
    return [
        (step + 1) / warm
        if step < warm
        else after(step - warm, total - warm, (step - warm) / PER_EPOCH)
        for step in range(total)
    ]


def cosine(step: int, of: int, _: float) -> float:
    return (1 + math.cos(math.pi * step / of)) / 2


def stairs(*epochs: float) -> Any:
    """x0.1 from each of these epochs on; they count from the run's beginning, `warm` epochs
    before."""
    return lambda warm: (
        lambda step, of, since: 0.1 ** sum(since + warm >= epoch - 1e-9 for epoch in epochs)
    )


TABLES: list[tuple[str, dict[str, Any], list[float]]] = [
    ("warmup-step", {}, warmed(40, 10, stairs(30)(10))),
    ("warmup-step", {"epochs": 8}, warmed(8, 2, stairs(6)(2))),
    ("paddleclas", {}, warmed(20, 5, cosine)),
    ("paddleclas", {"from_scratch": True}, warmed(120, 5, cosine)),
    (
        "paddleclas",
        {"schedule": "step", "from_scratch": True},
        warmed(120, 5, stairs(30, 60, 90)(5)),
    ),
    (
        "paddleclas",
        {"schedule": "polynomial", "decay_power": 2.0},
        warmed(20, 5, lambda step, of, _: (1 - step / of) ** 2),
    ),
    (
        "paddleclas",
        {"schedule": "exponential", "decay_factor": 0.9},
        warmed(20, 5, lambda step, of, since: 0.9**since),
    ),
    ("paddleclas", {"epochs": 10}, warmed(10, 1, cosine)),
    ("bag-of-tricks", {"from_scratch": True}, warmed(200, 5, cosine)),
    ("bag-of-tricks", {}, warmed(30, 5, cosine)),
    ("cifar-sam", {"from_scratch": True}, warmed(200, 5, cosine)),
    ("cifar-sam", {}, warmed(30, 5, cosine)),
    ("resnet18-imagenet", {}, warmed(90, 5, stairs(30, 60)(5))),
    ("resnet18-imagenet", {"epochs": 6}, warmed(6, 0.6, stairs(2, 4)(0.6))),
]


@pytest.mark.parametrize(
    ("name", "given", "table"), TABLES, ids=[f"{name} {given}" for name, given, _ in TABLES]
)
def test_each_schedule_follows_its_formula_at_every_step(
    name: str, given: dict[str, Any], table: list[float]
) -> None:
    recipe = recipe_of(name, **given)
    plan = schedule(recipe, steps_per_epoch=PER_EPOCH)
    assert plan.total_steps == len(table)
    assert [plan.lr(step) / recipe.lr for step in range(plan.total_steps)] == pytest.approx(
        table, rel=1e-9, abs=1e-12
    )
    assert max(table) == pytest.approx(1.0)


def test_boundaries_fall_between_the_right_steps() -> None:
    plan = schedule(recipe_of("warmup-step"), steps_per_epoch=PER_EPOCH)
    assert (
        plan.lr(10 * PER_EPOCH - 1)
        == plan.lr(10 * PER_EPOCH)
        == plan.lr(30 * PER_EPOCH - 1)
        == 1e-3
    )
    assert plan.lr(30 * PER_EPOCH) == pytest.approx(1e-4)
    # ILSVRC2012 in batches of 64
    steps = schedule(recipe_of("resnet18-imagenet"), steps_per_epoch=20_018)
    assert [
        steps.lr(step) for step in (30 * 20_018 - 1, 30 * 20_018, 60 * 20_018 - 1, 60 * 20_018)
    ] == pytest.approx([0.025, 0.0025, 0.0025, 0.00025])


def test_an_exponential_schedule_ends_at_one_percent() -> None:
    recipe = recipe_of("auto", schedule="exponential", warmup="0%", epochs=9)
    plan = schedule(recipe, steps_per_epoch=PER_EPOCH)
    assert plan.lr(plan.total_steps) / recipe.lr == pytest.approx(0.01, rel=0.01)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"init": "xavier"}, ["--init has no effect without --from-scratch"]),
        ({"zero_gamma": True}, ["--zero-gamma has no effect without --from-scratch"]),
        ({"distill_weight": 0.3}, ["--distill-weight has no effect without --teacher NAME"]),
        (
            {"distill_temperature": 3.0},
            ["--distill-temperature has no effect without --teacher NAME"],
        ),
        (
            {"decay_power": 2.0},
            ["--decay-power has no effect with --schedule cosine", "--schedule polynomial"],
        ),
        (
            {"decay_factor": 0.5, "schedule": "polynomial"},
            ["--decay-factor", "--schedule polynomial"],
        ),
        ({"from_scratch": True, "probe": "on"}, ["--from-scratch", "--probe on", "random weights"]),
        (
            {"from_scratch": True, "batch_norm": "frozen"},
            ["--from-scratch", "--batch-norm frozen", "random weights"],
        ),
        ({"accumulate": 9, "batch_size": 8}, ["--accumulate 9", "--batch-size 8"]),
        ({"patience": 5, "epochs": 5}, ["--patience 5", "--epochs 5"]),
        ({"start_size": 224, "image_size": 224}, ["--start-size 224", "--image-size 224"]),
        ({"start_size": 96, "epochs": 1}, ["--start-size 96", "--epochs 1"]),
        ({"start_size": 100}, ["--start-size 100", "multiple of 32"]),
        ({"ema": 1.0}, ["--ema 1.0"]),
        *[
            (
                {name: value, "probe_only": True},
                [f"--{name.replace('_', '-')} has no effect with --probe-only"],
            )
            for name, value in (
                ("sam_rho", 0.1),
                ("ema", 0.9),
                ("accumulate", 2),
                ("compile", "on"),
                ("patience", 1),
                ("layer_decay", 0.9),
                ("start_size", 64),
                ("teacher", "vit_base_21k"),
            )
        ],
    ],
    ids=str,
)
def test_options_without_effect_are_refused_by_name(
    given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        resolve(FACTS, given)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


# ---------------------------------------------------------------- random weights


def test_initialisations() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=10)
    last = [block.bn2.weight for block in model.modules() if hasattr(block, "zero_init_last")]
    assert len(last) == 8
    for recipe, expected in (
        (made_recipe(from_scratch=True, init="kaiming"), math.sqrt(2 / (512 * 9))),
        (made_recipe(from_scratch=True, init="xavier"), math.sqrt(2 / (512 * 9 + 512 * 9))),
    ):
        initialise(model, recipe)
        weight = model.layer4[1].conv2.weight
        assert weight.std().item() == pytest.approx(expected, rel=0.02)
        assert all(torch.all(gamma == 1) for gamma in last)
        assert torch.all(model.fc.bias == 0)
    initialise(model, made_recipe(from_scratch=True, zero_gamma=True))
    assert all(torch.all(gamma == 0) for gamma in last)
    assert torch.all(model.bn1.weight == 1)
    vit, resolved = (
        timm.create_model("test_vit"),
        resolve(FACTS, {"from_scratch": True, "recipe": "bag-of-tricks"}),
    )
    assert resolved.recipe.zero_gamma
    assert not plan.with_known_gamma(vit, resolved, {}).recipe.zero_gamma
    assert plan.with_known_gamma(model, resolved, {}) == resolved
    with pytest.raises(UserError, match=r"--zero-gamma has no effect.*VisionTransformer"):
        plan.with_known_gamma(vit, resolved, {"zero_gamma": True})


# ---------------------------------------------------------------- end to end

RUNS: list[tuple[str, dict[str, Any]]] = [
    ("warmup-step", {}),
    ("paddleclas", {"cutmix": 1.0, "optimizer": "rmsprop", "schedule": "polynomial"}),
    ("bag-of-tricks", {"from_scratch": True, "teacher": "RUN"}),
    ("cifar-sam", {"from_scratch": True, "accumulate": 2, "ema": 0.9}),
    ("resnet18-imagenet", {}),
]


@pytest.mark.usefixtures("quick_end")
@pytest.mark.parametrize(("name", "given"), RUNS, ids=[name for name, _ in RUNS])
def test_each_recipe_runs_to_its_end(
    name: str, given: dict[str, Any], digits: Path, tiny_base: Path, tiny_run: Path, tmp_path: Path
) -> None:
    if given.get("teacher"):
        given = given | {"teacher": str(tiny_run)}
    scratch = given.get("from_scratch") or name == "resnet18-imagenet"
    out = tmp_path / "run"
    pipeline.start(
        Run(data=str(digits), base="test_resnet" if scratch else str(tiny_base), out=out),
        {"recipe": name, "epochs": 2, "image_size": 32, "threads": 1, **given},
    )
    assert rundir.is_finished(out)
    recipe = rundir.read_json(out / rundir.RECIPE)
    assert recipe["recipe"]["value"] == name
    # no path of this machine
    assert recipe["teacher"]["value"] == (tiny_run.name if given.get("teacher") else "")
    assert all(recipe[key]["value"] == value for key, value in given.items() if key != "teacher")
    assert recipe["from_scratch"]["value"] == bool(scratch)
    losses = [
        json.loads(line)
        for line in (out / "metrics.jsonl").read_text().splitlines()
        if "train/loss" in line
    ]
    assert losses
    base = rundir.read_json(out / rundir.REPORT)["base"]
    assert (base["pretrained_on"] == "nothing: random weights") == bool(scratch)


def test_a_teacher_of_other_classes_is_refused(
    digits: Path, tiny_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"--teacher .*expected a run of the classes 0, 1, 2.*seen a, b"
    ):
        pipeline.start(
            Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run"),
            {"recipe": "warmup-step", "epochs": 1, "teacher": str(tiny_base)},
        )


def test_a_run_folder_is_no_architecture(digits: Path, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--from-scratch takes an architecture"):
        pipeline.start(
            Run(data=str(digits), base=str(tiny_base), out=tmp_path / "run"), {"from_scratch": True}
        )
    with pytest.raises(UserError, match="no such architecture"):
        pipeline.start(
            Run(data=str(digits), base="resnet19", out=tmp_path / "other"), {"from_scratch": True}
        )


def test_a_machine_that_cannot_compile_says_what_to_do(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.exc import InductorError

    def failing(*_: object) -> None:
        raise InductorError(RuntimeError("No working C++ compiler found"), None)

    monkeypatch.setattr("finetune.train.loop.train", failing)
    given = {"recipe": "resnet18-imagenet", "epochs": 1, "image_size": 32, "threads": 1}
    with pytest.raises(
        UserError, match=r"--compile on: .*No working C\+\+ compiler.*Install a C\+\+ compiler"
    ):
        pipeline.start(
            Run(data=str(digits), base="test_resnet", out=tmp_path / "run"),
            given | {"compile": "on"},
        )
    with pytest.raises(InductorError):
        pipeline.start(Run(data=str(digits), base="test_resnet", out=tmp_path / "other"), given)


# ---------------------------------------------------------------- layers


def test_layer_decay_lowers_the_rate_of_each_layer_below() -> None:
    from finetune.train.optimizer import optimizer

    model = timm.create_model("test_vit", num_classes=3)
    made = optimizer(model, made_recipe(layer_decay=0.5, weight_decay=0.1))
    scale = {id(p): group["lr_scale"] for group in made.param_groups for p in group["params"]}
    at = {name: scale[id(p)] for name, p in model.named_parameters()}
    assert at["head.weight"] == 1.0
    blocks = [at[f"blocks.{i}.attn.qkv.weight"] for i in range(len(model.blocks))]
    assert all(upper == 2 * lower for lower, upper in pairwise(blocks))
    assert at["patch_embed.proj.weight"] == blocks[0] / 2
    decays = {group["weight_decay"] for group in made.param_groups}
    assert decays == {0.0, 0.1}
    assert isinstance(model, nn.Module)
