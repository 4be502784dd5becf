"""Mixed precision: autocast for the forward passes, float32 for values, losses, sums, parameters and optimisers.

Rollout and update run under the same autocast, or the probability ratio would not be 1 at the first minibatch. float16 has
too narrow a range for gradients, so its losses are scaled (Micikevicius et al. 2018, "Mixed precision training"). The joint
epochs and the critic's own have one scaler each, since their losses differ in size.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Precision:
    """The data type of the forward passes, and the loss scalers that float16 needs."""

    dtype: torch.dtype | None = None
    """torch.bfloat16, torch.float16, or None for float32."""
    device_type: str = "cpu"
    actor_scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    critic_scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))

    def autocast(self) -> AbstractContextManager[object]:
        """The context for a forward pass."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device_type, self.dtype)

    def state_dict(self) -> dict[str, dict[str, object]]:
        """Both scalers' states; empty ones unless float16."""
        return {"actor": self.actor_scaler.state_dict(), "critic": self.critic_scaler.state_dict()}

    def load_state_dict(self, state: dict[str, dict[str, object]]) -> None:
        """Restore the scalers; states of another precision are ignored."""
        for name, scaler in (("actor", self.actor_scaler), ("critic", self.critic_scaler)):
            if scaler.is_enabled() and state.get(name):
                scaler.load_state_dict(state[name])


def make_precision(dtype: torch.dtype | None, device_type: str) -> Precision:
    """A precision with fresh scalers."""
    # bfloat16 has the exponent of float32: its gradients do not underflow and need no scaler.
    scaled = dtype is torch.float16
    actor, critic = (torch.amp.GradScaler(device_type, enabled=scaled) for _ in range(2))
    return Precision(dtype, device_type, actor, critic)


def guarded_step(optimiser: torch.optim.Optimizer, bad: Tensor) -> None:
    """Step unless ``bad`` (a scalar tensor) is 1; decided on the device, without a synchronisation.

    torch's fused optimisers leave parameters, moments and step count alone where ``found_inf`` is set, which is how its
    GradScaler skips a step. The gradients must be unscaled before.
    """
    # Not the scaler's own ``step``: it looks at this optimiser's gradients alone, and actor and critic move together.
    optimiser.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
    try:
        optimiser.step()
    finally:
        # The verdict is on this step alone: a plain ``optimiser.step()`` must not inherit it.
        del optimiser.found_inf  # type: ignore[attr-defined]


FULL = Precision()
"""float32 throughout."""
