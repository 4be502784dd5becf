"""A ReLU and layer normalisation after it: what stands between two matrix products of the networks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tactician.policy import fused_norm
from tactician.policy.gru import SIXTEEN


class ReluNorm(nn.LayerNorm):
    """Layer normalisation of max(x, 0), as precise as its input; its sums are in float32 anyway.

    Autocast would give float32 back, which doubles the bytes of everything after it up to the next matrix product.

    Args:
        n_units: width of the last dimension.
    """

    def __init__(self, n_units: int) -> None:
        super().__init__(n_units)
        self.fused = False
        """Whether a GPU computes it in 16 bits by a kernel of our own; `tactician.policy.parity` checks it before."""

    def forward(self, input: Float[Tensor, "*batch unit"]) -> Float[Tensor, "*batch unit"]:
        """Rectify and normalise the last dimension."""
        with torch.autocast(input.device.type, enabled=False):
            kernel = self.fused and input.is_cuda and input.dtype in SIXTEEN
            return self.by_kernel(input) if kernel else self.plainly(input)

    def plainly(self, x: Tensor) -> Tensor:
        """By two operations of torch, which may overwrite x."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        # A linear layer's result may be a view. In place, its derivative would be copied twice.
        positive = nn.functional.relu(x, inplace=not torch.is_grad_enabled())
        return nn.functional.layer_norm(positive, self.normalized_shape, weight, bias, self.eps)

    def by_kernel(self, x: Tensor) -> Tensor:
        """By one kernel."""
        return fused_norm.fused_relu_norm(x, self.weight, self.bias, self.eps)
