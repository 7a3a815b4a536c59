"""Recipes for a thousand pictures of ten classes, and what is refused."""

import dataclasses
from typing import Any

import pytest

from finetune.presets.resolve import resolve
from finetune.recipe.facts import Facts
from finetune.recipe.fields import Recipe
from zoo.host.errors import UserError
from zoo.network.build import Description

LITE = Description("efficientnet_lite0", 3.37, True, 224, 32, "center", 18)
FACTS = Facts(
    pictures=1_000,
    class_counts=(100,) * 10,
    has_val=False,
    short_side=100,
    base=LITE,
    device="cpu",
    bf16=False,
    cores=2,
)


def recipe_of(given: dict[str, Any] | None = None, **facts: Any) -> Recipe:
    """The recipe for FACTS with some of them changed."""
    return resolve(dataclasses.replace(FACTS, **facts), given or {}).recipe


def refusal(given: dict[str, Any], **facts: Any) -> str:
    """What `resolve` says when it refuses."""
    with pytest.raises(UserError) as caught:
        recipe_of(given, **facts)
    return str(caught.value)
