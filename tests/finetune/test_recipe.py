"""What a run will do: durations, learning rate, recipes and their reasons, optimiser groups."""

import dataclasses
import json
import math
from typing import Any

import pytest
import timm
import torch

from finetune.presets.anchors import interpolate
from finetune.presets.resolve import RECIPES, resolve
from finetune.recipe.durations import duration_steps
from finetune.recipe.field_docs import field_docs
from finetune.recipe.fields import ROWS, TYPES, USUAL, Recipe
from finetune.recipe.resolved import Resolved
from finetune.recipe.run import Run
from finetune.train.optimizer import optimizer
from finetune.train.schedule import schedule
from tests.finetune.resolved_recipe import FACTS, LITE, recipe_of, refusal
from tests.made_recipe import made_recipe
from zoo.contract.recipe_rows import BY_HAND
from zoo.host.errors import UserError
from zoo.network.build import Description

VIT = Description("vit_base_patch16_224", 85.8, False, 224, 16, "center", 14)
FIELDS = [field.name for field in dataclasses.fields(Recipe)]
TRAINING = (
    "epochs",
    "batch_size",
    "lr",
    "optimizer",
    "amp",
    "warmup",
    "schedule",
    "weight_decay",
    "label_smoothing",
    "erasing",
    "crop_area",
    "flip",
    "drop_path",
    "dropout",
    "batch_norm",
    "clip_norm",
)
"""Settings that act on fine-tuning alone."""


# ---------------------------------------------------------------- the two dataclasses


@pytest.mark.parametrize("cls", [Run, Recipe])
def test_every_field_has_a_docstring_of_its_own(cls: type) -> None:
    docs = field_docs(cls)
    assert list(docs) == [field.name for field in dataclasses.fields(cls)]
    assert len(set(docs.values())) == len(docs)
    assert min(map(len, docs.values())) > 10


def test_tables_name_fields_that_exist() -> None:
    for name, row in ROWS.items():
        assert (row.low > -math.inf and row.high < math.inf) == (TYPES[name] in (int, float)), name
        assert row.needs[:1] in ((), *((field,) for field in FIELDS)), name
    assert set(USUAL) <= set(FIELDS)
    assert not set(FIELDS) & {field.name for field in dataclasses.fields(Run)}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [(name, row.low, row.high) for name, row in ROWS.items() if TYPES[name] in (int, float)],
)
def test_bounds_are_inclusive_and_name_the_flag(name: str, low: float, high: float) -> None:
    flag = "--" + name.replace("_", "-")
    for inside in (low, high):
        assert getattr(made_recipe(**{name: inside}), name) == inside
    for outside in (low - 1, high + 1, math.nan):
        with pytest.raises(
            UserError, match=f"^{flag} {outside}: expected a value from {low} to {high}"
        ):
            made_recipe(**{name: outside})


# ---------------------------------------------------------------- durations


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("10%", 7),
        ("100%", 70),
        ("0%", 0),
        ("2 epochs", 14),
        ("1 epoch", 7),
        ("0.5 epochs", 4),
        ("50 steps", 50),
        ("1 step", 1),
        ("  25 %  ", 18),
        ("3epochs", 21),
        ("1e1 steps", 10),
        ("10 epochs", 70),
    ],
)
def test_durations(text: str, steps: int) -> None:
    assert duration_steps(text, steps_per_epoch=7, total_steps=70) == steps


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "ten epochs",
        "10 hours",
        "epochs",
        "%",
        "1,5 epochs",
        "nan%",
        "inf steps",
        "1e400 steps",
        "2 epochs 3 steps",
    ],
)
def test_malformed_durations_show_the_forms(text: str) -> None:
    with pytest.raises(UserError) as caught:
        duration_steps(text, steps_per_epoch=7, total_steps=70)
    assert repr(text) in str(caught.value)
    assert "'2 epochs'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "steps"), [("-1 epochs", -7), ("-10%", -7), ("71 steps", 71), ("11 epochs", 77)]
)
def test_durations_outside_the_run(text: str, steps: int) -> None:
    with pytest.raises(
        UserError, match=f"'{text}' is {steps} steps: expected 0 to 70, the length of the run"
    ):
        duration_steps(text, steps_per_epoch=7, total_steps=70)


# ---------------------------------------------------------------- learning rate


