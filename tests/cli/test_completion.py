"""The shell completes commands, options and values by the script that is printed for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from varshare_pl.cli.main import main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab")
    path = tmp_path_factory.mktemp("completion") / "varshare.bash"
    command = [sys.executable, "-m", "varshare_pl", "completion", "bash"]
    path.write_text(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is asked")
@pytest.mark.parametrize(
    ("words", "among"),
    [
        (["re"], {"resume", "report"}),
        (["fit", "--data.num_e"], {"--data.num_envs"}),
        (["fit", "--config", "complex"], {"complex_cartpole"}),
        (["fit", "--model.sharing", "pa"], {"paco"}),
        (["resume", "logs", "--checkpoint.ev"], {"--checkpoint.every"}),
        (["play", "--check"], {"--checkpoint"}),
        (["play", "--checkpoint", "b"], {"best"}),
        (["prune", "--thr"], {"--threshold"}),
        (["study", "--retry"], {"--retry-failed"}),
        (["completion", "z"], {"zsh"}),
    ],
)
def test_what_is_begun_is_completed(script: Path, words: list[str], among: set[str]) -> None:
    given = " ".join(f"'{word}'" for word in ["varshare", *words])
    ask = f"source {script}; COMP_WORDS=({given}); COMP_CWORD={len(words)}; _shtab_varshare; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert among <= set(found)
    assert all(word.startswith(words[-1]) for word in found)


def test_a_shell_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert capsys.readouterr().err == "varshare: error: completion: fish is not allowed; bash, zsh, tcsh are\n"


def test_the_package_that_makes_it_has_to_be_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert 'needs shtab; pip install "varshare-pl[completion]"' in capsys.readouterr().err
