"""The end of a program of several ranks: threads of gloo that outlive the interpreter now and then abort it."""

import torch


def part():
    """Waits for the other ranks, and ends what they have in common (https://github.com/pytorch/pytorch/issues/190489)."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
