"""JPEG files whose few bytes cost a decoder much."""

import struct


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def many_scans(side: int, count: int, frame: int = 0xC2, *, components: int = 1) -> bytes:
    """A JPEG whose scans after the first are one long run of zeros each: a few bytes that visit all
    blocks."""
    blocks = (-(-side // 8)) ** 2
    parts = [b"\xff\xd8", segment(0xDB, b"\0" + b"\1" * 64)]
    listed = b"".join(bytes([place, 0x11, 0]) for place in range(components))
    parts.append(segment(frame, struct.pack(">BHHB", 8, side, side, components) + listed))
    parts += [
        segment(0xC4, bytes([kind << 4, 1, *[0] * 15, symbol]))
        for kind, symbol in ((0, 0), (1, 0xE0))
    ]
    first = bytes([1, 0, 0, 0, 0 if frame == 0xC2 else 63, 0])
    parts.append(segment(0xDA, first) + bytes(blocks // 8 + 1))
    bits = ("0" + "1" * 14) * -(-blocks // 32767)
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    parts.append((segment(0xDA, b"\1\0\0\1\x3f\0") + coded) * (count - 1))
    return b"".join(parts) + b"\xff\xd9"
