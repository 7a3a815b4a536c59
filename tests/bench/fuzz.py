"""Mutants of pictures: whatever a file holds, `decode` gives a picture or `BadImage`, in bounded
time and memory.

    python -m tests.bench.fuzz pictures --count 20000 --seed 0

The mutants know the structure of their format: parts (segments, chunks, blocks, entries) are
repeated, removed, moved, taken from another file, their lengths and counts changed, and half of the
time checksums and sizes are put right again, so that the damage gets past the first check. The same
seed gives the same mutants. A child process decodes them; it is killed when one takes too long.
"""

import multiprocessing
import random
import resource
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import tyro
from PIL import Image

from serve.engine.decoder import FORMATS
from tests.bad_pictures import ODD, encode, photo, png_chunk
from zoo.host.errors import BadImage
from zoo.picture.decoding import decode

LIMIT_S = 2.0
LIMIT_BYTES = 300_000_000
HANGING_S = 60
ADDRESS_SPACE = 6 << 30
EXTREMES = (
    0,
    1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    4095,
    32767,
    65535,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)

Parts = list[bytes]
"""A file, cut where its format has seams; joined, they are the file."""


@dataclass
class Found:
    """What the mutants came to."""

    decoded: int = 0
    refused: int = 0
    slowest_s: float = 0
    """Processor time of the slowest mutant."""
    largest_bytes: int = 0
    """Memory of the largest mutant above what was there before it."""
    wrong: list[str] = field(default_factory=list)
    """Mutants over a limit, or with an error that is no `BadImage`."""


@cache
def seeds() -> dict[str, bytes]:
    """Real encodes of every format and kind."""
    colours, flat = photo(48, 32), Image.new("RGB", (40, 24), (9, 99, 199))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    block = exif.tobytes()
    made = {f"odd {name}": make() for name, (make, _) in ODD.items() if name != "huge-text.png"}
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            made[f"jpeg {mode} {progressive}"] = encode(
                colours.convert(mode),
                "JPEG",
                progressive=progressive,
                exif=block,
                comment=b"c",
                icc_profile=bytes(99),
            )
    made["jpeg restarts"] = encode(colours, "JPEG", restart_marker_blocks=2)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = colours.convert("L").convert(mode) if mode == "I;16" else colours.convert(mode)
        made[f"png {mode}"] = encode(picture, "PNG", exif=block, icc_profile=bytes(99))
    made["png frames"] = encode(
        colours, "PNG", save_all=True, append_images=[flat.resize((48, 32))]
    )
    for mode in ("L", "P", "RGBA"):
        made[f"gif {mode}"] = encode(
            colours.convert(mode), "GIF", save_all=True, append_images=[flat], comment=b"c" * 300
        )
    for lossless in (False, True):
        made[f"webp {lossless}"] = encode(
            colours.convert("RGBA"), "WEBP", lossless=lossless, exif=block, xmp=b"xmp"
        )
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        made[f"tiff {compression}"] = encode(
            colours, "TIFF", compression=compression, exif=block, tiffinfo={278: 8}
        )
    made["tiff g4"] = encode(colours.convert("1"), "TIFF", compression="group4")
    made["tiff big"] = encode(colours, "TIFF", big_tiff=True)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        made[f"bmp {mode}"] = encode(colours.convert(mode), "BMP")
    return made | {f"bmp rle{bits}": run_length_bmp(bits) for bits in (8, 4)}


def run_length_bmp(bits: int) -> bytes:
    body = b"".join(b"\x10\x01\x10\x02\0\x04abcd\0\0" for _ in range(24)) + b"\0\1"
    colours = bytes(range(256)) * (4 << bits >> 8 or 1)
    palette = colours[: 4 << bits]
    size = 54 + len(palette)
    header = struct.pack(
        "<IiiHHIIiiII", 40, 40, 24, 1, bits, 1 if bits == 8 else 2, len(body), 0, 0, 1 << bits, 0
    )
    return b"BM" + struct.pack("<IHHI", size + len(body), 0, 0, size) + header + palette + body


