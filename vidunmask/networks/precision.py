"""In which numbers the networks run: what a user asks for, or what the hardware multiplies fastest. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype for autocast. ``auto`` takes bfloat16 where the hardware multiplies it natively, else float32."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if _native_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context that runs networks in ``dtype`` where that is worth it; with float32 it changes nothing."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype != torch.float32)


def _native_bfloat16(device: torch.device) -> bool:
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Emulated on AVX-512 without the BF16 extension, or on AVX2, it is up to seven times slower than float32. torch has
        # no public question for this.
        questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in questions)
    return False
