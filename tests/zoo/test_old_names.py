"""Names that timm once had are answered with its present ones, wherever a person may give them."""

import pytest
import timm
from timm.models._registry import get_deprecated_models

from zoo.bases.catalog import find, find_architecture
from zoo.bases.old_names import current_architecture, current_name
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import describe

OLD = sorted(name for name, current in get_deprecated_models().items() if current)


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
                find(given)
        with pytest.raises(UserError, match=f"calls this architecture {architecture}[.]"):
            describe(find_architecture(name), weights.RANDOM)


@pytest.mark.parametrize("name", ["resnet18", "vit_base_patch16_224", "nothing", ""])
def test_other_names_are_none(name: str) -> None:
    assert current_name(name) is None
    assert current_architecture(name) == name
