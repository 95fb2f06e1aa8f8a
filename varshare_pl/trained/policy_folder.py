"""A trained policy as a folder for a model hub: weights as safetensors, a config, and a card. No pickle is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from varshare_pl import __version__
from varshare_pl.checkpoints import check_tasks
from varshare_pl.envs import TaskSuite
from varshare_pl.errors import ConfigError
from varshare_pl.files import replacing, write_json
from varshare_pl.networks.actor_critic import ActorCritic
from varshare_pl.paths import HUB
from varshare_pl.random import stream
from varshare_pl.trained.building import build_policy
from varshare_pl.yaml_files import parse_yaml

WEIGHTS, CONFIG, CARD, CURVE = "model.safetensors", "config.json", "README.md", "returns.png"
LIBRARY = "varshare-pl"
PROBED_ROWS = 64  # of each task, to see what actions depend on


def is_policy_folder(path: Path) -> bool:
    """Whether a folder holds a policy for a hub."""
    return (path / WEIGHTS).is_file()


def write_policy_folder(
    folder: Path, policy: ActorCritic, suite: TaskSuite, config: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write weights and config; what the actions at the posterior mean do not depend on is left out.

    That is the critic, and the standard deviations of weights: nearly three quarters of VarShare.

    Args:
        folder: Where to.
        policy: Actor and critic.
        suite: Theirs.
        config: The run's.
        facts: The run's method and its env steps, and whatever else is to be told of it.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    sections = {"data": {"suite": config["data"]["suite"]}, "model": config["model"]}
    identity = {"suite": suite.name, "tasks": list(suite.identities()), "version": __version__}
    with replacing(folder / WEIGHTS) as temporary:
        weights = {name: tensor.contiguous() for name, tensor in acting_weights(policy).items()}
        temporary.write_bytes(save(weights, metadata={"format": "pt"}))
    write_json(folder / CONFIG, {"library_name": LIBRARY, **identity, **facts, **sections})


def read_policy_folder(folder: Path) -> tuple[ActorCritic, TaskSuite, str, int]:
    """The policy in a folder, its suite, the name of its method and its env steps; what was left out is NaN.

    Raises:
        ConfigError: if a file is missing or damaged, or does not fit the suite as it is here.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / CONFIG
    try:
        text = path.read_text(encoding="utf-8")
        weights = load_file(folder / WEIGHTS)
    except (OSError, UnicodeDecodeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"load_policy: {folder} is damaged: {reason}") from error
    config = parse_yaml(text, str(path), "load_policy")  # JSON is YAML
    if not isinstance(config, dict) or not {"tasks", "method", "env_steps"} <= config.keys():
        raise ConfigError(f"load_policy: {path} is incomplete or damaged")
    policy, suite = build_policy(config, str(path))
    check_tasks(config["tasks"], suite.identities(), "load_policy")
    _fill(policy, weights, folder)
    return policy, suite, str(config["method"]), int(config["env_steps"])


def download(address: str) -> Path:
    """The folder of a policy at Hugging Face, ``hf://owner/name`` or ``hf://owner/name@revision``, in its cache.

    Raises:
        ConfigError: if it cannot be had, or the package that downloads is missing.
    """
    name, _, revision = address.removeprefix(HUB).partition("@")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ConfigError(
            f'load_policy: {address} needs the package huggingface_hub; pip install "varshare-pl[hub]"'
        ) from error
    try:
        folder = Path(snapshot_download(name, revision=revision or None, allow_patterns=[WEIGHTS, CONFIG]))
    except Exception as error:  # of the network, of the server, of the name
        reason = " ".join(str(error).split())
        raise ConfigError(f"load_policy: {address} cannot be loaded: {type(error).__name__}: {reason}") from error
    if not is_policy_folder(folder):
        raise ConfigError(f"load_policy: {address} holds no {WEIGHTS}")
    return folder


def acting_weights(policy: ActorCritic) -> dict[str, Tensor]:
    """The entries of a policy's state that its actions at the posterior mean depend on: with NaN there they change."""
    state = {name: tensor.detach().clone() for name, tensor in policy.state_dict().items()}
    expected = _probe(policy)
    needed = {}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            policy.load_state_dict(state | {name: torch.full_like(tensor, torch.nan)})
            if torch.equal(_probe(policy), expected):
                continue
        needed[name] = tensor
    policy.load_state_dict(state)
    return needed


@torch.no_grad()
def _probe(policy: ActorCritic) -> Tensor:
    """What the actions of every task are drawn from, for some observations."""
    tasks = policy.num_tasks
    obs = torch.randn(tasks, PROBED_ROWS, policy.obs_size, generator=stream(0, "probe"), dtype=torch.float64)
    if policy.obs_dtype == torch.uint8:
        obs = (128 + 64 * obs).clamp(0, 255)
    return policy.group_params(policy.prepare_actor(torch.arange(tasks)), obs.to(policy.obs_dtype))


def _fill(policy: ActorCritic, weights: Mapping[str, Tensor], folder: Path) -> None:
    state = policy.state_dict()
    for name, tensor in weights.items():
        if name not in state or state[name].shape != tensor.shape:
            raise ConfigError(f"load_policy: {folder / WEIGHTS} does not fit its {CONFIG}: {name}")
    rest = {name: torch.full_like(tensor, torch.nan) for name, tensor in state.items() if name not in weights}
    policy.load_state_dict({**rest, **weights}, assign=True)  # each tensor in its own precision
    if bool(_probe(policy).isnan().any()):
        raise ConfigError(f"load_policy: {folder / WEIGHTS} lacks weights that the actions depend on")
