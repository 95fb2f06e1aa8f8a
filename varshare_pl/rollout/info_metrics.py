"""Which names of ``data.info_metrics`` can be written down beside the metrics that are always kept."""

from __future__ import annotations

from collections.abc import Sequence

from varshare_pl.envs.values import is_vector_key
from varshare_pl.errors import ConfigError

# What a run writes of its episodes anyway, under train/ or eval/.
KEPT = ("return", "return_mean", "return_shared_only", "length", "cut")
MEASURED = ("success", "success_mean", "success_shared_only", "success_missing")  # where success is not the return


def check_info_metrics(names: Sequence[str], num_tasks: int, success: bool = False) -> None:
    """See that each name is one an info can have, stands in one line, and makes no other metric's name.

    Args:
        names: Of the info.
        num_tasks: M.
        success: Whether the suite's success measure is not the return.

    Raises:
        ConfigError: for the first one that does not.
    """
    kept = [*KEPT, *(f"return_task_{task}" for task in range(num_tasks))]
    if success:
        kept += [*MEASURED, *(f"success_task_{task}" for task in range(num_tasks))]
    written = dict.fromkeys((f"eval/{name}" for name in kept), "it is the name of a metric that is always kept")
    for name in names:
        if not name or not name.isprintable() or name != name.strip():
            raise ConfigError(f"data.info_metrics: {name!r} is not allowed; printable characters in one line are")
        if name == "task" or is_vector_key(name):
            raise ConfigError(f"data.info_metrics: {name} is not allowed; the vector env keeps this key for itself")
        for made in (f"train/{name}", f"eval/{name}", f"train/{name}_mean"):
            if made in written:
                raise ConfigError(f"data.info_metrics: {name} is not allowed; {written[made]}")
            written[made] = f"{made} is also made by {name}"
