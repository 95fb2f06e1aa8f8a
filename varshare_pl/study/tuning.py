"""An equal budget of tuning for every variant: as many trials, on seeds that the study itself does not use.

A variant's first trial has the values that it has without tuning, so that tuning cannot make it worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.files import write_json, write_text
from varshare_pl.study.definition import Study
from varshare_pl.study.folder import StudyFolder
from varshare_pl.study.runs import Run
from varshare_pl.study.search import BUDGET_FILE
from varshare_pl.study.trial_storage import TrialStorage
from varshare_pl.study.trials import Search

TUNED = Path("configs/tuned")


class Searches:
    """The searches of a study, one per variant; each gives the runs it needs next.

    Args:
        study: Its ``tuning`` must be there.
        folder: Of the study.
        logs_dir: Where experiments are.
        options: Of each variant, all by the names that they have in a saved config.
        tuned: Folder for the results, one config per variant.

    Raises:
        ConfigError: if a variant's own values are not in the space.
    """

    def __init__(
        self, study: Study, folder: StudyFolder, logs_dir: Path, options: Mapping[str, Mapping[str, Any]], tuned: Path
    ) -> None:
        assert study.tuning is not None
        _load_optuna()
        self._name, self._tuning, self._tuned = study.name, study.tuning, tuned
        self._storage: TrialStorage | None = None
        starts = {variant: study.tuning.start(variant, of_variant) for variant, of_variant in options.items()}
        self._all = [
            Search(study, study.tuning, variant, folder, logs_dir, starts[variant.name]) for variant in study.variants
        ]

    def check(self) -> None:
        """See that what is on disk is of these searches.

        Raises:
            ConfigError: if trials were made with another space, or a file of results is there and not of this search.
        """
        for search in self._all:
            search.check()
            file = self._file(search)
            if file.exists() and (search.advance() or file.read_text(encoding="utf-8") != search.tuned_config()):
                raise ConfigError(f"{file} exists already; move it away to tune again")

    def open_storage(self) -> None:
        """Have the trials shown by the storage that the study names, if it does.

        Raises:
            ConfigError: if Optuna cannot open it.
        """
        if self._tuning.storage is not None:
            self._storage = TrialStorage(self._tuning.storage)

    def runs(self) -> list[Run]:
        """The runs of all trials up to those under way; writes the result of each search that is done."""
        for search in self._all:
            search.begin()
            unfinished = search.advance()
            search.write_trials()
            if self._storage is not None:
                self._storage.put(f"{self._name}/{search.variant.name}", search.trials)
            if not unfinished and search.best() is not None:
                self._tuned.mkdir(parents=True, exist_ok=True)
                write_text(self._file(search), search.tuned_config())
                write_json(self._tuned / BUDGET_FILE, self._tuning.record())
        return [run for search in self._all for run in search.runs]

    def plan(self) -> str:
        """The budget, and how much of it is spent."""
        tuning = self._tuning
        runs = tuning.trials * len(tuning.seeds)
        lines = [
            f"{len(self._all)} variants × {tuning.trials} trials × {len(tuning.seeds)} seeds × {tuning.env_steps:,}"
        ]
        lines[0] += f" env steps = {len(self._all) * runs * tuning.env_steps:,} env steps at most"
        for search in self._all:
            search.advance()
            lines.append(f"{search.variant.name}: {len(search.trials)} of {tuning.trials} trials done")
        return "\n".join(lines)

    def result(self) -> str:
        """The best values of each variant, as far as its search is done."""
        lines = []
        for search in self._all:
            best = search.best()
            if len(search.trials) < self._tuning.trials:
                lines.append(f"{search.variant.name}: {len(search.trials)} of {self._tuning.trials} trials done")
            elif best is None:
                lines.append(f"{search.variant.name}: all trials failed")
            else:
                values = ", ".join(
                    f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in best.params.items()
                )
                lines.append(f"{search.variant.name}: return {best.value:.1f} with {values}: {self._file(search)}")
        return "\n".join(lines)

    def _file(self, search: Search) -> Path:
        return self._tuned / f"{search.variant.name}.yaml"


def _load_optuna() -> None:
    """Import Optuna, quietly.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError('--tune: needs Optuna; pip install "varshare-pl[study]"') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
