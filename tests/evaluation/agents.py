"""Agents whose decisions a test knows before they are made."""

from dataclasses import replace

import torch
from torch import nn

from tactician.environment import Environment, MarketTensors
from tactician.policy import ActorCritic
from tactician.portfolio.frictions import Frictions
from tests.markets import random_market

HOLD, CASH, EQUAL, MOMENTUM = 0, 1, 4, 5
"""Regimes of the factor table of the factor table; see `test_the_regimes_are_what_their_numbers_say`."""


class Told(nn.Module):
    """Does what the market's first feature says: the number of a regime. It has no memory."""

    shares_memory = False

    def __init__(self, n_actions: int = 12, sure: float = 5.0) -> None:
        super().__init__()
        self.n_actions, self.sure = n_actions, sure

    def initial_state(self, n_envs):
        return torch.zeros(0, n_envs, 1)

    def trunk(self, obs, hidden, masks=None):
        return obs, hidden

    def heads(self, features, portfolio):
        logits = -self.sure * (torch.arange(self.n_actions) - features[..., :1]).square()
        return logits, logits[..., 0]

    def forward(self, obs, hidden, masks=None):
        return *self.heads(obs, obs), hidden


def planned(market: MarketTensors, actions: torch.Tensor) -> MarketTensors:
    """The market whose first feature tells `Told` what to do in each row."""
    features = market.features.clone()
    features[:, 0] = actions.to(features.dtype)
    return replace(market, features=features)


def environment(market: MarketTensors | None = None, length: int = 1, **more) -> Environment:
    """Portfolios on the first half of a market, with the specification's costs."""
    market = random_market(300, listing=False) if market is None else market
    more = {"frictions": Frictions.specification(), "rows": range(1, 120), **more}
    return Environment(market, episode_length=length, **more)


def network(seed: int = 0, layers: int = 1) -> ActorCritic:
    """A small random policy that changes its mind from day to day."""
    made = ActorCritic(64, 12, 16, layers, 0.0, 1.0, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    return made
