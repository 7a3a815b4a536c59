"""Scores of a run against scikit-learn; what a pass over pictures gives; event files; the embedded
sample."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, top_k_accuracy_score
from torch import nn

from finetune.augment.picture import normalise
from finetune.data import loader
from finetune.data.loader import PictureSource, evaluation_batches
from finetune.data.picture_columns import Picture
from finetune.evaluation.passes import Bank, Scores, logits, outputs, score, summed_probabilities
from finetune.run_folder import events
from finetune.run_folder.events import Events
from finetune.sources.digits import digits, of_sklearn, write_digits
from tests.bad_pictures import photo
from tests.finetune.made_pictures import contents
from zoo.contract import rundir
from zoo.contract.decision import knn_distance, unit
from zoo.network.forward import features
from zoo.picture.preprocess import Preprocessing, resize_crop
from zoo.picture.tta import VIEWS, View

PRE = Preprocessing(size=32, crop_mode="squash", crop_pct=1.0)


def made_answers(pictures: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, labels); about half of the answers are right."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (pictures,), generator=generator)
    logits_NC = torch.randn(pictures, classes, generator=generator)
    logits_NC[torch.arange(pictures), labels] += 1.5
    return logits_NC, labels


# --- numbers


@pytest.mark.parametrize("classes", [6, 20])
def test_score_equals_sklearn(classes: int) -> None:
    logits_NC, labels = made_answers(200, classes)
    scores, y, names = score(logits_NC, labels), labels.numpy(), np.arange(classes)
    assert scores.pictures == 200
    assert scores.top1 == pytest.approx(accuracy_score(y, logits_NC.argmax(1).numpy()))
    assert scores.top5 == pytest.approx(
        top_k_accuracy_score(y, logits_NC.numpy(), k=5, labels=names)
    )
    assert scores.loss == pytest.approx(
        log_loss(y, logits_NC.double().softmax(1).numpy(), labels=names), rel=1e-5
    )
    assert scores.top1 < scores.top5 < 1


def test_score_of_fewer_than_five_classes() -> None:
    logits_NC, labels = made_answers(50, 2)
    assert score(logits_NC, labels).top5 == 1
    assert score(logits_NC, labels).top1 == pytest.approx(
        (logits_NC.argmax(1) == labels).float().mean().item()
    )


def test_better_than_goes_by_top1_and_ties_by_loss() -> None:
    good = Scores(top1=0.9, top5=0.95, loss=1.0, pictures=10)
    assert good.better_than(Scores(0.8, 1.0, 0.1, 10))
    assert not Scores(0.8, 1.0, 0.1, 10).better_than(good)
    assert good.better_than(Scores(0.9, 1.0, 1.1, 10))
    assert not good.better_than(Scores(0.9, 0.1, 0.9, 10))
    assert not good.better_than(good)


def test_balanced_accuracy_is_scikit_learns_and_decides_where_classes_count_the_same() -> None:
    labels = torch.tensor([0] * 30 + [1] * 5 + [3] * 2)  # class 2 has no picture
    logits_NC = (
        torch.randn(37, 4, generator=torch.Generator().manual_seed(0)) + 2 * torch.eye(4)[labels]
    )
    logits_NC[:, 2] = -99.0  # scikit-learn warns of answers that are no label
    found = score(logits_NC, labels, by_class=True)
    assert found.balanced == pytest.approx(balanced_accuracy_score(labels, logits_NC.argmax(1)))
    assert found.balanced != pytest.approx(found.top1)
    assert score(logits_NC, labels) == replace(found, balanced=None)
    assert "balanced" in found.to_json()
    assert "balanced" not in replace(found, balanced=None).to_json()
    fair, plain = Scores(0.7, 0.9, 1.0, 10, balanced=0.6), Scores(0.8, 0.9, 1.0, 10, balanced=0.5)
    assert fair.better_than(plain)
    assert not plain.better_than(fair)
    assert fair.better_than(replace(fair, loss=1.1))


def test_logits_are_those_of_the_model_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    model, pre = timm.create_model("test_resnet", num_classes=3).train(), Preprocessing(size=32)
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    batches = [(images[:4], torch.tensor([0, 1, 2, 0])), (images[4:], torch.tensor([2, 1]))]
    seen, labels = logits(model, iter(batches), pre, total=6)
    assert not model.training
    assert labels.tolist() == [0, 1, 2, 0, 2, 1]
    assert seen.dtype == torch.float32
    with torch.no_grad():
        assert torch.allclose(seen, model(normalise(images, pre)), atol=1e-5)


# --- one pass for the report


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[PictureSource, list[Picture]]:
    """Seven pictures: of different sizes, then a black, a white and a grey one."""
    root = tmp_path_factory.mktemp("pictures")
    made = [photo(20 + 9 * i, 60 - 7 * i) for i in range(4)]
    made += [Image.new("RGB", (30, 20), (level,) * 3) for level in (0, 255, 51)]
    for i, picture in enumerate(made):
        picture.save(root / f"{i}.png")
    digests = [
        hashlib.sha256((root / f"{i}.png").read_bytes()).hexdigest() for i in range(len(made))
    ]
    return PictureSource(root, PRE, 0, pin=False), [
        Picture(f"{i}.png", i % 3, "val", digests[i], *p.size) for i, p in enumerate(made)
    ]


@pytest.fixture(scope="module", params=["test_resnet", "test_vit"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    size: dict[str, Any] = {"img_size": 32} if request.param == "test_vit" else {}
    return timm.create_model(request.param, num_classes=3, **size)


@pytest.fixture
def made_bank(model: nn.Module, pictures: tuple[PictureSource, list[Picture]]) -> Bank:
    """References are the first four pictures; the weakest of them has the shortest length that
    counts."""
    embedding = embeddings(model, pictures)[:4]
    return Bank(unit(embedding), 2, float(np.linalg.norm(embedding, axis=1).min()))


def embeddings(model: nn.Module, pictures: tuple[PictureSource, list[Picture]]) -> np.ndarray:
    """Pooled features, computed with one batch."""
    [(images, _)] = evaluation_batches(pictures[1], pictures[0])
    with torch.inference_mode():
        return features(model.eval(), normalise(images, PRE)).numpy()


def test_outputs_are_logits_unknown_score_and_brightness(
    model: nn.Module, pictures: tuple[PictureSource, list[Picture]], made_bank: Bank
) -> None:
    source, listed = pictures
    seen = outputs(
        model.train(), evaluation_batches(listed, source), PRE, made_bank, total=7, title="x"
    )
    assert not model.training
    assert [column.dtype for column in seen] == [np.float32] * 3
    expected, _ = logits(model, evaluation_batches(listed, source), PRE, total=7)
    assert np.allclose(seen.logits, expected.numpy(), atol=1e-6)
    score = knn_distance(embeddings(model, pictures), made_bank.rows, 2, made_bank.shortest)
    assert np.allclose(seen.unknown_score, score, atol=1e-6)
    assert np.ptp(score) > 0
    assert seen.brightness[4:] == pytest.approx([0, 1, 0.2])
    assert seen.brightness[0] == pytest.approx(resize_crop(photo(20, 60), PRE).mean() / 255)


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_the_size_of_batches_does_not_matter(
    model: nn.Module,
    pictures: tuple[PictureSource, list[Picture]],
    made_bank: Bank,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    source, listed = pictures
    whole = outputs(model, evaluation_batches(listed, source), PRE, made_bank, total=7, title="x")
    summed = over_views(model, listed, source, VIEWS["five"])
    monkeypatch.setattr(loader, "EVALUATION_BATCH", batch)
    again = outputs(model, evaluation_batches(listed, source), PRE, made_bank, total=7, title="x")
    for one, other in zip(whole, again, strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, atol=1e-5)
    assert np.allclose(over_views(model, listed, source, VIEWS["five"]), summed, atol=1e-5)


def over_views(
    model: nn.Module, listed: list[Picture], source: PictureSource, views: tuple[View, ...]
) -> np.ndarray:
    batches = evaluation_batches(listed, source, views)
    return summed_probabilities(model, batches, PRE, [len(views)], total=len(listed))[0]


def test_summed_probabilities_of_the_mirror_image(
    model: nn.Module, pictures: tuple[PictureSource, list[Picture]]
) -> None:
    source, listed = pictures
    [(images, _)] = evaluation_batches(listed, source)
    with torch.inference_mode():
        straight, mirrored = (
            model.eval()(normalise(x, PRE)).softmax(1).numpy() for x in (images, images.flip(2))
        )
    assert abs(straight - mirrored)[:4].max() > 1e-4
    model.train()
    extra = over_views(model, listed, source, VIEWS["flip"][1:])
    assert not model.training
    assert extra.dtype == np.float32
    assert np.allclose(extra, mirrored, atol=1e-5)
    both = over_views(model, listed, source, VIEWS["flip"])
    assert np.allclose(both, straight + mirrored, atol=1e-5)


def test_summed_probabilities_of_several_views_are_their_sum(
    model: nn.Module, pictures: tuple[PictureSource, list[Picture]]
) -> None:
    source, listed = pictures
    parts = [over_views(model, listed, source, (view,)) for view in VIEWS["five"]]
    summed = over_views(model, listed, source, VIEWS["five"])
    assert summed.shape == (7, 3)
    assert np.allclose(summed, sum(parts), atol=1e-5)
    assert np.allclose(summed.sum(1), 5, atol=1e-4)
    batches = evaluation_batches(listed, source, VIEWS["five"])
    first, rest = summed_probabilities(model, batches, PRE, [2, 3], total=7)
    assert np.allclose(first, sum(parts[:2]), atol=1e-5)
    assert np.allclose(rest, sum(parts[2:]), atol=1e-5)


# --- events


def test_events_are_written_and_read_back(tmp_path: Path) -> None:
    writer = Events(tmp_path)
    writer.write(0, **{"select/top1": 0.5})
    writer.write(10, **{"train/loss": 1.25, "train/lr": 1e-3})
    writer.write(20, **{"train/loss": 0.75})
    writer.close()
    assert [json.loads(line) for line in (tmp_path / rundir.METRICS).read_text().splitlines()] == [
        {"step": 0, "name": "select/top1", "value": 0.5},
        {"step": 10, "name": "train/loss", "value": 1.25},
        {"step": 10, "name": "train/lr", "value": 1e-3},
        {"step": 20, "name": "train/loss", "value": 0.75},
    ]
    assert events.read_events(tmp_path) == {
        "select/top1": [(0, 0.5)],
        "train/loss": [(10, 1.25), (20, 0.75)],
        "train/lr": [(10, 1e-3)],
    }
    assert board(tmp_path, "train/loss") == [(10, 1.25), (20, 0.75)]


def board(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / rundir.TENSORBOARD)).Reload()
    return [(event.step, event.value) for event in read.Scalars(name)]


def test_going_on_drops_what_was_written_after_the_saved_position(tmp_path: Path) -> None:
    writer = Events(tmp_path)
    writer.write(1, loss=4.0)
    position = writer.position()
    assert (tmp_path / rundir.METRICS).stat().st_size == position  # on disk already
    writer.write(2, loss=3.0)
    writer.write(3, loss=99.0)
    writer.close()
    again = Events(tmp_path, position=position, step=1)
    assert again.position() == position
    again.write(2, loss=3.5)
    again.close()
    assert events.read_events(tmp_path) == {"loss": [(1, 4.0), (2, 3.5)]}
    assert board(tmp_path, "loss") == [(1, 4.0), (2, 3.5)]
    fresh = Events(tmp_path)
    fresh.write(1, loss=5.0)
    fresh.close()
    assert events.read_events(tmp_path) == {"loss": [(1, 5.0)]}
    assert board(tmp_path, "loss") == [(1, 5.0)]


# --- the embedded sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("sample") / "digits")


def test_the_sample_holds_every_digit_once_in_three_splits(sample: Path) -> None:
    target, images = load_digits().target, load_digits().images
    paths = sorted(sample.rglob("*.png"))
    assert sorted(int(path.stem) for path in paths) == list(range(1797))
    assert all(int(path.parent.name) == target[int(path.stem)] for path in paths)
    for digit in range(10):
        of_digit = int((target == digit).sum())
        for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(len(list((sample / split / str(digit)).iterdir())) - share * of_digit) <= 1
    for path in paths[::100]:
        picture = Image.open(path)
        assert picture.mode == "L"
        assert np.array_equal(np.asarray(picture), np.round(images[int(path.stem)] / 16 * 255))


def test_its_files_are_read_as_sklearn_reads_them() -> None:
    pixels, target = digits()
    assert np.array_equal(target, load_digits().target)
    assert np.array_equal(pixels, np.round(load_digits().images / 16 * 255))
    for name, photograph in zip(("china", "flower"), load_sample_images().images, strict=True):
        assert np.array_equal(np.asarray(Image.open(of_sklearn(f"images/{name}.jpg"))), photograph)


def test_the_sample_is_the_same_everywhere_and_appears_whole_or_not_at_all(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Path] = []
    save = Image.Image.save

    def save_some(self: Image.Image, path: Path) -> None:
        if len(saved) == 700:
            raise OSError(28, "No space left on device")
        saved.append(path)
        save(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save_some)
        with pytest.raises(OSError, match="No space left"):
            write_digits(tmp_path / "digits")
    assert len(saved) == 700
    assert not (tmp_path / "digits").exists()
    write_digits(tmp_path / "digits")
    assert contents(tmp_path / "digits") == contents(sample)
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
