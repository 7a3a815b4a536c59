"""Names that timm once had for its models, and what it calls them now. timm's own table is what is
asked."""

import importlib.util
import re
from functools import cache
from pathlib import Path

from zoo.bases import of_timm


def current_name(name: str) -> str | None:
    """timm's present name (`legacy_xception`, `tf_efficientnet_b0.ns_jft_in1k`) of a model with an
    old one (`xception`, `tf_efficientnet_b0_ns`); None where the name is no old one. `timm/` before
    it is allowed."""
    plain = name.removeprefix("timm/")
    # a misspelt name is in none of timm's files, and then timm need not be imported, which takes
    # seconds
    if plain not in _words_of_timm():
        return None
    return of_timm.old_names().get(plain) or None


def current_architecture(name: str) -> str:
    """The same without the tag, and the name itself where it is no old one."""
    return (current_name(name) or name).partition(".")[0]


@cache
def _words_of_timm() -> frozenset[str]:
    """What stands in quotation marks in timm's code of models, old names among it."""
    words = set[str]()
    timm = importlib.util.find_spec("timm")
    if timm is None or timm.submodule_search_locations is None:
        return frozenset(words)
    for folder in timm.submodule_search_locations:
        for path in Path(folder, "models").glob("*.py"):
            words.update(re.findall(r"""["']([a-z0-9_]+)["']""", path.read_text(encoding="utf-8")))
    return frozenset(words)
