"""The tab about the model: its card, its limits, and how the exported file was checked, as
Markdown.

All of it comes from files that strangers may have written: it shows no picture, draws no diagram
and holds no HTML but one fold.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serve.engine.answer_queue import AnswerQueue
from serve.page.answer_html import percent
from zoo.contract import bundle as bundles
from zoo.contract import listed_files, rundir
from zoo.contract.bundle import Bundle
from zoo.files.folders import read_regular
from zoo.host.errors import UserError

# linear: no run is tried twice
DIAGRAM = re.compile(r"((?<!`)```++|(?<!~)~~~++)[ \t]{0,9}mermaid", re.IGNORECASE)
"""Beginning of a block that Gradio would hand to a program of its own, which draws it."""
WORD_JOINER = "\u2060"
"""A character without width."""
INLINE_CODE = re.compile(r"`[^`\n]*+`")
TAG_BEGINS = re.compile(f"<(?!{WORD_JOINER})")
PICTURE = re.compile(r"!\[([^\[\]\n]{0,300}+)\]\([^()\s]{0,300}+\)")
"""A picture of Markdown, of the form in which a card of ours shows its diagram."""
LARGEST_TEXT = 100_000
"""Bytes of a model card or a proof that are shown; a longer one is left out."""
FOLD = re.compile(
    r"^&lt;details>&lt;summary>(\d{1,4} further settings [a-z ]{1,60})&lt;/summary>$", re.MULTILINE
)
"""Where a card folds the lesser settings of its recipe away."""
ALL_IT_KNOWS = (
    "The classes above are all it knows: a picture of anything else is, at best, called unknown."
)
CALIBRATED = (
    "Probabilities were calibrated on validation pictures. For pictures of another kind (camera, "
    "style, time) they can be too high."
)
NEVER_UNKNOWN = (
    "It has no measure for pictures that are none of its classes: every picture gets a class."
)
HEAT_MAP = (
    "The heat map shows where the first choice found evidence, not that this was the right reason."
)
_UNREADABLE = (
    UserError,
    OSError,
    ValueError,
    RecursionError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What files that strangers wrote can end in; then there is nothing to show."""


def markdown(queue: AnswerQueue) -> str:
    """Return the model card, and what limits these answers have; Markdown without pictures: they
    come from elsewhere."""
    bundle = queue.model.predictor.bundle
    card = plain(_card(bundle)) or f"# {plain(str(bundle.run.get('name', 'model')))}"
    # the limits stand before the recipe, which is long
    what, heading, recipe = card.partition("\n## Recipe\n")
    what, _, own_limits = what.partition("\n## Limits\n")
    limits = _limits(bundle, also=own_limits.strip("\n"))
    return "\n\n".join((what, limits, _proof(bundle, _checked(queue)), heading + _folded(recipe)))


def plain(text: str) -> str:
    """Return Markdown that shows no picture, draws no diagram and holds no HTML, in linear time.

    Pictures become their description, as this service has no such file; those of another form
    become links: an exclamation mark written as an entity is only itself. In inline code an entity
    would be shown as such, so a word joiner keeps "<" from beginning an element there.
    """
    text = PICTURE.sub(r"(A picture, not shown here: \1)", DIAGRAM.sub(r"\1text", text))
    # before the rest, in which every "<" becomes an entity
    text = INLINE_CODE.sub(_without_elements, text)
    text = TAG_BEGINS.sub("&lt;", text)
    return text.replace("![", "&#33;[").strip()


def _without_elements(code: re.Match[str]) -> str:
    return code[0].replace("<", f"<{WORD_JOINER}")


def _folded(recipe: str) -> str:
    """Return the recipe of a cleaned card, its lesser settings folded away again: the only HTML of
    a card that stays."""
    found = FOLD.search(recipe)
    if not found:
        return recipe
    content, end, rest = recipe[found.end() :].partition("\n&lt;/details>")
    if not end:
        return recipe
    folded = f"<details><summary>{found[1]}</summary>{content}\n</details>"
    return f"{recipe[: found.start()]}{folded}{rest}"


