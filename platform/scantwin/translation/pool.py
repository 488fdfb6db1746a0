"""The image pool of a GAN: discriminators see earlier synthetic patches again (arXiv 1612.07828, 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def pooled(memory: dict[str, Tensor], name: str, made: Tensor, size: int) -> Tensor:
    """`made` (B, C, D, H, W), half of it exchanged for patches made earlier once the pool is full.

    The pool is kept in `memory` under `name`, in half precision (three decimals of what a critic sees; both
    pools of CycleGAN take 36 MB per district), with the number of patches it has seen. What is exchanged
    depends on that number only, so a killed training resumes as if it had not been killed.
    """
    if not size:
        return made
    held = memory.get(f"{name}/pool", made[:0].half())
    seen = int(memory.get(f"{name}/seen", torch.zeros((), dtype=torch.int64)))
    shown = []
    for patch in made:
        random = torch.Generator().manual_seed(seen)
        seen += 1
        if len(held) < size:
            held = torch.cat([held, patch[None].half()])
            shown.append(patch)
        elif torch.rand((), generator=random) < 0.5:
            slot = int(torch.randint(len(held), (), generator=random))
            shown.append(held[slot].to(patch.dtype))
            held[slot] = patch
        else:
            shown.append(patch)
    memory[f"{name}/pool"], memory[f"{name}/seen"] = held, torch.tensor(seen)
    return torch.stack(shown)
