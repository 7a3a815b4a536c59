"""The report's precision-recall and ROC curves: how well each class's probability tells its
pictures from the rest."""

from finetune.figures import certainty
from finetune.figures.drawing import Drawing
from finetune.report.page import Html, bdi, fill, image, join, part, percent, soft, table
from finetune.report.run_files import Finished
from zoo.contract.report import Curves, Ranking

MEAN = "mean of all classes"


def ranking_figures(run: Finished) -> list[Drawing]:
    """Both figures; none for a run of a version without these curves, or a split of one class."""
    ranking = run.report.curves
    if ranking is None or ranking.macro is None:
        return []
    lines = dict(named_curves(ranking, ranking.macro))
    return [
        certainty.precision_recall(
            {name: (of.precision, of.average_precision) for name, of in lines.items()}
        ),
        certainty.roc({name: (of.tpr, of.auroc) for name, of in lines.items()}),
    ]


def named_curves(ranking: Ranking, mean: Curves) -> list[tuple[str, Curves]]:
    """(name, curves): the mean of the classes first, then those with the lowest average
    precision."""
    return [(MEAN, mean), *((row.name, row.curves) for row in ranking.worst)]


def areas(curves: Curves) -> tuple[object, object]:
    """The areas under both curves, as the table shows them."""
    return percent(curves.average_precision), f"{curves.auroc:.4f}"


def ranking_part(run: Finished, drawings: list[Drawing]) -> Html:
    """The figures, and the areas of the classes that are drawn."""
    ranking = run.report.curves
    if not drawings or ranking is None or ranking.macro is None:
        return Html("")
    mean, *worst = named_curves(ranking, ranking.macro)
    rows = [[MEAN.capitalize(), *areas(mean[1])]]
    rows += [[bdi(name), *areas(of)] for name, of in worst]
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