def test_several_boundaries_multiply() -> None:
    plan = schedule(
        made_recipe(
            epochs=10,
            schedule="step",
            warmup="0%",
            decay_at="3 epochs, 60%,8 epochs",
            lr=1.0,
            decay_factor=0.5,
        ),
        steps_per_epoch=2,
    )
    assert [plan.lr(step) for step in range(20)] == [1.0] * 6 + [0.5] * 6 + [0.25] * 4 + [0.125] * 4


def test_cosine() -> None:
    plan = schedule(made_recipe(epochs=10, warmup="10%", lr=0.02), steps_per_epoch=10)
    for step in range(10):
        assert plan.lr(step) == pytest.approx(0.02 * (step + 1) / 10)
    for step in range(10, 100):
        assert plan.lr(step) == pytest.approx(0.01 * (1 + math.cos(math.pi * (step - 10) / 90)))
    assert plan.lr(10) == 0.02
    assert plan.lr(55) == pytest.approx(0.01)
    assert 0 < plan.lr(99) < 0.02 / 1_000
    assert schedule(made_recipe(epochs=1, warmup="0%", lr=0.02), steps_per_epoch=1).lr(0) == 0.02


def test_constant() -> None:
    plan = schedule(
        made_recipe(epochs=3, schedule="constant", warmup="2 steps", lr=0.5), steps_per_epoch=2
    )
    assert [plan.lr(step) for step in range(6)] == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("warmup", "3 epochs"),
        ("warmup", "soon"),
        ("decay_at", "75"),
        ("decay_at", "1 epoch, 3epoch"),
    ],
)
def test_a_schedule_names_the_wrong_duration(field: str, text: str) -> None:
    wrong = text.split(",")[-1]
    with pytest.raises(UserError, match=f"duration '{wrong}'"):
        schedule(made_recipe(epochs=2, schedule="step", **{field: text}), steps_per_epoch=5)


# ---------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("base", [LITE, VIT])
def test_every_value_has_a_reason(name: str, device: str, base: Description) -> None:
    facts = dataclasses.replace(FACTS, device=device, base=base)
    resolved = resolve(facts, {"recipe": name})
    assert resolved == resolve(facts, {"recipe": name})  # a pure function
    assert list(resolved.to_json()) == FIELDS
    assert set(resolved.why) == set(FIELDS)
    assert all(reason.strip() for reason in resolved.why.values())
    assert resolved.why["recipe"] == BY_HAND
    assert resolved.recipe.recipe == name
    schedule(resolved.recipe, steps_per_epoch=1)  # its own durations fit even the shortest epoch


def test_auto_is_the_default() -> None:
    resolved = resolve(FACTS, {})
    assert (resolved.recipe.recipe, resolved.why["recipe"]) == ("auto", "default")
    assert resolved.recipe == recipe_of({"recipe": "auto"})


def test_hand_set_values_win_and_say_so() -> None:
    given = {"lr": 0.5, "epochs": 3, "flip": 0.0, "seed": 7, "amp": "bf16", "image_size": 224}
    resolved = resolve(FACTS, given)
    chosen = resolve(FACTS, {})
    for name in FIELDS:
        assert getattr(resolved.recipe, name) == given.get(name, getattr(chosen.recipe, name))
        assert resolved.why[name] == (BY_HAND if name in given else chosen.why[name])


def test_interpolation() -> None:
    anchors = ((100, 1.0), (10_000, 4.0), (1_000_000, 1.0))
    assert [interpolate(n, anchors) for n in (1, 100, 10_000, 1_000_000, 10**9)] == pytest.approx(
        [1, 1, 4, 1, 1]
    )
    assert interpolate(1_000, anchors) == pytest.approx(2.0)  # the geometric middle of both axes
    assert interpolate(100_000, anchors) == pytest.approx(2.0)
    rising = [interpolate(n, anchors) for n in range(100, 10_001, 50)]
    assert rising == sorted(rising)


@pytest.mark.parametrize("own", [224, 260, 64, 96])
def test_side_of_the_pictures(own: int) -> None:
    base = dataclasses.replace(LITE, input_size=own)
    sides = []
    for short in range(1, 300):
        fitting = [side for side in range(32, 1024, 32) if side >= 2 * short and side >= 96]
        expected = min(fitting[0], own)
        assert recipe_of(short_side=short, base=base).image_size == expected, short
        sides.append(expected)
    assert sides == sorted(sides)
    assert sides[-1] == own


def test_side_of_patches_and_fixed_sizes() -> None:
    patch14 = dataclasses.replace(VIT, size_step=14, input_size=518)
    assert recipe_of(short_side=100, base=patch14).image_size == 210
    assert recipe_of(short_side=10, base=patch14).image_size == 98
    fixed = dataclasses.replace(VIT, size_step=None, input_size=256)
    for short in (10, 100, 1_000):
        assert recipe_of(short_side=short, base=fixed).image_size == 256


