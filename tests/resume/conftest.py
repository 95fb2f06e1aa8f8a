"""One short run that many tests stop, damage or go on with; each gets a copy of its own."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from test_exact_resume import fit, keep_copies, state


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run with the defaults of ``fit`` has ended: ``x/seed_1``, and ``kept`` with a copy of each checkpoint."""
    folder = tmp_path_factory.mktemp("default")
    with pytest.MonkeyPatch.context() as patch:
        keep_copies(patch, folder / "kept")
        fit(folder)
    return folder


@pytest.fixture(scope="session")
def whole(default_run: Path) -> dict[str, Any]:
    """What that run left; nobody stopped it."""
    return state(default_run / "x" / "seed_1")


@pytest.fixture
def finished(default_run: Path, tmp_path: Path) -> Path:
    """The folder of that run."""
    return Path(shutil.copytree(default_run / "x" / "seed_1", tmp_path / "x" / "seed_1"))


@pytest.fixture
def stops(default_run: Path, tmp_path: Path) -> list[Path]:
    """The folders of that run after each of its six rollouts, as a kill would have left them."""
    return sorted(Path(shutil.copytree(default_run / "kept", tmp_path / "stops")).iterdir())
