"""Which layers the option ``layers`` means."""

import pytest
from helpers import make_policy

from varshare_pl.envs import get_suite
from varshare_pl.errors import ConfigError
from varshare_pl.ppo.module import PPOModule
from varshare_pl.sharing import LayerSpec, SharedLinear, VarShare, VarShareLinear
from varshare_pl.sharing.varshare.layer_choice import is_chosen
from varshare_pl.types import RolloutPlan

NAMES = ["layer_1", "layer_2", "head"]
SPECS = [LayerSpec(name, index, 4, 2, 3, len(NAMES)) for index, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", NAMES),
        ("last 1", ["head"]),
        ("last 2", ["layer_2", "head"]),
        ("last_3", NAMES),
        ("layer_1", ["layer_1"]),
        (["head", "layer_1"], ["layer_1", "head"]),
        ([0, -1], ["layer_1", "head"]),
        ([1, "layer_2", -2], ["layer_2"]),
    ],
)
def test_choice(layers, expected):
    assert [spec.name for spec in SPECS if is_chosen(layers, spec)] == expected


@pytest.mark.parametrize("layers", ["layer_3", ["head", "tail"], [3], [-4], "last 0", "last 4", "last", [], [0.5]])
def test_a_layer_that_is_not_there_raises_in_every_layer(layers):
    for spec in SPECS:
        with pytest.raises(ConfigError, match=r"^layers: .* not allowed"):
            is_chosen(layers, spec)


def test_the_error_names_what_exists():
    with pytest.raises(ConfigError, match=r"'tail' is not allowed; .*layer_1, layer_2, head or -3 to 2 are"):
        is_chosen(["tail"], SPECS[0])
    with pytest.raises(ConfigError, match="'last 1' to 'last 3' are"):
        is_chosen("last 7", SPECS[0])


def test_the_error_names_the_options_key():
    spec, plan = get_suite("MirroredCartPole").env_spec(), RolloutPlan(rows=128, count=1)
    with pytest.raises(ConfigError, match=r"^model\.sharing\.init_args\.layers: 'tail' is not allowed"):
        PPOModule(spec, plan, VarShare(layers=["tail"]), minibatch_size=128)


def test_the_other_layers_are_shared():
    policy = make_policy("MirroredCartPole", VarShare(layers="last 2"))
    for network in (policy.actor, policy.critic):
        kinds = {name: type(layer) for name, layer in network.layers()}
        assert kinds == {"layer_1": SharedLinear, "layer_2": VarShareLinear, "head": VarShareLinear}
        layers = dict(network.layers())
        assert network.num_variational == layers["layer_2"].num_variational + layers["head"].num_variational
        assert len(network.log_var_parameters()) == 2
