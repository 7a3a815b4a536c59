"""The decoder on pictures that real folders hold, and the evaluation transform against timm's, bit
for bit."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests.bad_pictures import (
    BAD,
    ODD,
    animation,
    colour_under_alpha,
    encode,
    jpeg,
    photo,
    write_bad_pictures,
)
from zoo.host.errors import BadImage, UserError
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, evaluate, normalise, resize_crop

# the EXIF standard (CIPA DC-008): what a camera stores so that a viewer shows it upright
UPRIGHT_TO_STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
MODES = ("squash", "center", "border")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "all"
    write_bad_pictures(folder)
    return folder


@pytest.mark.parametrize("name", BAD)
def test_bad_picture_is_refused_with_the_reason(folder: Path, name: str) -> None:
    started = time.perf_counter()
    with pytest.raises(BadImage, match=BAD[name][1]) as caught:
        decode(folder / name)
    assert time.perf_counter() - started < 2
    assert caught.value.name == str(folder / name)
    assert "\n" not in caught.value.reason
    assert not caught.value.reason.endswith(".")


@pytest.mark.parametrize("name", ODD)
def test_odd_picture_decodes_to_the_right_grey_level(folder: Path, name: str) -> None:
    picture = decode(folder / name)
    assert picture.mode == "RGB"
    assert picture.info == {}
    assert np.asarray(picture).mean() == pytest.approx(ODD[name][1], abs=1)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder.jpg", "not a regular file"),
        ("missing.jpg", "cannot be read: No such file"),
        ("a\0b", "null byte"),
    ],
)
def test_what_is_no_file_is_refused(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(folder / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
@pytest.mark.timeout(20)
def test_fifo_does_not_block(folder: Path) -> None:
    with pytest.raises(BadImage, match="not a regular file"):
        decode(folder / "fifo.jpg")


@pytest.mark.skipif(
    getattr(os, "geteuid", lambda: 0)() == 0, reason="root reads files without permission"
)
def test_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    (tmp_path / "a.jpg").chmod(0)
    with pytest.raises(BadImage, match="cannot be read: Permission denied"):
        decode(tmp_path / "a.jpg")


def test_no_descriptor_is_left_open(folder: Path) -> None:
    before = os.dup(0)
    os.close(before)
    for name in ("plain.jpg", "half.jpg", "folder.jpg", "fifo.jpg", "missing.jpg", "empty.jpg"):
        with contextlib.suppress(BadImage):
            decode(folder / name)
    after = os.dup(0)
    os.close(after)
    assert after == before


def test_limits_and_names(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg())
    assert decode(path, max_bytes=len(jpeg()), max_pixels=64 * 48).size == (64, 48)
    for source in (path, jpeg()):
        with pytest.raises(BadImage, match=r"larger than 0\.0005 MB"):
            decode(source, max_bytes=500)
        with pytest.raises(BadImage, match=r"too large: 64 x 48, at most 0\.003 million pixels"):
            decode(source, max_pixels=3000)
    with pytest.raises(BadImage, match=r"^upload 3: the file is empty"):
        decode(b"", name="upload 3")


def test_bytes_and_path_agree(folder: Path) -> None:
    for name in ODD:
        assert decode(folder / name).tobytes() == decode((folder / name).read_bytes()).tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_gives_the_same_upright_picture(orientation: int) -> None:
    upright = np.asarray(photo())
    stored = Image.fromarray(np.ascontiguousarray(UPRIGHT_TO_STORED[orientation](upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless: dict[str, dict[str, Any]] = {
        "PNG": {},
        "WEBP": {"lossless": True},
        "TIFF": {"compression": "tiff_lzw"},
    }
    for kind, options in lossless.items():
        np.testing.assert_array_equal(
            np.asarray(decode(encode(stored, kind, exif=exif, **options))), upright, kind
        )
    np.testing.assert_array_equal(np.asarray(decode(encode(stored, "TIFF", exif=exif))), upright)
    for kind in ("JPEG", "MPO"):
        turned = np.asarray(
            decode(encode(stored, kind, exif=exif, quality=100, subsampling=0))
        ).astype(int)
        assert np.abs(turned - upright).max() <= 8  # a wrong turn differs by more than 200


def test_every_16_bit_level_is_divided_by_257() -> None:
    levels = np.arange(65536).astype(np.uint16).reshape(256, 256)
    expected = np.rint(levels / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        decoded = np.asarray(decode(encode(Image.fromarray(levels), kind)))
        np.testing.assert_array_equal(decoded, np.repeat(expected[..., None], 3, axis=-1))


def test_float_levels_are_rounded() -> None:
    levels = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    decoded = np.asarray(decode(encode(Image.fromarray(levels), "TIFF")))[..., 0]
    np.testing.assert_array_equal(decoded, np.rint(levels * 255))


def test_alpha_is_composited_on_white() -> None:
    np.testing.assert_array_equal(
        np.asarray(decode(encode(colour_under_alpha(), "PNG")))[0, [0, 40]], [[0] * 3, [255] * 3]
    )
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    colour, alpha = pixels[..., :3].astype(float), pixels[..., 3:].astype(float)
    expected = np.rint((colour * alpha + 255 * (255 - alpha)) / 255)
    np.testing.assert_array_equal(
        np.asarray(decode(encode(Image.fromarray(pixels), "PNG"))), expected
    )


def test_colours_are_taken_as_stored_whatever_profile_is_named() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind in ("JPEG", "PNG", "TIFF", "WEBP"):
        assert (
            decode(encode(photo(), kind, icc_profile=profile)).tobytes()
            == decode(encode(photo(), kind)).tobytes()
        )


def test_first_frame_is_taken() -> None:
    for kind in ("GIF", "PNG", "WEBP"):
        assert decode(animation(kind)).getpixel((5, 5)) == (200, 0, 0)


def test_all_threads_see_the_same_pixels_and_pillow_is_left_alone(folder: Path) -> None:
    def attempt(name: str) -> bytes | str:
        try:
            return decode(folder / name).tobytes()
        except BadImage as error:
            return error.reason

    settings_before = Image.MAX_IMAGE_PIXELS
    names = [*BAD, *ODD] * 4
    expected = [attempt(name) for name in names]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(attempt, names)) == expected
    assert settings_before == Image.MAX_IMAGE_PIXELS


def test_a_lower_limit_of_the_process_is_a_bad_image_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadImage, match="too large"):
        decode(jpeg())
    # between one and two times the limit Pillow only warns
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert decode(jpeg()).size == (64, 48)


PROBE = """
import resource, sys
from pathlib import Path
from zoo.host.errors import BadImage
from zoo.picture.decoding import decode
decode(Path(sys.argv[1]) / "plain.jpg")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode(path)
    except BadImage:
        pass
