"""Class activation maps: which places of a picture speak for a class, without gradients, from one
forward pass.

    has_map(model)                            whether the architecture has such a map; call it once
    heatmap(model, feature_map, labels)       the map of a class for each picture, in [0, 1]
    evidence(model, feature_map, labels)      what it is made of, in logits

`feature_map` is what `model.forward_features(x)` gave, so that one pass serves logits, embedding
and map. `heatmap` and `evidence` are tensor operations only, so that the map can be an output of an
exported graph.

Method: the model's own head, applied to every place as if it were the whole map. Where the head is
average pooling and a linear layer (ResNet, EfficientNet, Swin) that is the class activation map of
Zhou et al., "Learning Deep Features for Discriminative Localization" (CVPR 2016), and Grad-CAM
gives the same: the mean of the evidence over all places plus the bias is the logit. Where a norm or
a layer stands between (ConvNeXt, MobileNetV3) it is the natural extension, which does not add up to
the logit.

Transformers: the patch tokens are the places, and attention mixes places, so that a token need not
stand for its patch. With pooling over the tokens, all of the above holds. With a class token, the
patch tokens of the last layer have no part in the logit (Grad-CAM is 0 there,
jacobgil/pytorch-grad-cam #363), and training never shows them to the head. Their map says which
patches the head would take for the class, a resemblance that pretrained ViTs have (Vilas et al.,
"Analyzing Vision Transformers for Image Classification in Class Embedding Space", NeurIPS 2023),
not what made up the answer: read it as a hint.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.network.forward import data_config, head

FLAT = 1e-5
"""A map is constant up to rounding if its span is below this share of its evidence's sum of
absolute values."""


def heatmap(model: nn.Module, feature_map: Tensor, labels_B: Tensor) -> Tensor:
    """The map of class `labels_B[i]` (int64) of picture i: float32 [B, h, w], from 0 (lowest) to 1
    (highest).

    As in Grad-CAM, what speaks against the class is cut to 0 before scaling. Constant maps, and
    those in which nothing speaks for the class, are 0 everywhere, never NaN. Expects
    `has_map(model)` and evaluation mode.
    """
    evidence_BHWD = evidence(model, feature_map, labels_B)
    map_BHW = evidence_BHWD.sum(-1).relu()
    low_B11, high_B11 = map_BHW.amin((1, 2), keepdim=True), map_BHW.amax((1, 2), keepdim=True)
    # in tensor operations, without a branch, so that an exporter can follow it
    span_B11 = high_B11 - low_B11
    # False for NaN, too
    clear_B11 = span_B11 > FLAT * evidence_BHWD.abs().sum(-1).amax((1, 2), keepdim=True)
    return torch.where(clear_B11, (map_BHW - low_B11) / torch.where(clear_B11, span_B11, 1.0), 0.0)


def evidence(model: nn.Module, feature_map: Tensor, labels_B: Tensor) -> Tensor:
    """What each of the classifier's D inputs adds at each place to the logit of class
    `labels_B[i]`: float32 [B,h,w,D]."""
    network: Any = model
    places_BHWF = _places(network, feature_map)
    assert places_BHWF is not None, "has_map(model)"
    height, width, channels = places_BHWF.shape[1:]
    single_N11F = places_BHWF.reshape(-1, 1, 1, channels)
    inputs_ND = _inputs(network, single_N11F, feature_map.ndim)
    # counted from a place without features, so that neither the bias nor the shift of a norm before
    # it is evidence
    empty_1D = _inputs(network, feature_map.new_zeros(1, 1, 1, channels), feature_map.ndim)
    inputs_BHWD = (inputs_ND - empty_1D).float().unflatten(0, (-1, height, width))
    weight_CD = network.get_classifier().weight.flatten(1).float()
    return inputs_BHWD * weight_CD.index_select(0, labels_B)[:, None, None]


@torch.no_grad()
def has_map(model: nn.Module, image_size: int | None = None) -> bool:
    """Whether `heatmap` is defined: a head that `zoo.network.forward.head` finds, after a pooling
    that treats all places alike.

    Not for heads with weights for each place (VGG), models with several heads (distilled DeiT), and
    pictures so small that the feature map is a single place. Tried with one random picture each
    time, of `image_size` pixels a side (None: the model's own).
    """
    network: Any = model
    last = head(model)
    if last is None:
        return False
    # put back at the end, whatever the trial raises
    training = network.training
    generator = torch.Generator().manual_seed(0)
    try:
        channels, *own = data_config(model)["input_size"]
        sides = (image_size, image_size) if image_size else own
        noise = torch.randn(1, channels, *sides, generator=generator)
        feature_map = network.eval().forward_features(
            noise.to(last.weight.device, last.weight.dtype)
        )
        return isinstance(feature_map, Tensor) and _pools_evenly(network, feature_map, generator)
    finally:
        network.train(training)


def _pools_evenly(network: Any, feature_map: Tensor, generator: torch.Generator) -> bool:
    """Whether the head ignores the order of places, and takes a single place for a map that is the
    same everywhere."""
    places = _places(network, feature_map)
    if places is None or places.shape[1] * places.shape[2] < 2:
        return False
    # features of an untrained model may be constant
    noise = torch.randn(places.shape, generator=generator).to(places)
    single = noise[:, :1, :1]
    try:
        same = [
            _inputs(network, pair, feature_map.ndim)
            for pair in (noise, noise.flip(1, 2), single, single.expand_as(noise))
        ]
    except RuntimeError:  # the head takes no map of another size
        return False
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in (same[:2], same[2:]))


def _inputs(network: Any, places_BHWF: Tensor, ndim: int) -> Tensor:
    """What the classifier gets, [B, D], for maps that consist of these places; `ndim` of the
    model's own feature map.

    Where the model has class and register tokens, they are the mean of the places.
    """
    if ndim == 3:
        tokens = places_BHWF.flatten(1, 2)
        prefix = tokens.mean(1, keepdim=True).expand(-1, _prefix_tokens(network), -1)
        feature_map = torch.cat((prefix, tokens), 1)
    else:
        feature_map = places_BHWF if _channels_last(network) else places_BHWF.permute(0, 3, 1, 2)
    return network.forward_head(feature_map, pre_logits=True).flatten(1)


def _places(network: Any, feature_map: Tensor) -> Tensor | None:
    """The feature map as [B, h, w, F], without class and register tokens; None if it is not one of
    places."""
    if feature_map.ndim == 4:
        return feature_map if _channels_last(network) else feature_map.permute(0, 2, 3, 1)
    if feature_map.ndim != 3:
        return None
    tokens = feature_map[:, _prefix_tokens(network) :]
    count = tokens.shape[1]
    # of the size that the model was built for; other sizes are taken to be square
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    # merged patches, or a picture of another size than the model was made for
    if not grid or math.prod(grid) != count:
        grid = (math.isqrt(count), math.isqrt(count))
    return tokens.unflatten(1, grid) if math.prod(grid) == count else None


def _prefix_tokens(network: Any) -> int:
    return getattr(network, "num_prefix_tokens", 0)


def _channels_last(network: Any) -> bool:
    return getattr(network, "output_fmt", "NCHW") == "NHWC"
