"""Numbers of a run against scikit-learn and published tables; its event files; the embedded sample."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, top_k_accuracy_score

from finetune import events
from finetune.augment import normalise
from finetune.dataset import Picture
from finetune.evaluate import Scores, logits, per_class, score, wilson_interval, write_predictions
from finetune.events import Events
from finetune.sample import write_digits
from tests.finetune.made_pictures import contents, rows
from zoo import rundir
from zoo.preprocess import Preprocessing

HOSTILE = ["a|b", "a\\", "\\|", "|", 'say "hi"', "a,b", "two\nlines", "cr\rlf\r\n", os.fsdecode(b"\xff"), "=1+1", " "]


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
    assert scores.top5 == pytest.approx(top_k_accuracy_score(y, logits_NC.numpy(), k=5, labels=names))
    assert scores.loss == pytest.approx(log_loss(y, logits_NC.double().softmax(1).numpy(), labels=names), rel=1e-5)
    assert scores.top1 < scores.top5 < 1


def test_score_of_fewer_than_five_classes() -> None:
    logits_NC, labels = made_answers(50, 2)
    assert score(logits_NC, labels).top5 == 1
    assert score(logits_NC, labels).top1 == pytest.approx((logits_NC.argmax(1) == labels).float().mean().item())


def test_better_than_goes_by_top1_and_ties_by_loss() -> None:
    good = Scores(top1=0.9, top5=0.95, loss=1.0, pictures=10)
    assert good.better_than(Scores(0.8, 1.0, 0.1, 10))
    assert not Scores(0.8, 1.0, 0.1, 10).better_than(good)
    assert good.better_than(Scores(0.9, 1.0, 1.1, 10))
    assert not good.better_than(Scores(0.9, 0.1, 0.9, 10))
    assert not good.better_than(good)


@pytest.mark.parametrize(("right", "total", "interval"), [
    (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718)),
    (10, 10, (0.7225, 1.0)),
])
def test_wilson_interval_equals_published_values(right: int, total: int, interval: tuple[float, float]) -> None:
    """Newcombe, "Two-sided confidence intervals for the single proportion", 1998, Table I, method 3; the last row is
    1 / (1 + 1.96^2 / 10)."""
    assert wilson_interval(right, total) == pytest.approx(interval, abs=6e-5)


def test_wilson_interval_of_nothing_is_everything() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_per_class_equals_sklearn_and_is_none_where_undefined() -> None:
    names = ["a", "b", "c", "never said", "has no picture", "neither"]
    labels = [0, 0, 0, 1, 1, 2, 3, 3, 1, 2]
    predicted = [0, 1, 0, 1, 4, 2, 0, 1, 1, 0]
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=range(6),
                                                                     zero_division=np.nan)
    table = per_class(predicted, labels, names)
    assert [row["class"] for row in table] == names
    assert [row["pictures"] for row in table] == support.tolist()
    for key, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        seen = [math.nan if row[key] is None else row[key] for row in table]
        assert seen == pytest.approx(expected.tolist(), nan_ok=True), key
    assert [row["precision"] for row in table[3:]] == [None, 0.0, None]
    assert [row["recall"] for row in table[3:]] == [0.0, None, None]
    assert [row["f1"] for row in table[3:]] == [0.0, 0.0, None]


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


# --- predictions.csv


def unescaped(joined: str) -> list[str]:
    """The class names of the column top5."""
    names = re.findall(r"(?:^|\|)((?:[^|\\]|\\.)*)", joined, re.S)
    return [re.sub(r"\\(.)", r"\1", name, flags=re.S) for name in names]


def test_the_numbers_can_be_computed_again_from_predictions_csv(tmp_path: Path) -> None:
    logits_NC, labels = made_answers(120, len(HOSTILE))
    all_pictures = [Picture(os.fsdecode(b"\xfe,\n\"") + f"/{HOSTILE[label]}/{i}.png", label, split, "", 8, 8)
                    for i, (label, split) in enumerate(zip(labels.tolist(), ["val"] * 80 + ["test"] * 40, strict=True))]
    parts = [(all_pictures[:80], logits_NC[:80]), (all_pictures[80:], logits_NC[80:])]
    write_predictions(tmp_path / "predictions.csv", parts, HOSTILE)
    table = rows(tmp_path / "predictions.csv")
    assert [row["path"] for row in table] == [p.path for p in all_pictures]
    assert [row["label"] for row in table] == [HOSTILE[label] for label in labels]
    for split, (pictures, part_logits) in zip(("val", "test"), parts, strict=True):
        part = [row for row in table if row["split"] == split]
        expected = score(part_logits, torch.tensor([p.label for p in pictures]))
        assert len(part) == expected.pictures
        assert np.mean([row["label"] == row["predicted"] for row in part]) == pytest.approx(expected.top1)
        assert np.mean([row["label"] in unescaped(row["top5"]) for row in part]) == pytest.approx(expected.top5)
        losses = [-math.log(float(row["label_probability"])) for row in part]
        assert np.mean(losses) == pytest.approx(expected.loss, rel=1e-5)
    probabilities = logits_NC.softmax(1)
    for row, p in zip(table, probabilities, strict=True):
        assert unescaped(row["top5"]) == [HOSTILE[i] for i in p.topk(5).indices.tolist()]
        assert float(row["confidence"]) == pytest.approx(p.max().item(), rel=1e-4)


# --- events


def test_events_are_written_and_read_back(tmp_path: Path) -> None:
    writer = Events(tmp_path)
    writer.write(0, **{"select/top1": 0.5})
    writer.write(10, **{"train/loss": 1.25, "train/lr": 1e-3})
    writer.write(20, **{"train/loss": 0.75})
    writer.close()
    assert [json.loads(line) for line in (tmp_path / rundir.METRICS).read_text().splitlines()] == [
        {"step": 0, "name": "select/top1", "value": 0.5}, {"step": 10, "name": "train/loss", "value": 1.25},
        {"step": 10, "name": "train/lr", "value": 1e-3}, {"step": 20, "name": "train/loss", "value": 0.75}]
    assert events.read(tmp_path) == {"select/top1": [(0, 0.5)], "train/loss": [(10, 1.25), (20, 0.75)],
                                     "train/lr": [(10, 1e-3)]}
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
    assert events.read(tmp_path) == {"loss": [(1, 4.0), (2, 3.5)]}
    assert board(tmp_path, "loss") == [(1, 4.0), (2, 3.5)]
    fresh = Events(tmp_path)
    fresh.write(1, loss=5.0)
    fresh.close()
    assert events.read(tmp_path) == {"loss": [(1, 5.0)]}
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


def test_the_sample_is_the_same_everywhere_and_appears_whole_or_not_at_all(
        sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
