"""Networks for 32 px: WideResNet-40-10 has the published size and what timm's models offer the rest
of the program; ResNets have the stem that is usual there."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from zoo.bases.catalog import find_architecture, find_base
from zoo.bases.rows import OWN_ARCHITECTURES
from zoo.host.errors import UserError
from zoo.network import weights
from zoo.network.build import build_network, describe
from zoo.network.cifar_nets import CIFAR_RESNETS, WideResNet
from zoo.network.forward import features, forward, head
from zoo.network.guard import meta_device


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
    built = build_network(find_architecture("seresnet18"), ["a", "b"], fetched=weights.RANDOM)
    assert built.num_classes == 2
    with pytest.raises(
        UserError, match=r"seresnet17: expected a model of timm .*no such architecture"
    ):
        build_network(find_architecture("seresnet17"), ["a", "b"], fetched=weights.RANDOM)


@pytest.mark.parametrize("name", CIFAR_RESNETS)
def test_a_resnet_differs_from_timms_in_its_stem_alone(name: str) -> None:
    assert f"{name}_cifar" in OWN_ARCHITECTURES
    with meta_device():
        theirs = timm.create_model(name, num_classes=10)
        ours = timm.create_model(f"{name}_cifar", num_classes=10)
        # 4 x 4 places, where timm's has one
        assert ours.forward_features(torch.zeros(1, 3, 32, 32)).shape[2:] == (4, 4)
    shapes = [{key: t.shape for key, t in m.state_dict().items()} for m in (theirs, ours)]
    assert shapes[0] | {"conv1.weight": (64, 3, 3, 3)} == shapes[1]
    assert [stage["reduction"] for stage in ours.feature_info] == [1, 1, 2, 4, 8]


def test_a_base_gets_the_stem_with_and_without_weights(tmp_path: Path) -> None:
    base = find_base("resnet18_1k")
    about = describe(base, weights.RANDOM)
    assert about.cifar_stem
    assert not describe(find_base("efficientnet_lite0"), weights.RANDOM).cifar_stem
    scratch = build_network(base, ["a", "b"], fetched=weights.RANDOM, cifar_stem=True)
    assert scratch.pretrained_cfg["architecture"] == "resnet18_cifar"
    # CIFAR-100's, because there are no weights that want another
    assert scratch.pretrained_cfg["mean"] == (0.5071, 0.4865, 0.4409)
    trained = timm.create_model("resnet18")
    torch.save(trained.state_dict(), tmp_path / "w.pth")
    fetched = weights.Weights(tmp_path / "w.pth", "", None, "", None, None)
    model = build_network(base, ["a", "b"], fetched=fetched, cifar_stem=True)
    assert torch.equal(model.conv1.weight, trained.conv1.weight[:, :, 2:5, 2:5])
    assert torch.equal(model.layer4[1].conv2.weight, trained.layer4[1].conv2.weight)
    assert model.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("name", ["wide_resnet40_10", "resnet18_cifar", "googlenet"])
def test_an_own_network_takes_what_the_config_of_a_run_says(name: str) -> None:
    with meta_device():
        network = timm.create_model(name, num_classes=2, in_chans=3, global_pool="avg")
    # what timm writes into config.json
    assert network.global_pool.pool_type == "avg"
    assert network.num_classes == 2
