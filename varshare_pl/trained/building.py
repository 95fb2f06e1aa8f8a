"""The networks of a run from its config, without weights; classes are imported by name, and nothing else is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from varshare_pl.earlier import METHODS, old_option
from varshare_pl.envs import TaskSuite, get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.networks.method import SharingMethod
from varshare_pl.networks.options import SCOPED, ActionOptions, NetworkOptions, NormalisationOptions
from varshare_pl.sharing.matching import matched_hidden_sizes

Options = TypeVar("Options", NetworkOptions, NormalisationOptions, ActionOptions)


def build_policy(config: Mapping[str, Any], source: str) -> tuple[ActorCritic, TaskSuite]:
    """Actor and critic as a config describes them, and their suite.

    Args:
        config: Of a run, its sections ``data`` and ``model``.
        source: What it is of, for errors.

    Raises:
        ConfigError: if it is damaged, or the suite or the method is not there.
    """
    try:
        suite, model = get_suite(config["data"]["suite"]), config["model"]
        sharing = _method(**model["sharing"])
        spec = suite.env_spec()
        # A run from before there was such an option did not normalise, and had no encoder.
        scopes: dict[str, Any] = {name: model.get(name) or "none" for name in SCOPED}
        normalisation = NormalisationOptions(**scopes, popart=model.get("popart", False))
        actions = _options(ActionOptions, model)
        sizes, encoder = model["hidden_sizes"], model.get("encoder", "none")
        network = replace(_options(NetworkOptions, model), hidden_sizes=sizes, encoder=encoder)
        sizes = matched_hidden_sizes(spec, sharing, network, model.get("match_parameters"), actions)
        return ActorCritic(spec, sharing, replace(network, hidden_sizes=sizes), normalisation, actions), suite
    except (KeyError, TypeError) as error:
        raise ConfigError(f"load_policy: the config of {source} is incomplete or damaged: {error}") from error


def _options(group: type[Options], model: dict[str, Any]) -> Options:
    """A group of options from the model's part of a config; an older one may lack some."""
    return group(**{field.name: model[field.name] for field in fields(group) if field.name in model})


def _method(class_path: str, init_args: dict[str, Any] | None = None) -> SharingMethod:
    """The sharing method of a config; the text may come out of a crafted checkpoint, so nothing else is ever called."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        text = f"load_policy: the run's sharing method {class_path} cannot be loaded: {error}"
        raise ConfigError(f"{text}; its module must be on the import path") from error
    if not (isinstance(found, type) and issubclass(found, SharingMethod)):
        raise ConfigError(f"load_policy: {class_path} is not allowed as sharing method; a subclass of SharingMethod is")
    if found.__name__ == "VarShare" and (option := old_option(init_args or {})):
        raise ConfigError(
            f"load_policy: the run is of an earlier version, its sharing option {option} has become a method of its "
            f"own, {METHODS[option]}"
        )
    return found(**(init_args or {}))
