"""Gymnasium's classic control: an env's attributes are its state."""

from varshare_pl.envs.foreign_state.attributes import get_attributes as get_state
from varshare_pl.envs.foreign_state.attributes import set_attributes as set_state

__all__ = ["get_state", "set_state"]
