"""Labels that a person put right: `label_errors.csv` of a check, looked through and edited.

What stands in the column `suggested` is the label from now on; a row that was removed changes
nothing, and an empty cell leaves the picture out. The pictures themselves stay where they are.
"""

from dataclasses import replace
from pathlib import Path

from finetune.sources.listed_pictures import Listing
from zoo.files import foreign_tables
from zoo.files.passed_over import Unused
from zoo.files.same_paths import nfc
from zoo.host.errors import UserError
from zoo.host.text import one_line, plain_cell

NEEDED = ("path", "given", "suggested")


def with_fixes(listing: Listing, table: Path) -> Listing:
    """Give the listing with the labels of a table of `python -m finetune.check`.

    Raises `UserError` for a picture that the listing lacks, for one whose label is no longer the
    one in `given`, and for a class that is none.
    """
    fixes = _read_fixes(table)
    number_of = {nfc(name): number for number, name in enumerate(listing.classes)}
    files, dropped, changed = {}, [], 0
    for split, entries in listing.files.items():
        files[split] = list[tuple[str, int]]()
        for path, label in entries:
            fix = fixes.pop(nfc(path), None)
            if fix is None:
                files[split].append((path, label))
                continue
            given, suggested = fix
            if number_of.get(nfc(given)) != label:
                raise UserError(
                    f"--fix {table}: {one_line(path)} was {given!r} when it was checked, and is "
                    f"{listing.classes[label]!r} now: check the data again."
                )
            if not suggested:
                dropped.append(Unused(path, "unlabelled", "left out by --fix"))
                continue
            if nfc(suggested) not in number_of:
                raise UserError(
                    f"--fix {table}: {one_line(path)} is to be {suggested!r}: expected a class of "
                    f"the data, {', '.join(listing.classes[:10])}, or an empty cell."
                )
            changed += number_of[nfc(suggested)] != label
            files[split].append((path, number_of[nfc(suggested)]))
    if fixes:
        missing = next(iter(fixes))
        raise UserError(
            f"--fix {table}: it names {one_line(missing)}, which is no picture of the data: "
            "expected the label_errors.csv of a check of the same --data."
        )
    finding = f"{changed} labels changed and {len(dropped)} pictures left out, as --fix says"
    return replace(
        listing,
        files=files,
        unused=(*listing.unused, *dropped),
        findings=(*listing.findings, finding),
    )


def _read_fixes(table: Path) -> dict[str, tuple[str, str]]:
    """Read the table: path in NFC -> (given label, label from now on)."""
    if table.suffix.lower() not in (".csv", ".tsv") or not table.is_file():
        raise UserError(
            f"--fix {table}: expected the label_errors.csv that python -m finetune.check wrote."
        )
    named = foreign_tables.read(table)
    if lacking := [name for name in NEEDED if name not in named.columns]:
        raise UserError(
            f"--fix {table}: expected the columns {', '.join(NEEDED)}, but {lacking[0]} is missing."
        )
    fixes = {}
    for row in named.rows:
        path, given, suggested = (plain_cell(row[name]).strip() for name in NEEDED)
        if nfc(path) in fixes:
            raise UserError(f"--fix {table}: expected one row for {one_line(path)}, seen two.")
        fixes[nfc(path)] = (given, suggested)
    return fixes
