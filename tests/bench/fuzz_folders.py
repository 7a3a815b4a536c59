"""Mutants of a small finished run with a bundle, opened by everything that opens one: only
`UserError` may come out.

    python -m tests.bench.fuzz_folders --count 20000 --seed 0

Links, pipes, names, types, numbers, sizes and cut files; in half of the mutants the digests are
made right afterwards.
"""

import csv
import json
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Any

import tyro

from finetune.evaluation import predictions_csv
from finetune.report import run_files
from finetune.run_folder import events
from tests.zoo.made_published import made_finished
from zoo.bases import catalog
from zoo.comparison import models
from zoo.contract import bundle, decision, examples, listed_files, run_pictures, rundir
from zoo.contract.figures import figures
from zoo.host.errors import UserError
from zoo.publish import card
from zoo.publish.destination import Destination

MOST_SECONDS, MOST_MB = 2.0, 300.0
HANGS_AFTER_S = 10
STEP = 1000
"""Mutants in one round."""
SLOW = {"card", "published card", "report", "answers"}
"""Openers that take ten times as long as the others: called for one mutant in 20 each."""
NAMES = (
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/proc/self/pagemap",
    "",
    ".",
    "..",
    "a//b",
    "a/../b",
    "a\\b",
    "C:\\x",
    "c:x",
    "a\x1b[2Jb",
    "a\nb",
    "a\0b",
    "FINISHED.json",
    "x" * 300,
    "a/" * 3000 + "b",
    "\ud800",
    "\udcff",
    "\u202egnp.exe",
    "bundles/onnx/model.onnx",
    "README.md",
    "model.onnx/",
    "~/.bashrc",
    "$HOME/x",
)
VALUES = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**200,
    -(10**200),
    0.0,
    -0.5,
    1e-300,
    1e300,
    "",
    "x",
    "../x",
    "1",
    "\x1b[2J",
    "x" * 200_000,
    [],
    [[]],
    {},
    {"": {}},
    ["x"],
    ["x", "x"],
    [None] * 4,
    [1, 2],
    [0.5] * 3,
    {"value": 1},
)
RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "9" * 350,
    "[" * 100_000 + "]" * 100_000,
    '{"a":' * 5000 + "1" + "}" * 5000,
    "[" * 70 + "]" * 70,
    '{"a":1,"a":2}',
    "[" + "0," * 1_100_000 + "0]",
    '"\\ud800"',
)
CELLS = (
    "",
    "x",
    "-1",
    "1e999",
    "nan",
    "9" * 5000,
    "../../x",
    "/etc/passwd",
    "a\0b",
    'a"b',
    "=cmd()",
    "\x1b[2J",
    "|" * 50,
)
TARGETS = ("/dev/zero", "/proc/self/pagemap", "/etc/passwd", "/", "victim", "nothing-there")


@dataclass
class Found:
    """What a round gave."""

    mutants: int = 0
    accepted: int = 0
    """Calls that gave a value."""
    refused: int = 0
    """Calls that gave a UserError."""
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""
    grown_mb: float = 0.0
    """Growth of the largest resident memory over the whole round."""
    kinds: Counter[str] = field(default_factory=Counter)


def openers() -> dict[str, Callable[[Path], Any]]:
    """What opens a run, by name."""
    return {
        "open_finished": lambda run: rundir.open_finished(run, verify=True),
        "listed": lambda run: [
            listed_files.listed_file(run, name)
            for name in (rundir.CARD, rundir.CONFIG, "figures/x.svg")
        ],
        "open_bundle": bundle.open_bundle,
        "of_run": lambda run: [figures(one) for one in bundle.of_run(run)],
        "folder": lambda run: examples.expected(bundle.open_bundle(run / "bundles" / "onnx")),
        "file": lambda run: bundle.open_bundle(run / "bundles" / "onnx", verify=False).file(
            "examples/1.png"
        ),
        "decision": decision.read_decision,
        "bank": decision.read_bank,
        "files": run_pictures.read_files,
        "root": run_pictures.data_root,
        "labels": rundir.label_names,
        "card": card.text,
        "published card": lambda run: card.text(
            run,
            Destination(
                "a/b",
                {"bundles/onnx/examples/expected.json": run, "bundles/onnx/examples/1.png": run},
            ),
        ),
        "compare": models.rows_of,
        "base": lambda run: catalog.find_base(str(run)),
        "events": events.read_events,
        "answers": lambda run: predictions_csv.read_predictions(run, rundir.label_names(run)),
        "report": run_files.read_run,
    }


