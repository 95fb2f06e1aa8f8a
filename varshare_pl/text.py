"""Names and labels as text of each format: whatever they hold is shown, and means nothing to the format.

Names are of tasks, suites, methods, variants and experiments. There is one function per format; CSV and JSON are
written by Python's modules, which quote what they must.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape

_HIDDEN = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}  # control characters, halves of a character, line breaks, unassigned
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # that turn what follows round
_TEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "≥": r"$\geq$",
}


def plain(text: str) -> str:
    """One line as people read it, for the terminal: what would break, colour or turn it round is written out."""
    return "".join(_written_out(sign) if _is_hidden(sign) else sign for sign in text)


def shortened(text: str, most: int) -> str:
    """Plain text of so many characters at most, for figures."""
    text = plain(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def html(text: str) -> str:
    """For HTML, in attributes too."""
    return escape(plain(text))


def markdown(text: str) -> str:
    """For Markdown, in cells of a table too.

    Brackets are left alone where they make no link, and lines between letters, which emphasise nothing.
    """
    text = re.sub(r"([\\`*#|])", r"\\\1", plain(text))
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    text = re.sub(r"\](?=[(\[:])", r"]\\", text)
    text = re.sub(r"^(\s*\d*)([-+.)])", r"\1\\\2", text) if re.match(r"\s*([-+]|\d+[.)])(\s|$)", text) else text
    signs = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "~": "&#126;"}  # no backslash works everywhere
    return "".join(signs.get(sign, sign) for sign in text)


def latex(text: str) -> str:
    """For LaTeX, in cells of a table too."""
    text = "".join(_TEX.get(sign, sign) for sign in re.sub(r"-(?=-)", "-\0", plain(text))).replace("\0", "{}")
    return f"{{{text[0]}}}{text[1:]}" if text[:1] in ("[", "*") else text  # \\ before it would take it for an option


def text_width(text: str) -> int:
    """Columns that plain text takes in a terminal."""
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(unicodedata.combining(sign) > 0 or sign in "\u200b\u200d\ufe0f" for sign in text)


def _is_hidden(sign: str) -> bool:
    return unicodedata.category(sign) in _HIDDEN or sign in _TURNS


def _written_out(sign: str) -> str:
    return sign.encode("unicode_escape", "surrogatepass").decode()
