"""``varshare describe``: the tables, and that nothing is written."""

import json
import re
from pathlib import Path

import pytest

from varshare_pl.cli.main import main


def test_tables(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "--config", "complex_cartpole", "--model.hidden_sizes", "[8]"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^actor +layer_1\.mu +5 × 8 × 4 +160$", out, re.MULTILINE)
    assert re.search(r"^critic +head\.bias +1 +1$", out, re.MULTILINE)
    # Weights 4·8 + 8·2 and 4·8 + 8·1, stored 1 + 2·5 times and used twice; biases 10 and 9.
    assert re.search(r"^actor +538 +106 +96$", out, re.MULTILINE)
    assert re.search(r"^critic +449 +89 +80$", out, re.MULTILINE)
    assert re.search(r"^total +987 +195 +176$", out, re.MULTILINE)
    assert list(here.iterdir()) == []


def test_summary_holds_the_same_numbers(tiny_run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = json.loads((tiny_run / "summary.json").read_text())["parameters"]
    assert parameters == {"stored": 987, "active": 195, "flops": 176}
    assert main(["describe", "--config", str(tiny_run / "config.yaml")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^total +987 +195 +176$", out, re.MULTILINE)


def test_matched_widths_are_shown_and_recorded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--config", "complex_cartpole", "--model.sharing", "shared", "--model.match_parameters", "stored"]
    assert main(["describe", *options]) == 0
    assert "\nhidden sizes: 218, 218; tasks: 5\n" in capsys.readouterr().out
    short = ["--data.total_env_steps", "10240", "--evaluation.episodes", "1", "--plots.enabled", "false"]
    assert main(["fit", *options, *short, "--model.hidden_sizes", "[8]", "--experiment", "x"]) == 0
    run = here / "logs" / "x" / "seed_1"
    assert json.loads((run / "run.json").read_text())["hidden_sizes"] == [76]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["hidden_sizes"] == [76]
    assert summary["parameters"]["stored"] == pytest.approx(987, rel=0.02)
    # The run's config and checkpoint build the same networks again.
    assert main(["resume", str(run), "--data.total_env_steps", "15360"]) == 0
    assert (
        main(["validate", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")]) == 0
    )


def test_a_method_by_its_config(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--trainer.accelerator", "cuda", "--trainer.devices", "2"]  # no device is asked for
    assert main(["describe", "--config", "complex_cartpole", "--config", "methods/independent", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^actor +head\.weight +5 × 2 × 64 +640$", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--config", "complex_cartpol"], "did you mean complex_cartpole?"),
        (["--model.hidden_sizes", "[0]"], "model.hidden_sizes"),
        (["--model.sharing", "vershare"], "did you mean varshare?"),
        (["--modle.x", "1"], "--modle.x"),
        (["--data.suite", "Nothing"], "Nothing"),
        (["--ckpt_path", "x"], "--ckpt_path: not allowed"),
    ],
)
def test_errors_are_one_line(args: list[str], part: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", *args]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("varshare: error: ")
    assert part in err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("usage: varshare describe --config NAME_OR_FILE")
    assert "--model.hidden_sizes" in out
    assert "ckpt_path" not in out
    assert main(["--help"]) == 0
    assert "\n  describe " in capsys.readouterr().out
