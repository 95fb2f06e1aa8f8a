"""The parts of Markdown files that are made from measurements or code: what stands between two markers."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.ratios import UsageError


def replace(text: str, name: str, content: str, where: str) -> str:
    """A text with this content between ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        UsageError: if the text, which is that of ``where``, lacks the markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise UsageError(f"{where} has no {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def write(path: Path, name: str, content: str) -> None:
    """Put the content between the file's markers."""
    text = replace(path.read_text(encoding="utf-8"), name, content, str(path))
    path.write_text(text, encoding="utf-8")
