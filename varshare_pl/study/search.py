"""The ``tune`` section of a study: what is searched, how, and with which budget."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from varshare_pl.errors import ConfigError
from varshare_pl.study.values import arguments, check_keys, integer, label, mapping, one_of, refuse, seeds, text

KEYS = ("parameters", "trials", "env_steps", "seeds", "sampler", "pruner", "storage")
SAMPLERS = ("tpe", "random")
PRUNERS = ("none", "median")
LENGTH = "data.total_env_steps"
BUDGET_FILE = "tuning.json"
"""Beside tuned configs: the budget that they were found with."""


@dataclass(frozen=True)
class Parameter:
    """Where the values of one option come from: a range, or a list of choices."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[str | int | float | bool, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether values are integers: both ends of the range are."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[float, float]:
        """Of a range."""
        return self.low, self.high

    def holds(self, value: Any) -> bool:
        """Whether a search could give this value."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high and (isinstance(value, int) or not self.whole)

    def __str__(self) -> str:
        return f"one of {list(self.choices)}" if self.choices else f"a number from {self.low} to {self.high}"

    @property
    def within(self) -> float:
        """A value of a range, whole only where all are."""
        return self.low if self.whole else self.low + (self.high - self.low) / math.pi


@dataclass(frozen=True)
class Tuning:
    """The budget and the space of a search; the same for every variant."""

    parameters: Mapping[str, Parameter]
    trials: int
    env_steps: int
    seeds: tuple[int, ...]
    sampler: str
    pruner: str
    storage: str | None = None  # URL of Optuna's that shows the trials too

    def start(self, variant: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a variant has before it is tuned; its first trial is made with them.

        Args:
            variant: Its name.
            options: All its options by the names that they have in a saved config.

        Raises:
            ConfigError: if the search could not give one of them.
        """
        values = {key: options[saved_name(key)] for key in self.parameters}
        for key, value in values.items():
            if not self.parameters[key].holds(value):
                raise ConfigError(
                    f"tune.parameters.{key}: {variant} has {value} before it is tuned, which is its first trial; "
                    f"{self.parameters[key]} is allowed"
                )
        return values

    def length(self) -> list[str]:
        """The option that sets the length of its runs."""
        return arguments({LENGTH: self.env_steps})

    def corners(self) -> list[list[str]]:
        """Options at the ends of all ranges and lists, and within ranges, to be checked before a search begins."""
        points = [[one.choices[i] if one.choices else one.ends[i] for one in self.parameters.values()] for i in (0, -1)]
        if any(not one.whole and all(float(end).is_integer() for end in one.ends) for one in self.parameters.values()):
            # 1e1 is an integer where one is meant; what lies between is not.
            points.append([one.choices[0] if one.choices else one.within for one in self.parameters.values()])
        return [[*arguments(dict(zip(self.parameters, point, strict=True))), *self.length()] for point in points]

    def record(self) -> dict[str, Any]:
        """What the report says of it."""
        return {
            "trials": self.trials,
            "env_steps": self.env_steps,
            "seeds": list(self.seeds),
            "sampler": self.sampler,
            "pruner": self.pruner,
            "parameters": list(self.parameters),
        }


def saved_name(key: str) -> str:
    """An option's name in a saved config, where a method's options are ``init_args``."""
    return key.replace("model.sharing.", "model.sharing.init_args.")


def read_tuning(value: Any, report_seeds: Sequence[int], set_by_file: Mapping[str, Any]) -> Tuning:
    """Check the section.

    Args:
        value: The section.
        report_seeds: Seeds of the study, which must not be tuned on.
        set_by_file: Options that the study sets itself.

    Raises:
        ConfigError: for whatever is wrong in it.
    """
    content = mapping(value, "tune")
    check_keys(content, KEYS, "tune.")
    for key in ("parameters", "trials", "env_steps", "seeds"):
        if not content.get(key):
            raise ConfigError(f"tune.{key}: missing; parameters, trials, env_steps and seeds are needed")
    own = seeds(content["seeds"], "tune.seeds")
    shared = [seed for seed in own if seed in report_seeds]
    if shared:
        raise ConfigError(
            f"tune.seeds: {shared[0]} is a seed of the study; only seeds that it does not use are allowed"
        )
    parameters = {key: _parameter(key, item) for key, item in mapping(content["parameters"], "tune.parameters").items()}
    for key in parameters:
        if key == LENGTH or key in set_by_file:
            where = "tune.env_steps" if key == LENGTH else "the study"
            raise ConfigError(f"tune.parameters.{key}: {where} sets it already; one place is allowed")
    return Tuning(
        parameters,
        integer(content["trials"], "tune.trials"),
        integer(content["env_steps"], "tune.env_steps"),
        own,
        one_of(content.get("sampler", "tpe"), "tune.sampler", SAMPLERS),
        one_of(content.get("pruner", "none"), "tune.pruner", PRUNERS),
        text(content["storage"], "tune.storage") if "storage" in content else None,
    )


def _parameter(name: str, value: Any) -> Parameter:
    key = f"tune.parameters.{name}"
    for part in name.split("."):
        label(part, key)
    if isinstance(value, list):
        plain = all(isinstance(item, str | int | float | bool) for item in value)
        if not plain or not value or len(set(map(repr, value))) < len(value):
            raise refuse(key, value, "a list of different plain values is")
        return Parameter(choices=tuple(value))
    content = mapping(value, key)
    check_keys(content, ("low", "high", "log"), f"{key}.")
    low, high, log = content.get("low"), content.get("high"), content.get("log", False)
    for end, number in (("low", low), ("high", high)):
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise refuse(f"{key}.{end}", number, "a finite number is")
    assert low is not None
    assert high is not None
    if not low < high:
        raise refuse(f"{key}.high", high, f"a number above low, {low}, is")
    if not isinstance(log, bool):
        raise refuse(f"{key}.log", log, "true or false is")
    if log and low <= 0:
        raise refuse(f"{key}.low", low, "a positive number is where log is true")
    return Parameter(low, high, log)