print(peak() - before, "torch" in sys.modules, "PIL.EpsImagePlugin" in sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_stays_small_and_torch_unloaded(folder: Path) -> None:
    """30000x30000 pixels would take 860 MiB at 1 byte each; -W error: no warning of Pillow's leaks
    either."""
    command = [sys.executable, "-W", "error", "-c", PROBE, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    mib, torch_loaded, eps_loaded = done.stdout.split()
    assert int(mib) <= 60
    assert (torch_loaded, eps_loaded) == ("False", "False")
    assert done.stderr == ""


SEEDS = [make() for make, _ in ODD.values()]


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_only_bad_image_escapes_from_mutated_files(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    with contextlib.suppress(BadImage):
        assert decode(bytes(content), max_pixels=10**6).mode == "RGB"


SHAPES = [(1, 1), (1, 20), (20, 1), (3, 7), (31, 600), (600, 31), (64, 64), (95, 97), (97, 95),
          (96, 96), (128, 127), (224, 224), (255, 257), (256, 256), (333, 251), (251, 333),
          (640, 480), (13, 260), (101, 100)]  # fmt: skip
GENERATOR = np.random.default_rng(0)
PICTURES = [
    Image.fromarray(GENERATOR.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in SHAPES
]


def timm_transform(pre: Preprocessing) -> Callable[[Image.Image], Any]:
    from timm.data import create_transform

    return create_transform(**pre.to_config(), is_training=False)


@contextlib.contextmanager
def across_first() -> Iterator[None]:
    """Within it, Pillow resizes across and then down, as it did before version 13."""
    own = Image.Image.resize

    def resize(
        self: Image.Image,
        size: tuple[int, int],
        resample: int | None = None,
        box: Any = None,
        reducing_gap: float | None = None,
    ) -> Image.Image:
        across = own(self, (size[0], self.height), resample) if box is None else self
        return own(across, size, resample, box, reducing_gap)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", resize)
        yield


def assert_identical_to_timm(pre: Preprocessing, pictures: list[Image.Image]) -> None:
    oracle = timm_transform(pre)
    for picture in pictures:
        with across_first():
            expected = oracle(picture).numpy()
        got = evaluate(picture, pre)
        assert got.dtype == np.float32
        assert got.shape == (3, pre.size, pre.size)
        assert got.flags.c_contiguous
        assert np.array_equal(got.view(np.uint32), expected.view(np.uint32)), (pre, picture.size)


def test_every_version_of_pillow_gives_the_pixels_of_pillow_12() -> None:
    """Pillow 13 goes down first where a picture shrinks most in height. The digest was made with
    Pillow 12.3.0."""
    random, seen = np.random.default_rng(0), hashlib.sha256()
    for height, width, size in (
        (500, 97, 96),
        (500, 97, 110),
        (97, 500, 110),
        (300, 400, 96),
        (120, 97, 110),
        (300, 200, 224),
        (10, 200, 224),
        (200, 10, 224),
    ):
        picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for interpolation in ("bicubic", "bilinear", "lanczos", "box", "nearest", "hamming"):
            pre = Preprocessing(size, "squash", 1.0, interpolation)
            seen.update(resize_crop(picture, pre).tobytes())
    assert seen.hexdigest() == "f32f87fb62eaa81e801506aab0c8f0cc78ae60e451e6b5aa6ebc8aad3db2ce73"


@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0, 1.15])
@pytest.mark.parametrize("crop_mode", MODES)
def test_evaluate_equals_timm_bit_for_bit(crop_mode: str, crop_pct: float) -> None:
    for size in (96, 128, 224):
        assert_identical_to_timm(Preprocessing(size, crop_mode, crop_pct), PICTURES)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "box", "hamming", "lanczos"])
