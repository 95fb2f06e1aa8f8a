"""MuJoCo envs of Gymnasium and of what is built on it, as Meta-World.

The integration state makes the next steps the same only if nothing is computed from it before: what MuJoCo derived in
the last step (positions of bodies and sites, forces) lags behind by one of its steps, and envs read it. So the derived
arrays are told too, and ``mj_forward`` is not called.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from varshare_pl.envs.foreign_state.attributes import get_attributes, set_attributes

_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
# What tasks change in a model, and what MuJoCo derives from these in mj_setConst.
_MODEL = (
    *("qpos0", "qpos_spring", "body_pos", "body_quat", "body_ipos", "body_iquat", "body_mass", "body_inertia"),
    *("body_subtreemass", "body_invweight0", "body_gravcomp", "jnt_range", "jnt_stiffness", "dof_armature"),
    *("dof_damping", "dof_frictionloss", "dof_invweight0", "dof_M0", "geom_pos", "geom_quat", "geom_size"),
    *("geom_friction", "geom_rgba", "site_pos", "site_quat", "site_size", "site_rgba", "eq_data", "actuator_gear"),
    *("actuator_gainprm", "actuator_biasprm", "actuator_ctrlrange", "actuator_acc0", "tendon_length0"),
)
_OPTIONS = ("timestep", "gravity", "wind", "density", "viscosity")
_DERIVED = (
    *("xpos", "xquat", "xmat", "xipos", "ximat", "xanchor", "xaxis", "geom_xpos", "geom_xmat", "site_xpos"),
    *("site_xmat", "subtree_com", "cinert", "cvel", "cdof", "qacc", "qfrc_actuator", "qfrc_constraint", "cacc"),
    *("cfrc_int", "cfrc_ext", "sensordata", "actuator_force", "actuator_length", "actuator_velocity", "ten_length"),
)
_INTEGRATED = ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "xfrc_applied", "qfrc_applied")
_APART = ("model", "data", "mujoco_renderer")


def get_state(env: Any) -> dict[str, Any]:
    """Simulation, model and attributes; arrays among them that are views into MuJoCo's are told as such."""
    model, data = env.model, env.data
    simulation = np.empty(mujoco.mj_stateSize(model, _STATE))
    mujoco.mj_getState(model, data, simulation, _STATE)
    attributes = {name: value for name, value in get_attributes(env).items() if name not in _APART}
    views = {name: view for name, value in attributes.items() if (view := _as_view(env, value)) is not None}
    return {
        "simulation": simulation,
        "derived": {name: getattr(data, name) for name in _DERIVED},
        "model": {name: getattr(model, name) for name in _MODEL},
        "options": {name: getattr(model.opt, name) for name in _OPTIONS},
        "attributes": {name: value for name, value in attributes.items() if name not in views},
        "views": views,
    }


def set_state(env: Any, state: dict[str, Any]) -> None:
    """Go on from there, without computing anything from it."""
    model, data = env.model, env.data
    for name, value in state["model"].items():
        getattr(model, name)[...] = value
    for name, value in state["options"].items():
        setattr(model.opt, name, value)
    mujoco.mj_setState(model, data, state["simulation"], _STATE)
    for name, value in state["derived"].items():
        getattr(data, name)[...] = value
    set_attributes(env, state["attributes"])
    for name, view in state["views"].items():
        whole: NDArray[Any] = getattr(getattr(env, view["owner"]), view["field"])
        setattr(env, name, np.ndarray(view["shape"], whole.dtype, whole, view["offset"], view["strides"]))


def _as_view(env: Any, value: Any) -> dict[str, Any] | None:
    """Which part of which of MuJoCo's arrays a value is; None if it is none."""
    if not isinstance(value, np.ndarray) or value.base is None:
        return None
    address = _address(value)
    for owner, names in (("data", (*_DERIVED, *_INTEGRATED)), ("model", _MODEL)):
        for name in names:
            whole: NDArray[Any] = getattr(getattr(env, owner), name)
            offset = address - _address(whole)
            if 0 <= offset < whole.nbytes:
                place = {"offset": offset, "shape": list(value.shape), "strides": list(value.strides)}
                return {"owner": owner, "field": name, **place}
    return None


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
