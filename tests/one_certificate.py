"""A file with one certificate for clients of HTTP. Those of this machine are hundreds, and a client
reads them whenever it is made (65 ms); no test speaks TLS.

    monkeypatch.setenv("SSL_CERT_FILE", one_certificate())      # of this process and those that it
    starts
"""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import certifi


@functools.cache
def one_certificate() -> str:
    """Path of the file, which is there until this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="certificate-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    end = "-----END CERTIFICATE-----\n"
    first = certifi.contents().partition(end)[0] + end
    (folder / "one.pem").write_text(first, encoding="utf-8")
    return str(folder / "one.pem")
