"""Names that timm once had are answered with its present ones, wherever a person may give them."""

import sys

import pytest
import timm
import torch
from timm.models import vision_transformer

from tests.borrowed import borrowed
from zoo.bases import of_timm
from zoo.bases.catalog import find_architecture, find_base
from zoo.bases.old_names import current_architecture, current_name
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import describe

OLD = sorted(name for name, current in of_timm.old_names().items() if current)


def test_timm_has_what_is_borrowed() -> None:
    with borrowed("timm", "its table of old names"):
        assert (
            of_timm.old_names()["vit_base_patch16_224_in21k"] == "vit_base_patch16_224.augreg_in21k"
        )
    with borrowed("timm", "checkpoint_filter_fn of vision_transformer"):
        model = timm.create_model("vit_tiny_patch16_224", num_classes=0)
        rename = of_timm.renamer(vision_transformer)
        assert rename is not None
        renamed = rename({"model": {"pos_embed": torch.zeros(1, 1 + 24 * 24, 192)}}, model)
        assert renamed["pos_embed"].shape == model.pos_embed.shape
    with borrowed("timm", "adapt_layer_scale of vision_transformer's checkpoint_filter_fn"):
        renamed = rename({"blocks.0.gamma_1": torch.ones(1)}, model)
        assert list(renamed) == ["blocks.0.ls1.gamma"]
    assert of_timm.renamer(sys) is None


def test_every_old_name_of_timm_is_answered_with_the_present_one() -> None:
    assert {"xception", "tf_efficientnet_b0_ns", "vit_base_patch16_224_in21k"} < set(OLD)
    for name in OLD:
        current = current_name(name)
        assert current is not None
        architecture = current.partition(".")[0]
        assert current_architecture(name) == architecture
        assert timm.is_model(architecture)
        for given in (name, f"timm/{name}"):
            with pytest.raises(UserError, match=f" {current}:"):
                find_base(given)
        with pytest.raises(UserError, match=f"calls this architecture {architecture}[.]"):
            describe(find_architecture(name), weights.RANDOM)


@pytest.mark.parametrize("name", ["resnet18", "vit_base_patch16_224", "nothing", ""])
def test_other_names_are_none(name: str) -> None:
    assert current_name(name) is None
    assert current_architecture(name) == name
