"""Documents as the judge writes them: realistic, made up, and the same in every run."""

from typing import Any

import numpy as np
import pandas as pd

SPITEFUL = "</script><img src=x onerror=alert(1)>"
REGIMES = (
    "HOLD",
    "FULL_CASH",
    "LIGHT_CASH",
    "HALF_CASH",
    "MOMENTUM",
    "LOW_VOL",
    "QUALITY",
    "SIZE_SMALL",
    "DEFENSIVE",
    "MOMENTUM_LIGHT_CASH",
    "QUALITY_HALF_CASH",
    "BALANCED",
)
SYMBOLS = ("AAPL", "AMD", "BAC", "CVX", "HD", "JNJ", "JPM", "KO", "LLY", "MSFT", "PG")
ENTRIES = (
    *("market_return_21", "market_volatility_63", "breadth_200", "dispersion_21", "drawdown", "momentum_spread"),
    *("cash_weight", "effective_names", "largest_weight", "tilt_momentum", "cost_to_cash", "cost_to_equal_weight"),
    *("since_trade", "distance_to_equal_weight", "regime_bit_0", "regime_bit_1"),
)
RIVALS = (
    ("equal_weight", "Equal weight", "simple"),
    ("cash", "Cash", "simple"),
    ("buy_and_hold", "Buy and hold", "simple"),
    ("equal_weight_monthly", "Equal weight, monthly", "simple"),
    ("best_constant", "Best constant regime on validation", "regime"),
    ("random_matched", "Random regimes of the same turnover", "regime"),
    ("shuffled", "The agent's regimes, shuffled in time", "agent's own"),
    ("inverse_volatility", "Inverse volatility", "classical"),
    ("minimum_variance", "Minimum variance", "classical"),
    ("momentum_12", "12-month momentum", "classical"),
    ("hindsight", "Upper bound with hindsight", "hindsight"),
)


def evaluation(sessions: int = 1000, regimes: int = 12, seed: int = 0) -> dict[str, Any]:
    """One checkpoint judged on one range."""
    rng = np.random.default_rng(seed)
    dates = [d.date().isoformat() for d in pd.bdate_range("2019-01-02", periods=sessions)]
    trading, chosen = _decisions(rng, sessions, regimes)
    curves = _curves(rng, sessions, trading["cost"])
    strategies = [
        _strategy(rng, c["name"], c["label"], group, c["growth"]) for c, group in zip(curves, _GROUPS, strict=True)
    ]
    strategies.append(_not_available())
    agent, equal = (s["figures"]["annual_return"] for s in strategies[:2])
    strategies[0]["beyond"]["return"] = agent - equal
    strategies[0]["intervals"]["return_beyond_equal_weight"] = [
        made[end] for made in [_verdict(agent - equal)["difference"]] for end in ("low", "high")
    ]
    return {
        "format": "tactician report",
        "version": 1,
        "kind": "evaluation",
        "title": f"Test range {dates[0]} to {dates[-1]}",
        "subtitle": f"{len(SYMBOLS)} stocks · factor regimes",
        "verdict": _verdict(agent - equal),
        "range": {"first": dates[0], "last": dates[-1], "sessions": sessions, "sessions_per_year": 252},
        "dates": dates,
        "decided": ["2019-01-02", *dates[:-1]],
        "curves": curves,
        "band": None,
        "regimes": {
            "names": [REGIMES[k] if k < len(REGIMES) else f"GROUPS_{k}+ENERGY+UTILITIES" for k in range(regimes)],
            "colours": None,
            "chosen": chosen.tolist(),
            "probabilities": _probabilities(rng, chosen, regimes),
        },
        "allocation": _allocation(rng, chosen),
        "trading": trading,
        "why": _why(rng, sessions),
        "strategies": strategies,
        "cost_components": [
            {"name": name, "annual": float(np.sum(trading["components"][name]) * 252 / sessions)}
            for name in ("spread", "slippage", "impact", "commission")
        ],
        "cost_multipliers": [_swept("multiplier", k, agent, equal, 0.004 * k) for k in (0, 1, 2, 5)],
        "delays": [_swept("sessions", k, agent, equal, 0.003 * k) for k in (0, 1, 2, 5)],
        "starts": [
            {"name": name, "annual_return": agent - 0.002 * k, "beyond_equal_weight": agent - equal - 0.002 * k}
            | {"low": agent - equal - 0.05, "high": agent - equal + 0.06, "sessions_in_cash": 0.62 / (1 + 9 * k)}
            for k, name in enumerate(("cash", "equal weight", "MOMENTUM", "LOW_VOL", "QUALITY_HALF_CASH"))
        ],
        "months": {c["name"]: _months(dates, c["growth"]) for c in curves[:2]},
        "training": {
            "deployed": {"growth": 0.112, "turnover": 3.1},
            "sampled": {"growth": 0.084, "turnover": 38.2},
            "gap": 0.25,
        },
        "memorising": {"training": 0.021, "held_out_days": -0.004, "validation": 0.003, "test": -0.006},
        "found": None,
        "statistics": _statistics(),
        "folds": None,
        "seeds": None,
        "provenance": _provenance(),
        "run": {"steps": 1_000_000, "iterations": 16, "explained_variance": 0.92, "model_score": 44.1},
    }