def _card(bundle: Bundle) -> str:
    """Return the model card of the run that the bundle was made from, without its front matter;
    empty if there is none.

    A bundle may lie in a folder that is no run, or a different one: a card is shown only if the
    manifest of the bundle's own run lists it with these bytes.
    """
    run, wanted = bundle.folder.parent.parent, bundle.run.get("finished_sha256")
    try:
        # the card of another state of the run would describe another model
        if not rundir.is_finished(run) or rundir.finished_sha256(run) != wanted:
            return ""
        card = _text(run / rundir.CARD, lambda: listed_files.listed_file(run, rundir.CARD))
    except _UNREADABLE:
        return ""
    if not card.startswith("---\n"):
        return card
    _, end, body = card[4:].partition("\n---\n")
    if not end:  # front matter without an end is no card of ours
        return ""
    return body


def _text(path: Path, listed: Callable[[], Path | None]) -> str:
    """Return the text of a file if a manifest lists it, it is no link, and not larger than any that
    is written here."""
    if not path.exists() or path.lstat().st_size > LARGEST_TEXT or listed() is None:
        return ""
    content = read_regular(path, LARGEST_TEXT, follow=False)
    return content.decode("utf-8", "replace").replace("\r\n", "\n")


def _limits(bundle: Bundle, *, also: str) -> str:
    """Return the limits of these answers, and below them `also`: those of the card, which begin
    with what it knows."""
    limits = [CALIBRATED]
    if not also:
        limits.insert(0, ALL_IT_KNOWS)
    if bundle.decision.unknown is None:
        limits.append(NEVER_UNKNOWN)
    if bundle.decision.sets is not None:
        share = percent(bundle.decision.sets.coverage)
        limits.append(
            f"“{share} certain” means: the classes named there hold the right one for {share} of "
            "pictures like those of validation; not for each class by itself."
        )
    limits.append(HEAT_MAP)
    size = bundle.pre.size
    limits.append(f"A picture is seen at {size} x {size} pixels: finer detail has no influence.")
    return "\n".join(["## Limits\n", *(f"- {limit}" for limit in limits), also]).rstrip()


def _checked(queue: AnswerQueue) -> str:
    """On what it answers here, and whether that was compared."""
    predictor = queue.model.predictor
    answers = f"Here it answers on {predictor.provider}"
    if predictor.checked is None or not predictor.checked.pictures:
        return f"{answers}, which was not compared with the machine that exported it."
    pictures, worst = predictor.checked.pictures, predictor.checked.worst
    return (
        f"{answers}: {pictures} pictures differ by at most {worst:.2g} from "
        f"{predictor.checked.against}."
    )


def _proof(bundle: Bundle, checked: str) -> str:
    """Return what the export measured against the trained model, and what this machine measured
    against the export."""
    lines = [f"Model file: sha256 `{bundle.model_sha256}`, status {bundle.status}. {checked}"]
    rows = _proof_rows(bundle)
    if rows:
        head_row = "| exported against trained | largest difference | limit | pictures |"
        lines += ["", head_row, "| --- | --- | --- | --- |", *rows]
    return "## The exported file\n\n" + "\n".join(lines)


def _proof_rows(bundle: Bundle) -> list[str]:
    """Return a line of the table for each comparison; none if the proof says nothing that can be
    read."""
    path = bundle.folder / bundles.PARITY
    try:
        proof = json.loads(_text(path, lambda: bundle.file(bundles.PARITY)) or "{}")
        return [*map(_proof_row, proof.get("rungs", []))]
    except _UNREADABLE:
        return []


def _proof_row(rung: Any) -> str:
    """One comparison of the proof, as a line of a table."""
    worst, limit = _number(rung["worst"], ".2g"), _number(rung["limit"], "g")
    return f"| {plain(str(rung['name']))} | {worst} | {limit} | {rung['pictures']:d} |"


def _number(value: float | None, form: str) -> str:
    """Return a number of the proof; what has none was not judged: a bundle of int8 differs as its
    accuracy allows."""
    if value is None:
        return "not judged"
    return format(value, form)