def test_device_decides_precision_batch_and_threads() -> None:
    assert (recipe_of().amp, recipe_of().batch_size) == ("off", 32)
    assert recipe_of(bf16=True).amp == "off"
    assert recipe_of(device="mps").amp == "off"
    assert recipe_of(device="cuda", bf16=True).amp == "bf16"
    assert recipe_of(device="cuda", bf16=False).amp == "fp16"
    assert recipe_of(device="cuda").batch_size == 64
    assert recipe_of(cores=24).threads == 24
    assert recipe_of({"batch_size": 8}).batch_norm == "frozen"
    assert recipe_of({"batch_size": 16}).batch_norm == "frozen"
    assert recipe_of(pictures=10_000).batch_norm == "train"
    assert recipe_of({"batch_size": 8}, pictures=10_000).batch_norm == "frozen"


def test_validation_share() -> None:
    assert recipe_of().val == "0.2"
    assert recipe_of(has_val=True).val == "folder"
    assert float(recipe_of(pictures=1_000_000).val) == pytest.approx(0.02)
    # a path is of this machine: local.json keeps it, the recipe (which is published) does not
    assert recipe_of({"val": "elsewhere/pictures"}, has_val=True).val == "folder"


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("given", "facts", "words"),
    [
        ({"decay_at": "30 epochs"}, {}, ["--decay-at", "--schedule cosine"]),
        ({"decay_at": "30 epochs"}, {}, ["--recipe auto", "--schedule step"]),
        (
            {"decay_factor": 0.5, "schedule": "constant"},
            {},
            ["--decay-factor", "--schedule constant"],
        ),
        ({"features": "bf16", "probe": "off"}, {}, ["--features", "--probe off"]),
        ({"probe_only": True, "probe": "off"}, {}, ["--probe-only", "--probe off"]),
        ({"lr": 0.1, "probe_only": True, "probe": "off"}, {}, ["--lr", "--probe-only"]),
        (
            {"probe_only": True, "recipe": "warmup-step"},
            {},
            ["--probe-only", "--recipe warmup-step", "--probe on"],
        ),
        ({"schedule": "step"}, {}, ["--schedule step", "--decay-at"]),
        ({"val": "0.3"}, {"has_val": True}, ["--val 0.3", "val folder"]),
    ],
)
def test_settings_without_effect(
    given: dict[str, Any], facts: dict[str, Any], words: list[str]
) -> None:
    message = refusal(given, **facts)
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize("name", TRAINING)
def test_training_settings_have_no_effect_on_a_probe(name: str) -> None:
    message = refusal({name: getattr(made_recipe(), name), "probe_only": True})
    assert f"--{name.replace('_', '-')} " in message
    assert "--probe-only" in message


def test_a_probe_takes_the_other_settings() -> None:
    given = {
        "probe_only": True,
        "seed": 3,
        "fit": "pad",
        "image_size": 64,
        "val": "0.3",
        "features": "bf16",
        "threads": 1,
    }
    recipe = recipe_of(given)
    assert {name: getattr(recipe, name) for name in given} == given


def test_step_decay_on_top_of_auto() -> None:
    assert recipe_of({"schedule": "step", "decay_at": "50%", "decay_factor": 0.2}).decay_at == "50%"


@pytest.mark.parametrize(
    ("size", "base", "words"),
    [
        (100, LITE, ["--image-size 100", "multiple of 32", "efficientnet_lite0"]),
        (200, VIT, ["--image-size 200", "multiple of 16"]),
        (128, dataclasses.replace(VIT, size_step=None), ["--image-size 128", "only 224"]),
        (8, LITE, ["--image-size 8", "from 16 to 4096"]),
    ],
)
def test_wrong_image_sizes(size: int, base: Description, words: list[str]) -> None:
    message = refusal({"image_size": size}, base=base)
    assert not [word for word in words if word not in message], message


