"""The processes of a run: one alone, or several under torchrun that share the work of every step.

    torchrun --nproc-per-node 4 -m -- vidunmask.training.inpainter --pack PACK --run RUN --device cuda

The ``--`` keeps torchrun from taking ``--run`` for an option of its own.

Every process draws its own part of a step's images, and gradients are averaged: by torch's DistributedDataParallel for the
network, whose averaging overlaps with the backward pass, and after it for the critics, which are run several times a step.
Decisions (to stop, to save) are taken together over a second group on the CPU, so that none of them waits for a GPU.
"""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vidunmask.errors import UsageError

_NAMES = ("forward_sync_buffers", "broadcast_buffers")  # of one option of torch, since 2.13 and before
_UNSYNCED: dict[str, Any] = {
    next(n for n in _NAMES if n in inspect.signature(nn.parallel.DistributedDataParallel).parameters): False
}

PATIENCE = timedelta(hours=6)  # the others wait while the first process evaluates


class Team:
    """This process among those of the run."""

    def __init__(self, device: torch.device) -> None:
        """Joins the others that torchrun started, if it did; ``device`` cuda then becomes this process's own GPU."""
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.device = device
        self.synchronise = True  # whether the next backward pass averages gradients: only the last of an accumulated step
        self._control: Any = None
        if self.size == 1:
            return
        backend = "gloo"
        if device.type == "cuda":
            local = int(os.environ.get("LOCAL_RANK", "0"))
            if local >= torch.cuda.device_count():
                raise UsageError(
                    f"--device cuda: process {local} of this machine has no GPU, there are {torch.cuda.device_count()}; "
                    "start as many with --nproc-per-node"
                )
            self.device = torch.device("cuda", local)
            torch.cuda.set_device(self.device)
            backend = "nccl"
        dist.init_process_group(backend, timeout=PATIENCE)
        self._control = dist.new_group(backend="gloo", timeout=PATIENCE)

    @property
    def first(self) -> bool:
        """Whether this process is the one that logs, evaluates and saves."""
        return self.rank == 0

    def wrap(self, network: nn.Module, *, compiled: bool) -> Callable[..., Any]:
        """What to call in the place of ``network`` in a step, so that its gradients are averaged and it is compiled if wished.

        All processes start from the first one's weights. On GPUs batch normalisation takes its statistics over all of them.
        """
        call: Any = network
        if self.size > 1:
            if self.device.type == "cuda":
                call = nn.SyncBatchNorm.convert_sync_batchnorm(network)
            ids = [self.device.index] if self.device.type == "cuda" else None
            call = nn.parallel.DistributedDataParallel(call, device_ids=ids, **_UNSYNCED)
        averaged = call
        if compiled:
            call = torch.compile(call)
        if self.size == 1:
            return call

        def forward(*inputs: Any) -> Any:
            with contextlib.nullcontext() if self.synchronise else averaged.no_sync():
                return call(*inputs)

        return forward

    def share(self, module: nn.Module) -> None:
        """Gives every process the first one's weights and buffers."""
        if self.size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                whole = tensor.detach().contiguous()  # channels-last ones are not, and have to be
                dist.broadcast(whole, 0)
                tensor.detach().copy_(whole)

    def average_gradients(self, module: nn.Module) -> None:
        """Replaces the gradients of a module that is not wrapped by their mean over the processes."""
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Which flags are set in any of the processes; all must ask at the same point."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self._control)
        return tuple(bool(vote) for vote in votes.tolist())

    def mean(self, values: Tensor) -> Tensor:
        """Numbers (N,) on the CPU, averaged over the processes; all must ask at the same point."""
        if self.size > 1:
            dist.all_reduce(values, group=self._control)
            values = values / self.size
        return values

    def close(self) -> None:
        """Waits for the others and leaves."""
        if self.size > 1:
            dist.barrier(group=self._control)
            dist.destroy_process_group()
