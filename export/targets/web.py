"""`--to web`: a folder of static files that answers in the browser, without a server's computing
and without a network.

The model is the proved `model.onnx`; the page (export/web/) runs it with onnxruntime-web. That
comes from npm once, is compared with the digests below and stays in `$ZOOTUNE_HOME`
(`~/.cache/zootune`), so that later exports ask nobody.
"""

import gzip
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from importlib import resources
from pathlib import Path
from typing import IO, Any

from export.proof.product import Product
from export.proof.prove import Evidence
from zoo.answer import onnx_runtime
from zoo.contract import bundle, rundir
from zoo.host.errors import UserError, first_line
from zoo.host.text import shell_path
from zoo.hub import pins

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
RUNTIME = "ort"
"""Folder of the bundle that holds onnxruntime-web."""
FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": (
        "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""What is needed of the package's `dist/` (the rest is for GPUs and for Node.js), with its sha256
in `VERSION`."""
LICENCES = ("LICENSE", "ThirdPartyNotices.txt")
"""npm's package holds neither; the same project's package for Python does."""
STATUS = "as ONNX Runtime runs it; no browser was started: its page compares the examples"
MOST_UNPACKED_BYTES, MOST_FILE_BYTES, MOST_READ_BYTES = 400 << 20, 64 << 20, 1 << 20
"""The package has 33 MB and about 110 MB unpacked; the largest of its files that is needed has 13
MB."""
TIMEOUT_S = 600
"""33 MB; npm itself gives up earlier on a network that is dead."""


def check() -> None:
    """`UserError` if onnxruntime-web is neither in the cache nor to be had from npm."""
    runtime_files()


def make(evidence: Evidence, folder: Path) -> Product:
    """Write the page, onnxruntime-web with its licence, and the proved `model.onnx`."""
    deployed = evidence.trained.deployed_onnx()
    shutil.copyfile(evidence.trained.onnx_model, folder / bundle.MODEL)
    for file in resources.files("export").joinpath("web").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / RUNTIME).mkdir()
    for path in (*runtime_files(), *licences()):
        shutil.copyfile(path, folder / RUNTIME / path.name)
    return Product(
        deployed.outputs,
        deployed.resize,
        pixels=deployed,
        status=STATUS,
        facts={"versions_of_target": {PACKAGE: VERSION}},
        next_steps=lambda folder: [
            f"python -m http.server -b 127.0.0.1 -d {shell_path(folder)}  # http://127.0.0.1:8000"
        ],
    )


def cache() -> Path:
    """Return where the package is kept, unpacked as `package/` by npm's own layout."""
    return pins.pins_file().parent / f"{PACKAGE}-{VERSION}"


def runtime_files() -> list[Path]:
    """Return the files of `FILES`, from the cache or else from npm; `UserError` if neither has the
    right ones."""
    kept = cache() / "package" / "dist"
    if not all((kept / name).is_file() for name in FILES):
        download(kept)
    # also of what lies in the cache: it may have been changed since
    for name, expected in FILES.items():
        if (seen := rundir.digest(kept / name)) != expected:
            raise UserError(
                f"{kept / name} is not that of {PACKAGE} {VERSION}: expected sha256 {expected}, "
                f"seen {seen}. Delete {cache()} and export again; if that does not help, a proxy "
                "or mirror changes files on the way."
            )
    return [kept / name for name in FILES]


def download(kept: Path) -> None:
    """Put the files of `FILES` into the folder, which comes into being whole; npm checks the
    package's integrity."""
    cache().parent.mkdir(parents=True, exist_ok=True)
    # beside its place, where a rename is one step
    with tempfile.TemporaryDirectory(dir=cache().parent) as temporary:
        new = Path(temporary) / "dist"
        new.mkdir()
        unpack(npm_pack(Path(temporary)), new)
        # what is left of an earlier try
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        new.rename(kept)


def npm_pack(folder: Path) -> Path:
    """Return the package as a .tgz in the folder."""
    there = shell_path(cache())
    by_hand = (
        f"Or get {PACKAGE}-{VERSION}.tgz where there is one (npm pack {PACKAGE}@{VERSION}) and "
        f"unpack it here: mkdir -p {there} && tar xzf {PACKAGE}-{VERSION}.tgz -C {there}"
    )
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"--to web needs {PACKAGE} once, which npm gets: expected the command npm, seen none. "
            f"Install Node.js (https://nodejs.org). {by_hand}"
        )
    try:
        words = subprocess.run(
            [npm, "pack", f"{PACKAGE}@{VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        ).stderr
    except subprocess.TimeoutExpired:
        words = f"no end after {TIMEOUT_S} s"
    if archive := next(folder.glob("*.tgz"), None):
        return archive
    lines = [line for line in words.splitlines() if line.strip() and "complete log" not in line]
    seen = " / ".join(lines[:3])[:400] or "nothing"
    raise UserError(
        f"npm cannot get {PACKAGE} {VERSION}: expected the package, seen: {seen}. Check the "
        f"network and npm's registry (npm ping), then export again. {by_hand}"
    )


def unpack(archive: Path, folder: Path) -> None:
    """Unpack only the files of `FILES` into the folder, within bounds: npm's registry or a mirror
    may give anything."""
    try:
        with gzip.open(archive) as packed:
            content: Any = _Bounded(packed)
            # as a stream, read forwards only, so that every byte is counted once
            with tarfile.open(fileobj=content, mode="r|") as tar:
                _unpack_members(tar, folder)
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise tarfile.ReadError(f"it lacks {missing[0]}")
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, RecursionError) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise  # a full disk
        raise UserError(
            f"npm gave another {PACKAGE} {VERSION} than expected ({first_line(error)[:200]}): "
            f"expected {', '.join(FILES)} in it. Check npm's registry (npm config get registry)."
        ) from None


def _unpack_members(tar: tarfile.TarFile, folder: Path) -> None:
    for member in tar:
        name = member.name.removeprefix("package/dist/")
        # only what lies in package/dist/, so that no name leads out of the folder
        if name not in FILES or member.name == name:
            continue
        if not member.isreg() or member.issparse() or member.size > MOST_FILE_BYTES:
            raise tarfile.ReadError(
                f"{name} is no regular file of at most {MOST_FILE_BYTES:,} bytes"
            )
        file: IO[bytes] = tar.extractfile(member)  # type: ignore[assignment]
        with open(folder / name, "wb") as out:
            shutil.copyfileobj(file, out)


class _Bounded:
    """A file of which `MOST_UNPACKED_BYTES` may be read, and no more than `MOST_READ_BYTES` at a
    time (tarfile reads long names whole)."""

    def __init__(self, file: Any):
        self._file, self._left = file, MOST_UNPACKED_BYTES

    def read(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0 or not 0 <= count <= MOST_READ_BYTES:
            raise tarfile.ReadError(f"it unpacks to more than {MOST_UNPACKED_BYTES:,} bytes")
        content: bytes = self._file.read(count)
        return content


def licences() -> list[Path]:
    """Return the licence and the notices of ONNX Runtime."""
    installed = Path(onnx_runtime.import_onnxruntime().__file__).parent
    return [installed / name for name in LICENCES]
