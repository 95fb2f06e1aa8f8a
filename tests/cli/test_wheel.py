"""The wheel brings the configs along and works away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from varshare_pl.cli.configs import shipped_configs
from varshare_pl.results.files import read_heartbeat

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_installed_wheel_trains_a_shipped_config(tmp_path: Path) -> None:
    def run(*command: str, cwd: Path = tmp_path, **variables: str) -> str:
        env = {**{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}, **variables}
        done = subprocess.run([sys.executable, *command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    # Installed as a user would, the package must not be found in the checkout.
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT), cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert {f"varshare_pl/configs/{name}.yaml" for name in shipped_configs()} <= set(files)
    assert not [name for name in files if name.startswith(("tests/", "configs/", "logs/", "benchmarks/"))]

    site, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    where = run("-c", "import varshare_pl; print(varshare_pl.__file__)", cwd=away, PYTHONPATH=str(site))
    assert Path(where.strip()).is_relative_to(site)
    args = ["fit", "--config", "complex_cartpole", "--data.total_env_steps", "10240", "--evaluation.episodes", "1"]
    run("-m", "varshare_pl", *args, cwd=away, PYTHONPATH=str(site))
    assert len(read_heartbeat(away / "logs" / "complex_cartpole" / "seed_1")["env_steps"]) == 2
