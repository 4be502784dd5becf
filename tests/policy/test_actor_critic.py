"""The recurrent actor-critic: size, first policy, function without memory of its own, causality, independence."""

import io
import math

import pytest
import torch

from tactician.policy import ActorCritic, make_network


def make(seed=0, **changes) -> ActorCritic:
    arguments = {"obs_dim": 10, "n_actions": 5, "hidden_dim": 16, "n_gru_layers": 2, "dropout": 0.0} | changes
    return ActorCritic(**arguments, generator=torch.Generator().manual_seed(seed))


def with_opinions(policy: ActorCritic) -> ActorCritic:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return policy


def observations(steps=9, envs=6, size=10, seed=2):
    return torch.randn(steps, envs, size, generator=torch.Generator().manual_seed(seed))


def test_the_specified_network_has_941457_parameters():
    # Encoder: 64·256 + 256 + 2·256 and 256·256 + 256 + 2·256; GRU: 2 layers of 3·(256·256 + 256·256 + 256 + 256);
    # heads: 256·128 + 128 + 2·128 each, then 128·16 + 16 for actions and 128 + 1 for the value.
    encoder = 64 * 256 + 256 + 512 + 256 * 256 + 256 + 512
    gru = 2 * 3 * (2 * 256 * 256 + 512)
    heads = 2 * (256 * 128 + 128 + 256) + 128 * 16 + 16 + 128 + 1
    assert encoder + gru + heads == 941_457
    assert sum(p.numel() for p in ActorCritic(64, 16).parameters()) == 941_457


def test_without_layers_the_encoder_is_one_linear_map():
    encoder = make(encoder_layers=0).encoder
    x, y = observations(), observations(seed=3)
    torch.testing.assert_close(encoder(x + y) - encoder(y), encoder(x) - encoder(0 * x))
    linear, deep = ActorCritic(64, 16, encoder_layers=0), ActorCritic(64, 16)
    fewer = sum(p.numel() for p in deep.parameters()) - sum(p.numel() for p in linear.parameters())
    assert fewer == 512 + 256 * 256 + 256 + 512  # two LayerNorms and the second layer
    again = make_network(linear.architecture)
    assert again.state_dict().keys() == linear.state_dict().keys()
    with pytest.raises(ValueError, match="encoder_layers is -1"):
        make(encoder_layers=-1)


def test_the_first_policy_is_near_uniform_and_the_first_values_near_zero():
    policy = ActorCritic(64, 12, value_scale=8.0, generator=torch.Generator().manual_seed(0))
    logits, values, _ = policy(observations(50, 20, 64), policy.initial_state(20))
    assert (logits.softmax(-1) - 1 / 12).abs().max() < 0.01
    assert values.isfinite().all() and values.std() < 0.5 * 8.0


def test_actor_and_critic_parameters_are_all_and_share_none():
    policy = make()
    actor, critic = ({id(p) for p in part} for part in (policy.actor_parameters(), policy.critic_parameters()))
    assert actor | critic == {id(p) for p in policy.parameters()} and not actor & critic
    assert critic == {id(p) for p in policy.value_head.parameters()}


