"""The shell completes commands, options and values by the script that is printed for it."""

import io
import shutil
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

from varshare_pl.cli.main import main

ASKED: list[tuple[list[str], set[str]]] = [
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
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What bash offers for each of ``ASKED``; it reads the long script once."""
    pytest.importorskip("shtab")
    script = io.StringIO()
    with redirect_stdout(script):
        assert main(["completion", "bash"]) == 0
    path = tmp_path_factory.mktemp("completion") / "varshare.bash"
    lines = [script.getvalue()]
    for words, _ in ASKED:
        given = " ".join(f"'{word}'" for word in ["varshare", *words])
        lines.append(f"COMP_WORDS=({given}); COMP_CWORD={len(words)}; _shtab_varshare; echo ${{COMPREPLY[@]}}")
    path.write_text("\n".join(lines))
    done = subprocess.run(["bash", path], capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is asked")
@pytest.mark.parametrize("number", range(len(ASKED)), ids=[" ".join(words) for words, _ in ASKED])
def test_what_is_begun_is_completed(answers: list[list[str]], number: int) -> None:
    words, among = ASKED[number]
    assert len(answers) == len(ASKED)
    assert among <= set(answers[number])
    assert all(word.startswith(words[-1]) for word in answers[number])


def test_a_shell_that_is_not_known_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "fish"]) == 2
    assert capsys.readouterr().err == "varshare: error: completion: fish is not allowed; bash, zsh, tcsh are\n"


def test_the_package_that_makes_it_has_to_be_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert 'needs shtab; pip install "varshare-pl[completion]"' in capsys.readouterr().err
