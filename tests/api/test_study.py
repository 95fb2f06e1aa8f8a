"""A study from Python: run, scores, figures, report."""

from pathlib import Path

import pandas as pd
import pytest

import varshare_pl as vs
from varshare_pl.errors import ConfigError, RunError

FILE = """
name: two
suites: [complex_cartpole]
methods: {shared: methods/shared, paco: methods/paco}
seeds: 1-2
overrides:
  data.num_envs: 5
  data.rollout_steps: 8
  data.total_env_steps: 80
  model.minibatch_size: 40
  model.hidden_sizes: [8]
  evaluation.episodes: 1
  plots.enabled: false
"""


def write(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


@pytest.mark.slow
def test_a_study_is_run_and_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "two.yaml"
    study = vs.Study(write(file, FILE), logs_dir=tmp_path / "runs")
    assert study.run(workers=2) is study
    assert study.folder == tmp_path / "runs" / "two"
    assert "4 finished" in capfd.readouterr().out

    scores = study.scores
    written = study.report()
    (path,) = (path for path in written.files if path.name == "scores.csv")
    stored = pd.read_csv(path).query("metric != 'state'").reset_index(drop=True)
    stored["value"] = stored["value"].astype(float)
    tables = [table.astype(object).where(table.notna(), None) for table in (scores, stored)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, rtol=1e-8)
    assert scores["value"].dtype == float
    finals = scores[(scores["metric"] == "final/return") & scores["task"].isna() & scores["seed"].notna()]
    runs = {(method, seed) for method in ("shared", "paco") for seed in (1, 2)}
    assert set(zip(finals["method"], finals["seed"], strict=True)) == runs

    figures = {path.stem for path in (study.folder / "report" / "figures").glob("*.png")}
    for name in figures:
        assert study.plot(name).axes, name
    with pytest.raises(ConfigError, match=r"^plot: anser is not allowed; answer, .* is$"):
        study.plot("anser")


@pytest.mark.slow
def test_what_does_not_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "study"))
    file = tmp_path / "two.yaml"
    bad = vs.Study(write(file, FILE + "  model.lr_actor: -1\n"))
    with pytest.raises(ConfigError, match=r"^complex_cartpole_shared: model\.lr_actor: -1 is not allowed; "):
        bad.run()
    assert not (tmp_path / "logs").exists()

    (tmp_path / "fails").touch()
    faulty = FILE.replace("[complex_cartpole]", "{faulty: {data.suite: ['faulty_env:FaultyForStudies-v0']}}")
    study = vs.Study(write(file, faulty.replace("env_steps: 80", "env_steps: 800")))
    with pytest.raises(RunError, match=r"^logs/two: not all runs are finished"):
        study.run()
    (tmp_path / "fails").unlink()
    assert study.run(retry_failed=True).scores["method"].nunique() == 2


def test_mistakes_are_told_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="study: none is neither a file nor a shipped study; shipped are"):
        vs.Study("none")
    file = tmp_path / "two.yaml"
    file.write_text("suites: [complex_cartpole]\nmethod: {a: methods/shared}\n")
    with pytest.raises(ConfigError, match=r"^method: unknown key; did you mean methods\?"):
        vs.Study(file)
