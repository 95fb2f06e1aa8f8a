"""What an env holds as attributes of the Python object."""

from __future__ import annotations

from typing import Any

from gymnasium.spaces import Space

# The random stream is told apart from the env; the rest says how it was made and how it is drawn.
_APART = frozenset(
    {"_np_random", "_np_random_seed", "spec", "metadata", "render_mode", "screen", "clock", "surf", "isopen"}
)


def get_attributes(env: Any) -> dict[str, Any]:
    """All attributes but spaces, the random stream, and what drawing needs."""
    return {name: value for name, value in vars(env).items() if name not in _APART and not isinstance(value, Space)}


def set_attributes(env: Any, attributes: dict[str, Any]) -> None:
    """Set each of them."""
    for name, value in attributes.items():
        setattr(env, name, value)
