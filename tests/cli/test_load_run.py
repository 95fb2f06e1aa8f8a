"""Loading torch and Lightning: what the garbage collector does meanwhile and from then on."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from varshare_pl.cli import imports

TINY = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "80", "--plots.enabled", "false"]
TINY += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]


def test_the_collector_leaves_out_what_the_import_made_and_works_on(here: Path) -> None:
    script = f"""
import gc
from varshare_pl.cli.main import main
assert gc.isenabled() and gc.get_freeze_count() == 0
assert main(["fit", "--model.kl_weigth", "1"]) == 2  # told by the parser, so after the import
first = gc.get_freeze_count()
assert gc.isenabled() and first > 100_000
assert main({["fit", *TINY]!r}) == 0
assert gc.isenabled() and gc.get_freeze_count() <= first  # not a second time: garbage of a run must go
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=here, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr


def test_a_collector_that_was_off_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "HEAVY", "not.loaded.yet")
    monkeypatch.setattr(gc, "freeze", lambda: None)
    gc.disable()
    try:
        imports.load_run()
        assert not gc.isenabled()
    finally:
        gc.enable()
