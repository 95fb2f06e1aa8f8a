"""The reports in the docs are small."""

import gzip

from PIL import Image

from benchmarks.results_pages import RESULTS, publish


def test_the_reports_of_the_docs_take_six_megabytes_at_most():
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    assert {path.suffix for path in files} == {".md", ".gz", ".png", ".tex"}


def test_a_report_is_put_into_the_docs(tmp_path):
    report, target = tmp_path / "report", tmp_path / "docs" / "study"
    (report / "figures").mkdir(parents=True)
    page = "![Answer](figures/answer.png)\n- scores.csv: every number\n- figures/: every figure as PNG and SVG\n"
    texts = {
        "report.md": page,
        "report.html": "<p>",
        "scores.csv": "a,b\n1,2\n",
        "timings.csv": "c\n",
        "tables.tex": "%",
    }
    for name, text in texts.items():
        (report / name).write_text(text)
    Image.radial_gradient("L").convert("RGB").save(report / "figures" / "answer.png")
    (report / "figures" / "answer.svg").write_text("<svg>")
    for _ in range(2):  # a second one replaces the first
        publish(report, target)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == {"report.md", "tables.tex", "scores.csv.gz", "timings.csv.gz", "figures/answer.png"}
    assert gzip.decompress((target / "scores.csv.gz").read_bytes()) == b"a,b\n1,2\n"
    written = (target / "report.md").read_text()
    assert written == page.replace("- scores.csv:", "- scores.csv.gz:").replace("PNG and SVG", "PNG")
    with Image.open(target / "figures" / "answer.png") as picture:
        assert picture.size == (256, 256)
        assert len(picture.getcolors()) <= 64
    assert [path.name for path in target.parent.iterdir()] == ["study"]
