from types import SimpleNamespace


def deployed_gap(env, policy, seed):
    return SimpleNamespace(
        as_dict=lambda: {
            "deployed": {"growth": 0.1, "turnover": 1.0},
            "sampled": {"growth": 0.05, "turnover": 20.0},
            "gap": 0.5,
        }
    )
