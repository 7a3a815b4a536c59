"""Rebuild the emoji benchmark data from two npm packages (Noto Emoji: Apache-2.0; Twemoji: CC-BY
4.0).

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    python -m tests.bench.make_emoji emoji-datasource-google-16.0.0.tgz
    emoji-datasource-twitter-16.0.0.tgz --out emoji

3,046 training and 766 test pictures of 64x64 pixels with alpha, 9 classes (Unicode's top-level
categories). The split is by code point, so one emoji never stands on both sides: test if
sha1(unified) % 10 < 2.
"""

import argparse
import hashlib
import json
import tarfile
from pathlib import Path


def is_test(unified: str) -> bool:
    """Whether an emoji, named by its code points, belongs to test."""
    return int(hashlib.sha1(unified.encode()).hexdigest(), 16) % 10 < 2


def unpack(archive: Path, out: Path) -> int:
    """Write the pictures of one vendor's package; returns how many."""
    vendor = archive.name.removeprefix("emoji-datasource-").split("-")[0]
    with tarfile.open(archive) as tar:
        rows = json.load(tar.extractfile("package/emoji.json"))
        wanted = {
            f"package/img/{vendor}/64/{row['image']}": row
            for row in rows
            if row["category"] != "Component" and row[f"has_img_{vendor}"]
        }
        for member in tar:
            if row := wanted.get(member.name):
                name = row["category"].lower().replace(" & ", "-").replace(" ", "-")
                folder = out / ("test" if is_test(row["unified"]) else "train") / name
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{vendor}-{row['image']}").write_bytes(tar.extractfile(member).read())
    return len(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archives", nargs=2, type=Path)
    parser.add_argument("--out", type=Path, default=Path("emoji"))
    arguments = parser.parse_args()
    print(
        sum(unpack(archive, arguments.out) for archive in arguments.archives),
        "pictures in",
        arguments.out,
    )


if __name__ == "__main__":
    main()