@pytest.mark.parametrize("crop_mode", MODES)
def test_evaluate_equals_timm_for_every_filter(crop_mode: str, interpolation: str) -> None:
    half = (0.5, 0.5, 0.5)
    pre = Preprocessing(97, crop_mode, 0.93, interpolation, mean=half, std=half)
    assert_identical_to_timm(pre, PICTURES)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 400), st.integers(1, 400)).filter(
        lambda s: max(s) <= 20 * min(s)
    ),
    size=st.integers(20, 130),
    crop_pct=st.floats(0.7, 1.2),
    crop_mode=st.sampled_from(MODES),
)
def test_evaluate_equals_timm_for_any_shape(
    shape: tuple[int, int], size: int, crop_pct: float, crop_mode: str
) -> None:
    assert_identical_to_timm(
        Preprocessing(size, crop_mode, crop_pct), [photo(640, 480).resize(shape)]
    )


def test_every_level_is_normalised_as_torchvision_does() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    clip = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    for mean, std in (clip, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))):
        pre = Preprocessing(16, crop_pct=1.0, mean=mean, std=std)
        expected = timm_transform(pre)(Image.fromarray(levels)).numpy()
        assert np.array_equal(normalise(levels, pre).view(np.uint32), expected.view(np.uint32))


def test_longest_allowed_picture_needs_little_memory() -> None:
    picture = Image.new("RGB", (20, 400))
    tracemalloc.start()
    for mode in MODES:
        assert resize_crop(picture, Preprocessing(224, mode)).shape == (224, 224, 3)
    # NumPy's part; Pillow's is 256 x 5120 pixels at most
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


def test_from_config_reads_every_pretrained_configuration_as_timm_does() -> None:
    import timm
    from timm.data import resolve_data_config

    square = 0
    for name in timm.list_pretrained():
        registered = timm.get_pretrained_cfg(name)
        assert registered is not None
        cfg = registered.to_dict()
        expected = resolve_data_config(pretrained_cfg=cfg)
        if expected["input_size"][0] != 3 or expected["input_size"][1] != expected["input_size"][2]:
            with pytest.raises(UserError, match=r"input_size must be \[3, S, S\], not \["):
                Preprocessing.from_config(cfg)
            continue
        square += 1
        got = Preprocessing.from_config(cfg)
        assert got == Preprocessing.from_config(got.to_config()), name
        expected = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in expected.items()
        }
        assert got.to_config() == expected, name
    assert square > 1000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_mode": "squish"}, "crop_mode must be squash or center or border, not 'squish'"),
        ({"interpolation": "random"}, "interpolation must be nearest or .*, not 'random'"),
        ({"mean": [0.5]}, "mean must be three numbers"),
        ({"std": [0.5, 0.5, 0.0]}, "std must be three numbers above 0"),
        ({"crop_pct": -1.0}, "crop_pct must be a fraction from 0.1 to 10, not -1.0"),
        ({"input_size": [1, 28, 28]}, r"input_size must be \[3, S, S\], not \[1, 28, 28\]"),
    ],
)
def test_wrong_configuration_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preprocessing.from_config(wrong)
