"""Writing files whole or not at all, so that a kill or a power cut leaves the old one or the new one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from varshare_pl.errors import writing


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a file to write to beside ``path``; at the end it is on disk for sure and takes the place of ``path``."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(path):
        try:
            yield temporary
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all, with its own ends of lines on every system."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def fsync(path: Path) -> None:
    """See that a file, or what a folder lists, is on disk."""
    folder = path.is_dir()
    if folder and sys.platform == "win32":  # writes it with the file, and opens none
        return
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)  # Windows flushes no file that is only read
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
