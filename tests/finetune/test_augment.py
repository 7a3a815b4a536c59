"""Changes of one picture beyond crop and flip, and the grid that shows all of them."""

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data.auto_augment import (
    rand_augment_choices,
    rand_augment_ops,
    rand_augment_transform,
)
from torchvision.transforms import InterpolationMode, v2

from finetune.augment.picture import (
    COLOUR_VALUES,
    COLOUR_VECTORS,
    add_colour,
    augment,
    scale_hue,
    seed_everything,
)
from finetune.augment.policy import PADDLECLAS, PADDLECLAS_LEVELS, TIMM_SPREAD
from finetune.recipe.fields import flag_of
from finetune.studies import augment_grid
from finetune.studies.augment_grid import write_grid
from finetune.studies.grid_order import Grid
from tests.bad_pictures import photo
from tests.finetune.made_pictures import write_classes
from tests.made_recipe import made_recipe
from zoo.host.errors import UserError
from zoo.picture.preprocess import Preprocessing, resize_crop

PRE = Preprocessing(size=48, crop_mode="squash", crop_pct=1.0)
PLAIN = resize_crop(photo(), PRE)
MEAN = [round(255 * v) for v in PRE.mean]
ALONE: dict[str, Any] = {
    "crop_padding": 4,
    "rotate": 20.0,
    "color_jitter": 0.4,
    "hue_jitter": 0.4,
    "pca_noise": 0.1,
}
POLICIES = ("autoaugment", "randaugment", "augmix")
STRENGTHS = (
    "policy_share",
    "randaugment_scale",
    "randaugment_ops",
    "randaugment_magnitude",
    "augmix_severity",
    "augmix_consistency",
    "hue_jitter",
    "erasing_area",
    "erasing_ratio",
    "erasing_fill",
    "cutout_side",
    "gridmask_kept",
    "gridmask_rotate",
    "gridmask_growth",
    "hide_and_seek_share",
)
NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR


def view(index: int = 0, *, pre: Preprocessing = PRE, **values: Any) -> np.ndarray:
    """A view of a photo without crop and flip, but for what is named."""
    seed_everything(0, "picture", 0, index)
    return augment(photo(), made_recipe(**{"crop_area": 1.0, "flip": 0.0} | values), pre)


def by(transform: v2.Transform, index: int = 0, pre: Preprocessing = PRE) -> np.ndarray:
    """The same by a transform of torchvision, at the same place in the stream of random numbers."""
    seed_everything(0, "picture", 0, index)
    torch.rand(())  # the flip
    return np.array(transform(Image.fromarray(resize_crop(photo(), pre))))


@pytest.mark.parametrize(
    "settings",
    [
        *({key: value} for key, value in ALONE.items()),
        *({"policy": name} for name in POLICIES),
        {"policy": "randaugment", "randaugment_scale": "paddleclas", "randaugment_magnitude": 5},
        {"policy": "randaugment", "randaugment_scale": "timm"},
        {"policy": "randaugment", "policy_share": 0.8},
    ],
    ids=str,
)
def test_each_changes_pictures_and_repeats_with_the_seed(settings: dict[str, Any]) -> None:
    views = [view(i, **settings) for i in range(12)]
    assert all(v.shape == (48, 48, 3) and v.dtype == np.uint8 and v.flags.writeable for v in views)
    assert sum(not np.array_equal(v, PLAIN) for v in views) >= 6
    assert len({v.tobytes() for v in views}) >= 6
    assert all(np.array_equal(view(i, **settings), views[i]) for i in (3, 7))


def test_policies_are_torchvisions_with_corners_of_the_mean_colour() -> None:
    small, large = PRE, Preprocessing(size=80, crop_mode="squash", crop_pct=1.0)
    for i in range(4):
        for pre, found_on in (
            (small, v2.AutoAugmentPolicy.CIFAR10),
            (large, v2.AutoAugmentPolicy.IMAGENET),
        ):
            expected = by(v2.AutoAugment(found_on, NEAREST, fill=MEAN), i, pre)
            assert np.array_equal(view(i, policy="autoaugment", pre=pre), expected)
        assert np.array_equal(
            view(i, policy="randaugment"), by(v2.RandAugment(2, 9, 31, NEAREST, fill=MEAN), i)
        )
        assert np.array_equal(
            view(i, policy="augmix"), by(v2.AugMix(3, 3, -1, 1.0, True, BILINEAR, fill=MEAN), i)
        )


def test_the_strength_of_policies() -> None:
    for i in range(4):
        assert np.array_equal(
            view(i, policy="randaugment", randaugment_ops=3, randaugment_magnitude=20),
            by(v2.RandAugment(3, 20, 31, NEAREST, fill=MEAN), i),
        )
        assert np.array_equal(
            view(i, policy="augmix", augmix_severity=1),
            by(v2.AugMix(1, 3, -1, 1.0, True, BILINEAR, fill=MEAN), i),
        )
    some = {"policy": "randaugment", "randaugment_magnitude": 20, "policy_share": 0.3}
    assert 12 < sum(not np.array_equal(view(i, **some), PLAIN) for i in range(100)) < 45


