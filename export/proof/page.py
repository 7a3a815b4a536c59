"""The page of a proof: every rung, and both answers to the pictures that differ most."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape as html_escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

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


def escape(name: object) -> str:
    """A name as HTML text, also safe within quotes."""
    return html_escape(one_line(name))


def page(labels: Sequence[str], shown: Mapping[str, Path], proof: "Proof") -> str:
    """A self-contained HTML page; nothing in it is loaded from elsewhere. `shown`: the pictures
    that it may hold."""
    verdict = (
        "<br>".join(
            f'<span class="failed">{words}: {escape(", ".join(rung.name for rung in rungs))}</span>'
            for words, rungs in (
                ("Failed", proof.failed),
                ("Too few pictures to tell", proof.inconclusive),
            )
            if rungs
        )
        or '<span class="passed">Every comparison passed.</span>'
    )
    rows = "".join(map(compared, proof.rungs))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{TITLE}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<h1>{TITLE}</h1><p>{verdict}</p>"
        "<div "
        'class="wide"><table><tr><th>compared</th><th>worst</th><th>limit</th><th>pictures</th>'
        f"<th>seen on</th><th></th></tr>{rows}</table></div>"
        f"<h2>The pictures that differ most</h2>"
        '<div class="wide"><table><tr><th></th><th>picture</th><th>trained '
        "model</th><th>exported model</th>"
        f"<th>difference</th></tr>{differing(labels, shown, proof)}</table></div></html>\n"
    )


def compared(rung: "Rung") -> str:
    """A rung as a row."""
    limit = "none" if rung.limit is None else f"{rung.limit:g}"
    spread = f" ± {rung.spread:.2f}" if rung.standard_error else ""
    kind = {"passed": "passed", "not judged": ""}.get(rung.verdict, "failed")
    return (
        f"<tr><td>{escape(rung.name)}</td><td>{rung.worst:.3g}{spread}</td><td>{limit}</td>"
        f"<td>{rung.pictures}</td><td>{escape(rung.picture)}</td><td "
        f'class="{kind}">{rung.verdict}</td></tr>'
    )


def differing(labels: Sequence[str], shown: Mapping[str, Path], proof: "Proof") -> str:
    """A row for each of the pictures whose probabilities differ most."""
    expected_NC = np.stack([one.reference.outputs[PROBABILITIES] for one in proof.pictures])
    difference_N = np.nan_to_num(
        np.abs(expected_NC - proof.outputs[PROBABILITIES]).max(1), nan=np.inf
    )
    rows = []
    for place in np.argsort(-difference_N, kind="stable")[:WORST]:
        name = proof.pictures[place].name
        rows.append(
            f"<tr><td>{thumbnail(shown[name]) if name in shown else ''}</td><td>{escape(name)}</td>"
            f"<td>{answer(labels, expected_NC[place])}</td>"
            f"<td>{answer(labels, proof.outputs[PROBABILITIES][place])}</td>"
            f"<td>{difference_N[place]:.2g}</td></tr>"
        )
    return "".join(rows)


def answer(labels: Sequence[str], p_C: np.ndarray) -> str:
    """The most probable classes, one a line."""
    return "<br>".join(
        f"<bdi>{escape(labels[c])}</bdi> {p_C[c]:.4f}"
        for c in np.argsort(-p_C, kind="stable")[:TOP]
    )


def thumbnail(path: Path) -> str:
    """The picture, embedded."""
    small = decode(path).copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return (
        f'<img alt="" src="data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
    )
