"""docs/heartbeat.md tells of every column and metric that a run writes, and of no other."""

import csv
import re
from pathlib import Path

import pytest
from helpers import DOCS, docs_script

from varshare_pl.callbacks.heartbeat import heartbeat_row
from varshare_pl.cli.main import main
from varshare_pl.results import columns as columns_module
from varshare_pl.results.columns import COLUMNS, heartbeat_columns
from varshare_pl.types import Record

OFTEN_EMPTY = ("without variational weights", "without task weights", "without weight noise")


@pytest.fixture(scope="module")
def tables() -> list[list[list[str]]]:
    """The rows of both tables of the built page as their cells."""
    text = docs_script("pages").filled("heartbeat.md", (DOCS / "heartbeat.md").read_text(encoding="utf-8"))
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        lines = [line for line in part.splitlines() if line.startswith("| `")]
        found.append([[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines])
    return found


def always(tables: list[list[list[str]]]) -> list[list[str]]:
    """The rows of the columns that every run has."""
    return [row for row, column in zip(tables[0], COLUMNS, strict=True) if not column.only]


def name_of(row: list[str]) -> str:
    return re.match(r"`([^`]+)`", row[0])[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last row has every value, and whose first rows lack what can be missing."""
    logs = tmp_path_factory.mktemp("glossary")
    sizes = ["--data.suite", "ConflictBandit", "--data.num_envs", "5", "--data.rollout_steps", "8"]
    sizes += ["--data.total_env_steps", "120", "--model.minibatch_size", "40", "--model.hidden_sizes", "[8]"]
    options = ["--evaluation.every", "0", "--evaluation.episodes", "1", "--plots.enabled", "false"]
    options += ["--model.normalize_returns", "task", "--model.normalize_rewards", "task"]
    assert main(["fit", *sizes, *options, "--experiment", "x", "--logs_dir", str(logs)]) == 0
    return logs / "x" / "seed_1"


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_column_has_its_row(tables: list[list[list[str]]], run: Path) -> None:
    assert [name_of(row) for row in tables[0]] == [column.name for column in COLUMNS]
    assert tables[0][0] == ["`env_steps`", COLUMNS[0].meaning, "never"]
    header = list(rows_of(run / "heartbeat.csv")[0])
    assert header == heartbeat_columns(5)
    assert set(header) < set(heartbeat_columns(5, ["success", "cosine"]))


def test_a_column_is_declared_in_one_place(
    monkeypatch: pytest.MonkeyPatch, tables: list[list[list[str]]], tmp_path: Path
) -> None:
    """One entry more, and the file has the value of that name, the page its row."""
    more = (*COLUMNS, columns_module.Column("train/worst_task_m", "the worst | of all", "never"))
    monkeypatch.setattr(columns_module, "COLUMNS", more)
    record = Record(256, {"train/worst_task_1": 2.5}, [])
    line = heartbeat_row(record, heartbeat_columns(2))
    assert line == "256" + "," * (len(heartbeat_columns(2)) - 1) + "2.5\n"
    assert (
        docs_script("pages").columns_table().splitlines()[-1]
        == "| `train/worst_task_m` | the worst \\| of all | never |"
    )


def test_what_is_never_empty(tables: list[list[list[str]]], run: Path) -> None:
    beats = rows_of(run / "heartbeat.csv")
    for column, _, empty in always(tables):
        cells = [row[column.strip("`").replace("task_m", "task_0")] for row in beats]
        if empty == "never" or empty.startswith(OFTEN_EMPTY[:2]):
            assert all(cells), column
        elif empty == "between evaluations":
            assert [bool(cell) for cell in cells] == [False, False, True], column
        elif empty.startswith(OFTEN_EMPTY[2]):
            assert [bool(cell) for cell in cells] == [True, False, True], column


def test_every_metric_of_the_details_has_its_row(tables: list[list[list[str]]], run: Path) -> None:
    written: dict[str, set[str]] = {}
    for row in rows_of(run / "diagnostics.csv"):
        if row["metric"].startswith("sharing/cosine_with_"):  # told in words: a name for each task
            continue
        keys = {key for key in ("network", "layer", "task") if row[key]}
        assert written.setdefault(row["metric"], keys) == keys
    told = {name_of(row): {key for key in ("network", "layer", "task") if key in row[1]} for row in tables[1]}
    assert told == written


@pytest.mark.parametrize("method", ["shared", "independent"])
def test_what_other_methods_leave_empty(tables: list[list[list[str]]], tmp_path: Path, method: str) -> None:
    args = ["--data.suite", "ConflictBandit", "--data.num_envs", "5", "--data.rollout_steps", "8", "--experiment", "x"]
    args += ["--data.total_env_steps", "40", "--model.minibatch_size", "40", "--model.hidden_sizes", "[8]"]
    args += ["--plots.enabled", "false", "--evaluation.episodes", "1", "--logs_dir", str(tmp_path)]
    assert main(["fit", *args, "--model.sharing", method]) == 0
    (row,) = rows_of(tmp_path / "x" / "seed_1" / "heartbeat.csv")
    missing = {name_of(cells): cells[2].startswith(OFTEN_EMPTY) for cells in always(tables)}
    if method == "independent":  # has task weights, but no noise
        missing |= {name_of(cells): False for cells in tables[0] if cells[2].startswith("without task weights")}
    for column, empty in missing.items():
        assert (row[column.replace("task_m", "task_0")] == "") == empty, column
