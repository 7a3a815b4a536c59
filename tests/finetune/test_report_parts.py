"""Parts of the report: heat maps, what was fitted, properties that do not vary, advice, the size of
the page."""

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune.evaluation import calibrate, predictions
from finetune.figures.drawing import Drawing
from finetune.report import mistakes, next_steps, quality, run_files, thumbnails, trust
from finetune.report.advice import Advice
from finetune.report.write import write_report
from tests.finetune.report_page import Seen, page_of
from tests.made_run import FRUIT, Made, made_run
from zoo.contract import rundir
from zoo.contract.report import Foreign, UnknownRates
from zoo.picture import heat as heat_maps
from zoo.picture.preprocess import Preprocessing, resize_crop

NEXT = "What should I do next?"
NO_FIGURE = Drawing("none", "<svg/>", 1, 1, "none")


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> run_files.Finished:
    return run_files.read_run(made_run(tmp_path_factory.mktemp("ten"))[0])


def test_the_four_questions_come_first_and_the_links_lead_to_them(tmp_path: Path) -> None:
    seen = Seen(page_of(tmp_path, pictures=4)[1])
    questions = (
        "How good is it?",
        "Can I trust the numbers?",
        "Where does it fail?",
        NEXT,
        "Details",
    )
    places = [seen.text.rindex(question) for question in questions]
    assert places == sorted(places)
    anchors = [attributes["href"] for tag, attributes in seen.tags if tag == "a"]
    ids = {f"#{attributes['id']}" for _, attributes in seen.tags if "id" in attributes}
    assert anchors.count("#next") == 2
    assert set(anchors) <= ids
    assert len(set(anchors)) == 5


def text_of(run: run_files.Finished) -> str:
    """What the parts without figures say."""
    parts = (
        quality.views_part(run),
        trust.trust_section(run, NO_FIGURE, NO_FIGURE),
        mistakes.slices_part(run),
    )
    return Seen("<style></style>" + "".join(parts)).text


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (Made(views="none"), "There is one view, so both give the same classes"),
        (Made(views="none"), "Deployed: one view, temperature 1.5"),
        (
            Made(views="five", measured=False),
            "Chosen: five , 5 passes a picture. Set by hand. No other views",
        ),
        (Made(views="five", measured=False), "Deployed: five, 5 views, temperature 1.5"),
        (Made(coverage=None), "None: no coverage was asked for."),
        (Made(foreign=False), "No threshold was fitted: every picture gets one of the classes"),
        (Made(warnings=("12 pictures are too <few>",)), "12 pictures are too <few>"),
        (Made(test=False), "They are measured here on the same pictures"),
        (Made(), "They are measured here on test, which had no part in it."),
        (Made(sides=(40,)), "All pictures have 40 px, so there is nothing to compare."),
        (
            Made(sides=(32, 64, 64, 64, 64, 64, 64)),
            "Nearly all pictures have 64 px, so there is nothing to compare.",
        ),
    ],
)
def test_what_was_fitted_and_what_cannot_be_compared(
    tmp_path: Path, made: Made, sentence: str
) -> None:
    run = run_files.read_run(made_run(tmp_path, classes=FRUIT[:6], pictures=7, made=made)[0])
    assert sentence in text_of(run)


@pytest.mark.parametrize(
    ("rejected", "probe_only", "advised"),
    [
        ({"noise": 0.95, "digits": 0.07}, False, True),
        ({"noise": 0.95, "digits": 0.5}, False, False),
        ({"noise": 0.07}, True, False),
        ({}, False, False),
        (None, False, False),
    ],
)
def test_a_weak_unknown_answer_is_advised_on(
    ten: run_files.Finished, rejected: dict[str, float] | None, probe_only: bool, advised: bool
) -> None:
    unknown = None
    if rejected is not None:
        foreign = {name: Foreign(9, 0.9, share, 0.5) for name, share in rejected.items()}
        unknown = UnknownRates(0.05, foreign)
    run = replace(
        ten,
        report=replace(ten.report, unknown=unknown),
        recipe=ten.recipe | {"probe_only": {"value": probe_only, "why": "set by hand"}},
    )
    found = next_steps.unknown(run)
    assert len(found) == advised
    for advice in found:
        assert "only 7% of the foreign pictures 'digits' are called unknown" in advice.finding
        assert "--probe-only" in advice.do
        assert advice in next_steps.advices(run)
        assert not advice.changes  # it would cost accuracy, so no follow-up run tries it unasked


