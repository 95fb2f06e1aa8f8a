"""Trials of searches in a storage of Optuna's, where its dashboard shows them; what counts are their runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from varshare_pl.errors import ConfigError

if TYPE_CHECKING:
    import optuna


class TrialStorage:
    """One study of Optuna's for each variant.

    Args:
        url: As Optuna takes it.

    Raises:
        ConfigError: if Optuna cannot open it.
    """

    def __init__(self, url: str) -> None:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._storage = optuna.storages.RDBStorage(url)
        except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
            said = str(error.__cause__ or error).strip().splitlines()[0]
            raise ConfigError(
                f"tune.storage: {url} is not allowed ({said}); a URL that Optuna can open, as sqlite:///search.db, is"
            ) from error
        self._known: dict[str, int] = {}  # trials that were looked at, by study

    def put(self, name: str, trials: Sequence[optuna.trial.FrozenTrial]) -> None:
        """Add those of a search's trials that are not there yet.

        Args:
            name: Of the study in the storage.
            trials: That have ended, from the first on.
        """
        import optuna

        if self._known.get(name) == len(trials):  # asked for about once a second
            return
        study = optuna.create_study(storage=self._storage, study_name=name, direction="maximize", load_if_exists=True)
        there = [_identity(trial) for trial in study.get_trials(deepcopy=False)]
        study.add_trials([trial for trial in trials if _identity(trial) not in there])
        self._known[name] = len(trials)


def _identity(trial: optuna.trial.FrozenTrial) -> tuple[Any, ...]:
    """What tells a trial from all others of its search, and from those of one that was made with other runs."""
    return trial.user_attrs, trial.state, trial.params, trial.intermediate_values
