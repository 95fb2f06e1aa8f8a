"""What loggers are told, and under which names."""

import pytest
import yaml
from recording import make_record

from varshare_pl.callbacks.logged_values import column_names, config_to_log, detail_name, metrics_to_log, results_to_log
from varshare_pl.cli.main import main
from varshare_pl.results.columns import heartbeat_columns
from varshare_pl.results.info import RunInfo
from varshare_pl.types import Detail, Record

TASKS = ("low gravity", "a/b")
INFO = RunInfo("e", 1, "CartPole", "paco", TASKS, None)


def test_levels_from_means_to_all() -> None:
    record = make_record(1)
    record.metrics["diagnostics/stopped_early"] = 0.0  # no column of the heartbeat
    means, tasks, everything = (metrics_to_log(record, TASKS, level) for level in ("means", "tasks", "all"))
    assert means["train/return_mean"] == 20.0
    assert set(tasks) - set(means) == {"train/return/low gravity"}
    assert tasks["train/return/low gravity"] == record.metrics["train/return_task_0"]
    assert "kl/policy" not in tasks  # NaN
    assert set(everything) - set(tasks) == {
        *("diagnostics/stopped_early", "sharing/energy/critic/head", "diagnostics/lr/actor", "train/length/a/b"),
        *(f"sharing/ratio/actor/layer_1/{task}" for task in TASKS),
    }


def test_returns_come_first_and_five_tasks_have_about_thirty_curves() -> None:
    names = [f"task {m}" for m in range(5)]
    record = Record(256, dict.fromkeys(heartbeat_columns(5), 1.0), [])
    told = list(metrics_to_log(record, names, "tasks"))
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in told))
    assert kinds[:5] == ["eval", "train", "loss", "kl", "sharing"]
    assert told[:3] == ["eval/return_mean", "eval/return/task 0", "eval/return/task 1"]
    assert len(told) == 35
    assert len(metrics_to_log(record, names, "means")) == 25


def test_every_column_has_a_name_of_its_own() -> None:
    names = column_names(TASKS)
    assert set(names) == set(heartbeat_columns(2, ("success", "cosine")))
    assert len(set(names.values())) == len(names)
    assert names["eval/success_task_1"] == "eval/success/a/b"
    assert not [name for name in names.values() if "task_" in name and name != "sharing/task_similarity"]


def test_pairs_of_tasks_are_left_to_heat_maps() -> None:
    pair = Detail("sharing/cosine_with_1", 0.5, "actor", "head", 0)
    assert metrics_to_log(Record(1, {}, [pair]), TASKS) == {}


@pytest.mark.parametrize(
    ("detail", "name"),
    [
        (Detail("sharing/ratio", 1.0, "actor", "layer_1", 0), "sharing/ratio/actor/layer_1/low gravity"),
        (Detail("sharing/energy", 1.0, "critic", "head"), "sharing/energy/critic/head"),
        (Detail("train/length", 1.0, task=0), "train/length/low gravity"),
    ],
)
def test_names(detail: Detail, name: str) -> None:
    assert detail_name(detail, TASKS) == name


def test_results_are_the_numbers_of_the_summary() -> None:
    final = {"return_mean": 80.5, "return_per_task": [80, 81], "solved": False, "weights": "last checkpoint"}
    assert results_to_log({"final": final, "steps_to_solve": None, "seconds": 2, "suite": "s"}, TASKS) == {
        "final/return_mean": 80.5,
        "final/return/low gravity": 80.0,
        "final/return/a/b": 81.0,
        "final/solved": 0.0,
        "final/seconds": 2.0,
    }
    assert results_to_log({"seconds": 2}, TASKS) == {"final/seconds": 2.0}


def test_a_config_has_the_names_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = {"model.sharing.num_sets": 3, "model.combiner": "pcgrad", "model.gamma": 0.9, "seed_everything": 4}
    args = [f"--{name}={value}" for name, value in options.items()]
    assert main(["fit", "--model.sharing=paco", *args, "--print_config"]) == 0
    told = config_to_log(yaml.safe_load(capsys.readouterr().out), INFO)
    assert {name: told[name] for name in options} == options
    assert told["model.sharing"] == "paco"
    assert (told["method"], told["suite"]) == ("paco", "CartPole")
    assert not [name for name in told if "class_path" in name or "init_args" in name]


def test_a_class_of_ones_own_keeps_its_path() -> None:
    config = {"model": {"sharing": {"class_path": "own.Method", "init_args": {"a": {"b": 1}}}}}
    told = {"method": "paco", "suite": "CartPole", "model.sharing": "own.Method", "model.sharing.a.b": 1}
    assert config_to_log(config, INFO) == told
