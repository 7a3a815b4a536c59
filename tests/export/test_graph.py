"""The deployed graph in torch against what it computes over again: preprocessing, views and
decision."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from export.graph import resize
from export.graph.deployed import Deployed, DeployedParts, Prepare
from export.proof import torch_answer
from export.proof.hard_pictures import smooth
from tests.export.made_export import (
    CALIBRATED,
    SIDE,
    SMALL_BEIT,
    WITH_STAGE,
    Made,
    made_bank,
    made_model,
)
from zoo.contract.decision import Decision
from zoo.network import class_maps
from zoo.picture import tta
from zoo.picture.preprocess import Preprocessing

SIZES = (
    (64, 64),
    (17, 33),
    (1, 1),
    (3, 60),
    (60, 3),
    (97, 200),
    (96, 65),
    (64, 65),
    (300, 210),
    (7, 140),
)
"""Width and height in pixels."""
CROPS = (
    ("squash", 1.0),
    ("squash", 0.875),
    ("center", 1.0),
    ("center", 0.875),
    ("center", 1.15),
    ("border", 1.0),
    ("border", 0.875),
)
each_crop = pytest.mark.parametrize(("crop_mode", "crop_pct"), CROPS)


def noisy(width: int, height: int) -> Image.Image:
    random = np.random.default_rng([width, height])
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def differences(prepare: Prepare, picture: Image.Image) -> np.ndarray:
    """Between Pillow's views and the graph's, in levels."""
    expected = (
        tta.prepare_views(picture, prepare.pre, prepare.views)
        .transpose(0, 3, 1, 2)
        .astype(np.float32)
    )
    with torch.inference_mode():
        seen = prepare.windows(torch.from_numpy(np.array(picture))[None]).numpy()
    assert seen.shape == expected.shape
    return np.abs(expected - seen)


def worst(pre: Preprocessing, resize: str) -> float:
    """The largest difference over smooth and noisy pictures of all sizes, and all views."""
    prepares = [
        Prepare(pre, tta.VIEWS[views], resize=resize) for views in ("flip", "five", "multiscale")
    ]
    return max(
        float(differences(prepare, make(*size)).max())
        for prepare in prepares
        for size in SIZES
        for make in (smooth, noisy)
    )


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", ["op", "matmul"])
@each_crop
def test_pixels_are_pillows(
    crop_mode: str, crop_pct: float, interpolation: str, resize: str
) -> None:
    """torch's own Resize rounds its weights and is within 2 levels; ONNX Runtime's is within 1
    (test_export.py)."""
    limit = 0 if resize == "matmul" else 2
    assert worst(Preprocessing(48, crop_mode, crop_pct, interpolation), resize) <= limit


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size",
    [
        (8, 96),
        (1, 96),
        (3, 97),
        (96, 224),
        (300, 224),
        (1001, 224),
        (8, 256),
        (16, 384),
        (4000, 96),
        (225, 224),
    ],
)
def test_weights_of_products_are_pillows(size: tuple[int, int], interpolation: str) -> None:
    """Length before and after: every weight is the whole number that Pillow rounds its own to,
    Resample.c."""
    length, side = size
    pre = Preprocessing(side, "squash", 1.0, interpolation)
    (high, low), _ = resize.weights(length, torch.full((1,), float(side)), pre)
    fixed = (high.double() * resize.SPLIT + low.double()).numpy()
    scale, random = length / side, np.random.default_rng(0)
    radius = resize.RADIUS[interpolation] * max(scale, 1)
    for place in random.choice(side, 20, replace=False):
        centre = (place + 0.5) * scale
        taps = np.arange(
            max(int(centre - radius + 0.5), 0), min(int(centre + radius + 0.5), length)
        )
        x = np.abs(taps - centre + 0.5) / max(scale, 1)
        if interpolation == "bilinear":
            value = np.clip(1 - x, 0, None)
        else:
            far = np.where(x < 2, (((x - 5) * x + 8) * x - 4) * -0.5, 0)
            value = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, far)
        expected = np.zeros(length)
        expected[taps] = value / value.sum() * 2**22
        expected = np.trunc(expected + np.copysign(0.5, expected))
        np.testing.assert_array_equal(fixed[place], expected)


@pytest.mark.parametrize("interpolation", ["lanczos", "box", "hamming"])
@pytest.mark.parametrize(
    ("crop_mode", "crop_pct"), [("squash", 1.0), ("center", 0.875), ("border", 1.0)]
)
def test_other_filters_are_pillows(crop_mode: str, crop_pct: float, interpolation: str) -> None:
    pre = Preprocessing(48, crop_mode, crop_pct, interpolation)
    assert Prepare(pre, tta.VIEWS["none"], resize="op").matmul  # Resize has none of them
    # its sines differ in their last bits
    assert worst(pre, "op") <= (1 if interpolation == "hamming" else 0)


@pytest.mark.parametrize("size", [(97, 200), (17, 31), (301, 211)])
def test_nearest_is_pillows_where_no_pixel_is_halfway(size: tuple[int, int]) -> None:
    """Pillow adds the step up from pixel to pixel, so that between two equally near ones rounding
    decides."""
    prepare = Prepare(Preprocessing(48, "squash", 1.0, "nearest"), tta.VIEWS["flip"], resize="op")
    assert differences(prepare, noisy(*size)).max() == 0


def test_resize_is_used_where_it_equals_pillow() -> None:
    for pre, by_products in (
        (Preprocessing(48, "squash", 1.0), False),
        (Preprocessing(48, "center", 0.875), False),
        (Preprocessing(48, "border", 1.0), True),
        (Preprocessing(48, "center", 1.15), True),
        (Preprocessing(48, interpolation="lanczos"), True),
    ):
        assert Prepare(pre, tta.VIEWS["none"], resize="op").matmul is by_products
        assert Prepare(pre, tta.VIEWS["none"], resize="matmul").matmul


def test_without_antialias_the_pixels_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.functional.interpolate
    monkeypatch.setattr(
        "export.graph.resize.interpolate",
        lambda x, *, antialias, **how: real(x, antialias=False, **how),
    )
    assert worst(Preprocessing(48, "squash", 1.0), "op") > 20


def test_a_batch_keeps_the_views_of_a_picture_together() -> None:
    prepare = Prepare(Preprocessing(48, "center", 0.875), tta.VIEWS["five"], resize="op")
    pictures = [torch.from_numpy(np.array(make(80, 60))) for make in (smooth, noisy)]
    both = prepare.windows(torch.stack(pictures))
    assert both.shape == (10, 3, 48, 48)
    torch.testing.assert_close(both, torch.cat([prepare.windows(one[None]) for one in pictures]))


def test_normalised_as_by_torchvision() -> None:
    from zoo.picture.preprocess import normalise

    pre = Preprocessing(48, "squash", 1.0, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    prepare, picture = Prepare(pre, tta.VIEWS["none"], resize="op"), smooth(48, 48)
    seen = prepare(torch.from_numpy(np.array(picture))[None])
    np.testing.assert_allclose(seen[0].numpy(), normalise(np.array(picture), pre), atol=1e-6)


MODELS = {
    "ResNet": Made("test_resnet", pre=Preprocessing(64, "squash", 1.0), decision=WITH_STAGE),
    "ViT": Made("test_vit", {"img_size": SIDE}),
    "BEiT": Made("beit_base_patch16_224", SMALL_BEIT),
}


@pytest.mark.parametrize("views", ["none", "flip", "five", "multiscale"])
@pytest.mark.parametrize("which", MODELS)
def test_answers_are_those_of_zoo_decision(which: str, views: str) -> None:
    made = MODELS[which]
    model = made_model(made)
    parts = DeployedParts(
        model, made.pre, replace(made.decision, views=views), made_bank(model, made)
    )
    deployed = Deployed(parts, resize="op").eval()
    assert deployed.outputs == ["probabilities", "unknown_score", "embedding", "heatmap"]
    for picture in (smooth(97, 64), noisy(40, 50), smooth(10, 120)):
        image = torch.from_numpy(np.array(picture))[None]
        with torch.inference_mode():
            given = dict(zip(deployed.outputs, deployed(image), strict=True))
            pixels = deployed.prepare.windows(image).permute(0, 2, 3, 1).to(torch.uint8).numpy()
        expected = torch_answer.answer_by_torch(parts, pixels, has_map=True)
        assert set(given) == set(expected.outputs)
        for name, value in expected.outputs.items():
            assert given[name].dtype == torch.float32
            np.testing.assert_allclose(
                given[name][0].numpy(), value, rtol=1e-4, atol=1e-5, err_msg=name
            )
        # and by the model's own words: the embedding is that of the whole picture, not of another
        # view
        whole = torch.from_numpy(expected.x[None])
        with torch.inference_mode():
            pooled = model.forward_head(model.forward_features(whole), pre_logits=True)  # type: ignore[operator]
        own = given["embedding"][:, : pooled.shape[1]]
        if made.decision.early:  # a part of length 1
            pooled = pooled / pooled.norm()
        np.testing.assert_allclose(own.numpy(), pooled.numpy(), rtol=1e-4, atol=1e-5)


def test_without_unknown_score_there_is_no_such_output() -> None:
    made = MODELS["ViT"]
    deployed = Deployed(
        DeployedParts(made_model(made), made.pre, Decision(views="flip"), None), resize="op"
    ).eval()
    assert deployed.outputs == ["probabilities", "embedding", "heatmap"]
    given = deployed(torch.zeros(2, 40, 50, 3, dtype=torch.uint8))
    assert [tuple(value.shape) for value in given] == [(2, 3), (2, 64), (2, 2, 2)]


def test_without_a_map_there_is_no_such_output() -> None:
    """At 32 px this network's feature map is one place."""
    made = Made("test_resnet")
    model = made_model(made)
    assert not class_maps.has_map(model, SIDE)
    deployed = Deployed(
        DeployedParts(model, made.pre, CALIBRATED, made_bank(model, made)), resize="op"
    ).eval()
    assert deployed.outputs == ["probabilities", "unknown_score", "embedding"]
    given = deployed(torch.zeros(2, 40, 50, 3, dtype=torch.uint8))
    assert [value.shape[0] for value in given] == [2, 2, 2]


