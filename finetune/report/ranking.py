"""The report's precision-recall and ROC curves: how well each class's probability tells its
pictures from the rest."""

from markupsafe import Markup

from finetune.figures import certainty
from finetune.figures.drawing import Drawing
from finetune.report.page import bdi, panels, part, percent, soft, table_html
from finetune.report.run_files import Finished
from zoo.contract.report import Curves, Ranking

MEAN = "mean of all classes"


def ranking_figures(run: Finished) -> list[Drawing]:
    """Draw both figures; none for a run of a version without these curves, or a split of one
    class."""
    ranking = run.report.curves
    # earlier versions recorded no curves, and one class alone has none
    if ranking is None or ranking.macro is None:
        return []
    precision_recall, roc = {}, {}
    for name, curves in named_curves(ranking, ranking.macro):
        precision_recall[name] = (curves.precision, curves.average_precision)
        roc[name] = (curves.tpr, curves.auroc)
    return [certainty.precision_recall(precision_recall), certainty.roc(roc)]


def named_curves(ranking: Ranking, mean: Curves) -> list[tuple[str, Curves]]:
    """Give (name, curves): the mean of the classes first, then those with the lowest average
    precision."""
    return [(MEAN, mean), *((row.name, row.curves) for row in ranking.worst)]


def areas(curves: Curves) -> tuple[object, object]:
    """Print the areas under both curves, as the table shows them."""
    return percent(curves.average_precision), f"{curves.auroc:.4f}"


def ranking_part(run: Finished, drawings: list[Drawing]) -> Markup:
    """Show the figures, and the areas of the classes that are drawn."""
    ranking = run.report.curves
    if not drawings or ranking is None or ranking.macro is None:
        return Markup("")
    # the mean first, where the style sheet sets the row in bold
    rows = [[MEAN.capitalize(), *areas(ranking.macro)]]
    rows += [[bdi(row.name), *areas(row.curves)] for row in ranking.worst]
    return part(
        "Precision-recall and ROC curves",
        panels(drawings),
        table_html(
            {"Class": "", "Average precision": "num", "AUROC": "num"}, rows, css="fit first"
        ),
        soft(
            "Each class against all others, by its deployed probability on {}; shown are the "
            "classes with the lowest average precision. A threshold on the probability moves along "
            "these curves.",
            run.split,
        ),
    )