def test_it_is_a_function_of_its_arguments_in_training_and_evaluation_mode():
    policy, obs = with_opinions(make(dropout=0.5)), observations()
    before = {name: x.clone() for name, x in policy.state_dict().items()}
    first = policy.train()(obs, policy.initial_state(6))
    again = policy.eval()(obs, policy.initial_state(6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(x, before[name]) for name, x in policy.state_dict().items())


def test_masks_of_ones_are_no_dropout_and_others_matter():
    policy, obs = with_opinions(make(dropout=0.5)), observations()
    hidden = policy.initial_state(6)
    plain = policy(obs, hidden)
    assert all(torch.equal(a, b) for a, b in zip(plain, policy(obs, hidden, torch.ones(2, 6, 16)), strict=True))
    thinned = torch.ones(2, 6, 16)
    thinned[1, :, :8] = 0
    assert not torch.allclose(plain[0], policy(obs, hidden, thinned)[0])


@pytest.mark.parametrize(
    ("hidden", "masks", "word"),
    [((1, 6, 16), None, "recurrent state"), ((2, 5, 16), None, "recurrent state"), ((2, 6, 16), (2, 1, 16), "masks")],
)
def test_states_and_masks_of_another_shape_are_refused(hidden, masks, word):
    # They would broadcast, or be cut, in silence.
    with pytest.raises(ValueError, match=word):
        make()(observations(), torch.zeros(hidden), None if masks is None else torch.ones(masks))


@pytest.mark.parametrize("changes", [{"n_gru_layers": -1}, {"dropout": 1.0}, {"dropout": -0.1}])
def test_impossible_networks_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        make(**changes)


def test_the_same_generator_makes_the_same_network_whatever_the_global_one_does():
    torch.manual_seed(5)
    first = make(3).state_dict()
    torch.manual_seed(6)
    second, other = make(3).state_dict(), make(4).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])


def test_every_gate_of_the_recurrence_starts_orthogonal():
    for gate in make().gru[0].weight_hh_l0.chunk(3):
        assert torch.allclose(gate @ gate.T, torch.eye(16), atol=1e-5)


def test_architecture_and_weights_rebuild_it_from_a_file_that_runs_no_code():
    policy = with_opinions(make(value_scale=3.0))
    file = io.BytesIO()
    torch.save({"architecture": policy.architecture, "weights": policy.state_dict()}, file)
    file.seek(0)
    content = torch.load(file, weights_only=True)
    rebuilt = make_network(content["architecture"])
    rebuilt.load_state_dict(content["weights"])
    obs = observations()
    for a, b in zip(policy(obs, policy.initial_state(6)), rebuilt(obs, rebuilt.initial_state(6)), strict=True):
        assert torch.equal(a, b)


def test_environments_do_not_see_one_another():
    policy, obs = with_opinions(make()).double(), observations().double()
    hidden = policy.initial_state(6)
    logits, values, after = policy(obs, hidden)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    moved = policy(obs[:, order], hidden[:, order])
    for a, b, dim in zip((logits, values, after), moved, (1, 1, 1), strict=True):
        assert torch.allclose(a.index_select(dim, order), b, rtol=0, atol=1e-12)
    noisy = obs.clone()
    noisy[:, 2] += 1
    changed = policy(noisy, hidden)[0]
    others = [k for k in range(6) if k != 2]
    assert torch.equal(changed[:, others], logits[:, others]) and not torch.equal(changed[:, 2], logits[:, 2])


@pytest.mark.parametrize("t", [1, 4, 8])
def test_what_comes_later_changes_nothing_before(t):
    policy, obs = with_opinions(make()), observations()
    logits, values, _ = policy(obs, policy.initial_state(6))
    noisy = obs.clone()
    noisy[t:] += 1
    later = policy(noisy, policy.initial_state(6))
    assert torch.equal(later[0][:t], logits[:t]) and torch.equal(later[1][:t], values[:t])
    assert not torch.equal(later[0][t], logits[t])


def test_step_by_step_is_the_whole_sequence():
    policy, obs = with_opinions(make()).double(), observations().double()
    hidden, parts = policy.initial_state(6), []
    for x in obs:
        logits, _, hidden = policy(x[None], hidden)
        parts.append(logits)
    whole, _, last = policy(obs, policy.initial_state(6))
    assert torch.allclose(torch.cat(parts), whole, rtol=0, atol=1e-12)
    assert torch.allclose(last, hidden, rtol=0, atol=1e-12)


def test_the_value_scale_multiplies_values_and_nothing_else():
    one, eight = make(), make(value_scale=8.0)
    obs = observations()
    (logits, values, _), (same, scaled, _) = (p(obs, p.initial_state(6)) for p in (one, eight))
    assert torch.equal(logits, same) and torch.allclose(scaled, 8 * values)