def cut(data: bytes) -> Parts:
    """The parts of a file; one that does not follow its format is cut into blocks of 64 bytes."""
    if data.startswith(b"\xff\xd8"):
        return _cut_at(
            data, [place for place in _places(data, b"\xff") if data[place + 1 : place + 2] > b"\0"]
        )
    if data.startswith(b"\x89PNG"):
        return _cut_at(data, _chunk_places(data, 8, ">I", extra=12))
    if data.startswith(b"RIFF"):
        return _cut_at(data, _chunk_places(data, 12, "<4xI", extra=8))
    if data.startswith(b"GIF8"):
        return _cut_at(data, [*_places(data, b"!"), *_places(data, b",")])
    if data[:2] in (b"II", b"MM"):
        return _cut_at(data, _entry_places(data))
    return _cut_at(data, [2, 14, 18, 22, 26, 30, 34, 54, *range(118, len(data), 64)])


def _places(data: bytes, what: bytes) -> list[int]:
    return [place for place in range(len(data)) if data[place : place + 1] == what]


def _chunk_places(data: bytes, at: int, size_of: str, *, extra: int) -> list[int]:
    """Where chunks and their contents begin; WebP's are padded to an even length."""
    places = []
    while at + 8 <= len(data):
        places += [at, at + 8]
        (size,) = struct.unpack_from(size_of, data, at)
        at += extra + size + (size & 1 if size_of[0] == "<" else 0)
    return places


def _entry_places(data: bytes) -> list[int]:
    endian = "<" if data.startswith(b"II") else ">"
    at = int(struct.unpack_from(endian + "I", data, 4)[0])
    count = struct.unpack_from(endian + "H", data, at)[0] if at + 2 <= len(data) else 0
    return [4, at, at + 2, *range(at + 2, at + 3 + 12 * min(count, 99), 4)]


def _cut_at(data: bytes, places: list[int]) -> Parts:
    inside = sorted({place for place in places if 0 < place < len(data)})
    return [data[a:b] for a, b in zip([0, *inside], [*inside, len(data)], strict=True)]


def mutant(seed: int) -> tuple[str, bytes]:
    """(what it was made from, the file) of one number."""
    rng = random.Random(seed)
    names = list(seeds())
    name = rng.choice(names)
    parts = cut(seeds()[name])
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        parts = rng.choice(CHANGES)(parts, rng) or [b""]
    data = b"".join(parts)
    if rng.random() < 0.5:
        data = mended(data)
    return name, data


