"""Every number and figure of the page, computed again from predictions.csv with nothing but csv and
arithmetic."""

import csv
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

from tests.finetune.report_page import Seen, page_of, svg_texts, written
from tests.made_run import FRUIT, made_run
from zoo.contract import rundir

Row = dict[str, str]
SVG = "{http://www.w3.org/2000/svg}"


def rows_of(run: Path, split: str = "") -> list[Row]:
    with open(
        run / rundir.PREDICTIONS, encoding="utf-8", errors="surrogateescape", newline=""
    ) as file:
        return [row for row in csv.DictReader(file) if not split or row["split"] == split]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(
        tmp_path_factory.mktemp("numbers"),
        "reliability",
        "unknown_scores",
        "confusion",
        classes=[*FRUIT[:8], "p|ear", "mel\\on"],
    )[0]


@pytest.fixture(scope="module")
def seen(run: Path) -> Seen:
    return Seen((run / rundir.PAGE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def test(run: Path) -> list[Row]:
    return rows_of(run, "test")


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def share_right(rows: list[Row], said: str = "predicted") -> float:
    return mean([row[said] == row["label"] for row in rows])


def loss(rows: list[Row], column: str = "label_probability") -> float:
    return mean([-math.log(float(row[column])) for row in rows])


def wilson(right: int, total: int) -> tuple[float, float]:
    """Both roots p of (p - share)^2 = 1.96^2 p (1 - p) / total."""
    share, zz = right / total, 1.96**2 / total
    a, b, c = 1 + zz, -2 * share - zz, share * share
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def bins(rows: list[Row], before: str = "") -> list[tuple[float, float, int]]:
    """(mean confidence, share right, pictures) of each of 15 bins that is not empty."""
    found: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for row in rows:
        sure = float(row[f"{before}confidence"])
        found[math.ceil(sure * 15)].append((sure, row[f"{before}predicted"] == row["label"]))
    return [
        (mean([c for c, _ in part]), mean([r for _, r in part]), len(part))
        for _, part in sorted(found.items())
    ]


def ece(rows: list[Row], before: str = "") -> float:
    return sum(abs(sure - right) * n for sure, right, n in bins(rows, before)) / len(rows)


def points(run: Path, figure: str, gid: str) -> list[tuple[float, float]]:
    """The corners of the path that is marked by `gid`, in SVG units."""
    tree = ET.parse(run / rundir.FIGURES / f"{figure}.svg")
    group = next(node for node in tree.iter() if node.get("id") == gid)
    path = next(group.iter(f"{SVG}path")).get("d") or ""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path)]


def test_top1_top5_loss_and_interval(seen: Seen, test: list[Row]) -> None:
    low, high = wilson(sum(row["label"] == row["predicted"] for row in test), len(test))
    top1 = f"{100 * share_right(test):.2f} %"
    assert f"test top-1 {top1} 95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in seen.text
    names = [re.split(r"(?<!\\)\|", row["top5"]) for row in test]
    unescaped = [[re.sub(r"\\(.)", r"\1", name) for name in row] for row in names]
    top5 = mean([row["label"] in five for row, five in zip(test, unescaped, strict=True)])
    assert all(len(five) == 5 for five in unescaped)
    assert any(row["label"] == "p|ear" in five for row, five in zip(test, unescaped, strict=True))
    assert f"Top-5 {100 * top5:.2f} %" in seen.text
    assert f"Loss {loss(test):.4f} cross-entropy" in seen.text
    assert f"test {len(test)} {top1} {100 * low:.1f} – {100 * high:.1f}" in seen.after("All splits")


def test_per_class_and_macro(run: Path, seen: Seen, test: list[Row]) -> None:
    scores: dict[str, list[float]] = defaultdict(list)
    for name in {row["label"] for row in test}:
        right = sum(row["label"] == name == row["predicted"] for row in test)
        of, answers = (
            sum(row[column] == name for row in test) for column in ("label", "predicted")
        )
        p, r = right / answers, right / of
        for key, value in (("precision", p), ("recall", r), ("F1", 2 * p * r / (p + r))):
            scores[key].append(value)
        shown = f" {name} {200 * p * r / (p + r):.1f} % {100 * p:.1f} % {100 * r:.1f} % {of} "
        assert shown in seen.after("lowest F1 first")
    for key, values in scores.items():
        assert f"Macro {key} {100 * mean(values):.2f} %" in seen.text


