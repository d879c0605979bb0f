"""Refuse large files and private keys. Prints what it refuses, one file a line, and exits with 1."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 500_000
LARGE_ON_PURPOSE = ("src/holdfast/assets/*.safetensors",)
KEY = b"PRIVATE " + b"KEY-----"  # in two parts, so that this file passes its own check


def refusal(path: Path) -> str | None:
    """Why a file may not be committed, or None."""
    if path.stat().st_size > LIMIT and not any(path.match(pattern) for pattern in LARGE_ON_PURPOSE):
        return f"{path}: {path.stat().st_size // 1000} kB, more than {LIMIT // 1000} kB"
    if KEY in path.read_bytes():
        return f"{path}: contains a private key"
    return None


if __name__ == "__main__":
    refusals = [reason for name in sys.argv[1:] if Path(name).is_file() and (reason := refusal(Path(name)))]
    for reason in refusals:
        print(reason)
    sys.exit(bool(refusals))
