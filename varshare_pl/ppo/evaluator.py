"""What the module asks of the object that evaluates its policy."""

from __future__ import annotations

from typing import Protocol

from varshare_pl.types import Record


class Evaluator(Protocol):
    """Evaluates the policy of a run when that is due; ``varshare_pl.trained.evaluator.Evaluator`` is one."""

    def first_record(self, new_tasks: bool) -> Record | None:
        """What an evaluation before the first rollout tells, if there is one.

        Args:
            new_tasks: Whether the run begins with weights that are new to some of its tasks.
        """
        ...

    def after_rollout(self, record: Record, last: bool) -> None:
        """Evaluate if it is time to, and add the results to the record.

        Args:
            record: Of the rollout and its update.
            last: Whether it is the run's last one.
        """
        ...
