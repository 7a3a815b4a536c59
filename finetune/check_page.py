"""`check.html`: what the checks of the data found, with pictures."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from finetune.checks.finding import MOST_EXAMPLES, Finding, Illustration
from finetune.checks.run_time import RunTime
from finetune.checks.survey import Survey
from finetune.data.dataset import Data
from finetune.plan import Plan
from finetune.report.page import (
    bdi,
    details,
    document,
    facts,
    fill,
    join,
    plural,
    section,
    soft,
    strong,
    table_html,
)
from finetune.report.thumbnails import SMALL, thumbnail
from zoo.contract import recipe_rows
from zoo.files.same_paths import located

PAGE = "check.html"
MOST_LINES = 100
"""Lines of one check that are shown."""


def page(planned: Plan, result: Survey, time: RunTime) -> str:
    """Build the page."""
    data = planned.data
    name = planned.order.data.name
    header = fill(
        "<header><h1>Check of {}</h1><p>before fine-tuning {}</p></header>\n",
        bdi(name),
        planned.base.alias,
    )
    sections = [overview(planned, result, time)]
    for found in result.findings:
        if found.count or found.lines:
            sections.append(finding_section(data, found))
    sections.append(recipe_section(planned))
    return document(f"Check of {name}", join((header, *sections)))


def overview(planned: Plan, result: Survey, time: RunTime) -> Markup:
    """Show the splits, the expected time, and a row for each check."""
    counts, tiles = planned.data.counts(), []
    for split, of_class in counts.items():
        tiles.append((split, f"{sum(of_class.values()):,}", plural_classes(len(of_class))))
    tiles.append(("expected time", f"{time.minutes:.1f} min", "of training, on this machine"))
    rows = []
    for found in result.findings:
        title: Markup | str = found.title
        if found.count or found.lines:
            title = fill('<a href="#{}">{}</a>', found.key, found.title)
        count = strong(f"{found.count:,}", found.count > 0)
        rows.append((title, count, found.action or "–"))
    return section(
        "overview",
        "What is in the data?",
        facts(tiles),
        table_html({"check": "", "found": "num", "what was done, what to do": ""}, rows),
        soft("{}", time.how),
    )


def plural_classes(count: int) -> str:
    """Count classes: 1 -> '1 class', 10 -> '10 classes'."""
    return "1 class" if count == 1 else f"{count:,} classes"


def finding_section(data: Data, found: Finding) -> Markup:
    """Show what one check found, with examples."""
    parts: list[object] = [fill('<p class="prose">{}</p>', found.sentence)]
    if found.action:
        parts.append(fill('<p class="prose">{}</p>', found.action))
    if found.lines:
        lines = [fill("<li>{}</li>", line) for line in found.lines[:MOST_LINES]]
        parts.append(fill("<ul>{}</ul>", join(lines)))
    if found.examples:
        parts.append(example_html(data, found.examples))
    if found.count > MOST_EXAMPLES and len(found.examples) == MOST_EXAMPLES:
        parts.append(soft("The first {} of {}.", MOST_EXAMPLES, f"{found.count:,}"))
    return section(found.key, f"{found.title}: {plural_of(found)}", *parts)


def plural_of(found: Finding) -> str:
    """Count what a check found, as in '3 pairs'."""
    if found.noun == "class":
        return plural_classes(found.count)
    return plural(found.count, found.noun)


def example_html(data: Data, chosen: Sequence[Illustration]) -> Markup:
    """Show the pictures of each example with its note and the path of the first."""
    figures = []
    for example in chosen:
        shots = []
        for index in example.pictures:
            picture = data.pictures[index]
            shots.append(thumbnail(located(data.root, picture.path), picture.sha256, SMALL * 2))
        paths = [fill("<code>{}</code>", data.pictures[index].path) for index in example.pictures]
        figures.append(
            fill(
                '<figure><div class="frame">{}</div><figcaption>{}{}</figcaption></figure>',
                join(shots),
                bdi(example.note),
                join(paths),
            )
        )
    several = any(len(example.pictures) > 1 for example in chosen)
    return fill('<div class="wrong{}">{}</div>', " heated" if several else "", join(figures))


def recipe_section(planned: Plan) -> Markup:
    """Show the recipe that a run would take, with reasons."""
    shown, folded = recipe_rows.parted(planned.resolved.to_json())
    return section(
        "recipe",
        "Which recipe would a run take?",
        recipe_table(shown),
        details(recipe_rows.folded_title(folded), recipe_table(folded)),
    )


def recipe_table(rows: Mapping[str, Mapping[str, object]]) -> Markup:
    """Show settings with their values and reasons."""
    lines = []
    for name, row in rows.items():
        lines.append((fill("<code>--{}</code>", name.replace("_", "-")), row["value"], row["why"]))
    return table_html({"setting": "", "value": "value", "why": "why"}, lines, css="recipe")