def _repeat(parts: Parts, rng: random.Random) -> Parts:
    place = rng.randrange(len(parts))
    room = max(1, 2_000_000 // max(1, len(parts[place])))
    times = min(room, rng.choice((1, 2, 10, 300, 5000, 70_000, 300_000)))
    return [*parts[:place], parts[place] * times, *parts[place:]]


def _remove(parts: Parts, rng: random.Random) -> Parts:
    place = rng.randrange(len(parts))
    return parts[:place] + parts[place + rng.choice((1, 1, 3)) :]


def _move(parts: Parts, rng: random.Random) -> Parts:
    rest = list(parts)
    part = rest.pop(rng.randrange(len(rest)))
    rest.insert(rng.randrange(len(rest) + 1), part)
    return rest


def _splice(parts: Parts, rng: random.Random) -> Parts:
    other = cut(seeds()[rng.choice(list(seeds()))])
    start, place = rng.randrange(len(other)), rng.randrange(len(parts))
    return parts[:place] + other[start : start + rng.choice((1, 3, 99))] + parts[place:]


def _flip(parts: Parts, rng: random.Random) -> Parts:
    place = rng.randrange(len(parts))
    part = bytearray(parts[place])
    for _ in range(rng.choice((1, 3, 20)) if part else 0):
        part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
    return [*parts[:place], bytes(part), *parts[place + 1 :]]


def _number(parts: Parts, rng: random.Random) -> Parts:
    """An extreme number in one of the first places of a part: where lengths, counts, sizes and
    offsets stand."""
    place = rng.randrange(len(parts))
    part, width = bytearray(parts[place]), rng.choice((1, 2, 4))
    if len(part) >= width:
        at = rng.randrange(min(len(part) - width + 1, 24))
        value = rng.choice(EXTREMES) & (1 << 8 * width) - 1
        part[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
    return [*parts[:place], bytes(part), *parts[place + 1 :]]


def _truncate(parts: Parts, rng: random.Random) -> Parts:
    data = b"".join(parts)
    return [data[: rng.randrange(len(data) + 1)]]


def _insert(parts: Parts, rng: random.Random) -> Parts:
    place = rng.randrange(len(parts))
    filling = rng.choice(
        (b"\0", b"\xff", b"\xff\0", b"!", b"\x01a", b"\xff\xda", b"\xff\xd9", rng.randbytes(9))
    )
    return [*parts[:place], filling * rng.choice((1, 9, 5000, 500_000)), *parts[place:]]


CHANGES: tuple[Callable[[Parts, random.Random], Parts], ...] = (
    _repeat, _remove, _move, _splice, _flip, _flip, _number, _number, _number, _truncate, _insert,
)  # fmt: skip


def mended(data: bytes) -> bytes:
    """The file with checksums (PNG) and the size of the whole (WebP, BMP) put right."""
    if data.startswith(b"\x89PNG"):
        body, at = [data[:8]], 8
        while at + 12 <= len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            body.append(
                png_chunk(kind, data[at + 8 : at + 8 + size])
                if at + 12 + size <= len(data)
                else data[at:]
            )
            at += 12 + size
        return b"".join(body)
    if data.startswith(b"RIFF"):
        return data[:4] + struct.pack("<I", max(0, len(data) - 8)) + data[8:]
    if data.startswith(b"BM"):
        return data[:2] + struct.pack("<I", len(data)) + data[6:]
    return data


def _memory(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    line = next(
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)
    )
    return int(line.split()[1]) * 1024


def _answer(pipe: Connection) -> None:
    """The child: decodes what it is asked for, with the limits of the service and of a data set."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    seeds()
    while True:
        number = pipe.recv()
        name, data = mutant(number)
        outcomes = []
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, started = _memory("VmRSS"), time.process_time()
        for limits in ({"formats": FORMATS}, {}):
            try:
                picture = decode(data, **limits)
                outcomes.append(
                    "decoded" if picture.mode == "RGB" and not picture.info else "not clean"
                )
            except BadImage:
                outcomes.append("refused")
            except BaseException as error:  # whatever it is, it is what this looks for
                outcomes.append(f"{type(error).__name__}: {error}")
        pipe.send((name, outcomes, (time.process_time() - started) / 2, _memory("VmHWM") - before))


def fuzz_pictures(count: int, seed: int) -> Found:
    """Decode `count` mutants in a child process and sum up."""
    found, context = Found(), multiprocessing.get_context("spawn")
    child: multiprocessing.process.BaseProcess | None = None
    for number in range(seed * 1_000_000, seed * 1_000_000 + count):
        if child is None or not child.is_alive():
            pipe, other = context.Pipe()
            child = context.Process(target=_answer, args=(other,), daemon=True)
            child.start()
            other.close()
        try:
            pipe.send(number)
            if not pipe.poll(HANGING_S):
                raise EOFError(f"no answer after {HANGING_S} s")
            name, outcomes, seconds, taken = pipe.recv()
        except (EOFError, OSError) as error:
            child.kill()
            child.join()
            found.wrong.append(f"mutant {number}: the process ended with {child.exitcode} {error}")
            continue
        found.decoded += outcomes[1] == "decoded"
        found.refused += outcomes[1] == "refused"
        found.slowest_s, found.largest_bytes = (
            max(found.slowest_s, seconds),
            max(found.largest_bytes, taken),
        )
        if seconds > LIMIT_S or taken > LIMIT_BYTES or set(outcomes) - {"decoded", "refused"}:
            found.wrong.append(
                f"mutant {number} of {name}: {outcomes}, {seconds:.2f} s, {taken / 1e6:.0f} MB"
            )
    if child:
        child.kill()
        child.join()
    return found


def main(what: tyro.conf.Positional[str], count: int = 20_000, seed: int = 0) -> int:
    """Decode mutants and print what they came to; exit code 1 if one was over a limit."""
    if what != "pictures":
        raise SystemExit(f"expected pictures, not {what!r}")
    found = fuzz_pictures(count, seed)
    print(
        f"{count} mutants of {len(seeds())} files: {found.decoded} decoded, {found.refused} "
        f"refused, slowest {found.slowest_s:.2f} s, largest {found.largest_bytes / 1e6:.0f} MB, "
        f"{len(found.wrong)} wrong"
    )
    print(*found.wrong, sep="\n")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
