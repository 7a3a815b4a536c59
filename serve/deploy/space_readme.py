"""README.md of a Space: its front matter, which the Hub reads, and a few words for people."""

import importlib.metadata
import json
import re
from collections.abc import Sequence

from zoo.contract import bundle as bundles
from zoo.contract.bundle import Bundle
from zoo.host.text import code, one_line, plain

MOST_NAMED = 50
"""Classes at most that are named."""
LONGEST_FRONT = 2_000
"""Lines of a model card's front matter; a longer one is not read."""
_SURROGATES = re.compile(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")


def readme(title: str, bundle: Bundle, card: str | None) -> str:
    """Return front matter as the Hub reads it (every text as JSON, which is YAML), and a word on
    what this is. The licence is that of the model `card`."""
    front = {
        "title": one_line(title),
        "emoji": "🔎",
        "colorFrom": "green",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": importlib.metadata.version("gradio"),
        "python_version": "3.11",
        "app_file": "app.py",
        "pinned": False,
        "short_description": f"Image classifier with {len(bundle.labels)} classes",
    }
    if name := card_licence(card or ""):
        front["license"] = name
    # every value as JSON: a name of a stranger's cannot begin another key
    lines = "\n".join(f"{key}: {_yaml(value)}" for key, value in front.items())
    return (
        f"---\n{lines}\n---\n\n# {plain(title)}\n\nAn image classifier "
        f"({_named(bundle.labels)}) with {_listed(_abilities(bundle))}. Programs ask "
        "`POST /v1/predict`; see `/openapi.json`.\n"
    )


def card_licence(card: str) -> str | None:
    """`license` of a model card's front matter, if it is an identifier."""
    # at most so many parts: the rest of a long card is one of them
    lines = card.split("\n", LONGEST_FRONT)
    if lines[0] != "---" or "---" not in lines[1:]:
        return None
    for line in lines[1 : lines.index("---", 1)]:
        key, _, value = line.partition(":")
        if key == "license" and _LICENCE.fullmatch(value.strip()):
            return value.strip()
    return None


def _named(labels: Sequence[str]) -> str:
    """Return the classes by name, as code, so that no name is read as Markdown."""
    names = ", ".join(map(code, labels[:MOST_NAMED]))
    if len(labels) > MOST_NAMED:
        names += f", and {len(labels) - MOST_NAMED} more"
    return names


def _abilities(bundle: Bundle) -> list[str]:
    """Return what the answers hold."""
    abilities = ["calibrated probabilities"]
    if bundle.decision.unknown:
        abilities.append("an answer for pictures that are none of these")
    if bundles.HEATMAP in bundle.outputs:
        abilities.append("heat maps")
    return abilities


def _listed(words: list[str]) -> str:
    """`a`, `a and b`, or `a, b, and c`."""
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"


def _yaml(value: object) -> str:
    """JSON in ASCII, because YAML takes fewer characters as they are; but YAML knows no pairs of
    surrogates."""
    return _SURROGATES.sub(_whole, json.dumps(value))


def _whole(pair: re.Match[str]) -> str:
    """Return the character that a pair of surrogates stands for, as YAML escapes it."""
    character = json.loads(f'"{pair[0]}"')
    return f"\\U{ord(character):08x}"
