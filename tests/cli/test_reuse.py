"""Commands of one process share their parsers, and none sees what another one left in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from varshare_pl.cli.lightning import VarShareCLI
from varshare_pl.cli.main import main
from varshare_pl.cli.reuse import ReusedParsers

TINY = ["--data.num_envs", "5", "--data.rollout_steps", "8", "--data.total_env_steps", "40", "--plots.enabled", "false"]
TINY += ["--model.minibatch_size", "40", "--model.hidden_sizes", "[8]", "--evaluation.episodes", "1"]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands for which a parser was built; none is there at the beginning."""
    monkeypatch.setattr(ReusedParsers, "_kept", {})
    commands: list[str] = []
    build = VarShareCLI._prepare_subcommand_parser

    def note(self: Any, klass: type, subcommand: str, **kwargs: Any) -> Any:
        commands.append(subcommand)
        return build(self, klass, subcommand, **kwargs)

    monkeypatch.setattr(VarShareCLI, "_prepare_subcommand_parser", note)
    return commands


def test_a_second_run_needs_no_parser_and_has_the_defaults_again(here: Path, built: list[str]) -> None:
    lists = ["--data.info_metrics", "[]", "--model.sharing", "varshare", "--model.sharing.prior_scale", "0.3"]
    for name, options in (("first", []), ("other", lists), ("again", [])):
        assert main(["fit", *TINY, *options, "--experiment", name]) == 0
    assert built == ["fit"]
    configs = {name: yaml.safe_load((here / "logs" / name / "seed_1" / "config.yaml").read_text())
               for name in ("first", "other", "again")}  # fmt: skip
    assert configs["other"]["model"]["sharing"]["init_args"]["prior_scale"] == 0.3
    assert configs["again"] == {**configs["first"], "experiment": "again"}


def test_mistakes_need_no_other_parser_unless_something_is_left_in_it(
    here: Path, built: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for mistake in (
        ["--model.gamma", "high"],
        ["--model.gama", "1"],
        ["--model.minibatch_size", "7"],
        ["--config", "x"],
    ):
        assert main(["fit", *TINY, *mistake]) == 2
        assert main(["fit", *TINY, "--print_config"]) == 0
    assert built == ["fit"]
    assert main(["fit", "--print_config", "--model.gamma", "high"]) == 2  # has noted that it is to print
    capsys.readouterr()
    assert main(["fit", *TINY, "--experiment", "x"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "results: logs/x/seed_1"
    assert built == ["fit", "fit"]