def test_extreme_logits_stay_numbers() -> None:
    made = MODELS["ViT"]
    model = made_model(made)
    with torch.no_grad():
        model.get_classifier().weight.mul_(1e4)  # type: ignore[operator]
    parts = DeployedParts(model, made.pre, Decision(temperature=0.5, views="flip"), None)
    deployed = Deployed(parts, resize="op").eval()
    with torch.inference_mode():
        [probabilities, *_] = deployed(torch.from_numpy(np.array(noisy(40, 50)))[None])
    assert torch.isfinite(probabilities).all()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 0.99


def test_an_embedding_of_no_length_is_unknown_not_nan() -> None:
    """Divided by the shortest length instead of by 0."""
    made = MODELS["ViT"]
    model = timm.create_model("test_vit", num_classes=3, img_size=SIDE).eval()
    with torch.no_grad():
        model.norm.weight.zero_()  # type: ignore[union-attr,operator]
        model.norm.bias.zero_()  # type: ignore[union-attr,operator]
    bank = torch.nn.functional.normalize(torch.randn(4, 64), dim=1)
    deployed = Deployed(DeployedParts(model, made.pre, CALIBRATED, bank), resize="op").eval()
    with torch.inference_mode():
        given = dict(
            zip(
                deployed.outputs,
                deployed(torch.zeros(1, 40, 50, 3, dtype=torch.uint8)),
                strict=True,
            )
        )
    assert given["unknown_score"].item() == pytest.approx(1)
    assert torch.equal(given["heatmap"], torch.zeros(1, 2, 2))