def fuzz_folders(count: int, seed: int, *, template: Path | None = None) -> Found:
    """Open `count` mutants; failures are listed, not raised. `template`: a finished run, else one
    is made."""
    found, random = Found(), Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        template = template or made_finished(place / "made")
        victim = place / "victim"
        victim.write_text("precious")
        for opener in openers().values():  # what is imported at the first call is not the mutants'
            opener(template)
        before = peak_mb()
        for number in range(count):
            run = place / "run" / template.name
            shutil.copytree(template, run, copy_function=os.link)
            kind = mutate(run, random, victim)
            found.kinds[kind] += 1
            chosen = random.sample(sorted(openers().keys() - SLOW), 4)
            chosen += [name for name in sorted(SLOW) if random.random() < 0.05]
            try_some(run, chosen, f"mutant {number} of seed {seed}: {kind}", found)
            shutil.rmtree(place / "run")
            assert victim.read_text() == "precious", f"mutant {number}: {kind}"
        found.grown_mb = peak_mb() - before
    return found


def try_some(run: Path, chosen: Sequence[str], name: str, found: Found) -> None:
    """Call these openers on one mutant."""
    found.mutants += 1
    for what in chosen:
        opener = openers()[what]
        began = process_time()  # of this process alone: other tests run beside it
        signal.alarm(HANGS_AFTER_S)
        try:
            opener(run)
            found.accepted += 1
        except UserError:
            found.refused += 1
        except Exception:  # whatever it is, it is a failure (the alarm ends the process)
            found.failures.append(f"{name}, {what}: {traceback.format_exc(limit=-3)}")
        finally:
            signal.alarm(0)
        seconds = process_time() - began
        if seconds > found.slowest_s:
            found.slowest_s, found.slowest = seconds, f"{name}, {what}"


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


# --- mutants


def mutate(run: Path, random: Random, victim: Path) -> str:
    """Change a run in one to three ways, and in half of the cases put the digests right; in words
    what was done."""
    ways = [
        link,
        pipe,
        other_kind,
        manifest_name,
        inner_name,
        json_value,
        json_value,
        json_raw,
        cut,
        flipped,
        large,
        cell,
    ]
    done = [
        way(run, random, victim) for way in random.choices(ways, k=random.choice([1, 1, 1, 2, 3]))
    ]
    if random.random() < 0.5:
        put_right(run)
        done.append("digests put right")
    return "; ".join(done)


def files_of(run: Path, suffix: str = "") -> list[Path]:
    return sorted(
        path for path in run.rglob(f"*{suffix}") if path.is_file() and not path.is_symlink()
    )


