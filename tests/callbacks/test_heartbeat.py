import csv

import pytest
from recording import make_record, record_run

from varshare_pl.callbacks.heartbeat import Heartbeat, cell, diagnostics_rows
from varshare_pl.errors import ConfigError
from varshare_pl.results.columns import heartbeat_columns
from varshare_pl.results.files import read_diagnostics, read_heartbeat
from varshare_pl.types import Detail

COLUMNS = (
    "env_steps,episodes,gradient_steps,wall_time_s,sps,loss/total,loss/policy,loss/value,loss/entropy,loss/kl,"
    "kl/posterior,kl/policy,diagnostics/grad_norm,diagnostics/clip_fraction,diagnostics/explained_variance,"
    "diagnostics/noise_ratio_std,sharing/ratio,sharing/energy,sharing/theta_norm,sharing/mu_norm,sharing/sigma,"
    "sharing/specialised,sharing/task_similarity,train/return_mean,eval/return_mean,"
    "train/return_task_0,train/return_task_1,eval/return_task_0,eval/return_task_1"
)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_rollout_under_exactly_these_columns(tmp_path):
    record_run(tmp_path / "new" / "folder", [Heartbeat()], rollouts=3)
    path = tmp_path / "new" / "folder" / "heartbeat.csv"
    assert path.read_text().splitlines()[0] == COLUMNS
    assert ",".join(heartbeat_columns(2)) == COLUMNS
    rows = rows_of(path)
    assert [row["env_steps"] for row in rows] == ["256", "512", "768"]
    first = rows[0]
    assert (first["episodes"], first["gradient_steps"], first["sps"]) == ("3", "16", "31234.5678")
    assert first["loss/total"] == "0.333333333"
    assert first["kl/policy"] == ""  # not a number
    assert first["loss/kl"] == ""  # absent
    assert (first["train/return_task_0"], first["train/return_task_1"]) == ("10", "")
    assert (rows[1]["train/return_task_0"], rows[1]["train/return_task_1"]) == ("", "21")


def test_details_in_long_form(tmp_path):
    record_run(tmp_path, [Heartbeat()], rollouts=1)
    assert (tmp_path / "diagnostics.csv").read_text().splitlines() == [
        "env_steps,metric,network,layer,task,value",
        "256,sharing/ratio,actor,layer_1,0,0.9",
        "256,sharing/ratio,actor,layer_1,1,0.91",
        "256,sharing/energy,critic,head,,0.99",
        "256,diagnostics/lr,actor,,,0.005",
        "256,train/length,,,1,12",
    ]


def test_a_resumed_run_continues_after_its_checkpoint(tmp_path):
    record_run(tmp_path, [Heartbeat()], rollouts=4)
    record_run(tmp_path, [Heartbeat()], rollouts=3, start=2)  # the checkpoint was written after rollout 2
    assert [row["env_steps"] for row in rows_of(tmp_path / "heartbeat.csv")] == ["256", "512", "768", "1024", "1280"]
    assert [row["env_steps"] for row in rows_of(tmp_path / "diagnostics.csv")][::5] == [
        "256",
        "512",
        "768",
        "1024",
        "1280",
    ]


def test_a_killed_runs_torn_line_is_cut_before_rows_are_added(tmp_path):
    record_run(tmp_path, [Heartbeat()], rollouts=2)
    for name in ("heartbeat.csv", "diagnostics.csv"):
        path = tmp_path / name
        path.write_text(path.read_text()[:-4])
    assert len(read_heartbeat(tmp_path)["env_steps"]) == 1
    record_run(tmp_path, [Heartbeat()], rollouts=1, start=1)
    assert read_heartbeat(tmp_path)["env_steps"].tolist() == [256, 512]
    assert read_diagnostics(tmp_path).env_steps.tolist() == 5 * [256] + 5 * [512]


def test_other_columns_are_refused_and_left_alone(tmp_path):
    record_run(tmp_path, [Heartbeat()], rollouts=2, num_tasks=3)
    before = (tmp_path / "heartbeat.csv").read_bytes()
    with pytest.raises(ConfigError, match="other columns than this run") as caught:
        record_run(tmp_path, [Heartbeat()], num_tasks=2)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "heartbeat.csv").read_bytes() == before


def test_rows_are_on_disk_when_a_run_dies(tmp_path):
    heartbeat = Heartbeat()
    with pytest.raises(RuntimeError, match="the rollout failed"):
        record_run(tmp_path, [heartbeat], rollouts=5, fail_at=4)
    assert read_heartbeat(tmp_path)["env_steps"].tolist() == [256, 512, 768]
    assert heartbeat._heartbeat is None  # closed


def test_each_row_is_on_disk_at_once(tmp_path):
    seen = []

    class Reader(Heartbeat):
        def on_train_batch_end(self, trainer, *args):
            super().on_train_batch_end(trainer, *args)
            seen.append(len(read_heartbeat(tmp_path)["env_steps"]))

    record_run(tmp_path, [Reader()], rollouts=3)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("value", "integer", "text"),
    [
        (None, False, ""),
        (float("nan"), True, ""),
        (12_345_678_901, True, "12345678901"),
        (3.0, True, "3"),
        (3.0, False, "3"),
        (1e-7 / 3, False, "3.33333333e-08"),
        (float("inf"), False, "inf"),
    ],
)
def test_numbers_as_text(value, integer, text):
    assert cell(value, integer) == text


def test_no_details_no_lines():
    assert diagnostics_rows(256, []) == ""
    assert diagnostics_rows(256, [Detail("loss/value", float("nan"))]) == ""
    assert len(diagnostics_rows(256, make_record(1).details).splitlines()) == 5


@pytest.mark.parametrize("name", ["train/a, b", 'train/say "hi", all', "train/x"])
def test_a_metric_with_a_comma_in_its_name_is_one_cell(tmp_path, name):
    (tmp_path / "diagnostics.csv").write_text(
        "env_steps,metric,network,layer,task,value\n" + diagnostics_rows(3, [Detail(name, 0.7, task=1)])
    )
    found = read_diagnostics(tmp_path)
    assert (found.metric.tolist(), found.task.tolist(), found.value.tolist()) == ([name], [1], [0.7])
