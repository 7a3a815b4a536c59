"""Class activation maps against grad-cam, against the logits they are made of, and on pictures with
a known answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torch.nn.functional import interpolate

from finetune.train.probe import fit
from zoo.bases.catalog import find_base
from zoo.network.build import build_network
from zoo.network.class_maps import evidence, has_map, heatmap
from zoo.network.forward import features, head, set_head

CLASSES = 4
SIDE = 128


@dataclass(frozen=True)
class Case:
    architecture: str
    layer: str
    """The last layer before pooling."""
    as_nchw: Callable[[Tensor], Tensor] | None = None
    """What grad-cam needs to read that layer's output."""
    options: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        return lively(timm.create_model(self.architecture, num_classes=CLASSES, **self.options))


def tokens_from(start: int) -> Callable[[Tensor], Tensor]:
    return lambda x_BNC: x_BNC[:, start:].unflatten(1, (SIDE // 16, SIDE // 16)).permute(0, 3, 1, 2)


SMALL_SWIN = {
    "img_size": SIDE,
    "window_size": 4,
    "embed_dim": 16,
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 4, 8),
}
OVER_TOKENS = {"img_size": SIDE, "global_pool": "avg"}
POOL_AND_LINEAR = {  # global average pooling, then a linear layer
    "convolutions": Case("test_resnet", "layer4"),
    "convolution_as_classifier": Case("resnetv2_18", "norm"),
    "channels_last": Case(
        "swin_tiny_patch4_window7_224", "norm", lambda x: x.permute(0, 3, 1, 2), SMALL_SWIN
    ),
    "tokens": Case("test_vit", "norm", tokens_from(1), OVER_TOKENS | {"fc_norm": False}),
    "registers": Case(
        "test_vit2", "norm", tokens_from(3), OVER_TOKENS | {"fc_norm": False, "reg_tokens": 3}
    ),
}
LAYER_BETWEEN = {  # a norm or a layer between the two
    "ConvNeXt": Case("test_convnext", "stages"),
    "MobileNetV3": Case("mobilenetv3_small_050", "blocks"),
    "ViT": Case("test_vit", "blocks", tokens_from(1), OVER_TOKENS),
}


def textures(pictures: int, side: int = SIDE) -> Tensor:
    """Random pictures with large and small structure, [N, 3, side, side]."""
    generator = torch.Generator().manual_seed(0)
    coarse = interpolate(
        torch.randn(pictures, 3, 6, 6, generator=generator), size=side, mode="bicubic"
    )
    return coarse + 0.5 * torch.randn(pictures, 3, side, side, generator=generator)


@torch.no_grad()
def lively(network: nn.Module) -> nn.Module:
    """All parameters moved off their initial values (zeros and ones too), so that features differ
    between places."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        spread = parameter.std(correction=0).clamp(min=0.05)
        parameter.add_(0.5 * spread * torch.randn_like(parameter))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # statistics of the pictures that follow, instead of 0 and 1
            layer.reset_running_stats()
    network.train()(textures(8))
    return network.eval()


def grad_cam(case: Case, network: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """The library's maps, of the pictures' size."""
    with GradCAM(
        network, [network.get_submodule(case.layer)], reshape_transform=case.as_nchw
    ) as library:
        return torch.from_numpy(
            library(x, [ClassifierOutputTarget(int(label)) for label in labels])
        )


@torch.no_grad()
def our_maps(network: Any, x: Tensor, labels: Tensor) -> Tensor:
    """Our maps, of the pictures' size."""
    maps_BHW = heatmap(network, network.forward_features(x), labels)
    return interpolate(maps_BHW[:, None], size=x.shape[-2:], mode="bilinear")[:, 0]


def correlations(case: Case) -> list[float]:
    """Between grad-cam's maps and ours, of pictures that have a map; both must be empty for the
    same pictures."""
    network, x, labels = case.build(), textures(8), torch.arange(8) % CLASSES
    ours, theirs = our_maps(network, x, labels), grad_cam(case, network, x, labels)
    there = ours.std((1, 2)) > 0
    assert torch.equal(there, theirs.std((1, 2)) > 0)
    assert there.sum() >= 5
    return [
        float(np.corrcoef(a.flatten(), b.flatten())[0, 1])
        for a, b in zip(ours[there].numpy(), theirs[there].numpy(), strict=True)
    ]


@pytest.mark.parametrize("case", POOL_AND_LINEAR.values(), ids=POOL_AND_LINEAR)
def test_pooling_and_a_linear_layer_give_what_grad_cam_gives(case: Case) -> None:
    assert min(correlations(case)) > 0.999


@pytest.mark.parametrize("case", LAYER_BETWEEN.values(), ids=LAYER_BETWEEN)
def test_with_a_layer_between_the_map_is_near_grad_cam(case: Case) -> None:
    """Grad-CAM takes that layer's slope at the pooled features, ours its answer at each place:
    alike, not the same."""
    found = correlations(case)
    assert np.mean(found) > 0.85
    assert min(found) < 0.999


@pytest.mark.parametrize("case", POOL_AND_LINEAR.values(), ids=POOL_AND_LINEAR)
@torch.no_grad()
def test_the_mean_evidence_and_the_bias_are_the_logit(case: Case) -> None:
    network: Any = case.build()
    x, labels = textures(5), torch.tensor([3, 0, 1, 2, 3])
    feature_map = network.forward_features(x)
    evidence_B = evidence(network, feature_map, labels).sum(-1).mean((1, 2))
    last: Any = head(network)
    logits_B = network(x)[torch.arange(5), labels]
    torch.testing.assert_close(evidence_B + last.bias[labels], logits_B, rtol=1e-4, atol=1e-4)
    assert logits_B.std() > 0.02


@pytest.mark.parametrize(
    "case",
    [*POOL_AND_LINEAR.values(), *LAYER_BETWEEN.values()],
    ids=[*POOL_AND_LINEAR, *LAYER_BETWEEN],
)
@torch.no_grad()
def test_a_map_is_scaled_and_does_not_depend_on_the_other_pictures(case: Case) -> None:
    network: Any = case.build()
    x, labels = textures(5), torch.tensor([3, 0, 1, 2, 3])
    feature_map = network.forward_features(x)
    together = heatmap(network, feature_map, labels)
    assert together.dtype == torch.float32
    assert together.shape[0] == 5
    assert together.shape[1] == together.shape[2] > 1
    for i, label in enumerate(labels):
        alone = heatmap(network, network.forward_features(x[i : i + 1]), label[None])
        torch.testing.assert_close(alone[0], together[i], atol=1e-3, rtol=1e-3)
        assert (together[i].min(), together[i].max()) in ((0, 1), (0, 0))
    assert (together.amax((1, 2)) == 1).sum() >= 3
    assert not torch.allclose(
        heatmap(network, feature_map, (labels + 1) % CLASSES), together, atol=0.1
    )


@pytest.mark.parametrize("case", POOL_AND_LINEAR.values(), ids=POOL_AND_LINEAR)
@torch.no_grad()
def test_a_map_without_places_that_stand_out_is_zero(case: Case) -> None:
    network: Any = case.build()
    real, labels = network.forward_features(textures(3)), torch.tensor([0, 1, 2])
    grid = heatmap(network, real, labels).shape
    channels = torch.randn(evidence(network, real, labels).shape[-1])
    same = (channels if case.as_nchw else channels[:, None, None]).expand_as(real)
    for feature_map in (same, torch.zeros_like(real), torch.full_like(real, torch.nan)):
        assert torch.equal(heatmap(network, feature_map, labels), torch.zeros(grid))
    set_head(
        network, torch.zeros(CLASSES, features(network, textures(1)).shape[1]), torch.ones(CLASSES)
    )
    assert not heatmap(network, real, labels).any()  # a head that has not learnt anything


@torch.no_grad()
def test_evidence_against_the_class_alone_gives_an_empty_map() -> None:
    network: Any = timm.create_model("test_resnet", num_classes=2).eval()
    dim = features(network, textures(1)).shape[1]
    set_head(network, torch.stack((-torch.ones(dim), torch.ones(dim))), torch.tensor([9.0, -9.0]))
    feature_map = torch.rand(2, dim, 4, 4) + 1
    maps = heatmap(network, feature_map, torch.tensor([0, 1]))  # the biases point the other way
    assert not maps[0].any()
    assert (maps[1].min(), maps[1].max()) == (0, 1)


@torch.no_grad()
def test_pictures_need_not_be_square() -> None:
    wide = torch.randn(2, 3, 64, 128)
    networks: list[Any] = [
        timm.create_model("test_efficientnet"),
        timm.create_model("test_vit", img_size=(64, 128)),
    ]
    for network in networks:
        assert has_map(network.eval())
        feature_map = network.forward_features(wide)
        maps = heatmap(network, feature_map, torch.tensor([0, 1]))
        assert maps.shape == ((2, 2, 4) if feature_map.ndim == 4 else (2, 4, 8))


WITH_MAP = (
    "test_vit",
    "test_vit3",
    "test_vit4",
    "test_vit_relpos",
    "test_resnet",
    "test_efficientnet",
    "test_efficientnet_ln",
    "test_convnext",
    "test_byobnet",
    "test_mambaout",
    "test_maxvit",
    "test_coatnet",
    "test_nfnet",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small",
    "eva02_tiny_patch14_224",
    "regnety_002",
    "xcit_nano_12_p16_224",
    "pvt_v2_b0",
    "ghostnet_050",
)
WITHOUT_MAP: dict[str, dict[str, Any]] = {
    "deit_tiny_distilled_patch16_224": {},  # two heads
    "efficientformer_l1": {},  # two heads
    "crossvit_tiny_240": {},  # two feature maps
    "levit_128s": {},  # a norm inside the classifier
    "vgg11": {"mlp_ratio": 0.02},  # weights for each place
    "pit_ti_224": {},  # only a class token left
    "coat_lite_tiny": {},  # a class token that `num_prefix_tokens` does not count
}


@pytest.mark.parametrize("architecture", WITH_MAP)
def test_architectures_with_a_map(architecture: str) -> None:
    network = timm.create_model(architecture, num_classes=CLASSES)
    for training in (True, False):
        assert has_map(network.train(training))
        assert network.training is training


@pytest.mark.parametrize("architecture", WITHOUT_MAP)
def test_architectures_without_a_map(architecture: str) -> None:
    assert not has_map(
        timm.create_model(architecture, num_classes=CLASSES, **WITHOUT_MAP[architecture])
    )


def test_a_map_of_one_place_is_none() -> None:
    small = timm.create_model("test_resnet", pretrained_cfg_overlay={"input_size": (3, 32, 32)})
    assert not has_map(small)
    assert has_map(
        timm.create_model("test_resnet", pretrained_cfg_overlay={"input_size": (3, 64, 64)})
    )


class Explained(nn.Module):
    """What an exported graph computes: logits and map of the best class from one forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature_map = self.network.forward_features(x)
        logits = self.network.forward_head(feature_map)
        return logits, heatmap(self.network, feature_map, logits.argmax(1))


@pytest.mark.parametrize("name", ["tokens", "convolutions"])
@torch.no_grad()
def test_the_map_can_be_traced_for_any_batch(name: str) -> None:
    explained = Explained(POOL_AND_LINEAR[name].build())
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        explained, (textures(2),), dynamic_shapes=({0: batch},), strict=False
    )
    graph: Any = program.module()
    for pictures in (1, 5):
        x = textures(pictures)
        for traced, eager in zip(graph(x), explained(x), strict=True):
            torch.testing.assert_close(traced, eager, rtol=1e-3, atol=1e-3)


PICTURE, SQUARE = 224, 112
COLOURS = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.3, 0.9], [0.1, 0.8, 0.2], [0.9, 0.8, 0.1]])


@dataclass(frozen=True)
class Scenes:
    """Grey noise with one striped, checked or plain square, or with two of different classes side
    by side."""

    x_BCHW: Tensor
    labels_BK: Tensor
    """Classes of the K squares."""
    inside_BKHW: Tensor
    """1 inside each square, else 0."""


def scenes(pictures: int, squares: int, seed: int) -> Scenes:
    generator = torch.Generator().manual_seed(seed)
    noise_B1HW = 0.5 + 0.3 * torch.randn(pictures, 1, PICTURE, PICTURE, generator=generator)
    x_BCHW = noise_B1HW.repeat(1, 3, 1, 1)
    labels_BK = torch.rand(pictures, CLASSES, generator=generator).argsort(1)[:, :squares]
    inside_BKHW = torch.zeros(pictures, squares, PICTURE, PICTURE)
    row, column = torch.meshgrid(
        torch.arange(SQUARE) // 12, torch.arange(SQUARE) // 12, indexing="ij"
    )
    textures_4SS = torch.stack((row % 2, column % 2, (row + column) % 2, torch.ones_like(row)))
    room = PICTURE // squares - SQUARE
    for b in range(pictures):
        for k, label in enumerate(labels_BK[b]):
            top = int(torch.randint(PICTURE - SQUARE + 1, (), generator=generator))
            left = k * PICTURE // squares + int(torch.randint(room + 1, (), generator=generator))
            place = (b, slice(None), slice(top, top + SQUARE), slice(left, left + SQUARE))
            grain = 0.1 * torch.randn(3, SQUARE, SQUARE, generator=generator)
            x_BCHW[place] = (
                0.5 + (COLOURS[label][:, None, None] - 0.5) * textures_4SS[label] + grain
            )
            inside_BKHW[b, k, top : top + SQUARE, left : left + SQUARE] = 1
    return Scenes((x_BCHW.clamp(0, 1) - 0.5) / 0.5, labels_BK, inside_BKHW)


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    """EfficientNet-Lite0 with its published weights, its head fitted to pictures with one
    square."""
    network = build_network(
        find_base("efficientnet_lite0"), ["rows", "columns", "checks", "plain"]
    ).eval()
    seen = scenes(32, 1, seed=0)
    with torch.no_grad():
        x_ND = torch.cat([features(network, x) for x in seen.x_BCHW.split(16)])
    fitted = fit(x_ND, seen.labels_BK[:, 0], CLASSES)
    set_head(network, fitted.weight, fitted.bias)
    return network


def mass(maps_BHW: Tensor, inside_BHW: Tensor) -> Tensor:
    """Share of each map's sum that lies inside, [B]."""
    return (maps_BHW * inside_BHW).sum((1, 2)) / maps_BHW.sum((1, 2))


def test_the_map_lies_on_the_planted_square(lite0: Any) -> None:
    new = scenes(8, 1, seed=1)
    labels, inside = new.labels_BK[:, 0], new.inside_BKHW[:, 0]
    with torch.no_grad():
        assert (lite0(new.x_BCHW).argmax(1) == labels).all()
    ours = our_maps(lite0, new.x_BCHW, labels)
    assert inside.mean() == 0.25
    assert mass(ours, inside).mean() >= 0.6
    other = our_maps(lite0, new.x_BCHW, (labels + 1) % CLASSES)  # of a class that is not there
    assert (ours - other).abs().amax((1, 2)).min() > 0.3
    assert other.isfinite().all()
    theirs = grad_cam(Case("", "bn2"), lite0, new.x_BCHW[:4], labels[:4])
    for a, b in zip(ours[:4].numpy(), theirs.numpy(), strict=True):
        assert np.corrcoef(a.flatten(), b.flatten())[0, 1] >= 0.99


def test_of_two_squares_the_map_lies_on_the_one_of_its_class(lite0: Any) -> None:
    both = scenes(8, 2, seed=2)
    for k in (0, 1):
        maps = our_maps(lite0, both.x_BCHW, both.labels_BK[:, k])
        own, other = mass(maps, both.inside_BKHW[:, k]), mass(maps, both.inside_BKHW[:, 1 - k])
        assert own.mean() > 3 * other.mean()
        assert (own > other).float().mean() >= 0.9
