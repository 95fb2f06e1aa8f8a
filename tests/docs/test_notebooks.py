"""The notebooks run as they stand, and what they show is stored in them."""

from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def kinds(cell):
    """What a cell shows: text that is printed, tables, images."""
    return {kind for output in cell.outputs for kind in output.get("data", {"stream": ""})}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_runs_and_shows_what_is_stored_in_it(path, tmp_path):
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    stored = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(fresh, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [(old, new) for old, new in zip(stored.cells, fresh.cells, strict=True) if old.cell_type == "code"]
    assert [kinds(old) for old, _ in cells] == [kinds(new) for _, new in cells]
    assert {"image/png", "text/html"} <= {kind for _, new in cells for kind in kinds(new)}