def test_the_value_loss_reaches_the_trunk_but_not_the_policy_head():
    policy = make()
    _, values, _ = policy(observations(), policy.initial_state(6))
    values.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.value_head.parameters())
    assert policy.gru[0].weight_ih_l0.grad.abs().sum() > 0
    assert all(p.grad is None for p in policy.policy_head.parameters())


def test_entropy_of_the_first_policy_is_that_of_ignorance():
    policy = ActorCritic(64, 16, generator=torch.Generator().manual_seed(0))
    logits, _, _ = policy(observations(20, 20, 64), policy.initial_state(20))
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean()
    assert float(entropy) == pytest.approx(math.log(16), abs=1e-3)


def test_the_policy_loss_reaches_the_trunk_but_not_the_value_head():
    policy = make()
    logits, _, _ = policy(observations(), policy.initial_state(6))
    logits.log_softmax(-1)[..., 0].mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.actor_parameters())
    assert all(p.grad is None for p in policy.critic_parameters())


def test_the_critic_learns_alone_from_features_that_stand_still():
    policy = make()
    features, _ = policy.trunk(observations(), policy.initial_state(6))
    policy.values(features.detach(), observations()[..., :0]).square().mean().backward()
    assert all(p.grad is None for p in policy.actor_parameters())
    assert all(p.grad.abs().sum() > 0 for p in policy.critic_parameters())


def test_each_optimiser_is_given_every_parameter_once():
    policy = make()
    for part in (policy.actor_parameters(), policy.critic_parameters()):
        assert len(part) == len({id(p) for p in part})


def test_what_comes_in_is_left_as_it_was():
    # The network's ReLUs overwrite what they are given: that must never be an argument or another head's features.
    policy, obs, masks = with_opinions(make()), observations(), torch.ones(2, 6, 16)
    arguments = (obs, torch.randn(2, 6, 16), masks)
    before = [x.clone() for x in arguments]
    features, _ = policy.trunk(*arguments)
    kept = features.detach().clone()
    policy.heads(features, features)
    assert torch.equal(features, kept)
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


def test_the_first_state_is_zero_and_as_precise_as_the_parameters():
    for policy in (make(), make().double()):
        state = policy.initial_state(7)
        assert state.shape == (2, 7, 16) and not state.any()
        assert state.dtype == next(policy.parameters()).dtype
        logits, values, after = policy(observations(envs=7).to(state.dtype), state)
        assert logits.dtype == values.dtype == after.dtype == state.dtype


def test_each_mask_thins_the_input_of_its_own_layer():
    # A mask of zeros cuts a layer off from all below it: the second one's makes every observation alike.
    policy, obs = with_opinions(make()), observations()
    hidden = policy.initial_state(6)
    masks = torch.ones(2, 6, 16)
    masks[1] = 0
    logits, _, after = policy(obs, hidden, masks)
    same, _, other = policy(obs + 1, hidden, masks)
    assert torch.equal(logits, same) and torch.equal(after[1], other[1])
    assert not torch.allclose(after[0], other[0])  # the first layer still sees them


def test_architecture_names_every_argument_that_was_given():
    given = {"obs_dim": 9, "n_actions": 4, "hidden_dim": 8, "n_gru_layers": 3, "dropout": 0.25, "encoder_layers": 1}
    assert ActorCritic(**given).architecture == {"network": "recurrent", **given}


def test_an_observation_of_another_width_is_refused():
    policy = make()
    with pytest.raises(RuntimeError):
        policy(observations(size=11), policy.initial_state(6))


def test_without_gru_layers_every_step_stands_for_itself():
    policy = ActorCritic(6, 3, hidden_dim=8, n_gru_layers=0, generator=torch.Generator().manual_seed(0))
    obs = torch.randn(5, 2, 6, generator=torch.Generator().manual_seed(1))
    logits, values, after = policy(obs, policy.initial_state(2), torch.empty(0, 2, 8))
    backwards, _, _ = policy(obs.flip(0), policy.initial_state(2))
    assert after.shape == (0, 2, 8) and values.shape == (5, 2)
    assert torch.allclose(backwards.flip(0), logits, atol=1e-6)
