"""Updates that are dropped because a loss or a gradient is not finite."""

import torch
from jaxtyping import Float
from torch import Tensor


class Guard:
    """Counts updates that were dropped because loss or gradient was not finite; all on the device."""

    def __init__(self, device: torch.device, in_a_row: int = 0) -> None:
        self.dropped = torch.zeros((), device=device)
        self.in_a_row = torch.full((), float(in_a_row), device=device)
        self.longest = torch.zeros((), device=device)

    def judge(self, *figures: Tensor) -> Float[Tensor, ""]:
        """1 if any of the scalars is not finite, else 0. The result is counted."""
        # Arithmetic instead of an if: a branch would have to wait for the GPU after every minibatch.
        bad = (~torch.stack(figures).isfinite().all()).to(torch.float32)
        # In place, because a GPU's recording of an update counts in these very tensors.
        self.dropped += bad
        self.in_a_row.add_(1).mul_(bad)
        torch.maximum(self.longest, self.in_a_row, out=self.longest)
        return bad
