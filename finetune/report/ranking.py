"""The report's precision-recall and ROC curves: how well each class's probability tells its
pictures from the rest."""

from finetune.figures import certainty
from finetune.figures.drawing import Drawing
from finetune.report.page import Html, bdi, fill, image, join, part, percent, soft, table
from finetune.report.run_files import Finished


def ranking_figures(run: Finished) -> list[Drawing]:
    """Both figures; none for a run of a version without these curves, or a split of one class."""
    curves = run.report.get("curves")
    if not curves or not curves["macro"]:
        return []
    lines = {"mean of all classes": curves["macro"]} | {
        row["class"]: row for row in curves["worst"]
    }
    return [
        certainty.precision_recall(
            {name: (of["precision"], of["average_precision"]) for name, of in lines.items()}
        ),
        certainty.roc({name: (of["tpr"], of["auroc"]) for name, of in lines.items()}),
    ]


def ranking_part(run: Finished, drawings: list[Drawing]) -> Html:
    """The figures, and the areas of the classes that are drawn."""
    if not drawings:
        return Html("")
    curves = run.report["curves"]
    rows = [
        [
            "Mean of all classes",
            percent(curves["macro"]["average_precision"]),
            f"{curves['macro']['auroc']:.4f}",
        ],
        *(
            [bdi(row["class"]), percent(row["average_precision"]), f"{row['auroc']:.4f}"]
            for row in curves["worst"]
        ),
    ]
    return part(
        "Precision-recall and ROC curves",
        fill('<div class="panels">{}</div>', join(map(image, drawings))),
        table({"Class": "", "Average precision": "num", "AUROC": "num"}, rows, css="fit first"),
        soft(
            "Each class against all others, by its deployed probability on {}; shown are the "
            "classes with the lowest average precision. A threshold on the probability moves along "
            "these curves.",
            run.split,
        ),
    )