def test_deployed_against_plain(seen: Seen, test: list[Row]) -> None:
    text = seen.after("With and without test-time views and calibration")
    low, high = wilson(sum(row["label"] == row["plain_predicted"] for row in test), len(test))
    assert (
        f"Plain: one view, temperature 1 {100 * share_right(test, 'plain_predicted'):.2f} % "
        f"{100 * low:.1f} – {100 * high:.1f} {loss(test, 'plain_label_probability'):.4f} "
        f"{100 * ece(test, 'plain_'):.2f} %"
    ) in text
    assert f"{loss(test):.4f} {100 * ece(test):.2f} % Plain" in text
    assert f"ECE before {100 * ece(test, 'plain_'):.2f} %" in seen.text
    assert f"ECE after {100 * ece(test):.2f} %" in seen.text
    assert ece(test, "plain_") > 0.02


def test_reliability_diagram(run: Path, seen: Seen, test: list[Row]) -> None:
    (x0, y0), (x1, y1) = points(run, "reliability", "diagonal")
    for label, before in (("before", "plain_"), ("after", "")):
        expected = bins(test, before)
        drawn = [
            ((x - x0) / (x1 - x0), (y - y0) / (y1 - y0))
            for x, y in points(run, "reliability", f"reliability-{label}")
        ]
        assert len(drawn) == len(expected) > 4
        for point, (sure, right, _) in zip(drawn, expected, strict=True):
            assert point == pytest.approx((sure, right), abs=1e-4)
        table = " ".join(
            f"{label} {100 * sure:.1f} % {100 * right:.1f} % {n}" for sure, right, n in expected
        )
        assert table in seen.after("The numbers of this figure")


def test_views_table(run: Path, seen: Seen) -> None:
    val = [row for row in rows_of(run) if row["none_label_probability"]]
    assert {row["split"] for row in val} == {"val"}
    for views, passes in (("none", 1), ("flip", 2), ("five", 5), ("multiscale", 3)):
        own, said = f"{views}_label_probability", f"{views}_predicted"
        shown = f"{views} {passes}× {100 * share_right(val, said):.2f} % {loss(val, own):.4f}"
        if views != "none":
            gains = [
                math.log(float(row[own]) / float(row["none_label_probability"])) for row in val
            ]
            error = math.sqrt(
                sum((g - mean(gains)) ** 2 for g in gains) / (len(gains) - 1) / len(gains)
            )
            right = Counter(
                (row[said] == row["label"], row["none_predicted"] == row["label"]) for row in val
            )
            gain = f"{mean(gains):+z.4f}".replace("-", "−")
            shown += f" {gain} ± {error:.4f} {right[True, False]} {right[False, True]}"
        assert shown in seen.after("Chosen: flip , 2 passes a picture")


def test_prediction_sets(seen: Seen, test: list[Row]) -> None:
    covered = sum(row["label_in_set"] == "1" for row in test)
    low, high = wilson(covered, len(test))
    sizes = [int(row["set_size"]) for row in test]
    assert (
        f"Asked for 90.0 % true class in the set Measured {100 * covered / len(test):.1f} % on "
        f"test, {100 * low:.1f} to {100 * high:.1f} % Mean size {mean(sizes):.2f} of 10 "
        "classes "  # type: ignore[arg-type]
        f"A single class {100 * sizes.count(1) / len(sizes):.1f} % of the sets"
    ) in seen.text


def test_foreign_pictures(run: Path, seen: Seen, test: list[Row]) -> None:
    threshold = rundir.read_json(run / rundir.DECISION)["unknown"]["threshold"]
    own = [float(row["unknown_score"]) for row in test]
    assert (
        f"Own pictures rejected {100 * mean([s > threshold for s in own]):.1f} % on test"
        in seen.text
    )
    for name in ("noise", "digits"):
        rows = rows_of(run, name)
        scores = [float(row["unknown_score"]) for row in rows]
        auroc = mean([(away > known) + (away == known) / 2 for away in scores for known in own])
        sure = mean([float(row["plain_confidence"]) for row in rows])
        assert (
            f"{name} {len(rows)} {auroc:.3f} {100 * mean([s > threshold for s in scores]):.1f} % "
            f"{100 * sure:.1f} %"
        ) in seen.text