def test_paddleclass_randaugment_at_its_own_magnitude() -> None:
    """Magnitude 5 of 10, as randaugment.py computes it: half of each range."""
    level = 5 / PADDLECLAS_LEVELS
    assert {name: arguments(level) for name, arguments in PADDLECLAS.items()} == {
        "ShearX": (0.15, -0.15),
        "ShearY": (0.15, -0.15),
        "TranslateXRel": (75 / 331, -75 / 331),
        "TranslateYRel": (75 / 331, -75 / 331),
        "Rotate": (15,),
        "Color": (1.45, 0.55),
        "Posterize": (2,),
        "Solarize": (128,),
        "Contrast": (1.45, 0.55),
        "Sharpness": (1.45, 0.55),
        "Brightness": (1.45, 0.55),
        "AutoContrast": (),
        "Equalize": (),
        "Invert": (),
    }
    settings = {"randaugment_scale": "paddleclas", "randaugment_magnitude": 5, "randaugment_ops": 1}
    views = [view(i, policy="randaugment", **settings) for i in range(80)]
    plain = Image.fromarray(PLAIN)
    for change in (
        ImageOps.invert(plain),
        ImageOps.solarize(plain, 128),
        ImageOps.posterize(plain, 2),
        ImageEnhance.Color(plain).enhance(1.45),
        ImageEnhance.Color(plain).enhance(0.55),
    ):
        assert any(np.array_equal(seen, np.asarray(change)) for seen in views)


def test_timms_randaugment_is_rand_m9_mstd05_inc1() -> None:
    """The changes, their probability and their spread; only the order of draws is ours."""
    theirs = rand_augment_transform("rand-m9-mstd0.5-inc1", {"img_mean": tuple(MEAN)})
    ours = rand_augment_ops(
        9,
        hparams={"img_mean": tuple(MEAN), "magnitude_std": TIMM_SPREAD},
        transforms=rand_augment_choices("", increasing=True),
    )
    assert [str(change) for change in ours] == [str(change) for change in theirs.ops]
    settings = {"policy": "randaugment", "randaugment_scale": "timm", "randaugment_ops": 1}
    unchanged = sum(np.array_equal(view(i, **settings), PLAIN) for i in range(200))
    assert 80 < unchanged < 130


def test_augmixs_three_views_share_a_crop_and_the_first_is_left_alone() -> None:
    values = {"policy": "augmix", "augmix_consistency": 12.0, "crop_area": 0.5, "flip": 0.5}
    for i in range(6):
        views = view(i, **values)
        assert views.shape == (3, 48, 48, 3)
        assert np.array_equal(views[0], view(i, crop_area=0.5, flip=0.5))
        assert np.array_equal(views[1], view(i, **values | {"augmix_consistency": 0.0}))
        assert not np.array_equal(views[1], views[2])


def test_rotation_is_by_up_to_its_degrees_either_way_and_fills_with_the_mean_colour() -> None:
    """The angle, from where the right half's edge meets the top and the bottom."""
    halves = Image.fromarray(
        np.repeat(
            np.where(np.arange(48) < 24, 0, 255).astype(np.uint8)[None, :, None], 48, 0
        ).repeat(3, 2)
    )
    angles = []
    for i in range(80):
        seed_everything(0, i)
        turned = augment(halves, made_recipe(crop_area=1.0, flip=0.0, rotate=20.0), PRE)
        edges = [int((turned[y, 12:36, 0] < 128).sum()) for y in (12, 35)]
        angles.append(np.degrees(np.arctan2(edges[1] - edges[0], 23)))
        if abs(angles[-1]) > 10:
            assert [turned[y, x].tolist() for y in (0, -1) for x in (0, -1)] == [MEAN] * 4
    assert -22 < min(angles) < -15
    assert 15 < max(angles) < 22
    assert abs(np.mean(angles)) < 5


def test_crop_padding_shifts_by_up_to_its_pixels_and_is_black_outside() -> None:
    shifts = set()
    padded = np.pad(PLAIN, ((4, 4), (4, 4), (0, 0)))
    for i in range(150):
        got = view(i, crop_padding=4)
        fits = [
            (y, x)
            for y in range(9)
            for x in range(9)
            if np.array_equal(padded[y : y + 48, x : x + 48], got)
        ]
        assert len(fits) == 1
        shifts.add(fits[0])
    assert {y for y, _ in shifts} == {x for _, x in shifts} == set(range(9))


def test_color_jitter_varies_brightness_contrast_and_saturation_by_its_share() -> None:
    grey = Image.new("RGB", (48, 48), (100, 100, 100))  # contrast and saturation leave it alone
    levels = []
    for i in range(80):
        seed_everything(0, i)
        levels.append(
            augment(grey, made_recipe(crop_area=1.0, flip=0.0, color_jitter=0.4), PRE).mean()
        )
    assert 59 <= min(levels) < 70
    assert 130 < max(levels) <= 141
    red = Image.new("RGB", (48, 48), (200, 50, 50))
    spreads = [
        np.ptp(
            augment(red, made_recipe(crop_area=1.0, flip=0.0, color_jitter=0.4), PRE)[0, 0].astype(
                int
            )
        )
        for _ in range(40)
    ]
    assert min(spreads) < 100 < 180 < max(spreads)


