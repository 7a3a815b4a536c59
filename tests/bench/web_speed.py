"""A bundle for web in Chromium beside the trained model's predictor: worst difference and
milliseconds a picture.

    python -m tests.bench.web_speed RUN [PICTURES]

The pictures are the run's own test pictures (else val), evenly chosen. On a quiet machine only.
"""

import sys
from pathlib import Path
from statistics import median

import numpy as np

from tests.export.browser import open_site
from zoo.answer.predict import Predictor
from zoo.contract import run_pictures, rundir


def main(run: Path, count: int = 30) -> None:
    """Print both."""
    rows = run_pictures.read_files(run)
    names = [row["path"] for row in rows if row["split"] == "test"] or [row["path"] for row in rows]
    root = Path(rundir.read_json(run / rundir.LOCAL)["data"])
    pictures = [root / name for name in names[:: max(1, len(names) // count)][:count]]
    predictor = Predictor(run / "bundles" / "onnx", provider="cpu")
    with open_site(run / "bundles" / "web") as site:
        said = site.ask(*((path.name, path.read_bytes()) for path in pictures))
        version = site.page.context.browser.version
    expected = [predictor.predict(path) for path in pictures]
    off = [
        np.abs(np.array(one["probabilities"]) - other.probabilities).max()
        for one, other in zip(said, expected, strict=True)
    ]
    same = sum(
        one["label"] == other.answer.label for one, other in zip(said, expected, strict=True)
    )
    spent = [one["milliseconds"] for one in said]
    print(
        f"Chromium {version}: {len(pictures)} pictures, probabilities differ by {max(off):.1e} at "
        f"most, {same} of {len(pictures)} labels are the same, {median(spent):.0f} ms a picture "
        f"(first {spent[-1]:.0f})"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
