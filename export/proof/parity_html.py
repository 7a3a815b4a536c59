"""The page of a proof: every rung, and both answers to the pictures that differ most."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from export.proof.parity import expected_probabilities
from zoo.contract.bundle import PROBABILITIES
from zoo.host.text import one_line
from zoo.picture.decoding import decode

if TYPE_CHECKING:
    from export.proof.judging import Rung
    from export.proof.prove import Proof

TITLE = "Does it answer like the trained model?"
WORST = 8
"""Pictures shown."""
TOP = 3
"""Classes shown of each answer."""
THUMBNAIL = 160
"""Longest side in pixels."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""No script, and no request to anywhere."""
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884;
         vertical-align: top; }
.failed { color: #c22; font-weight: 600; } .passed { color: #2a7d2a; }
@media (prefers-color-scheme: dark) { .failed { color: #f77; } .passed { color: #7c7; } }
img { max-width: 100%; image-rendering: auto; border: 1px solid #8884; }
"""


def page(labels: Sequence[str], shown: Mapping[str, Path], proof: "Proof") -> str:
    """Make a self-contained HTML page; nothing in it is loaded from elsewhere. `shown`: the
    pictures that it may hold."""
    return Markup(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><style>{style}</style>'
        "<h1>{title}</h1><p>{verdict}</p>"
        '<div class="wide"><table><tr><th>compared</th><th>worst</th><th>limit</th>'
        "<th>pictures</th><th>seen on</th><th></th></tr>{rungs}</table></div>"
        "<h2>The pictures that differ most</h2>"
        '<div class="wide"><table><tr><th></th><th>picture</th><th>trained model</th>'
        "<th>exported model</th><th>difference</th></tr>{differing}</table></div></html>\n"
    ).format(
        policy=Markup(POLICY),
        title=TITLE,
        style=Markup(STYLE),
        verdict=Markup("<br>").join(verdicts(proof)),
        rungs=Markup().join(map(compared, proof.rungs)),
        differing=Markup().join(differing(labels, shown, proof)),
    )


def verdicts(proof: "Proof") -> Iterator[Markup]:
    """Yield what failed and what cannot be told; a line that all is well if there is neither."""
    doubts = {"Failed": proof.failed, "Too few pictures to tell": proof.inconclusive}
    for words, rungs in doubts.items():
        if rungs:
            names = one_line(", ".join(rung.name for rung in rungs))
            yield Markup('<span class="failed">{}: {}</span>').format(words, names)
    if not any(doubts.values()):
        yield Markup('<span class="passed">Every comparison passed.</span>')


def compared(rung: "Rung") -> Markup:
    """Show a rung as a row."""
    limit = "none" if rung.limit is None else f"{rung.limit:g}"
    worst = f"{rung.worst:.3g}"
    if rung.standard_error:
        worst += f" ± {rung.spread:.2f}"
    kind = {"passed": "passed", "not judged": ""}.get(rung.verdict, "failed")
    return Markup(
        '<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class="{}">{}</td></tr>'
    ).format(
        one_line(rung.name),
        worst,
        limit,
        rung.pictures,
        one_line(rung.picture),
        kind,
        rung.verdict,
    )


def differing(labels: Sequence[str], shown: Mapping[str, Path], proof: "Proof") -> Iterator[Markup]:
    """Yield a row for each of the pictures whose probabilities differ most."""
    expected_NC = expected_probabilities(proof.pictures)
    exported_NC = proof.outputs[PROBABILITIES]
    # NaN first: sorted as it is, it would stand last
    difference_N = np.nan_to_num(np.abs(expected_NC - exported_NC).max(1), nan=np.inf)
    # stable, so that the page of the same proof is the same
    for place in np.argsort(-difference_N, kind="stable")[:WORST]:
        name, small = proof.pictures[place].name, Markup()
        if name in shown:
            small = thumbnail(shown[name])
        yield Markup("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2g}</td></tr>").format(
            small,
            one_line(name),
            top_classes(labels, expected_NC[place]),
            top_classes(labels, exported_NC[place]),
            difference_N[place],
        )


def top_classes(labels: Sequence[str], p_C: np.ndarray) -> Markup:
    """List the most probable classes, one a line."""
    line = Markup("<bdi>{}</bdi> {:.4f}")
    top = np.argsort(-p_C, kind="stable")[:TOP]
    return Markup("<br>").join(line.format(one_line(labels[c]), p_C[c]) for c in top)


def thumbnail(path: Path) -> Markup:
    """Embed the picture."""
    # a copy: `thumbnail` changes a picture in place
    small = decode(path).copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # the page stands alone, with the pictures inside, and should stay small
    small.save(buffer, "WEBP", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img alt="" src="data:image/webp;base64,{}">').format(encoded)
