"""Files that are written whole or not at all, and what readers say of one that is not."""

import json
from pathlib import Path

import pytest

from varshare_pl.callbacks.run_files import read_lengths
from varshare_pl.cli.main import main
from varshare_pl.errors import ConfigError, RunError
from varshare_pl.files import replacing, write_json, write_text
from varshare_pl.results.info import read_run_info

DAMAGED = [
    "",
    "{",
    '{"seed": 1',
    "[1]",
    "null",
    '{"seed": "x"}',
    '{"total_env_steps": 5}',
    '{"task_names": 3}',
    "\x00" * 20,
]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})

    def break_off() -> None:
        with replacing(path) as temporary:
            temporary.write_text("{")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(RunError, match=r"^cannot write .*nowhere/file: No such file"):
        write_text(tmp_path / "nowhere" / "file", "text")


def test_what_is_written_is_on_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "file", []
    write_text(path, "old")
    monkeypatch.setattr("varshare_pl.files.fsync", lambda synced: seen.append((synced, path.read_text())))
    write_text(path, "new")
    assert seen == [(tmp_path / ".file.tmp", "old"), (tmp_path, "new")]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_run_file_is_one_line(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    file.write_text(content)
    for read in (lambda: read_run_info(tmp_path), lambda: read_lengths(file)):
        with pytest.raises(ConfigError) as error:
            read()
        assert str(error.value).startswith(str(file))
        assert "\n" not in str(error.value)
    (tmp_path / "heartbeat.csv").write_text("env_steps,wall_time_s\n1,1\n")
    (tmp_path / "config.yaml").write_text("data: {suite: CartPole}\n")
    for command in ("plot", "report"):
        assert main([command, str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("varshare: error: ")
        assert "run.json" in err
        assert err.count("\n") == 1


def test_a_run_without_its_file_has_no_lengths(tmp_path: Path) -> None:
    assert read_lengths(tmp_path / "run.json") == []
    (tmp_path / "run.json").write_text('{"total_env_steps": [1, 2]}')
    assert read_lengths(tmp_path / "run.json") == [1, 2]
