"""Precision-recall, ROC and error curves: against their definitions, and where the report shows
them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from finetune.evaluation import ranking_curves
from finetune.report import run_files, write
from finetune.report.ranking import ranking_figures
from finetune.run_folder import events
from tests.finetune.report_page import Seen, page_of, svg_texts
from tests.made_run import made_run
from zoo.contract import rundir
from zoo.contract.report import Ranking

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
OWN = np.array([True, False, True, True, False, False])


def test_curves_of_a_class_are_counted() -> None:
    found = ranking_curves.curves_of(OWN, SCORES)
    # thresholds from above: recall 1/3 with precision 1, 2/3 with 2/3, 1 with 3/4; then only false
    # ones follow
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert [found.precision[i] for i in (0, 33, 34, 66, 67, 100)] == [
        1,
        1,
        0.6667,
        0.6667,
        0.75,
        0.75,
    ]
    # of the 9 pairs of an own and another picture, 7 are in order
    assert found.auroc == pytest.approx(7 / 9)
    assert [found.tpr[i] for i in (20, 50, 100)] == [0.3333, 1.0, 1.0]
    assert len(found.precision) == len(found.tpr) == ranking_curves.POINTS


@pytest.mark.parametrize("decimals", [1, 17])  # with ties and without
@pytest.mark.parametrize("shift", [-2.0, 0.0, 0.5, 9.0])
def test_curves_of_a_class_equal_sklearn(decimals: int, shift: float) -> None:
    random = np.random.default_rng(3)
    own = random.random(300) < 0.2
    scores = (random.normal(size=300) + shift * own).round(decimals)
    found = ranking_curves.curves_of(own, scores)
    grid, (fpr, tpr, _) = np.linspace(0, 1, ranking_curves.POINTS), roc_curve(own, scores)
    precision, recall, _ = precision_recall_curve(own, scores)
    assert found.average_precision == pytest.approx(average_precision_score(own, scores), abs=1e-12)
    assert found.auroc == pytest.approx(auc(fpr, tpr), abs=1e-12)
    np.testing.assert_allclose(found.tpr, np.interp(grid, fpr, tpr), atol=0.6e-4)
    place = np.searchsorted(recall[::-1], grid)
    np.testing.assert_allclose(found.precision, precision[::-1][place], atol=0.6e-4)


def test_the_worst_classes_have_curves_and_absent_ones_have_none() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)  # the sixth class has no picture
    p_NC = random.random((100, 6))
    p_NC[np.arange(100), labels] += np.array([2.0, 0.1, 0.5, 2.0, 0.3])[labels]
    found = ranking_curves.one_vs_rest(p_NC, labels, "abcdef")
    assert [row.name for row in found.classes] == list("abcde")
    assert [row.name for row in found.worst] == ["b", "e", "c"]
    assert found.macro is not None
    assert found.macro.auroc == pytest.approx(
        np.mean([row.auroc for row in found.classes]), abs=1e-4
    )
    assert ranking_curves.one_vs_rest(p_NC[:20], labels[:20], "abcdef") == Ranking(None, (), ())


def test_a_run_draws_its_errors_and_class_curves(finished_run: Path) -> None:
    run = run_files.read_run(finished_run)
    series = events.read_events(finished_run)
    assert [step for step, _ in series["train/top5"]] == [step for step, _ in series["train/loss"]]
    wrong = write.error_curves(run)
    assert {
        top: {split: len(points) for split, points in of.items()} for top, of in wrong.items()
    } == {"top-1": {"training": 2, "select": 3}, "top-5": {"training": 2, "select": 3}}
    assert wrong["top-1"]["select"][1] == (1, 1 - series["select/top1"][1][1])
    assert all(
        five < one
        for (_, one), (_, five) in zip(
            wrong["top-1"]["training"], wrong["top-5"]["training"], strict=True
        )
    )
    kept = run.report.curves
    assert kept is not None
    assert kept.macro is not None
    assert len(kept.classes) == 10
    assert 0.5 < kept.macro.auroc <= 1
    texts = svg_texts(finished_run / "figures" / "error.svg")
    assert {"top-1, training", "top-1, select", "top-5, training", "top-5, select"} <= set(texts)
    shown = " ".join(svg_texts(finished_run / "figures" / "precision-recall.svg"))
    assert f"mean of all classes, {kept.macro.average_precision:.3f}" in shown
    page = Seen((finished_run / rundir.PAGE).read_text()).after("Precision-recall and ROC curves")
    assert f"Mean of all classes {100 * kept.macro.average_precision:.1f} %" in page


def test_a_run_of_an_earlier_version_lacks_these_figures(tmp_path: Path) -> None:
    run, page = page_of(tmp_path / "old", "errors", "precision_recall", "roc", pictures=3)
    assert "ROC curves" not in page
    assert not (run / "figures" / "error.svg").exists()
    assert ranking_figures(run_files.read_run(made_run(tmp_path / "new", pictures=3)[0])) == []
