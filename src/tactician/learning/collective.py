"""Collective operations of a run's processes: sums and yes-or-no decisions. They cost a single process nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int64
from torch import Tensor


@dataclass(frozen=True)
class Collective:
    """A process among those that train one policy.

    Environments are numbered through the whole run; this process owns ``first_env … first_env + n_envs − 1``.
    """

    rank: int = 0
    size: int = 1

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, in place and returned."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def largest(self, tensor: Tensor) -> Tensor:
        """The elementwise largest of all processes' tensors, in place and returned."""
        if self.size > 1:
            torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
        return tensor

    def differ(self, number: Int64[Tensor, ""]) -> Bool[Tensor, ""]:
        """Whether the processes have different whole numbers, on the device; the same answer in all of them."""
        # ~x is −x − 1: it turns the order round and cannot overflow. So one message finds the largest and the smallest.
        most, least = self.largest(torch.stack([number, ~number])).unbind()
        return most != ~least

    def add_up_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by the sum over processes, in one message; a missing gradient counts as zero."""
        if self.size == 1:
            return
        owners = list(parameters)
        # One message for all: many small ones would each pay the network's latency. A process without a part of the
        # minibatch has no gradients, but must send: all_reduce waits for every process.
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in owners])
        torch.distributed.all_reduce(flat)
        for owner, part in zip(owners, flat.split([p.numel() for p in owners]), strict=True):
            owner.grad = part.view_as(owner)

    def share(self, module: torch.nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, 0)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says yes; all of them learn the same answer."""
        if self.size == 1:
            return flag
        # A process that stopped alone would leave the others waiting for its next gradients for ever.
        return bool(self.add_up(torch.tensor(float(flag), device=device)) > 0)


ALONE = Collective()
"""A run of one process."""