def test_histogram_of_unknown_scores(run: Path, test: list[Row]) -> None:
    sets = [
        [float(row["unknown_score"]) for row in rows]
        for rows in (test, rows_of(run, "noise"), rows_of(run, "digits"))
    ]
    low, high = min(map(min, sets)), max(map(max, sets))
    top = None
    for i, scores in enumerate(sets):
        counts = Counter(min(29, int((score - low) / (high - low) * 30)) for score in scores)
        shares = [counts[k] / len(scores) for k in range(30)]
        drawn = points(run, "unknown", f"scores-{i}")
        left, right, base = (
            min(x for x, _ in drawn),
            max(x for x, _ in drawn),
            max(y for _, y in drawn),
        )
        steps: dict[int, set[float]] = defaultdict(set)
        for (x0, y0), (x1, y1) in pairwise(drawn):
            if y0 == y1 and x1 - x0 > 0:
                for k in range(
                    round((x0 - left) / (right - left) * 30),
                    round((x1 - left) / (right - left) * 30),
                ):
                    steps[k].add(base - y0)
        heights = [max(steps[k], default=0.0) for k in range(30)]
        scale = max(heights) / max(shares)  # the same axis for every set
        top = top or scale
        assert scale == pytest.approx(top, rel=1e-3)
        assert heights == pytest.approx([scale * share for share in shares], abs=0.02)
        line = points(run, "unknown", "threshold")[0][0]
        threshold = rundir.read_json(run / rundir.DECISION)["unknown"]["threshold"]
        assert (line - left) / (right - left) == pytest.approx(
            (threshold - low) / (high - low), abs=1e-3
        )


def test_confusions(run: Path, seen: Seen, test: list[Row]) -> None:
    confusion = Counter((row["label"], row["predicted"]) for row in test)
    numbers = Counter(
        int(text) for text in svg_texts(run / rundir.FIGURES / "confusion.svg") if text.isdigit()
    )
    assert numbers == Counter(confusion.values())
    wrong = {pair: n for pair, n in confusion.items() if pair[0] != pair[1]}
    for (label, said), n in wrong.items():
        assert f" {label} {said} {n} {100 * n / 30:.0f} %" in seen.after("All confusions")


def quarters(values: list[float], rows: list[Row]) -> list[list[tuple[float, Row]]]:
    """Up to four parts by rising value, cut after the k/4 quantiles; equal values stay together."""
    ordered = sorted(values)
    edges = [ordered[(len(ordered) - 1) * k // 4] for k in (1, 2, 3)]
    parts: dict[int, list[tuple[float, Row]]] = defaultdict(list)
    for value, row in zip(values, rows, strict=True):
        parts[sum(edge < value for edge in edges)].append((value, row))
    return [parts[k] for k in sorted(parts)]


def test_slices(seen: Seen, test: list[Row]) -> None:
    short = [float(min(int(row["width"]), int(row["height"]))) for row in test]
    bright = [100 * float(row["brightness"]) for row in test]
    for values, heading, form, unit in (
        (short, "Short side of the picture", "{:.0f}", " px"),
        (bright, "Brightness", "{:.1f}", ""),
    ):
        parts = quarters(values, test)
        assert len(parts) == 4
        for part in parts:
            ends = [form.format(end(value for value, _ in part)) for end in (min, max)]
            right = sum(row["label"] == row["predicted"] for _, row in part)
            low, high = wilson(right, len(part))
            span = " to ".join(dict.fromkeys(ends))
            assert (
                f" {span}{unit} {len(part)} {100 * right / len(part):.1f} % {100 * low:.1f} – "
                f"{100 * high:.1f} "
            ) in seen.after(heading)


def test_a_part_that_is_clearly_worse_is_marked_in_words(tmp_path: Path) -> None:
    run, root = made_run(tmp_path)
    assert "worse than the rest" not in Seen(written(run, root)).text
    rows = rows_of(run)
    for i, row in enumerate(rows):
        if row["height"] == "64" and row["label"] and i % 3 == 0:
            row["predicted"] = "apple"
    with open(run / rundir.PREDICTIONS, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = Seen(written(run, root)).after("Short side of the picture").split("Brightness")[0]
    assert text.count("worse than the rest") == 1
    assert "worse than the rest" in text.split("64 px")[1]