def test_pca_noise_adds_alexnets_colour() -> None:
    """[p1, p2, p3] [a1 l1, a2 l2, a3 l3]^T of section 4.1, for colours from 0 to 1."""
    alpha = np.array([0.1, -0.2, 0.3])
    expected = PLAIN.astype(float)
    for a, value, vector in zip(alpha, COLOUR_VALUES, COLOUR_VECTORS.T, strict=True):
        expected += 255 * a * value * vector
    got = np.asarray(add_colour(Image.fromarray(PLAIN), alpha))
    assert np.array_equal(got, expected.round().clip(0, 255).astype(np.uint8))
    assert np.allclose(COLOUR_VECTORS.T @ COLOUR_VECTORS, np.eye(3), atol=1e-3)
    grey = Image.new("RGB", (48, 48), (128, 128, 128))
    colours = []
    for i in range(200):
        seed_everything(0, i)
        noisy = augment(grey, made_recipe(crop_area=1.0, flip=0.0, pca_noise=0.1), PRE)
        assert (noisy == noisy[0, 0]).all()
        colours.append(noisy[0, 0] - 128.0)
    along_first = np.array(colours) @ COLOUR_VECTORS[:, 0]
    assert along_first.std() == pytest.approx(255 * 0.1 * COLOUR_VALUES[0], rel=0.2)


def test_hue_jitter_multiplies_the_hue() -> None:
    """Bag of Tricks: by 0.6 to 1.4; of green, 1/3 of the circle, that makes 0.2 to 0.467."""
    green = Image.new("RGB", (48, 48), (0, 255, 0))
    hues = []
    for i in range(200):
        seed_everything(0, i)
        turned = augment(green, made_recipe(crop_area=1.0, flip=0.0, hue_jitter=0.4), PRE)
        hue, saturation, value = colorsys.rgb_to_hsv(*(turned[0, 0] / 255))
        assert (saturation, value) == (1, 1)
        hues.append(hue)
    assert min(hues) == pytest.approx(0.2, abs=0.01)
    assert max(hues) == pytest.approx(1.4 / 3, abs=0.01)
    assert np.mean(hues) == pytest.approx(1 / 3, abs=0.02)
    assert np.array_equal(np.asarray(scale_hue(green, 1.0)), np.asarray(green))


def test_changes_come_after_the_flip_and_in_a_fixed_order() -> None:
    noisy, both = view(2, color_jitter=0.4, pca_noise=0.1), view(2, color_jitter=0.4)
    assert not np.array_equal(noisy, both)
    assert np.array_equal(view(2, color_jitter=0.4, flip=1.0), view(2, color_jitter=0.4)[:, ::-1])


# --- the grid


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "animals", {"cat": 2, "dog": 3}, size=(20, 16))


def test_the_grid_has_a_row_for_each_augmentation(
    animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (animals / "cat" / "000.png").write_bytes(b"\x89PNG")
    rows: list[tuple[str, np.ndarray]] = []
    sheet = augment_grid.sheet
    monkeypatch.setattr(augment_grid, "sheet", lambda found: rows.extend(found) or sheet(found))
    write_grid(Grid(str(animals), tmp_path / "grid.png", size=16, columns=3))
    titles = [name for name, _ in rows]
    shown = {flag for name in titles for flag in name.split()[::2]}
    assert shown >= {flag_of(name) for name in STRENGTHS}
    assert shown >= {
        "none",
        "--policy",
        *(f"--{name.replace('_', '-')}" for name in ALONE),
        "--erasing",
        "--cutout",
        "--gridmask",
        "--hide-and-seek",
        "--mixup",
        "--cutmix",
        "--flip",
        "--crop-area",
        "--crop-ratio",
    }
    assert {name.split()[1] for name in titles if "--policy" in name} == set(POLICIES)
    assert all(views.shape == (3, 16, 16, 3) and views.dtype == np.uint8 for _, views in rows)
    plain = dict(rows)["none"]
    # dog, cat and dog: classes alternate, and the picture that cannot be read is left out
    decoded = [
        resize_crop(Image.open(animals / name), Preprocessing(16, "squash", 1.0))
        for name in ("dog/000.png", "cat/001.png", "dog/001.png")
    ]
    assert abs(plain.astype(int) - np.stack(decoded)).max() <= 1
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width == 4 + 3 * 20
        assert grid.height > len(rows) * 16


def test_a_grid_that_cannot_be_written_or_drawn_says_why(animals: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out .*grid\.unknown: expected .*augmentations\.png"):
        write_grid(Grid(str(animals), tmp_path / "grid.unknown", size=16, columns=2))
    for path in animals.rglob("*.png"):
        path.write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"--data .*: no picture .*can be read"):
        write_grid(Grid(str(animals), tmp_path / "grid.png", size=16, columns=2))
    with pytest.raises(UserError, match="--columns 1: expected a value from 2 to 32"):
        Grid(str(animals), columns=1)
