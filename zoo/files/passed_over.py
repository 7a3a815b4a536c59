"""Entries of a data folder that are passed over for their names alone: what belongs to systems and
programs, and notes or labels."""

import os
import re
from typing import NamedTuple

SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "@sharebin",
        "@__thumb",
        "@tmp",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "$recycle.bin",
        "$extend",
        "recycler",
        "lost+found",
        "lost.dir",
        "system volume information",
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "__pycache__",
        "__pypackages__",
        "node_modules",
        "bower_components",
        "site-packages",
        "_darcs",
        "_gsdata_",
    }
)
"""Folders of operating systems, NAS devices and programs, in lower case; hidden ones (`.git`) are
skipped as well."""
_VENV_MARKS = ("pyvenv.cfg",)
_MARKS = {"cvs": ("Entries", "Root")}
"""Folder, in lower case -> files that tell it from a class of that name (CVS is a chain of shops).
Any other folder with the marks of a virtual environment is one: people call it as they like."""
_REPAIRED_FOLDER = re.compile(r"found\.\d{3}")
"""Where Windows puts pieces of files that it finds on a damaged disk: FOUND.000 and on."""
SYSTEM_FILES = frozenset(
    {
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "picasa.ini",
        "icon\r",
        "@synoresource",
        "@synoeastream",
    }
)
"""Files of the same, in lower case; hidden ones (`.DS_Store`) and Windows' marks of downloads are
skipped as well."""
DOWNLOAD_MARK = ":zone.identifier"
"""End of the name of a file that Windows puts beside a downloaded one when it is copied to another
file system."""
HARMLESS_SUFFIXES = frozenset(
    {
        ".txt",
        ".text",
        ".md",
        ".rst",
        ".json",
        ".jsonl",
        ".ndjson",
        ".geojson",
        ".xml",
        ".csv",
        ".tsv",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".cfg",
        ".conf",
        ".log",
        ".db",
        ".sqlite",
        ".xmp",
        ".aae",
        ".py",
        ".ipynb",
        ".sh",
        ".bat",
        ".m",
        ".url",
        ".lnk",
        ".lst",
        ".list",
        ".names",
        ".tags",
        ".caption",
        ".md5",
        ".sha1",
        ".sha256",
    }
)
"""Notes, labels, checksums and programs: a file with one of these suffixes is tried only if it
begins as a picture."""
HARMLESS_NAMES = frozenset(
    {"readme", "license", "licence", "copying", "notice", "authors", "changelog"}
)
"""The same for files without a suffix, in lower case."""
KINDS = {
    "unreadable": "unreadable",
    "conflict": "under two classes",
    "leak": "in a later split too",
    "outside": "outside the class folders",
    "beside": "beside train, val and test",
    "repeated": "linked again",
    "unlabelled": "without a path or a label",
    "harmless": "notes or labels",
    "system": "system or hidden",
}
"""Why an entry is not used -> the same in words. The first three are decided after the files were
read."""


class Unused(NamedTuple):
    """An entry that is no picture of a run."""

    path: str
    """Relative to the data folder, with `/`. A folder stands for all that is in it."""
    kind: str
    """One of `KINDS`."""
    reason: str
    """For people."""


def by_rule(path: str, entry: "os.DirEntry[str]", *, folder: bool) -> Unused | None:
    """The entry as one that is skipped for its name, or as a folder of a program; None if it is
    neither."""
    name, lower = entry.name, entry.name.lower()
    # before everything else, because `.DS_Store` and `.git` need no row of their own then
    if name.startswith("."):
        return Unused(path, "system", "hidden: its name begins with a dot")
    if folder:
        if lower in SYSTEM_FOLDERS or _REPAIRED_FOLDER.fullmatch(lower):
            return Unused(path, "system", "a folder of the system")
        # a class may be called cvs or venv: only what lies in it tells a program's folder
        marks = _MARKS.get(lower, _VENV_MARKS)
        if all(os.path.isfile(os.path.join(entry.path, mark)) for mark in marks):
            return Unused(path, "system", f"a folder of a program: it holds {' and '.join(marks)}")
        return None
    if lower in SYSTEM_FILES or lower.endswith(DOWNLOAD_MARK):
        return Unused(path, "system", "a file of the system")
    suffix = os.path.splitext(lower)[1]
    if suffix in HARMLESS_SUFFIXES or lower in HARMLESS_NAMES:
        return Unused(path, "harmless", f"notes or labels, as {suffix or 'its name'} says")
    return None
