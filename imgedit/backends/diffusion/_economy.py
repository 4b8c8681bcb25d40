"""Less memory for more time: attention in slices, the VAE in tiles, parts of a model parked in main memory."""

from __future__ import annotations

from typing import Any


def tile(vae: Any) -> None:
    """Let *vae* take pictures that are larger than its native size in overlapping tiles, where it can."""
    if hasattr(vae, "enable_tiling"):
        vae.enable_tiling()


def slice_attention(unet: Any) -> None:
    """Let *unet* compute attention one head at a time."""
    unet.set_attention_slice("max")


def park(parts: list[Any], device: str) -> None:
    """Keep *parts* in main memory, and bring each to *device* while it works; they are listed in the order of use."""
    from accelerate import cpu_offload_with_hook

    before = None
    for part in parts:
        part.to("cpu")
        _, before = cpu_offload_with_hook(part, device, prev_module_hook=before)


def stream(unet: Any, device: str) -> None:
    """Keep the weights of *unet* in main memory, and bring those of each layer to *device* while it works."""
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_module

    remove_hook_from_module(unet, recurse=True)
    unet.to("cpu")
    cpu_offload(unet, device)