def walk_forward(sessions: int = 1250, folds: int = 5, seeds: int = 3, regimes: int = 12) -> dict[str, Any]:
    """A study: fold by fold, several seeds, one stitched path."""
    made = evaluation(sessions, regimes, seed=1)
    rng = np.random.default_rng(2)
    wealth = np.exp(np.cumsum(made["curves"][0]["growth"]))
    paths = [wealth * np.exp(np.cumsum(rng.normal(0, 0.002, sessions))) for _ in range(seeds)]
    made["kind"] = "walk_forward"
    made["title"] = f"Walk-forward {made['range']['first']} to {made['range']['last']}"
    made["subtitle"] = f"{folds} folds × {seeds} seeds · {len(SYMBOLS)} stocks · factor regimes"
    made["curves"][0]["label"] = f"Agent (median of {seeds} seeds)"
    made["band"] = {
        "label": f"{seeds} seeds, lowest to highest",
        "low": np.min(paths, 0).tolist(),
        "high": np.max(paths, 0).tolist(),
        "seeds": [{"seed": k, "wealth": p.tolist()} for k, p in enumerate(paths)],
    }
    edges = np.linspace(0, sessions, folds + 1).astype(int)
    made["folds"] = [_fold(rng, k, made["dates"], edges, seeds) for k in range(folds)]
    made["seeds"] = [
        {"seed": k, "annual_return": float(p[-1] ** (252 / sessions) - 1), "sharpe": 0.8 + 0.05 * k}
        | {"beyond_equal_weight": float(rng.normal(0.01, 0.01))}
        for k, p in enumerate(paths)
    ]
    made["abstained"] = {"folds": folds, "held_equal_weight": folds // 2}
    made["run"] = None
    return made


def contaminated() -> dict[str, Any]:
    """Judged on what it was trained on, by a user with a spiteful symbol and long names; nothing to say why."""
    made = evaluation(320)
    made["verdict"] |= {
        "side": "above",
        "text": "The agent returned 4.1 % per year more than equal weight.",
        "caveat": "The model was trained on 212 of these sessions: this figure says nothing about the future.",
        "power": None,
        "difference": {"value": 0.041, "low": 0.006, "high": 0.079, "unit": "return per year"},
    }
    made["title"] = f"Test range of {SPITEFUL}"
    made["regimes"]["names"][4] = SPITEFUL
    made["regimes"]["names"][6] = "<b>Q</b>"
    made["allocation"]["assets"][0] = SPITEFUL
    made["allocation"]["assets"][1] = "A_SYMBOL_OF_SEVENTY_LETTERS_" + "X" * 42
    made["regimes"]["names"][5] = "GROUP_OF_A_VERY_LONG_NAME_" + "Y" * 42
    made["strategies"][4]["label"] = "=HYPERLINK(" + "Z" * 60
    made["provenance"] |= {"source": f"/data/{SPITEFUL}.csv", "configuration": {SPITEFUL: SPITEFUL}, "hindsight": True}
    made["why"] = made["training"] = made["run"] = None
    return made


def smallest() -> dict[str, Any]:
    """Two sessions, of which next to nothing can be said."""
    made = evaluation(2, regimes=2)
    made["verdict"] = {
        "text": "Too few sessions for a verdict.",
        "side": "not available",
        "caveat": None,
        "notes": [],
        "power": None,
        "difference": {"value": None, "low": None, "high": None, "unit": "return per year"},
    }
    for strategy in made["strategies"]:
        strategy["figures"] = dict.fromkeys(strategy["figures"])
        strategy["intervals"] = {name: [None, None] for name in strategy["intervals"]}
        strategy["beyond"] = dict.fromkeys(strategy["beyond"])
    for figure in made["statistics"]:
        figure |= {"value": None, "low": None, "high": None, "reason": "needs 60 sessions, has 2"}
    made["curves"][0]["gross"] = None
    made["curves"][2]["growth"] = [None, None]
    made["regimes"]["probabilities"][1] = [None, None]
    for name in ("cost_multipliers", "delays", "starts"):
        made[name] = []
    made["why"] = made["training"] = made["run"] = None
    made["provenance"] |= {"looks": None, "trials": None, "registration": None, "registered_at": None}
    return made


_GROUPS = ("agent", *(group for *_, group in RIVALS))


def _decisions(rng: np.random.Generator, sessions: int, regimes: int) -> tuple[dict[str, Any], np.ndarray]:
    chosen = np.where(rng.random(sessions) < 0.08, rng.integers(0, regimes, sessions), 0)
    turnover = np.where(chosen > 0, rng.uniform(0.05, 0.9, sessions), 0.0)
    chosen[0], turnover[0], turnover[-1] = 1 if regimes < 8 else 7, 0.97, 0.95
    cost = turnover * rng.uniform(4e-4, 9e-4, sessions)
    shares = {"spread": 0.45, "slippage": 0.25, "impact": 0.1, "commission": 0.2}
    components = {name: (cost * share).tolist() for name, share in shares.items()}
    return {"turnover": turnover.tolist(), "cost": cost.tolist(), "components": components}, chosen


def _curves(rng: np.random.Generator, sessions: int, cost: list[float]) -> list[dict[str, Any]]:
    market = rng.standard_t(4, sessions) * 0.007 + 5e-4
    crash = slice(sessions // 4, sessions // 4 + sessions // 25)
    market[crash] -= 0.011
    agent = 0.85 * market + rng.normal(1.2e-4, 0.003, sessions)
    curves = [{"name": "agent", "label": "Agent", "growth": (agent - cost).tolist(), "gross": agent.tolist()}]
    for k, (name, label, _) in enumerate(RIVALS):
        growth = (
            np.full(sessions, 6e-5) if name == "cash" else market * (1 - 0.04 * k) + rng.normal(0, 0.0012, sessions)
        )
        if name == "hindsight":
            growth = np.abs(market) * 0.4
        curves.append({"name": name, "label": label, "growth": growth.tolist(), "gross": None})
    return curves


def _strategy(rng: np.random.Generator, name: str, label: str, group: str, growth: list[float]) -> dict[str, Any]:
    x = np.array(growth)
    wealth = np.exp(np.cumsum(x))
    annual = float(np.expm1(x.mean() * 252))
    volatility = float(x.std() * 252**0.5)
    sharpe = None if volatility < 1e-6 else annual / volatility
    beyond = None if name == "equal_weight" else float(rng.normal(-0.01, 0.02))
    sharpe_beyond = None if beyond is None or sharpe is None else beyond * 4
    return {
        "name": name,
        "label": label,
        "group": group,
        "available": True,
        "reason": None,
        "figures": {
            "annual_return": annual,
            "annual_volatility": volatility,
            "sharpe": sharpe,
            "max_drawdown": float(np.max(1 - wealth / np.maximum.accumulate(wealth))),
            "annual_turnover": 0.0 if name == "cash" else float(rng.uniform(0.3, 14)),
            "annual_cost": 0.0 if name == "cash" else float(rng.uniform(0.0005, 0.009)),
        },
        "intervals": {
            "sharpe": _around(sharpe, 0.9),
            "return_beyond_equal_weight": _around(beyond, 0.045),
            "sharpe_beyond_equal_weight": _around(sharpe_beyond, 0.3),
        },
        "beyond": {"return": beyond, "sharpe": sharpe_beyond},
    }


def _around(value: float | None, half: float) -> list[float | None]:
    return [None, None] if value is None else [value - half, value + 1.1 * half]


def _not_available() -> dict[str, Any]:
    made = _strategy(np.random.default_rng(0), "maximum_sharpe", "Maximum Sharpe ratio", "classical", [0.0, 0.0])
    return made | {
        "available": False,
        "reason": "needs 252 sessions before the range, has 40",
        "figures": dict.fromkeys(made["figures"]),
        "beyond": dict.fromkeys(made["beyond"]),
    }


def _verdict(difference: float) -> dict[str, Any]:
    return {
        "text": "The agent is not distinguishable from equal weight.",
        "side": "not distinguishable",
        "caveat": None,
        "notes": [
            "The universe was picked with hindsight: compare with equal weight of the same assets only.",
            "The test range was opened 2 times before.",
        ],
        "power": "With these 1,000 sessions, 80 % of tests would see a difference in Sharpe ratio of 0.61 or more.",
        "difference": {
            "value": difference,
            "low": difference - abs(difference) - 0.031,
            "high": difference + abs(difference) + 0.036,
            "unit": "return per year",
        },
    }


def _probabilities(rng: np.random.Generator, chosen: np.ndarray, regimes: int) -> list[list[float]]:
    drift = np.cumsum(rng.normal(0, 0.25, (len(chosen), regimes)), axis=0)
    logits = drift - 0.02 * np.cumsum(drift, axis=0) / np.arange(1, len(chosen) + 1)[:, None]
    logits[:, 0] += 2.5
    logits[np.arange(len(chosen)), chosen] = logits.max(1) + 1.0
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return (raised / raised.sum(1, keepdims=True)).tolist()


def _allocation(rng: np.random.Generator, chosen: np.ndarray) -> dict[str, Any]:
    assets = [*SYMBOLS, "others", "cash"]
    targets = rng.dirichlet(np.full(len(SYMBOLS) + 1, 1.5), int(chosen.max()) + 1)
    cash = {1: 1.0, 2: 0.2, 3: 0.5, 9: 0.2, 10: 0.5}
    now, weights = np.append(targets[0], 0.0), []
    for regime in chosen.tolist():
        if regime:
            share = cash.get(regime, 0.0)
            now = np.append(targets[regime] * (1 - share), share)
        drifted = now * np.append(np.exp(rng.normal(0, 0.015, len(SYMBOLS) + 1)), 1.0)
        now = drifted / drifted.sum()
        weights.append(now.tolist())
    weights[-1] = [0.0] * (len(assets) - 1) + [1.0]
    return {"assets": assets, "weights": weights}


def _why(rng: np.random.Generator, sessions: int) -> dict[str, Any]:
    scale = rng.exponential(0.05, len(ENTRIES))
    decisions = []
    for _ in range(sessions):
        effect = rng.normal(0, scale)
        best = np.argsort(-np.abs(effect))[:10]
        decisions.append([[int(k), float(effect[k]), float(rng.normal())] for k in best])
    share = np.sort(scale / scale.sum())[::-1]
    return {
        "method": "Occlusion: each entry is set to its training mean; the effect is the change of the chosen "
        "regime's probability.",
        "entries": list(ENTRIES),
        "decisions": decisions,
        "importance": [
            {"entry": ENTRIES[k], "share": float(s)} for k, s in zip(np.argsort(-scale).tolist(), share, strict=True)
        ],
    }


def _swept(name: str, k: int, agent: float, equal: float, loss: float) -> dict[str, Any]:
    beyond = agent - equal - loss
    return {name: k, "annual_return": agent - loss, "beyond_equal_weight": beyond} | {
        "low": beyond - 0.042,
        "high": beyond + 0.047,
    }


def _months(dates: list[str], growth: list[float]) -> list[dict[str, Any]]:
    series = pd.Series(growth, pd.to_datetime(dates), dtype=float)
    made = []
    for year, inside in series.groupby(series.index.year):
        by_month = inside.groupby(inside.index.month).sum()
        returns = [float(np.expm1(by_month[m])) if m in by_month.index else None for m in range(1, 13)]
        made.append({"year": int(year), "returns": returns, "total": float(np.expm1(inside.sum()))})
    return made


def _statistics() -> list[dict[str, Any]]:
    def said(name, label, value, low, high, text, reason=None):
        return {"name": name, "label": label, "value": value, "low": low, "high": high, "text": text, "reason": reason}

    return [
        said(
            "sharpe",
            "Sharpe ratio, net, beyond cash",
            0.92,
            -0.05,
            1.87,
            "Mean over deviation of the return, per year.",
        ),
        said("delta_sharpe", "Sharpe ratio beyond equal weight", 0.04, -0.31, 0.4, "Paired: both saw the same days."),
        said(
            "psr", "Probabilistic Sharpe ratio", 0.964, None, None, "Probability that the true Sharpe ratio exceeds 0."
        ),
        said(
            "dsr",
            "Deflated Sharpe ratio",
            None,
            None,
            None,
            "PSR, corrected for trials.",
            "the number of trials is unknown",
        ),
        said(
            "spa",
            "Superior predictive ability, p",
            0.412,
            None,
            None,
            "How easily chance makes so good a best strategy.",
        ),
        said("timing", "Timing, p", 0.231, None, None, "Share of shuffled paths that did at least as well."),
        said("alpha", "Alpha per year", 0.021, -0.03, 0.07, "Return that exposure to equal weight does not explain."),
        said("beta", "Beta", 0.87, 0.84, 0.9, "Exposure to equal weight."),
    ]


def _fold(rng: np.random.Generator, k: int, dates: list[str], edges: np.ndarray, seeds: int) -> dict[str, Any]:
    first, last = dates[edges[k]], dates[edges[k + 1] - 1]
    difference = float(rng.normal(0.01, 0.05))
    return {
        "number": k + 1,
        "train": ["2010-01-04", f"{2016 + k}-12-30"],
        "validation": [f"{2017 + k}-01-03", f"{2018 + k}-12-28"],
        "test": [first, last],
        "agent": 0.08 + difference,
        "equal_weight": 0.08,
        "difference": difference,
        "low": difference - 0.11,
        "high": difference + 0.12,
        "found": {
            "strength": 0.0 if k % 2 else 0.4,
            "sentence": "as a judge says it",
            "difference": [0.02, -0.01, 0.05] if k % 2 else [0.04, 0.01, 0.07],
            "pieces": [],
        },
        "memorising": None,
        "best_constant": REGIMES[4 + k % 8],
        "seeds": [
            {
                "seed": s,
                "annual_return": 0.08 + float(rng.normal(0.01, 0.04)),
                "best_iteration": int(rng.integers(1, 40)),
            }
            for s in range(seeds)
        ],
    }


def _provenance() -> dict[str, Any]:
    return {
        "created": "2026-11-27T09:30:00+00:00",
        "tactician": "0.1.0",
        "torch": "2.12.1+cpu",
        "python": "3.11.2",
        "libraries": {"numpy": "2.4.1", "arch": "8.0.0", "skfolio": "1.12.2", "purgedcv": "0.1.11"},
        "commit": "4a53453c9d1e0b7f6a2d8e4c5b3a1f0e9d8c7b6a",
        "data_fingerprint": "8f14e45fceea167a5a36dedd4bea2543c1b2a3d4e5f60718293a4b5c6d7e8f90",
        "source": "embedded_sp500",
        "configuration": {
            "universe": {"tech": ["AAPL", "AMD", "MSFT"], "banks": ["BAC", "JPM"]},
            "train_until": "2016-12-30",
            "learning_rate": 0.0003,
            "hidden_dim": 128,
            "device": None,
            "bars": None,
        },
        "configuration_sha256": "c4ca4238a0b923820dcc509a6f75849bc81e728d9d4c2f636f067f89cc14862c",
        "registration": "eccbc87e4b5ce2fe28308fd9f2a7baf3a87ff679a2f3e71d9181a67b7542122c",
        "registered_at": "2026-11-27T08:00:00+00:00",
        "looks": 3,
        "trials": 14,
        "hindsight": True,
        "checkpoint": "checkpoints/embedded_sp500/model_best.pt",
    }