def test_own_image_size_needs_no_multiple() -> None:
    assert (
        recipe_of({"image_size": 260}, base=dataclasses.replace(LITE, input_size=260)).image_size
        == 260
    )
    assert recipe_of({"image_size": 288}, base=LITE).image_size == 288


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"recipe": "warmup"},
            ["--recipe warmup:", "auto, warmup-step, paddleclas", "did you mean warmup-step?"],
        ),
        ({"recipe": "atuo"}, ["--recipe atuo:", "did you mean auto?"]),
        ({"epochs": 0}, ["--epochs 0:", "from 1"]),
        ({"lr": -1e-3}, ["--lr -0.001:"]),
        ({"label_smoothing": 1.0}, ["--label-smoothing 1.0:", "0.9"]),
    ],
)
def test_wrong_values(given: dict[str, Any], words: list[str]) -> None:
    message = refusal(given)
    assert not [word for word in words if word not in message], message


# ---------------------------------------------------------------- recipe.json


def test_json_round_trip() -> None:
    resolved = resolve(FACTS, {"lr": 0.01, "probe": "off"})
    assert Resolved.from_json(json.loads(json.dumps(resolved.to_json()))) == resolved


def test_json_of_another_version() -> None:
    content = resolve(FACTS, {}).to_json()
    with pytest.raises(UserError, match="sharpness"):
        Resolved.from_json(content | {"sharpness": {"value": 1, "why": "x"}})
    # before these came
    earlier = {name: row for name, row in content.items() if name not in ("ema", "policy")}
    assert Resolved.from_json(earlier).recipe == Resolved.from_json(content).recipe
    assert Resolved.from_json(earlier).why["ema"] == "not known to the version that began this run"
    del content["lr"]
    with pytest.raises(UserError, match="'lr'"):
        Resolved.from_json(content)


def test_replace_gives_one_reason_to_what_changes() -> None:
    before = resolve(FACTS, {})
    after = before.replace("measured", features="bf16", threads=1)
    assert dataclasses.asdict(after.recipe) == dataclasses.asdict(before.recipe) | {
        "features": "bf16",
        "threads": 1,
    }
    assert after.why == before.why | {"features": "measured", "threads": "measured"}
    with pytest.raises(UserError, match="--threads 0"):
        before.replace("measured", threads=0)


# ---------------------------------------------------------------- optimiser


@pytest.mark.parametrize(
    ("name", "kind", "its"),
    [
        ("adamw", torch.optim.AdamW, {}),
        ("adam", torch.optim.Adam, {}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("momentum", torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.9, "alpha": 0.9}),
        ("adagrad", torch.optim.Adagrad, {}),
        ("adadelta", torch.optim.Adadelta, {}),
        ("lars", timm.optim.Lars, {"momentum": 0.9, "trust_coeff": 0.001}),
        ("ranger", timm.optim.Lookahead, {"lookahead_k": 6, "lookahead_alpha": 0.5}),
    ],
)
def test_optimizers(name: str, kind: type, its: dict[str, Any]) -> None:
    model = timm.create_model("test_efficientnet", num_classes=3)
    made = optimizer(model, made_recipe(optimizer=name, weight_decay=0.3, lr=0.25))
    assert type(made) is kind
    for group in made.param_groups:
        assert {key: group[key] for key in its} == its
        assert group["lr"] == 0.25
    covered = [p for group in made.param_groups for p in group["params"]]
    assert len(covered) == len({id(p) for p in covered}) == len(list(model.parameters()))
    assert {id(p) for p in covered} == {id(p) for p in model.parameters()}
    for group in made.param_groups:
        assert {(0.3 if p.ndim > 1 else 0.0) for p in group["params"]} == {group["weight_decay"]}
    if name == "ranger":
        assert type(made._base_optimizer) is torch.optim.RAdam
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = [p.detach().clone() for p in model.parameters()]
    made.step()
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_what_weight_decay_shrinks() -> None:
    """With gradients of zero only decay moves a weight."""
    model = timm.create_model("test_vit", num_classes=3)
    made = optimizer(model, made_recipe(weight_decay=0.5, lr=0.1))
    for p in model.parameters():
        p.data.fill_(1.0)
        p.grad = torch.zeros_like(p)
    made.step()
    kept = {name for name, p in model.named_parameters() if torch.all(p == 1.0)}
    assert {
        "pos_embed",
        "cls_token",
        "norm.weight",
        "norm.bias",
        "head.bias",
        "blocks.0.attn.qkv.bias",
    } <= kept
    shrunk = {name: p for name, p in model.named_parameters() if name not in kept}
    assert {"head.weight", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"} <= set(shrunk)
    assert all(p.ndim > 1 and torch.allclose(p, torch.tensor(0.95)) for p in shrunk.values())
    assert {name for name, p in model.named_parameters() if p.ndim > 1} - set(shrunk) == {
        "pos_embed",
        "cls_token",
    }
