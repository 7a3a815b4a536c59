"""Building blocks of a self-contained HTML page: text that is escaped unless it is `Html`, tables, numbers, the style.

The page has no script, and its Content-Security-Policy forbids scripts and every request.
"""

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest


class Html(str):
    """Text that is HTML already. Every other string is escaped when it enters a page."""


@dataclass(frozen=True)
class Drawing:
    """One figure."""

    name: str
    """File name without suffix."""
    svg: str
    width: int
    """Natural width in CSS pixels."""
    height: int
    alt: str
    """What a screen reader says."""

    def uri(self) -> str:
        """The figure as a data URI."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, also those that reverse text; undecodable bytes of file names; what XML may not hold."""


def printable(text: str) -> str:
    """`text` with U+FFFD for what cannot be shown."""
    return UNPRINTABLE.sub("\ufffd", text)


def escape(value: object) -> Html:
    """`value` as HTML text, also safe within quotes; `Html` stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(printable(str(value))))


def fill(template: str, *values: object, **named: object) -> Html:
    """`template.format(...)` with every value escaped.

    >>> fill("<b>{}</b>", "a < b")
    '<b>a &lt; b</b>'
    """
    return Html(template.format(*map(escape, values), **{key: escape(value) for key, value in named.items()}))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """The parts, each escaped, with `separator` (HTML) between them."""
    return Html(separator.join(map(escape, parts)))


def bdi(text: str) -> Html:
    """A name given by a user, isolated so that right-to-left letters in it do not reorder what stands around it."""
    return fill("<bdi>{}</bdi>", text)


def breakable(identifier: str) -> Html:
    """An identifier that may be wrapped after its underscores."""
    return Html(escape(identifier).replace("_", "_<wbr>"))


def percent(share: float | None, digits: int = 1) -> str:
    """0.974 -> '97.4 %', None -> a dash."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def duration(seconds: float) -> str:
    """127.3 -> '2 min 7 s'."""
    hours, rest = divmod(round(seconds), 3600)
    parts = ((hours, "h"), (rest // 60, "min"), (rest % 60, "s"))
    shown = [f"{value}\u00a0{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or f"{seconds:.1f}\u00a0s"


def file_size(size: int) -> str:
    """1,234,567 bytes -> '1.2 MB'."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= scale:
            return f"{size / scale:.1f}\u00a0{unit}"
    return f"{size}\u00a0bytes"


def table(columns: Mapping[str, str], rows: Iterable[Sequence[object]], *, css: str = "") -> Html:
    """A table. `columns`: heading -> CSS class of its cells (`num` is right-aligned), '' for none."""
    classes = list(columns.values())

    def line(cells: Sequence[object], tag: str) -> Html:
        return fill("<tr>{}</tr>\n", join(
            fill('<{tag}{css}>{cell}</{tag}>', tag=tag, css=fill(' class="{}"', kind) if kind else "", cell=cell)
            for cell, kind in zip_longest(cells, classes, fillvalue="")))
    return fill('<div class="scroll"><table class="{}"><thead>{}</thead><tbody>\n{}</tbody></table></div>', css,
                line(list(columns), "th"), join(line(row, "td") for row in rows))


def meter(share: float | None, shown: str) -> Html:
    """A number over a bar of its share."""
    return fill('<span class="meter" style="--share:{}%">{}</span>', f"{100 * (share or 0):.1f}", shown)


def image(drawing: Drawing, style: str = "") -> Html:
    """A figure, embedded."""
    return fill('<img src="{}" width="{}" height="{}" alt="{}" style="{}">', drawing.uri(), drawing.width,
                drawing.height, drawing.alt, style)


def section(title: str, *parts: object, css: str = "") -> Html:
    """A section with a heading."""
    return fill('<section class="{}"><h2>{}</h2>\n{}</section>\n', css, title, join(parts))


def details(summary: str, content: object) -> Html:
    """Content that is folded away until the summary is clicked."""
    return fill("<details><summary>{}</summary>{}</details>", summary, content)


def document(title: str, body: Html) -> str:
    """The whole page."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return fill("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}</body>
</html>
""", policy=Html(policy), title=title, style=Html(STYLE), body=body)


STYLE = """
:root { color-scheme: light dark; --bg: #fcfcfb; --ink: #1d2126; --soft: #5d646e; --line: #e3e5e8; --faint: #f3f4f5;
  --accent: #2a69ab; --bar: #d9e6f3; --warn: #7d5200; --warn-bg: #fdf3dc; --bad: #b3261e; --bad-bg: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --bg: #15171a; --ink: #e5e8eb; --soft: #9ba3ad; --line: #2c3137;
  --faint: #1d2024; --accent: #74b0ea; --bar: #243b53; --warn: #f0c674; --warn-bg: #2f2715; --bad: #ff8d84;
  --bad-bg: #38201e; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 70rem; background: var(--bg); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
h1, h2, h3, p, figure, dl, dd, ul { margin: 0; }
h1 { font-size: 1.05rem; font-weight: 600; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; font-weight: 600; letter-spacing: -.01em; margin-bottom: .9rem; }
h3 { font-size: .9rem; font-weight: 600; margin: 1.5rem 0 .5rem; }
section { margin-top: 3rem; padding-top: 1.6rem; border-top: 1px solid var(--line); }
p + p, .scroll + p, p + .scroll, .notice + .scroll, details + .scroll { margin-top: .75rem; }
code { font: .87em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  overflow-wrap: anywhere; }
.soft, figcaption, th { color: var(--soft); }
.soft, figcaption { font-size: .87rem; }
.prose { max-width: 44rem; }
.hero { display: grid; grid-template-columns: minmax(16rem, 5fr) 7fr; gap: 1.5rem 3rem; align-items: start;
  margin-top: 1.6rem; }
.big { font-size: clamp(3.4rem, 9vw, 5rem); font-weight: 650; line-height: 1; letter-spacing: -.035em;
  margin: .3rem 0 .7rem; white-space: nowrap; }
.big small { font-size: .5em; font-weight: 500; letter-spacing: 0; color: var(--soft); margin-left: .2em; }
.label { font-size: .87rem; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1.2rem 1.5rem; }
.tiles dt { font-size: .8rem; color: var(--soft); }
.tiles dd { font-size: 1.15rem; font-weight: 550; line-height: 1.35; overflow-wrap: anywhere; }
.tiles dd small { display: block; font-size: .8rem; font-weight: 400; color: var(--soft); }
.bad { color: var(--bad) !important; }
.notice { border-left: 3px solid var(--warn); background: var(--warn-bg); color: var(--warn); padding: .55rem .85rem;
  border-radius: 0 6px 6px 0; margin-top: .75rem; font-size: .93rem; overflow-wrap: anywhere; }
.notice.bad { border-color: var(--bad); background: var(--bad-bg); }
h2 + .notice { margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; width: 100%; }
th { text-align: left; font-weight: 500; font-size: .8rem; white-space: nowrap; }
th, td { padding: .38rem 1rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tbody tr:last-child td { border-bottom: 0; }
.num { text-align: right; white-space: nowrap; }
td:not(.num) { overflow-wrap: anywhere; min-width: 4.5rem; }
.splits td { min-width: 0 !important; }
.files td:first-child { white-space: nowrap; }
.fit { width: auto; min-width: min(100%, 40rem); }
.meter { display: inline-block; min-width: 9rem; padding: 0 .4rem; border-radius: 3px;
  background: linear-gradient(to left, var(--bar) var(--share), transparent 0); }
.range { position: relative; display: block; width: 12rem; height: 1.3em; border-radius: 3px;
  background: var(--faint); }
.range i, .range b { position: absolute; top: 0; bottom: 0; border-radius: 3px; }
.range i { background: var(--bar); }
.range b { width: 3px; margin-left: -1.5px; background: var(--accent); }
.splits tbody tr:first-child { font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); gap: 1.5rem 2rem; }
.panels img { display: block; width: 100%; max-width: 30rem; height: auto; }
.panels + p, .beside + .soft { margin-top: .9rem; }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; align-items: flex-start; }
.beside > * { min-width: 0; max-width: 100%; }
.beside > .grow { flex: 1 1 20rem; max-width: 36rem; }
.beside h3 { margin-top: 0; }
.matrix img { display: block; height: auto; }
.wrong { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.4rem, 1fr)); gap: 1.6rem 1.2rem;
  margin-top: 1.2rem; }
