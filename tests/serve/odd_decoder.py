"""A decoder like serve.engine.decoder that does what these words in place of a picture say; other
data it decodes."""

import os
import sys
import time

from PIL import Image

from serve.engine import decoder

KEEP: list[bytes] = []


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Hang, take memory, crash or lie on request."""
    word = data[:16].rstrip(b"\0").decode(errors="replace")
    if word == "hang":
        time.sleep(100)
    if word == "spin":
        while True:
            pass
    if word == "eat":
        while True:
            KEEP.append(bytes(50_000_000))
    if word == "crash":
        os.abort()
    if word == "print":
        print("a stranger's text")
        print("a stranger's text", file=sys.stderr)
        os.write(1, b"a stranger's text")
    if word == "too large":
        return Image.new("RGB", (max_pixels + 1, 1))
    if word == "control":
        raise decoder.BadImage("picture", "\x1b[31mred\nline\u202e")
    if word == "long":
        raise decoder.BadImage("picture", "é" * 5000)
    if word in ("print", "pid"):
        return Image.new("RGB", (os.getpid() % 1000 + 1, os.getpid() // 1000 + 1))
    return decoder.decode_upload(data, max_pixels)


if __name__ == "__main__":
    decoder.main(decode)
