import subprocess
import sys

import numpy as np
import pytest

from varshare_pl.callbacks.heartbeat import cut_rows, diagnostics_rows
from varshare_pl.errors import ConfigError
from varshare_pl.results.columns import heartbeat_columns
from varshare_pl.results.files import read_diagnostics, read_heartbeat
from varshare_pl.results.info import read_run_info
from varshare_pl.types import Detail

HEADER = ",".join(heartbeat_columns(1))
EMPTY = "," * (len(heartbeat_columns(1)) - 1)


def write_heartbeat(folder, *steps, tail=""):
    (folder / "heartbeat.csv").write_text(
        "".join(f"{line}\n" for line in (HEADER, *(f"{s}{EMPTY}" for s in steps))) + tail
    )


def write_diagnostics(folder, *lines, tail=""):
    header = "env_steps,metric,network,layer,task,value"
    (folder / "diagnostics.csv").write_text("".join(f"{line}\n" for line in (header, *lines)) + tail)


def test_columns_come_back_as_float64_with_nan_for_empty_cells(make_run):
    beats = read_heartbeat(make_run(num_tasks=2, rows=8))
    assert list(beats) == heartbeat_columns(2)
    assert all(column.dtype == np.float64 and column.shape == (8,) for column in beats.values())
    assert beats["env_steps"].tolist() == [5120 * i for i in range(1, 9)]
    assert np.isnan(beats["eval/return_task_0"]).tolist() == [True, True, True, False] * 2
    assert np.isnan(beats["sharing/sigma"]).all()


def test_the_torn_line_of_a_killed_run_is_dropped(tmp_path):
    write_heartbeat(tmp_path, 256, 512, tail=f"768{EMPTY[:-1]}")
    assert read_heartbeat(tmp_path)["env_steps"].tolist() == [256, 512]
    write_heartbeat(tmp_path, 256, tail=f"51{EMPTY}")  # torn inside a number: all cells are there, but not the newline
    assert read_heartbeat(tmp_path)["env_steps"].tolist() == [256]
    write_diagnostics(tmp_path, "256,loss/value,,,0,1.5", tail="256,loss/value,,,1,1.")
    assert read_diagnostics(tmp_path).value.tolist() == [1.5]


def test_every_whole_row_is_read_as_it_stands(tmp_path):
    # A resumed run cuts its tables back itself (tests/callbacks/test_heartbeat.py): the readers drop nothing else.
    steps = [256, 512, 512, 256]
    write_heartbeat(tmp_path, *steps)
    assert read_heartbeat(tmp_path)["env_steps"].tolist() == steps
    write_diagnostics(tmp_path, *(f"{s},loss/value,,,0,{value}" for value, s in enumerate(steps)))
    details = read_diagnostics(tmp_path)
    assert details.env_steps.tolist() == steps
    assert details.value.tolist() == [0, 1, 2, 3]


def test_a_run_without_rows(tmp_path):
    write_heartbeat(tmp_path)
    write_diagnostics(tmp_path)
    assert read_heartbeat(tmp_path)["env_steps"].shape == (0,)
    assert len(read_diagnostics(tmp_path)) == 0


def test_details_are_picked_by_metric_network_layer_and_task(make_run):
    details = read_diagnostics(make_run(num_tasks=3, rows=4))
    ratio = details.where("sharing/ratio")
    assert len(ratio) == 4 * 2 * 3 * 3  # rollouts, networks, layers, tasks
    assert ratio.layers() == ["layer_1", "layer_2", "head"]
    assert ratio.tasks() == [0, 1, 2]
    one = details.where("sharing/ratio", network="critic", layer="head", task=1)
    assert one.env_steps.tolist() == [5120, 10240, 15360, 20480]
    assert details.where("sharing/energy").tasks() == []
    assert details.where("diagnostics/grad_norm").layers() == []
    assert len(details.where(network="actor")) + len(details.where(network="critic")) == len(details)


def test_the_tenth_layer_comes_after_the_ninth(tmp_path):
    write_diagnostics(tmp_path, *(f"1,sharing/energy,actor,{layer},,1" for layer in ("head", "layer_10", "layer_9")))
    assert read_diagnostics(tmp_path).layers() == ["layer_9", "layer_10", "head"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("heartbeat.csv", "", "has no header"),
        ("heartbeat.csv", "a,b\n1,2\n", "has no header"),
        ("heartbeat.csv", "env_steps,sps\n1,2,3\n", "3 cells under 2 columns"),
        ("heartbeat.csv", "env_steps,sps\n1,fast\n", "fast"),
        ("diagnostics.csv", "a,b\n", "does not have the columns"),
        ("diagnostics.csv", "env_steps,metric,network,layer,task,value\n1,x\n", "without 6 cells"),
        ("diagnostics.csv", "env_steps,metric,network,layer,task,value\n1,x,,,a,1\n", "invalid literal"),
        ("run.json", "{", "not valid JSON"),
        ("run.json", "[]", "JSON object"),
    ],
)
def test_a_spoilt_file_is_told_in_one_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    read = {"heartbeat.csv": read_heartbeat, "diagnostics.csv": read_diagnostics, "run.json": read_run_info}[name]
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_heartbeat, read_diagnostics])
def test_a_missing_file_is_told_in_one_line(tmp_path, read):
    with pytest.raises(ConfigError, match="is this the folder of a run"):
        read(tmp_path)


def test_what_a_run_was(make_run, tmp_path):
    info = read_run_info(make_run(num_tasks=2, rows=1, names=["up", "down"]))
    assert (info.experiment, info.seed, info.suite, info.method) == ("made_up", 1, "MadeUpSuite", "VarShare")
    assert (info.task_names, info.solved) == (("up", "down"), 475.0)
    assert info.title() == "MadeUpSuite, VarShare, seed 1"
    assert info.names_for(3) == ["up", "down", "task 2"]
    unknown = read_run_info(tmp_path)
    assert (unknown.experiment, unknown.seed, unknown.solved) == (tmp_path.name, None, None)
    assert unknown.names_for(2) == ["task 0", "task 1"]


def test_reading_and_plotting_need_neither_torch_nor_lightning():
    code = "import sys, varshare_pl.results.plots; print({'torch', 'lightning', 'pandas'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["a,b", 'say "x"', "tab\tand space", "a\u2028b", "a\x0cb", "ü 😀"])
def test_names_of_any_signs_come_back(tmp_path, name):
    rows = diagnostics_rows(256, [Detail(f"eval/{name}", 1.5, task=0), Detail("loss/value", 2.5, name, name)])
    write_diagnostics(tmp_path, tail=rows)
    details = read_diagnostics(tmp_path)
    assert details.metric.tolist() == [f"eval/{name}", "loss/value"]
    assert (details.network[1], details.layer[1]) == (name, name)
    assert details.value.tolist() == [1.5, 2.5]


def test_a_row_is_one_line(tmp_path):
    write_diagnostics(tmp_path, tail=diagnostics_rows(256, [Detail("eval/a\r\nb", 1.5), Detail("c", 2.5)]))
    cut_rows(tmp_path / "diagnostics.csv", 256)  # as a resumed run does
    assert read_diagnostics(tmp_path).metric.tolist() == ["eval/a  b", "c"]


def test_a_column_that_is_there_twice_is_told(tmp_path):
    (tmp_path / "heartbeat.csv").write_text("env_steps,sps,sps\n1,2,3\n")
    with pytest.raises(ConfigError, match="has the column sps twice"):
        read_heartbeat(tmp_path)
