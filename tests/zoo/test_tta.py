"""Test-time views: each window against a crop by hand of the larger preparation."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.bad_pictures import photo
from zoo.picture.preprocess import Preprocessing, resize_crop
from zoo.picture.tta import VIEWS, WHOLE, View, offsets, prepare_views, zoomed_size

PICTURES = {
    "landscape": photo(90, 40),
    "portrait": photo(37, 80),
    "square": photo(64, 64),
    "small": photo(5, 7),
    "one pixel": Image.new("RGB", (1, 1), (9, 80, 200)),
    "20:1": photo(200, 10),
    "1:20": photo(6, 120),
}
SIZES = (32, 96, 100, 224)
MODES = {
    "squash": Preprocessing(224, "squash", 1.0),
    "center": Preprocessing(224, "center", 0.875),
    "border": Preprocessing(224, "border", 1.0),
    "bilinear": Preprocessing(224, "center", 0.95, "bilinear"),
}


def test_the_table_says_what_the_names_mean() -> None:
    assert {name: len(views) for name, views in VIEWS.items()} == {
        "none": 1,
        "flip": 2,
        "five": 5,
        "multiscale": 3,
    }
    for views in VIEWS.values():
        assert views[0] == WHOLE == (1.0, 0.5, 0.5, False)
        assert len(set(views)) == len(views)
    assert [(view.across, view.down) for view in VIEWS["five"][1:]] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
    ]
    assert zoomed_size(224, VIEWS["five"][1].zoom) == 256


@pytest.mark.parametrize("name", VIEWS)
def test_every_window_lies_in_its_prepared_picture(name: str) -> None:
    for size in range(16, 513):
        for view in VIEWS[name]:
            spare = zoomed_size(size, view.zoom) - size
            left, top = offsets(view, size)
            assert 0 <= left <= spare
            assert 0 <= top <= spare
            if view.across in (0, 1):
                # corners touch the border
                assert (left, top) == (view.across * spare, view.down * spare)
            else:
                assert abs(2 * left - spare) <= 1  # in the middle
                assert left == top
            assert spare > 0 or view.zoom == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", PICTURES)
def test_the_first_view_is_the_one_of_evaluation_and_all_have_its_size(
    kind: str, mode: str
) -> None:
    for size in SIZES:
        pre = replace(MODES[mode], size=size)
        plain = resize_crop(PICTURES[kind], pre)
        for views in VIEWS.values():
            seen = prepare_views(PICTURES[kind], pre, views)
            assert seen.shape == (len(views), size, size, 3)
            assert seen.dtype == np.uint8
            assert np.array_equal(seen[0], plain)


def test_flip_is_the_mirror_image() -> None:
    for pre in MODES.values():
        whole, mirrored = prepare_views(PICTURES["landscape"], pre, VIEWS["flip"])
        assert np.array_equal(mirrored, whole[:, ::-1])
        assert not np.array_equal(mirrored, whole)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", PICTURES)
def test_corners_are_crops_of_the_larger_preparation(kind: str, mode: str) -> None:
    """A window of 28 px in 32, one of 224 in 256."""
    for size, large in ((28, 32), (224, 256)):
        pre = replace(MODES[mode], size=size)
        whole = resize_crop(PICTURES[kind], replace(pre, size=large))
        expected = [
            whole[:size, :size],
            whole[:size, -size:],
            whole[-size:, :size],
            whole[-size:, -size:],
        ]
        assert np.array_equal(
            prepare_views(PICTURES[kind], pre, VIEWS["five"])[1:], np.stack(expected)
        )


@pytest.mark.parametrize("mode", MODES)
def test_closer_looks_are_the_middle_of_the_larger_preparations(mode: str) -> None:
    pre = replace(MODES[mode], size=96)
    _, close, closer = prepare_views(PICTURES["portrait"], pre, VIEWS["multiscale"])
    assert [zoomed_size(96, view.zoom) for view in VIEWS["multiscale"]] == [96, 110, 128]
    assert np.array_equal(
        close, resize_crop(PICTURES["portrait"], replace(pre, size=110))[7:103, 7:103]
    )
    assert np.array_equal(
        closer, resize_crop(PICTURES["portrait"], replace(pre, size=128))[16:112, 16:112]
    )


def test_corners_see_the_corners_and_closer_looks_see_less() -> None:
    """`photo` is red by its distance from the left and green from the top."""
    pre = Preprocessing(size=64, crop_mode="squash", crop_pct=1.0)
    whole, *corners = prepare_views(photo(300, 200), pre, VIEWS["five"])
    for view, pixels in zip(VIEWS["five"][1:], corners, strict=True):
        assert (
            np.sign(float(pixels[..., 0].mean()) - float(whole[..., 0].mean()))
            == 2 * view.across - 1
        )
        assert (
            np.sign(float(pixels[..., 1].mean()) - float(whole[..., 1].mean())) == 2 * view.down - 1
        )
    spread = [
        np.ptp(pixels[..., 0])
        for pixels in prepare_views(photo(300, 200), pre, VIEWS["multiscale"])
    ]
    assert spread[0] > spread[1] > spread[2] > 0.7 * spread[0]


def test_a_mirrored_corner_is_cut_first() -> None:
    pre = Preprocessing(size=48, crop_mode="squash", crop_pct=1.0)
    corner = View(2.0, 0.0, 1.0)
    straight, mirrored = prepare_views(photo(), pre, (corner, corner._replace(mirrored=True)))
    assert np.array_equal(straight, resize_crop(photo(), replace(pre, size=96))[48:, :48])
    assert np.array_equal(mirrored, straight[:, ::-1])