def test_the_share_called_unknown_is_of_each_foreign_set(ten: run_files.Finished) -> None:
    threshold = ten.decision["unknown"]["threshold"]
    strangers = [ten.every.of(name) for name in ten.every.foreign]
    assert ten.report.unknown is not None
    assert calibrate.rejected(strangers, threshold) == ten.report.unknown.rejected_of
    weakest = ten.report.unknown.weakest
    assert weakest is not None
    assert weakest.rejected == min(calibrate.rejected(strangers, threshold).values())


def test_sets_that_cover_too_little_are_told(tmp_path: Path) -> None:
    run, _ = made_run(tmp_path)
    assert "less often than was asked for" not in text_of(run_files.read_run(run))
    decision = rundir.read_json(run / rundir.DECISION)
    decision["sets"]["coverage"] = 0.99
    rundir.write_json(run / rundir.DECISION, decision)
    assert "less often than was asked for" in text_of(run_files.read_run(run))


def test_sets_that_hold_every_class_say_why(tmp_path: Path) -> None:
    run, _ = made_run(tmp_path, pictures=4)
    decision = rundir.read_json(run / rundir.DECISION)
    decision["sets"]["least_probability"] = 0.0
    rundir.write_json(run / rundir.DECISION, decision)
    assert "Too few pictures to fit it, so every set holds all classes." in text_of(
        run_files.read_run(run)
    )


# ---- heat maps
# --------------------------------------------------------------------------------------------------


def test_the_most_wrong_are_the_surest_wrong_ones(ten: run_files.Finished) -> None:
    own = ten.answers
    shown = predictions.most_wrong(own)
    wrong = [i for i in range(len(own)) if own.label[i] != own.predicted[i]]
    assert len(shown) == predictions.MOST_WRONG < len(wrong)
    assert set(shown) <= set(wrong)
    assert min(own.confidence[shown]) >= max(
        own.confidence[i] for i in set(wrong) - set(shown.tolist())
    )
    assert len(predictions.most_wrong(own.where(own.right))) == 0


def test_a_heat_map_colours_its_hot_place_and_leaves_the_rest_to_be_seen() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[3, 0] = 1
    shown = heat_maps.overlay(pixels, heat).astype(int)
    colour = shown.max(-1) - shown.min(-1)
    assert colour[56:, :8].mean() > 2 * colour[:32, 32:].mean()
    assert shown[56:, :8, 0].mean() > shown[56:, :8, 2].mean() + 50  # warm
    for part in (np.s_[56:, :8], np.s_[:32, 32:]):
        grey = np.corrcoef(pixels[part].mean(-1).ravel(), shown[part].mean(-1).ravel())[0, 1]
        assert grey > 0.95, part
    assert (heat_maps.overlay(pixels, heat) == shown).all()


@pytest.mark.parametrize("crop_mode", ["squash", "center", "border"])
def test_a_heat_map_lies_over_what_the_network_saw(tmp_path: Path, crop_mode: str) -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, :100] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    pre = Preprocessing(64, crop_mode, 0.8 if crop_mode == "center" else 1.0)
    sha256 = rundir.digest(tmp_path / "wide.png")
    page = thumbnails.with_heat(tmp_path / "wide.png", sha256, [[0.0, 0.0], [0.0, 0.0]], pre)
    sources = re.findall(r'<img class="(\w*)" src="data:image/webp;base64,([^"]+)"', page)
    assert [css for css, _ in sources] == ["", "heat"]
    with Image.open(io.BytesIO(base64.b64decode(sources[1][1]))) as picture:
        shown = np.asarray(picture.convert("L")).astype(int)
    assert shown.shape == (192, 192)
    seen = resize_crop(Image.fromarray(pixels), pre).mean(-1)
    assert abs(shown[::3, ::3] - seen).mean() < 8


def test_a_run_without_heat_maps_shows_each_picture_once(tmp_path: Path) -> None:
    page = page_of(tmp_path, pictures=8, made=Made(heatmaps=False))[1]
    part = page[page.index("Most wrong pictures") : page.index("Which kinds of picture fail?")]
    assert part.count("<img") == part.count("<figure>") > 0
    assert "warm colours" not in part


def test_frequent_confusions_have_up_to_three_pictures(tmp_path: Path) -> None:
    run, page = page_of(tmp_path)
    confusion = run_files.read_run(run).confusion
    wrong = sorted(((n, pair) for pair, n in confusion.items() if pair[0] != pair[1]), reverse=True)
    shown = [cell.count("<img") for cell in re.findall(r'<td class="shots">(.*?)</td>', page, re.S)]
    assert Counter(shown[:8]) == Counter(min(3, n) for n, _ in wrong[:8])
    assert set(shown[8:]) == {0}


