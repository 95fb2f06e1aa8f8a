"""Puts a report into the docs, small: ``python -m benchmarks.results_pages logs/sharing`` writes docs/results/sharing.

Kept are the page as Markdown, the tables for LaTeX, the CSV files, compressed, and each figure as a PNG of few colours.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path

from PIL import Image

from benchmarks.machine import ROOT
from varshare_pl.results.report import FIGURES, LATEX, MARKDOWN, REPORT, SCORES, TIMINGS

RESULTS = ROOT / "docs" / "results"
COLORS = 64


def publish(report: Path, target: Path) -> None:
    """Replace a folder of the docs by a report's folder."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / FIGURES).mkdir(parents=True)
    text = (report / MARKDOWN).read_text(encoding="utf-8")
    for name in (SCORES, TIMINGS):
        (part / f"{name}.gz").write_bytes(gzip.compress((report / name).read_bytes(), mtime=0))
        text = text.replace(f"- {name}:", f"- {name}.gz:")
    text = text.replace("every figure as PNG and SVG", "every figure as PNG")
    (part / MARKDOWN).write_text(text, encoding="utf-8")
    shutil.copy(report / LATEX, part)
    for image in sorted((report / FIGURES).glob("*.png")):
        with Image.open(image) as picture:
            few = picture.convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(part / FIGURES / image.name, optimize=True)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def main() -> None:
    """Publish the reports of the folders named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results_pages", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a study, with its report")
    for folder in parser.parse_args().folders:
        publish(folder / REPORT, RESULTS / folder.resolve().name)


if __name__ == "__main__":
    main()
