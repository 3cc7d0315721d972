"""In which numbers the networks run: what a user asks for, or what the hardware multiplies fastest; and whether they can be
compiled. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidunmask.errors import DeviceError

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


def check_compiler(device: torch.device) -> None:
    """Raises DeviceError where torch.compile does not work, as where it finds no C++ compiler."""
    import torch

    try:
        torch.compile(torch.nn.ReLU())(torch.zeros(1, device=device))
    except Exception as error:  # each backend has its own
        raise DeviceError(f"--compile: torch cannot compile here ({str(error).splitlines()[0]}); leave it out") from error


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
