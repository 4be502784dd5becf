"""The GRU layer with its hand-written derivative: beside nn.GRU, beside the formula step by step, beside differences."""

import gc
import math
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tactician.policy import GruLayer

WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
EXACT = {"rtol": 1e-12, "atol": 1e-12}
"""Float64 through a few dozen steps, on sums whose terms are of the order of 1."""


def make_layer(n_in=4, size=6, dtype=torch.float64, seed=0):
    layer = GruLayer(n_in, size).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():  # larger than the usual start, so that the gates leave their linear range
            weight.copy_(0.7 * torch.randn(weight.shape, generator=generator, dtype=dtype))
    return layer


def make_data(steps=7, envs=3, n_in=4, size=6, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(steps, envs, n_in, generator=generator, dtype=dtype)
    hidden = torch.randn(envs, size, generator=generator, dtype=dtype)
    # Every state enters the loss with a weight of its own; their scale keeps the sums near 1 whatever their length.
    weights = torch.randn(steps, envs, size, generator=generator, dtype=dtype) / max(1, steps * envs) ** 0.5
    return inputs.requires_grad_(), hidden.requires_grad_(), weights


def torchs(layer, inputs, hidden):
    """nn.GRU itself, with the very parameters of the layer."""
    return nn.GRU.forward(layer, inputs, hidden[None].contiguous())[0]


def by_formula(layer, inputs, hidden):
    """The cell as torch's documentation prints it, one step and one gate at a time; autograd differentiates it."""
    w_ir, w_iz, w_in = layer.weight_ih_l0.chunk(3)
    w_hr, w_hz, w_hn = layer.weight_hh_l0.chunk(3)
    b_ir, b_iz, b_in = layer.bias_ih_l0.chunk(3)
    b_hr, b_hz, b_hn = layer.bias_hh_l0.chunk(3)
    states = []
    for x in inputs:
        r = torch.sigmoid(x @ w_ir.T + b_ir + hidden @ w_hr.T + b_hr)
        z = torch.sigmoid(x @ w_iz.T + b_iz + hidden @ w_hz.T + b_hz)
        n = torch.tanh(x @ w_in.T + b_in + r * (hidden @ w_hn.T + b_hn))
        hidden = (1 - z) * n + z * hidden
        states.append(hidden)
    return torch.stack(states)


def ours(layer, inputs, hidden):
    return layer.sequence(inputs, hidden)


def states_and_gradients(run, layer, inputs, hidden, loss):
    wanted = [x for x in (inputs, hidden, *layer.parameters()) if x.requires_grad]
    states = run(layer, inputs, hidden)
    return [states, *torch.autograd.grad(loss(states), wanted)]


def assert_same(run, oracle, layer, inputs, hidden, loss, **tolerance):
    mine = states_and_gradients(run, layer, inputs, hidden, loss)
    theirs = states_and_gradients(oracle, layer, inputs, hidden, loss)
    assert len(mine) == len(theirs) > 1
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or EXACT))


@pytest.mark.parametrize("oracle", [torchs, by_formula])
@pytest.mark.parametrize(
    ("steps", "envs", "n_in", "size"),
    [
        (7, 3, 4, 6),
        (1, 3, 4, 6),
        (7, 1, 4, 6),
        (1, 1, 1, 1),
        (5, 2, 1, 6),
        (5, 2, 9, 2),
        (40, 250, 3, 5),  # 10,000 rows: the derivative takes chunks of 16, 16 and then 8 steps
        (3, 5000, 2, 3),  # more environments than rows in a chunk: one step at a time
    ],
)
def test_states_and_all_gradients_equal_the_oracles(oracle, steps, envs, n_in, size):
    layer = make_layer(n_in, size)
    inputs, hidden, weights = make_data(steps, envs, n_in, size)
    assert_same(ours, oracle, layer, inputs, hidden, lambda states: (weights * states).sum())


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    steps=st.integers(1, 12),
    envs=st.integers(1, 7),
    n_in=st.integers(1, 9),
    size=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_any_shape_equals_torchs(steps, envs, n_in, size, seed):
    layer = make_layer(n_in, size, seed=seed)
    inputs, hidden, weights = make_data(steps, envs, n_in, size, seed=seed + 1)
    assert_same(ours, torchs, layer, inputs, hidden, lambda states: (weights * states).sum())