def _record(run: Path, sha256: str) -> None:
    """As if all pictures had been these bytes when the run read them: others are not shown."""
    lines = (run / rundir.FILES).read_text().splitlines()
    (run / rundir.FILES).write_text(
        "\n".join(re.sub(r"\b[0-9a-f]{64}\b", sha256, line) for line in lines) + "\n"
    )


def test_big_noisy_pictures_keep_the_page_below_five_megabytes(tmp_path: Path) -> None:
    run, root = made_run(
        tmp_path,
        classes=[f"class {i:03d}" for i in range(1000)],
        pictures=1,
        made=Made(right=0.5, measured=False, views="none"),
    )
    noise = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (700, 900, 3), dtype=np.uint8)
    )
    noise.save(tmp_path / "noise.jpg", quality=90)
    for path in root.glob("test/*/*.png"):
        path.unlink()
        path.hardlink_to(tmp_path / "noise.jpg")
    _record(run, rundir.digest(tmp_path / "noise.jpg"))
    write_report(run, root)
    page = (run / rundir.PAGE).read_text()
    assert page.count("<img") > 2 * predictions.MOST_WRONG + mistakes.WITH_PICTURES
    assert 1_000_000 < len(page) < 4_000_000


# ---- what to do next
# --------------------------------------------------------------------------------------------

LONGER = Advice("It was still <learning>.", "Train twice as long.", {"epochs": 16, "erasing": 0.25})


def test_without_advice_the_worst_classes_are_named(ten: run_files.Finished) -> None:
    worst = sorted(ten.report.per_class, key=lambda row: row.f1 or 0.0)[0]
    text = Seen(f"<style></style>{next_steps.next_section(ten, [])}").text
    assert (
        f"more pictures of the worst classes: {worst.name} (F1 {100 * (worst.f1 or 0.0):.1f} %)"
        in text
    )
    assert "The curves are fine." in next_steps.summary([])


def test_advice_has_its_flags_and_a_whole_command(ten: run_files.Finished) -> None:
    other = Advice("Labels are wrong.", "Correct them.")
    section = next_steps.next_section(ten, [other, LONGER])
    assert section.count("<li>") == 2
    assert "It was still &lt;learning&gt;." in section
    assert "<code>--epochs 16 --erasing 0.25</code>" in section
    # label smoothing and probe_only were set by hand in the made-up run
    assert (
        "python -m finetune --data DATA --base efficientnet_lite0 --out "
        "runs/fruit-efficientnet_lite0-2 --label-smoothing 0.1 --epochs 16 --erasing 0.25</code>"
    ) in section
    assert "whole command" not in next_steps.next_section(ten, [other])
    assert "What to do next: 2 suggestions" in next_steps.summary([other, LONGER])


def test_the_command_hides_paths_and_quotes_names(tmp_path: Path) -> None:
    run, _ = made_run(tmp_path, pictures=2)
    numbers, recipe = (rundir.read_json(run / name) for name in (rundir.REPORT, rundir.RECIPE))
    recipe["val"] = {"value": "folder", "why": "set by hand"}
    rundir.write_json(run / rundir.RECIPE, recipe)
    for name, hub_id, expected in (
        ("my run; rm", "", "--base BASE"),
        ("a b'c", "org/x", "--base 'a b'\"'\"'c'"),
    ):
        numbers["base"] |= {"name": name, "hub_id": hub_id}
        rundir.write_json(run / rundir.REPORT, numbers)
        command = next_steps.command(run_files.read_run(run), LONGER)
        assert command.startswith(f"python -m finetune --data DATA {expected} --")
        assert " --val VAL " in command


def test_findings_are_those_of_the_headline(ten: run_files.Finished) -> None:
    found, own = next_steps.findings(ten), ten.answers
    assert (found.split, found.pictures, found.has_test, found.image_size) == (
        "test",
        300,
        True,
        96,
    )
    assert found.confusion.total() == 300
    assert sum(n for (true, said), n in found.confusion.items() if true == said) == own.right.sum()
    assert found.confident_wrong == sum(
        1 for i in range(300) if not own.right[i] and own.confidence[i] >= 0.95
    )
    assert found.median_short_side == 40
    smallest = np.minimum(own.width, own.height) == 32
    assert found.small_slice is not None
    assert found.small_slice[0] == own.right[smallest].mean() < found.small_slice[1]
    assert found.size_step == 32


def test_the_page_shows_the_advice_of_its_numbers(tmp_path: Path) -> None:
    run, page = page_of(tmp_path, pictures=4)
    advices = next_steps.advices(run_files.read_run(run))
    text = Seen(page).text
    assert advices
    assert " ".join(advices[0].finding.split()) in text.split("With and without")[0]
    for each in advices:
        assert each.finding in text.split(NEXT)[1]
        assert each.do in text.split(NEXT)[1]