def write(path: Path, content: bytes) -> None:
    """A new file: the old one is shared with the template."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def link(run: Path, random: Random, victim: Path) -> str:
    target = random.choice(TARGETS)
    target = str(victim) if target == "victim" else target
    everything = sorted(path for path in run.rglob("*") if not path.is_symlink())
    path = random.choice(everything)
    if random.random() < 0.4:
        path = path.with_name(
            random.choice([path.name + ".tmp", "x", "timing.json", "LICENSE", "7.png"])
        )
    remove(path)
    path.symlink_to(target)
    return f"{path.relative_to(run)} -> {target}"


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def pipe(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(files_of(run))
    path.unlink()
    os.mkfifo(path)
    return f"{path.relative_to(run)} is a pipe"


def other_kind(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(sorted(path for path in run.rglob("*") if not path.is_symlink()))
    is_folder = path.is_dir()
    remove(path)
    if is_folder:
        path.write_bytes(b"x")
    else:
        path.mkdir()
    return f"{path.relative_to(run)} is of the other kind"


def manifest_name(run: Path, random: Random, victim: Path) -> str:
    path = random.choice([run / rundir.FINISHED, run / "bundles/onnx" / bundle.FINISHED])
    content = load(path)
    name = random.choice(NAMES)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        return "nothing"
    content["files"][name] = random.choice(["0" * 64, "0", None, "A" * 64, "x" * 64])
    store(path, content)
    return f"{path.relative_to(run)} lists {name[:40]!r}"


def inner_name(run: Path, random: Random, victim: Path) -> str:
    file, key = random.choice(
        [
            ("bundles/onnx/examples/expected.json", None),
            ("bundles/onnx/bundle.json", "model"),
            ("local.json", "data"),
        ]
    )
    content, name = load(run / file), random.choice(NAMES)
    if not isinstance(content, dict):
        return "nothing"
    content[key or name] = (
        name if key else {"label": "x", "probabilities": [0.5] * random.choice([1, 3])}
    )
    store(run / file, content)
    return f"{file} names {name[:40]!r}"


def load(path: Path) -> Any:
    """A JSON file, None if an earlier mutation made it another thing."""
    try:
        return (
            json.loads(path.read_text()) if path.is_file() and path.stat().st_size < 3e7 else None
        )
    except (ValueError, RecursionError, OSError):
        return None


def store(path: Path, content: Any) -> None:
    write(path, json.dumps(content).encode("utf-8", "surrogatepass"))


def places(content: Any) -> list[tuple[Any, Any]]:
    """(list or dict, key) of every value inside."""
    found: list[tuple[Any, Any]] = []
    waiting = [content]
    while waiting:
        one = waiting.pop()
        keys = (
            list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        )
        found += [(one, key) for key in keys]
        waiting += [one[key] for key in keys]
    return found


def json_value(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(files_of(run, ".json"))
    content = load(path)
    where = places(content)
    if not where or random.random() < 0.05:
        store(path, random.choice(VALUES))
        return f"{path.relative_to(run)} is another value"
    inside, key = random.choice(where)
    if random.random() < 0.3:
        del inside[key]
        done = "lacks"
    else:
        inside[key] = random.choice(VALUES)
        done = f"has {str(inside[key])[:40]!r} at"
    store(path, content)
    return f"{path.relative_to(run)} {done} {key!r}"


def json_raw(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(files_of(run, ".json"))
    content, raw = load(path), random.choice(RAW)
    where = places(content)
    if where:
        inside, key = random.choice(where)
        inside[key] = "RAW"
        text = json.dumps(content).replace('"RAW"', raw)
    else:
        text = raw
    write(path, text.encode("utf-8", "surrogatepass"))
    return f"{path.relative_to(run)} has {raw[:20]} ({len(raw)})"


def cut(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(files_of(run))
    content = path.read_bytes()
    write(path, content[: random.randrange(len(content) + 1)])
    return f"{path.relative_to(run)} is cut"


def flipped(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(files_of(run))
    content = bytearray(path.read_bytes())
    for _ in range(random.choice([1, 3, 30])):
        if content:
            content[random.randrange(min(len(content), random.choice([20, 10**6])))] = (
                random.randrange(256)
            )
    write(path, bytes(content))
    return f"{path.relative_to(run)} has other bytes"


def large(run: Path, random: Random, victim: Path) -> str:
    path = random.choice(
        [*files_of(run, ".json"), *files_of(run, ".csv"), *files_of(run, ".jsonl")]
    )
    size = random.choice([3 * 10**6, 15 * 10**6, 2 * 10**7])
    filler = random.choice([b" ", b"[", b"0,", b"\n", b",", b'"', b"\xff", b"\0", b'{"a":'])
    content = path.read_bytes() + filler * (size // len(filler))
    write(path, content)
    return f"{path.relative_to(run)} has {size:,} bytes of {filler!r} more"


def cell(run: Path, random: Random, victim: Path) -> str:
    path = random.choice([run / rundir.FILES, run / rundir.PREDICTIONS])
    if not path.is_file() or path.stat().st_size > 10**6:
        return "nothing"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.reader(file))
    except csv.Error:
        return "nothing"
    if not rows or not all(rows):
        return "nothing"
    for _ in range(random.choice([1, 5])):
        row = random.choice([rows[0], random.choice(rows), random.choice(rows)])
        if row:
            row[random.randrange(len(row))] = random.choice(CELLS)
    if random.random() < 0.3:
        row = random.choice(rows)
        rows[rows.index(row)] = random.choice([row[1:], [*row, "x"], [], row * 60, ["x"] * 100_000])
    write(path, b"")
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows(rows)
    return f"{path.name} has other cells"


def put_right(run: Path) -> None:
    """The digests of both manifests, and the state of the run that the bundle names."""
    digest_again(run / rundir.FINISHED)
    content = load(run / "bundles/onnx/bundle.json")
    if (
        isinstance(content, dict)
        and isinstance(content.get("run"), dict)
        and is_own(run / rundir.FINISHED)
    ):
        content["run"]["finished_sha256"] = rundir.digest(run / rundir.FINISHED)
        store(run / "bundles/onnx/bundle.json", content)
    digest_again(run / "bundles/onnx" / bundle.FINISHED)


def is_own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def digest_again(manifest: Path) -> None:
    content = load(manifest)
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("files"), dict)
        or manifest.is_symlink()
    ):
        return
    for name in content["files"]:
        path = manifest.parent / name if rundir.folders.is_plain(name) else manifest
        if path != manifest and not path.is_symlink() and path.is_file():
            content["files"][name] = rundir.digest(path)
    store(manifest, content)


def main(count: int = 20_000, seed: int = 0) -> None:
    """Open mutants of a run and print what came out.

    Args:
        count: Mutants.
        seed: Of the choice of mutants.
    """
    began = perf_counter()
    # what a round has done so far is printed, so that it may be stopped
    for start in range(0, count, STEP):
        found = fuzz_folders(min(STEP, count - start), seed + start)
        say(found, perf_counter() - began)


def say(found: Found, seconds: float) -> None:
    """The figures of a round, and its failures."""
    print(
        f"{found.mutants} mutants, after {seconds:.0f} s: {found.accepted} calls accepted, "
        f"{found.refused} refused, {len(found.failures)} failed; slowest {found.slowest_s:.2f} s "
        f"({found.slowest}); memory grew by {found.grown_mb:.0f} MB",
        flush=True,
    )
    for failure in found.failures[:30]:
        print(failure, flush=True)


if __name__ == "__main__":
    tyro.cli(main)