def test_gradients_equal_finite_differences():
    layer = make_layer(2, 3)
    inputs, hidden, _ = make_data(4, 2, 2, 3)

    def run(inputs, hidden, *weights):
        return torch.func.functional_call(
            Sequenced(layer), {f"layer.{k}": w for k, w in zip(WEIGHTS, weights, strict=True)}, (inputs, hidden)
        )

    assert torch.autograd.gradcheck(run, (inputs, hidden, *layer.parameters()))


class Sequenced(nn.Module):
    """`sequence` as a module's call, so that functional_call can lend it other weights."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs, hidden):
        return self.layer.sequence(inputs, hidden)


def test_one_step_worked_by_hand():
    # One unit, input 1, state 2. W_ir = ln 3, b_hz = −ln 4, W_hn = 2 and all else 0:
    #   r = σ(ln 3) = 3/4,  z = σ(−ln 4) = 1/5,  q = 2·h + 0 = 4,  n = tanh(0 + r·q) = tanh 3
    #   h' = 4/5·tanh 3 + 1/5·2 = 0.8·0.9950547536867305 + 0.4
    layer = GruLayer(1, 1).double()
    with torch.no_grad():
        layer.weight_ih_l0.copy_(torch.tensor([[math.log(3)], [0.0], [0.0]], dtype=torch.float64))
        layer.weight_hh_l0.copy_(torch.tensor([[0.0], [0.0], [2.0]]))
        layer.bias_ih_l0.zero_()
        layer.bias_hh_l0.copy_(torch.tensor([0.0, -math.log(4), 0.0], dtype=torch.float64))
    states = layer.sequence(torch.ones(1, 1, 1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64))
    assert states.item() == pytest.approx(0.8 * 0.9950547536867305 + 0.4, abs=1e-15)


@pytest.mark.parametrize("cut", [1, 64, 129])
def test_a_sequence_cut_in_two_with_its_state_carried_equals_the_whole(cut):
    layer = make_layer()
    inputs, hidden, weights = make_data(steps=130, envs=40)  # the whole takes two chunks, the halves others

    def in_two(layer, inputs, hidden):
        first = layer.sequence(inputs[:cut], hidden)
        return torch.cat((first, layer.sequence(inputs[cut:], first[-1])))

    assert_same(in_two, ours, layer, inputs, hidden, lambda states: (weights * states).sum())


def test_a_sequence_fed_step_by_step_equals_the_whole():
    layer = make_layer()
    inputs, hidden, weights = make_data()

    def by_step(layer, inputs, hidden):
        states = []
        for x in inputs:
            states.append(layer.sequence(x[None], hidden)[0])
            hidden = states[-1]
        return torch.stack(states)

    assert_same(by_step, ours, layer, inputs, hidden, lambda states: (weights * states).sum())


def strided(x):
    """The same numbers, with another order in memory."""
    return x.mT.contiguous().mT if x.shape[-1] > 1 else x


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda inputs, hidden: (strided(inputs), strided(hidden)), id="transposed"),
        pytest.param(lambda inputs, hidden: (inputs[:1].expand_as(inputs), hidden), id="one observation for all steps"),
        pytest.param(
            lambda inputs, hidden: (inputs, hidden[:1].expand_as(hidden)), id="one state for all environments"
        ),
        pytest.param(lambda inputs, hidden: (inputs.flip(0)[::2], hidden), id="every other step"),
        pytest.param(lambda inputs, hidden: (inputs[:, ::2], hidden[::2]), id="every other environment"),
    ],
)
def test_inputs_may_lie_in_memory_as_they_please(bend):
    layer = make_layer()
    inputs, hidden, _ = make_data()

    def bent(run):
        return lambda layer, inputs, hidden: run(layer, *bend(inputs, hidden))

    assert not all(x.is_contiguous() for x in bend(inputs, hidden))
    assert_same(bent(ours), bent(by_formula), layer, inputs, hidden, lambda states: states.square().mean())


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda states: states.sum() / states.numel(), id="expanded"),
        pytest.param(lambda states: states[-1].mean(), id="last step only"),
        pytest.param(lambda states: states[:, 0].mean(), id="one environment only"),
        pytest.param(lambda states: states.permute(2, 1, 0).contiguous().pow(3).mean(), id="permuted"),
        pytest.param(lambda states: (strided(states) * strided(states.detach().cos())).mean(), id="transposed"),
    ],
)
def test_the_incoming_gradient_may_lie_in_memory_as_it_pleases(loss):
    layer = make_layer()
    inputs, hidden, _ = make_data()
    assert_same(ours, by_formula, layer, inputs, hidden, loss)


def test_what_comes_in_is_left_as_it_was():
    layer = make_layer()
    arguments = (*make_data(), *layer.parameters())
    before = [x.detach().clone() for x in arguments]
    torch.autograd.grad(layer.sequence(*arguments[:2]), (*arguments[:2], *layer.parameters()), arguments[2])
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True))


@pytest.mark.parametrize("inputs_learn", [True, False])
@pytest.mark.parametrize("hidden_learns", [True, False])
@pytest.mark.parametrize("frozen", [(), WEIGHTS, WEIGHTS[:2], WEIGHTS[3:]])
def test_gradients_go_only_where_they_are_asked_for(inputs_learn, hidden_learns, frozen):
    layer = make_layer()
    inputs, hidden, weights = make_data()
    inputs.requires_grad_(inputs_learn)
    hidden.requires_grad_(hidden_learns)
    for name in frozen:
        getattr(layer, name).requires_grad_(False)
    if not inputs_learn and not hidden_learns and frozen == WEIGHTS:
        assert not layer.sequence(inputs, hidden).requires_grad
        return
    assert_same(ours, by_formula, layer, inputs, hidden, lambda states: (weights * states).sum())
    (ours(layer, inputs, hidden) * weights).sum().backward()
    learning = {name for name, weight in layer.named_parameters() if weight.grad is not None}
    assert learning == set(WEIGHTS) - set(frozen)
    assert (inputs.grad is not None, hidden.grad is not None) == (inputs_learn, hidden_learns)


def test_gradients_of_two_sequences_add_up():
    layer = make_layer()
    inputs, hidden, weights = make_data()
    (layer.sequence(inputs, hidden) * weights).sum().backward()
    once = {name: weight.grad.clone() for name, weight in layer.named_parameters()}
    (layer.sequence(inputs, hidden) * weights).sum().backward()
    for name, weight in layer.named_parameters():
        torch.testing.assert_close(weight.grad, 2 * once[name], **EXACT)


def test_a_second_derivative_is_refused():
    layer = make_layer()
    inputs, hidden, _ = make_data()
    (first,) = torch.autograd.grad(layer.sequence(inputs, hidden).square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.sum().backward()


def test_a_derivative_of_states_that_were_overwritten_is_refused():
    layer = make_layer()
    inputs, hidden, _ = make_data()
    states = layer.sequence(inputs, hidden)
    with torch.no_grad():
        states.zero_()  # the derivative needs them
    with pytest.raises(RuntimeError, match="modified inplace"):
        states.sum().backward()


def test_float32_agrees_with_float64_to_its_precision():
    inputs, hidden, weights = make_data(steps=30, envs=8, n_in=16, size=16)
    layer = make_layer(16, 16)
    exact = states_and_gradients(by_formula, layer, inputs, hidden, lambda states: (weights * states).sum())
    layer, inputs, hidden = layer.float(), inputs.detach().float(), hidden.detach().float()
    inputs.requires_grad_()
    hidden.requires_grad_()
    single = states_and_gradients(ours, layer, inputs, hidden, lambda states: (weights.float() * states).sum())
    for a, b in zip(single, exact, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b.float(), rtol=1e-4, atol=1e-5)


def test_saturated_gates_give_finite_states_and_gradients():
    layer = make_layer(dtype=torch.float32)
    inputs, hidden, _ = make_data(dtype=torch.float32)
    results = states_and_gradients(ours, layer, inputs.detach().mul(1e6).requires_grad_(), hidden, torch.sum)
    assert all(x.isfinite().all() for x in results)
    # However far the gates are driven, a state is a mean of tanh's range and what was there before.
    assert float(results[0].detach().abs().max()) <= float(hidden.detach().abs().max().clamp(min=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_the_sums_stay_in_float32(dtype):
    layer = make_layer(dtype=torch.float32)
    inputs, hidden, weights = make_data(dtype=torch.float32)
    inputs = inputs.detach().to(dtype).requires_grad_()

    def under_autocast(layer, inputs, hidden):
        with torch.autocast("cpu", torch.bfloat16):
            return layer.sequence(inputs, hidden)

    def in_full(layer, inputs, hidden):
        return by_formula(layer, inputs.float(), hidden)

    mine = states_and_gradients(under_autocast, layer, inputs, hidden, lambda states: (weights * states).sum())
    theirs = states_and_gradients(in_full, layer, inputs, hidden, lambda states: (weights * states).sum())
    assert [x.dtype for x in mine] == [torch.float32, dtype] + 5 * [torch.float32]
    for a, b in zip(mine, theirs, strict=True):
        # A gradient that leaves as bfloat16 is rounded once, to 8 bits.
        torch.testing.assert_close(a, b, rtol=1e-5 if a.dtype == torch.float32 else 2**-7, atol=1e-5)


def test_a_backward_call_inside_autocast_stays_in_float32_too():
    layer = make_layer(dtype=torch.float32)
    inputs, hidden, weights = make_data(dtype=torch.float32)
    outside = states_and_gradients(ours, layer, inputs, hidden, lambda states: (weights * states).sum())
    with torch.autocast("cpu", torch.bfloat16):
        inside = states_and_gradients(ours, layer, inputs, hidden, lambda states: (weights * states).sum())
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_without_gradients_the_states_are_the_same_and_nothing_is_kept():
    layer = make_layer()
    inputs, hidden, _ = make_data()
    kept = []
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(kept.append, lambda x: x):
        states = layer.sequence(inputs, hidden)
    assert states.grad_fn is None and not states.requires_grad and not kept
    assert torch.equal(states, layer.sequence(inputs, hidden))


def test_what_the_derivative_needs_is_freed_with_the_states():
    layer = make_layer()
    inputs, hidden, _ = make_data()
    gc.collect()
    gc.disable()  # a reference cycle would keep every minibatch's gates until the collector comes by
    try:
        freed = []
        states = layer.sequence(inputs, hidden)
        weakref.finalize(states.grad_fn, freed.append, True)
        del states
        assert freed
    finally:
        gc.enable()


def test_no_environments_give_no_states_and_no_gradient():
    layer = make_layer()
    inputs, hidden, _ = make_data(envs=0)
    states = layer.sequence(inputs, hidden)
    states.sum().backward()
    assert states.shape == (7, 0, 6) and inputs.grad.shape == (7, 0, 4)
    assert all(torch.equal(weight.grad, torch.zeros_like(weight)) for weight in layer.parameters())


def test_inputs_of_another_width_are_refused():
    with pytest.raises(RuntimeError):
        make_layer().sequence(torch.zeros(7, 3, 5, dtype=torch.float64), torch.zeros(3, 6, dtype=torch.float64))


def test_parameters_are_interchangeable_with_torchs():
    layer, plain = make_layer(), nn.GRU(4, 6).double()
    assert list(plain.state_dict()) == list(layer.state_dict()) == list(WEIGHTS)
    plain.load_state_dict(layer.state_dict())
    inputs, hidden, _ = make_data()
    torch.testing.assert_close(layer.sequence(inputs, hidden), plain(inputs, hidden[None])[0], **EXACT)