.wrong figure { min-width: 0; }
.wrong .frame { height: 104px; border-radius: 6px; background: var(--faint); display: flex; align-items: center;
  justify-content: center; margin-bottom: .5rem; overflow: hidden; }
.wrong img { max-width: 100%; width: 96px; height: 96px; object-fit: contain; }
.wrong .tiny { image-rendering: pixelated; }
.wrong .gone { font-size: .8rem; color: var(--soft); padding: .5rem; text-align: center; overflow-wrap: anywhere;
  max-height: 100%; }
.wrong figcaption { color: var(--ink); line-height: 1.4; overflow-wrap: anywhere; }
.wrong figcaption code { display: block; color: var(--soft); font-size: .74rem; margin-top: .2rem; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--accent); font-size: .93rem; width: fit-content; }
details > * + * { margin-top: .6rem; }
ul { padding-left: 1.15rem; }
abbr { text-decoration: underline dotted var(--soft); text-underline-offset: 3px; cursor: help; }
.recipe td.value { white-space: nowrap; font-weight: 550; }
.recipe .why { width: 65%; color: var(--soft); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; font-size: .87rem; }
.facts dt { color: var(--soft); }
.facts dd { overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; }
  section { margin-top: 2.2rem; padding-top: 1.3rem; }
  .hero { grid-template-columns: 1fr; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .wrong { grid-template-columns: 1fr 1fr; }
  .wide { display: none; }
  table { font-size: .82rem; }
  th, td { padding-right: .6rem; }
  th { font-size: .76rem; }
  .meter { min-width: 3.8rem; }
  .recipe thead { display: none; }
  .recipe tr { display: grid; grid-template-columns: 1fr auto; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .recipe td { border: 0; padding: 0; width: auto; }
  .recipe td.value { text-align: right; }
  .recipe .why { grid-column: 1 / -1; width: auto; }
}
@media print { body { max-width: none; padding: 0; } section { break-inside: avoid-page; } }
"""
