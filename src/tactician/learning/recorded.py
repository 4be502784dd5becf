"""Recordings of a GPU's work, which one call starts again (CUDA graphs).

To start a small operation takes the host longer than the GPU needs to do it. A rollout step and a minibatch are hundreds of
them, always the same. So they are recorded once, and then started all at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tactician.errors import UserError


class Recorded:
    """A function of tensors that is recorded when it is called for the second time with arguments of the same shapes.

    The first call is a plain one: it compiles kernels and makes what is made once, such as an optimiser's moments. Later
    ones copy their arguments to where the recording expects them, and repeat it. So the function must always do the same
    work, read nothing else that changes but tensors, and leave its results in tensors that exist already.

    Args:
        run: the function. It never waits for the device.
        enabled: whether to record; otherwise every call is a plain one.
    """

    def __init__(self, run: Callable[..., None], *, enabled: bool) -> None:
        self._run = run
        self._recordings: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]] | None] = {}
        # A recording needs a stream of its own. The plain call uses the same, since libraries keep workspaces per stream.
        self._stream = torch.cuda.Stream() if enabled else None
        self._pool = torch.cuda.graph_pool_handle() if enabled else None

    def __call__(self, *arguments: Tensor) -> None:
        """Run the function, or repeat its recording."""
        if self._stream is None:
            self._run(*arguments)
            return
        shapes = tuple(x.shape for x in arguments)
        if shapes not in self._recordings:
            self._recordings[shapes] = None
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._run(*arguments)
            torch.cuda.current_stream().wait_stream(self._stream)
            return
        recording = self._recordings[shapes]
        if recording is None:
            recording = self._recordings[shapes] = self._record(arguments)
        graph, places = recording
        for place, argument in zip(places, arguments, strict=True):
            place.copy_(argument)
        graph.replay()

    def _record(self, arguments: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
        places = tuple(x.clone() for x in arguments)
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # Nothing is computed here. All recordings share their memory, since one is repeated at a time.
            with torch.cuda.graph(graph, stream=self._stream, pool=self._pool):
                self._run(*places)
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # a recording that is broken off leaves its own stream behind
            raise _explained(error) from error
        return graph, places


def _explained(error: BaseException) -> Exception:
    """What the user is told of a recording that was broken off: that memory ran out, or how to do without recordings."""
    # The end of such a recording raises an error of its own, which hides why.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.OutOfMemoryError):
            return cause
        cause = cause.__context__
    return UserError(f"This GPU could not record a step ({str(error).splitlines()[0][:80]}); go on with --no-fused.")
