"""What stages tell somebody who watches a run from inside; nothing is made or kept for it where nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vidunmask.stages.blend import Past
    from vidunmask.stages.detail import Skin
    from vidunmask.stages.unmask import Segmented, Settling
    from vidunmask.types import FaceCrop, Fill, FloatArray, Frame, FrameFaces, SeenFace, TrackedFace


class Observer:
    """Base class: every method does nothing. Methods are called in the thread of their stage, for each frame in order.

    What is handed over belongs to the run: it must be copied to be kept beyond the call if it is to be changed, and a call that
    takes long holds the run up.
    """

    def seen(self, item: FrameFaces[SeenFace]) -> None:
        """The faces that detection and following found."""

    def tracked(self, item: FrameFaces[TrackedFace]) -> None:
        """The same with identities, gaps filled."""

    def cropped(self, item: FrameFaces[FaceCrop]) -> None:
        """The aligned crops."""

    def segmented(self, item: FrameFaces[Segmented]) -> None:
        """The segmenter's own probabilities, before anything is decided."""

    def settled(self, item: FrameFaces[Segmented], settling: list[Settling]) -> None:
        """Smoothed probabilities and the opacity, and for each face the time around it that they come from."""

    def inpainted(self, frame: Frame, track_id: int, image: FloatArray) -> None:
        """The inpainter's raw output (S, S, 3) float32 in 0..255, not composed."""

    def blending(self, frame: Frame, fill: Fill, past: Past, skin: Skin | None) -> None:
        """What is remembered of a track before a frame's fill is taken: its fill and, of a large face, its skin."""

    def blended(self, frame: Frame, fill: Fill, picture: FloatArray, alpha: FloatArray) -> None:
        """The picture (S, S, 3) and alpha (S, S), float32 0..1, that are laid into the frame."""
