"""Which names info metrics may have."""

import pytest

from varshare_pl.errors import ConfigError
from varshare_pl.rollout.info_metrics import check_info_metrics


@pytest.mark.parametrize("names", [["success"], ["a, b", 'say "hi"', "x/y"], ["a", "a_b", "mean"]])
def test_allowed(names):
    check_info_metrics(names, 3)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["return"], "return is not allowed; it is the name of a metric that is always kept"),
        (["length"], "length is not allowed; it is the name of a metric that is always kept"),
        (["return_mean"], "return_mean is not allowed; it is the name of a metric that is always kept"),
        (["return_task_2"], "return_task_2 is not allowed; it is the name of a metric that is always kept"),
        (["return_shared_only"], "return_shared_only is not allowed; it is the name of a metric that is always kept"),
        (["cut"], "cut is not allowed; it is the name of a metric that is always kept"),
        (["a", "a"], "a is not allowed; train/a is also made by a"),
        (["a", "a_mean"], "a_mean is not allowed; train/a_mean is also made by a"),
        (["a_mean", "a"], "a is not allowed; train/a_mean is also made by a_mean"),
        (["task"], "task is not allowed; the vector env keeps this key for itself"),
        (["final_info"], "final_info is not allowed; the vector env keeps this key for itself"),
        (["_a"], "_a is not allowed; the vector env keeps this key for itself"),
        (["two\nlines"], r"'two\nlines' is not allowed; printable characters in one line are"),
        (["two\u2028lines"], r"'two\u2028lines' is not allowed; printable characters in one line are"),
        ([""], "'' is not allowed; printable characters in one line are"),
    ],
)
def test_refused_in_one_line(names, text):
    with pytest.raises(ConfigError) as error:
        check_info_metrics(names, 3)
    assert str(error.value) == f"data.info_metrics: {text}"
