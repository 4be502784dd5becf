"""The 44 market features, one session at a time, written from docs/features.md alone."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from tactician.environment import FEATURE_NAMES, OBSERVATION_NAMES
from tactician.environment.features import market_features, rank_scores
from tactician.market import build_market, make_bars
from tests.conftest import synthetic_bars


@pytest.fixture(scope="module")
def market():
    """Five assets: one listed late, one that ends early, and an odd number of them in between."""
    frame = synthetic_bars(("AAA", "BBB", "CCC", "DDD", "EEE"), "2010-01-04", "2012-06-29", seed=4)
    frame = frame[(frame["symbol"] != "DDD") | (frame["date"] >= "2011-03-01")]
    frame = frame[(frame["symbol"] != "EEE") | (frame["date"] <= "2012-03-01")]
    return build_market(make_bars(frame, "random", as_traded=True), cash_rate=0.02)


@pytest.fixture(scope="module")
def features(market):
    return market_features(market)


class Slow:
    """Every feature of one session, in plain numpy."""

    def __init__(self, market):
        self.r = market.returns.numpy()
        self.tradable = market.tradable.numpy()
        self.close = market.closes.numpy()
        self.live = np.vstack([np.zeros_like(self.tradable[:1]), self.tradable[:-1]])
        self.market = market
        self.index = np.array([self.mean_of(s) for s in range(len(self.r))])

    def mean_of(self, s):
        chosen = self.r[s][self.live[s]]
        return math.log1p(chosen.mean()) if len(chosen) else math.nan

    def last(self, x, s, n):
        return x[s - n + 1 : s + 1]

    def scores(self, s):
        """Momentum, low_vol, quality, size of session s for every asset, from the 20 returns up to s."""
        window = self.last(self.r, s, 20)
        sigma = np.maximum(window.std(0, ddof=1), 1e-8)
        momentum = np.prod(1 + window, axis=0) - 1
        return np.stack([momentum, 1 / sigma, window.mean(0) / sigma * math.sqrt(252), 1 / self.close[s]])

    def better_half(self, s, k):
        """Tradable assets in order of a score, and how many of them count as the better half."""
        assets = np.flatnonzero(self.tradable[s])
        order = sorted(assets, key=lambda a: -self.scores(s)[k, a])
        return order[: math.ceil(len(order) / 2)], order[math.ceil(len(order) / 2) :]

    def tilted_return(self, s, k):
        """Return in session s of the portfolio that was weighted at s − 1 with three times as much in the better half."""
        top, rest = self.better_half(s - 1, k)
        weight = {a: 3.0 for a in top} | {a: 1.0 for a in rest}
        return sum(w * self.r[s, a] for a, w in weight.items()) / sum(weight.values())

    def correlation(self, s, n):
        assets = np.flatnonzero(self.tradable[s])
        cov = np.cov(self.last(self.r, s, n)[:, assets].T)
        sd = np.sqrt(np.diag(cov))
        pairs = [(i, j) for i in range(len(sd)) for j in range(len(sd)) if i != j]
        # The mean of pairwise correlations, weighted by the product of the two volatilities.
        return sum(cov[i, j] for i, j in pairs) / sum(sd[i] * sd[j] for i, j in pairs)

    def all(self, s):
        ell, r, t = self.index, self.r, self.tradable[s]
        out = [self.last(ell, s, n).sum() for n in (1, 2, 5, 10, 20, 60, 120, 252)]
        vol = {n: self.last(ell, s, n).std(ddof=1) * math.sqrt(252) for n in (5, 20, 60, 252)}
        out += [*vol.values(), math.log(vol[5] / vol[60]), math.log(vol[20] / vol[252])]
        window = self.last(ell, s, 60)
        d = window - window.mean()
        out.append((d**3).mean() / (d**2).mean() ** 1.5)
        level = np.exp(np.cumsum(self.last(ell, s, 252)))
        out += [math.log(level[-1] / level.max()), (251 - int(level.argmax())) / 252]
        live = r[s][self.live[s]]
        month = np.log(1 + self.last(r, s, 20)).sum(0)[t]
        out += [live.std(), month.std(), self.correlation(s, 20), self.correlation(s, 60)]
        path = np.exp(np.cumsum(np.log(1 + self.last(r, s, 60)), axis=0))[:, t]
        out += [(live > 0).mean(), (month > 0).mean(), (path[-1] > path.mean(0)).mean()]
        for k in range(4):
            for n in (5, 20, 60):
                out.append(sum(math.log1p(self.tilted_return(i, k)) - ell[i] for i in range(s - n + 1, s + 1)))
        window20 = self.last(r, s, 20)
        sigma = window20.std(0, ddof=1)
        quantities = [
            np.prod(1 + window20, axis=0) - 1,
            sigma * math.sqrt(252),
            window20.mean(0) / sigma * math.sqrt(252),
            np.log(self.close[s]),
        ]
        for k in range(4):
            top, rest = self.better_half(s, k)
            out.append(quantities[k][top].mean() - quantities[k][rest].mean())
        day = self.market.sessions[s]
        angle = 2 * math.pi * (day.dayofyear - 1) / 365.25
        out += [(1 + float(self.market.cash_returns[s])) ** 252 - 1, math.sin(angle), math.cos(angle)]
        following = self.market.sessions[s + 1] if s + 1 < len(self.market.sessions) else None
        out.append((following - day).days if following is not None else math.nan)
        return np.array(out)


def test_every_feature_equals_the_slow_definition(market, features):
    slow = Slow(market)
    complete = torch.nonzero(features.isfinite().all(1))[:, 0].tolist()
    listed = int(np.flatnonzero(market.tradable[:, 3].numpy())[0])
    ended = int(np.flatnonzero(market.tradable[:, 4].numpy())[-1])
    sessions = {complete[0], *complete[7::23], listed - 1, listed, listed + 1, listed + 21, ended, ended + 1, ended + 2}
    for s in sorted(sessions):
        expected = slow.all(s)
        error = np.abs(features[s].numpy() - expected) / np.maximum(np.abs(expected), 1e-3)
        # Volatility ratios carry a floor of 1e-6 in their logarithms.
        allowed = np.where([name.startswith("vol_ratio") for name in FEATURE_NAMES], 1e-3, 1e-9)
        wrong = [FEATURE_NAMES[k] for k in np.flatnonzero(~(error <= allowed))]
        assert not wrong, (market.sessions[s], wrong)


def test_the_first_complete_row_follows_a_year_after_the_warm_up(market, features):
    # 61 sessions until the first asset is tradable, one more until it is live, then 252 returns of the index.
    first = int(torch.nonzero(features.isfinite().all(1))[0, 0])
    assert first == 60 + 252
    assert features[first:].isfinite().all()


@pytest.mark.parametrize("n_assets", [2, 3, 24])
def test_any_universe_gives_the_same_44(n_assets):
    frame = synthetic_bars(tuple(f"S{k:02}" for k in range(n_assets)), "2010-01-04", "2011-12-30")
    features = market_features(build_market(make_bars(frame, "random", as_traded=True)))
    assert features.shape[1] == 44 == len(FEATURE_NAMES)
    assert features[-1].isfinite().all()


def test_the_page_lists_every_entry_in_order():
    page = Path("docs/features.md").read_text(encoding="utf-8")
    named: list[str] = []
    factors = ("momentum", "low_vol", "quality", "size")
    for numbers, names in re.findall(r"^\| ([\d–]+) \| (`.*?`.*?) \|", page, re.M):
        first, *last = (int(x) for x in numbers.split("–"))
        count = (last[0] if last else first) - first + 1
        assert first == len(named), numbers
        plain = re.findall(r"`(\w+)`", names)
        if len(plain) == count:
            named += plain
        elif "_F" in plain[0]:
            days = re.findall(r"\d+", names.split("n =")[1]) if "_n" in plain[0] else [""]
            named += [plain[0].replace("F", f).replace("_n", f"_{n}" if n else "") for f in factors for n in days]
        elif plain[0].endswith("_n"):
            named += [plain[0].replace("_n", f"_{n}") for n in re.findall(r"\d+", names.split("n =")[1])]
        else:
            named += [plain[0].replace("_k", f"_{k}") for k in range(count)]
    assert tuple(named) == OBSERVATION_NAMES


def test_ranks_by_hand():
    scores = torch.tensor([[3.0, 1.0, 2.0, 9.0, math.nan]])[..., None]
    tradable = torch.tensor([[True, True, True, False, True]])
    # 3 > 2 > 1 > missing; the untradable one has no rank.
    assert rank_scores(scores, tradable)[0, :, 0].tolist() == pytest.approx([1, -1 / 3, 1 / 3, 0, -1])
    assert rank_scores(scores, torch.tensor([[True, False, False, False, False]])).abs().sum() == 0
    able = torch.ones(1, 3, dtype=torch.bool)
    ties = rank_scores(torch.tensor([[[1.0], [1.0], [0.0]]]), able)
    assert ties[0, :, 0].tolist() == [1, 0, -1]
    # Nothing to rank: no scores, or all the same.
    for score in (math.nan, 1.0):
        assert rank_scores(torch.full((1, 3, 1), score), able).abs().sum() == 0


def test_a_quiet_market_has_no_features_that_are_not_finite():
    """Prices that stay as they are from the second session on: no volatility, no dispersion, no ranking."""
    frame = synthetic_bars(("AAA", "BBB"), "2010-01-04", "2011-12-30")
    frame[["open", "high", "low", "close", "adj_close"]] = 50.0
    frame.loc[:1, ["open", "high", "low", "close", "adj_close"]] = 49.0  # prices that never move are refused
    features = market_features(build_market(make_bars(frame, "flat")))
    assert features[-1].isfinite().all()
    assert pd.Series(features[-1].numpy(), FEATURE_NAMES)["index_vol_60"] == 0
