"""WideResNet-40-10: the published size and shape, and what timm's models offer the rest of the
program."""

import pytest
import timm
import torch
from torch import nn

from zoo.bases.catalog import OWN_ARCHITECTURES, find_architecture
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import build, describe
from zoo.network.forward import features, forward, head
from zoo.network.wide_resnet import WideResNet


def test_it_has_the_published_size() -> None:
    """Zagoruyko and Komodakis, table 4: WRN-40-10 on CIFAR, 55.8 M parameters."""
    assert "wide_resnet40_10" in OWN_ARCHITECTURES
    with torch.device("meta"):
        model = timm.create_model("wide_resnet40_10")
        sizes = model.forward_features(torch.zeros(1, 3, 32, 32)).shape
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(55.8, abs=0.1)
    assert sizes == (1, 640, 8, 8)
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m is not None]
    shortcuts = [block.shortcut for block in model.blocks if block.shortcut is not None]
    # 40 with the two 1x1 of stages two and three that the paper counts
    assert len(layers) - len(shortcuts) == 38


def test_the_rest_of_the_program_can_use_it() -> None:
    base = find_architecture("wide_resnet40_10")
    about = describe(base, weights.RANDOM)
    assert (about.input_size, about.size_step, about.batch_norm, about.crop_mode) == (
        32,
        32,
        True,
        "center",
    )
    torch.manual_seed(0)
    model = WideResNet(depth=10, widen=1, num_classes=3, drop_path_rate=0.5).eval()
    x = torch.randn(2, 3, 32, 32)
    seen = forward(model, x)
    assert seen.embedding.shape == (2, 64)
    assert torch.equal(seen.logits, model(x))
    assert torch.allclose(model.head(features(model, x)), seen.logits)
    assert head(model) is model.head
    assert not torch.equal(model.train()(x), model(x))  # stochastic depth
    model.reset_classifier(7)
    assert model(x).shape == (2, 7)


def test_a_fresh_one_is_built_from_random_weights() -> None:
    built = build(find_architecture("seresnet18"), ["a", "b"], fetched=weights.RANDOM)
    assert built.num_classes == 2
    with pytest.raises(
        UserError, match=r"seresnet17: expected a model of timm .*no such architecture"
    ):
        build(find_architecture("seresnet17"), ["a", "b"], fetched=weights.RANDOM)
