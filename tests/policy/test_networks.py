"""The table of networks: what an architecture builds, whatever its age, and what it cannot."""

import pytest
import torch
from torch import nn

from tactician.environment import Stream, portfolio_of, uniform
from tactician.errors import UserError
from tactician.policy import (
    DEFAULT_NETWORK,
    NETWORKS,
    ActorCritic,
    Architecture,
    Network,
    make_network,
    network_of,
)

OLD = {"obs_dim": 64, "n_actions": 4, "hidden_dim": 8, "n_gru_layers": 1, "dropout": 0.25}
"""As files hold it that are older than the table."""


def test_an_architecture_without_a_name_is_the_recurrent_networks():
    assert network_of(OLD) == DEFAULT_NETWORK == "recurrent" and NETWORKS[DEFAULT_NETWORK] is ActorCritic
    network = make_network(OLD, 3.0)
    assert isinstance(network, ActorCritic) and float(network.value_scale) == 3.0
    assert network.architecture == {"network": "recurrent", **OLD, "encoder_layers": 2}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_is_built_again_from_its_architecture_and_seed(name):
    made = make_network({"network": name, **OLD}, 2.0, torch.Generator().manual_seed(3))
    again = make_network(made.architecture, 2.0, torch.Generator().manual_seed(3))
    assert type(made) is type(again) is NETWORKS[name] and made.architecture["network"] == name
    for key, value in made.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_a_network_that_is_not_in_the_table_is_named():
    with pytest.raises(
        UserError,
        match="There is no network 'attention', only recurrent, market_memory; change the key 'network', or use",
    ):
        make_network({"network": "attention", **OLD})


class Memoryless(Network):
    """No more than a network needs: the four methods, what it was made of and what the critic owns."""

    name = "memoryless"

    def __init__(self, obs_dim, n_actions, hidden_dim, n_gru_layers, dropout, value_scale=1.0, generator=None):
        super().__init__()
        self.made_of = (obs_dim, n_actions, hidden_dim, n_gru_layers, dropout)
        self.obs_dim, self.act, self.value = obs_dim, nn.Linear(obs_dim, n_actions), nn.Linear(obs_dim, 1)
        self.register_buffer("value_scale", torch.tensor(float(value_scale)))

    @property
    def architecture(self):
        return Architecture(**dict(zip(Architecture.__annotations__, (self.name, *self.made_of), strict=True)))

    def initial_state(self, n_envs):
        return torch.zeros(0, n_envs, 1)

    def trunk(self, obs, hidden, masks=None):
        return obs, hidden

    def heads(self, features, portfolio):
        return self.act(features), self.value_scale * self.value(features)[..., 0]

    def masks(self, index, seed, iteration):
        return None

    def critic_parameters(self):
        return list(self.value.parameters())


@pytest.fixture
def memoryless(monkeypatch):
    monkeypatch.setitem(NETWORKS, Memoryless.name, Memoryless)


def test_a_network_that_can_neither_lean_nor_be_sharpened_stays_as_it_is(memoryless):
    network = make_network({"network": Memoryless.name, **OLD})
    before = {name: x.clone() for name, x in network.state_dict().items()}
    network.lean_towards(0, 0.9)
    network.sharpen(8.0)
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


@pytest.mark.parametrize("name", [*NETWORKS, Memoryless.name])
@pytest.mark.usefixtures("memoryless")
def test_every_network_keeps_the_contract_of_states_and_parameters(name):
    network = make_network({"network": name, **OLD})
    index, obs = torch.arange(5), torch.randn(3, 5, 64)
    masks = network.masks(index, 0, 0)
    features, after = network.trunk(obs, network.initial_state(5), masks)
    assert after.shape == network.initial_state(5).shape and after.dim() == 3
    assert masks is None or masks.dim() == 3
    portfolio = portfolio_of(obs)
    logits, values = network.heads(features, portfolio)
    assert logits.shape == (3, 5, 4) and values.shape == (3, 5)
    assert torch.equal(values, network.values(features, portfolio))
    for mine, theirs in zip(network(obs, network.initial_state(5), masks), (logits, values, after), strict=True):
        assert torch.equal(mine, theirs)
    actor, critic = network.actor_parameters(), network.critic_parameters()
    assert {*map(id, actor), *map(id, critic)} == {*map(id, network.parameters())}
    assert len(actor) + len(critic) == len(list(network.parameters()))


def test_masks_are_those_of_seed_iteration_and_environment_whoever_is_beside():
    network = make_network(OLD | {"n_gru_layers": 2, "dropout": 0.5})
    masks = network.masks(torch.arange(6), 1, 7)
    assert torch.equal(network.masks(torch.tensor([4, 2]), 1, 7), masks[:, [4, 2]])
    assert not torch.equal(network.masks(torch.arange(6), 1, 8), masks)
    for layer, env, unit in ((0, 0, 0), (1, 3, 5), (1, 5, 7)):
        drawn = uniform(1, Stream.DROPOUT, 7, layer, env, torch.tensor(unit))
        assert masks[layer, env, unit] == (2.0 if drawn >= 0.5 else 0.0)
    assert make_network(OLD | {"dropout": 0.0}).masks(torch.arange(6), 1, 7) is None
