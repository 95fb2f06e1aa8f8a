"""docs/combiners.md: its table has every combiner with every option, and its own combiner trains."""

import inspect
import re
import sys
from pathlib import Path

from varshare_pl.cli.main import main
from varshare_pl.combiners import combiner_names

PAGE = (Path(__file__).parents[2] / "docs" / "combiners.md").read_text(encoding="utf-8")
TINY = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "80", "--plots.enabled", "false"]
TINY += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]


def test_the_table_has_all_combiners_with_their_options():
    told = {}
    for row in re.findall(r"^\| `(\w.+)$", PAGE, re.MULTILINE):
        name, _, options, *_ = re.split(r"(?<!\\)\|", row)
        told[name.strip("` ")] = set(re.findall(r"`(\w+)`", options))
    classes = {name: cls for name, cls in combiner_names().items() if cls.__module__.startswith("varshare_pl.")}
    options = {name: set(inspect.signature(cls).parameters) for name, cls in classes.items()}
    assert told == {name: found - {"args", "kwargs"} for name, found in options.items()}


def test_a_combiner_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (code,) = re.findall(r'^```python title="median.py"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE)
    Path("median.py").write_text(code, encoding="utf-8")
    try:
        assert main(["fit", "--config", "complex_cartpole", "--model.combiner", "median.Median", *TINY]) == 0
    finally:
        sys.modules.pop("median", None)
    assert Path("logs/complex_cartpole_median/seed_1/summary.json").exists()
