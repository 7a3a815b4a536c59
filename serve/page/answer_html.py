"""HTML of the page. Names of classes, runs and files come from strangers: all are escaped."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serve.engine.answer_queue import AnsweredPicture, AnswerQueue
from zoo.contract.bundle import Bundle
from zoo.contract.decision import Answer

LISTED = 14
"""Classes named at the top of the page."""
MOST_IN_SET = 30
"""Classes of a prediction set that are named."""
STYLE = (Path(__file__).parent / "templates" / "page.css").read_text(encoding="utf-8")
NOTHING = (
    '<div class="card empty"><p>The answer appears here, with its probability, the other classes '
    "that come into question, and where in the picture the evidence lies.</p></div>"
)


def head(queue: AnswerQueue) -> str:
    """Return what this page is, for somebody who has never seen it."""
    labels = queue.model.predictor.bundle.labels
    return (
        f'<div class="head"><h1>Which of {len(labels)} classes is it?</h1>'
        f'<p class="name">{html.escape(queue.model.name)}</p>{_chips(labels, LISTED)}</div>'
    )


def answer(answered: AnsweredPicture) -> str:
    """Return the card: answer, how sure, what else, and what that means."""
    result, bundle = answered.prediction.answer, answered.model.predictor.bundle
    bars = "".join(bar(label, share) for label, share in result.top)
    kind = "card"
    if result.label is None:
        kind = "card unknown"
    return (
        f'<div class="{kind}" data-label="{html.escape(result.label or "unknown")}">'
        f'{_verdict(result, bundle)}<div class="bars">{bars}</div>{_set(result, bundle)}</div>'
    )


def _verdict(result: Answer, bundle: Bundle) -> str:
    """Return the answer itself; for "unknown" also why."""
    if result.label is not None:
        best, probability = result.top[0]
        return f'<div class="verdict"><b>{html.escape(best)}</b><i>{percent(probability)}</i></div>'
    threshold = 0.0
    if bundle.decision.unknown:
        threshold = bundle.decision.unknown.threshold
    return (
        '<div class="verdict unknown"><b>unknown</b></div><p class="why">The picture is further '
        f"from the training pictures ({result.unknown_score:.3g}) than nearly all validation "
        f"pictures are ({threshold:.3g}): probably none of the classes. If it were one of them, "
        "then:</p>"
    )


def _set(result: Answer, bundle: Bundle) -> str:
    """Return the classes of which one is right with the coverage of the bundle; empty for "unknown"
    and where the bundle has no such sets."""
    names, sets = result.prediction_set, bundle.decision.sets
    if names is None or sets is None or result.label is None:
        return ""
    words = "it is one of"
    if len(names) == 1:
        words = "it is"
    return (
        f'<div class="set"><p>{percent(sets.coverage)} certain {words}:</p>'
        f"{_chips(names, MOST_IN_SET)}</div>"
    )


def _chips(labels: Sequence[str], most: int) -> str:
    """Return the first `most` labels, and how many there are besides."""
    chips = "".join(f"<span>{html.escape(label)}</span>" for label in labels[:most])
    if len(labels) > most:
        chips += f"<em>and {len(labels) - most} more</em>"
    return f'<div class="chips">{chips}</div>'


def bar(label: str, share: float) -> str:
    """One class with its probability; the exact one in an attribute."""
    name = html.escape(label)
    return (
        f'<div class="bar" data-name="{name}" data-probability="{share!r}"><span>{name}</span>'
        '<div class="track"><div '
        f'style="width:{100 * share:.2f}%"></div></div><i>{percent(share)}</i></div>'
    )


def percent(share: float) -> str:
    """93 %; what would round to 0 or 100 is not called so."""
    if share >= 0.995:
        return "> 99 %"
    if share < 0.01:
        return "< 1 %"
    return f"{share:.0%}".replace("%", " %")


def refusal(sentence: str) -> str:
    """Say why there is no answer."""
    return f'<div class="card refused"><p>{html.escape(sentence)}</p></div>'


def note(text: str) -> str:
    """Return a short remark, already escaped."""
    return f'<p class="note">{text}</p>'


@dataclass(frozen=True)
class PictureRow:
    """One of many pictures."""

    file: str
    answer: str = ""
    probability: float = 0.0
    """Of the answer, or of the nearest class."""
    prediction_set: tuple[str, ...] = ()
    unknown_score: float | None = None
    unknown: bool = False
    error: str = ""
    """Why there is no answer; else empty."""


def table(rows: Sequence[PictureRow]) -> str:
    """Return how many of the pictures were answered, and the answer to each."""
    answered = sum(not row.error for row in rows)
    head_row = "<tr><th>picture</th><th>answer</th><th>probability</th></tr>"
    return (
        f'<p class="note">{answered} of {len(rows)} pictures answered.</p><div '
        'class="table"><table>'
        f"<thead>{head_row}</thead><tbody>{''.join(map(_table_row, rows))}</tbody></table></div>"
    )


def _table_row(row: PictureRow) -> str:
    name = f"<td>{html.escape(row.file)}</td>"
    if row.error:
        return f'<tr class="refused">{name}<td colspan="2">{html.escape(row.error)}</td></tr>'
    answer = f"<td>{html.escape(row.answer)}</td>"
    if row.unknown:  # a probability among classes that it is none of would mislead
        return f'<tr class="unknown">{name}{answer}<td>-</td></tr>'
    return f"<tr>{name}{answer}<td>{percent(row.probability)}</td></tr>"


def curl(root_path: str) -> str:
    """Return how a program asks, as Markdown."""
    return (
        "```bash\ncurl -F file=@picture.jpg 'http://HOST"
        + root_path
        + "/v1/predict?top_k=5&heatmap=true'\n```\n"
        f"All parameters: [openapi.json]({root_path}/openapi.json)"
    )
