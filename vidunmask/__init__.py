"""Gives back a video of people in face masks without the masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "unmask"]

if TYPE_CHECKING:
    from vidunmask.pipelines.remove import unmask


def __getattr__(name: str) -> Any:
    # The library never imports the programs; this one name is resolved on first use so that start-up stays light.
    if name == "unmask":
        from vidunmask.pipelines.remove import unmask

        return unmask
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
