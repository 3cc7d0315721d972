"""Where the samples of a pixel format lie, as numpy views of the planes that FFmpeg filled.

Names and meanings are those of libavutil/pixfmt.h. A format is described once, by rule rather than by a table of its two
hundred members; what no rule covers is converted once per frame by the reader, to the nearest format that is covered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av

SampleArray = npt.NDArray[Any]  # uint8 or uint16

_SUBSAMPLING = {"444": (0, 0), "440": (0, 1), "422": (1, 0), "420": (1, 1), "411": (2, 0), "410": (2, 2)}
_PLANAR_YUV = re.compile(r"yuv([ja]?)(444|440|422|420|411|410)p(\d*)(le)?")
_SEMI_PLANAR = {
    "nv12": ((1, 1), 8, 0, False),
    "nv21": ((1, 1), 8, 0, True),
    "nv16": ((1, 0), 8, 0, False),
    "nv24": ((0, 0), 8, 0, False),
    "nv42": ((0, 0), 8, 0, True),
    "nv20le": ((1, 0), 10, 0, False),
}
_SEMI_PLANAR_HIGH = re.compile(r"p([024])(10|12|16)le")  # p010le: 4:2:0, 10 bits in the high end of 16
_GRAY = re.compile(r"gray(\d*)(le)?")
_PLANAR_RGB = re.compile(r"gbr(a?)p(\d*)(le)?")
_PACKED_RGB = re.compile(r"([rgba0]{3,4})(24|48le|64le)?")

_NO_CHROMA = (9, 9)  # coarser than any, so that every format holds the chroma of gray

# Packed or odd formats and the layout that holds the same samples.
_NEAREST = {
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "y210le": "yuv422p10le",
    "y212le": "yuv422p12le",
    "y216le": "yuv422p16le",
    "xv30le": "yuv444p10le",
    "v30xle": "yuv444p10le",
    "xv36le": "yuv444p12le",
    "xv48le": "yuv444p16le",
    "vuya": "yuva444p",
    "ayuv": "yuva444p",
    "uyva": "yuva444p",
    "vuyx": "yuv444p",
    "vyu444": "yuv444p",
    "ayuv64le": "yuva444p16le",
    "x2rgb10le": "gbrp10le",
    "x2bgr10le": "gbrp10le",
    "pal8": "rgb24",
    "monow": "gray",
    "monob": "gray",
    "ya8": "gray",
    "ya16le": "gray16le",
}


@dataclass(frozen=True, slots=True)
class Component:
    """Where one of Y, U, V or R, G, B lies."""

    plane: int
    offset: int  # samples from the start of the row
    step: int  # samples from one to the next
    log2_x: int = 0  # subsampling: one sample covers 2**log2_x luma columns
    log2_y: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """The three colour components of a format (one for gray), in the order Y U V or R G B; alpha is left out on purpose."""

    components: tuple[Component, ...]
    depth: int  # significant bits of a sample
    shift: int  # unused low bits below them (p010le keeps 10 bits in the high end of 16)
    is_rgb: bool
    always_full: bool  # yuvj: full range whatever the tag says

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The numpy type of a stored sample."""
        return np.uint8 if self.depth + self.shift <= 8 else np.uint16

    @property
    def log2_chroma(self) -> tuple[int, int]:
        """Subsampling of the chroma components in x and y, (0, 0) where there is none."""
        last = self.components[-1]
        return last.log2_x, last.log2_y


@lru_cache(maxsize=256)
def layout_of(name: str) -> Layout | None:
    """The layout of a pixel format by FFmpeg's name, or None where `nearest_supported` has to be converted to first."""
    if name in _SEMI_PLANAR:
        chroma, depth, shift, swapped = _SEMI_PLANAR[name]
        return _semi_planar(chroma, depth, shift, swapped)
    if match := _PLANAR_YUV.fullmatch(name):
        variant, sampling, bits, _ = match.groups()
        log2_x, log2_y = _SUBSAMPLING[sampling]
        chroma_planes = tuple(Component(plane, 0, 1, log2_x, log2_y) for plane in (1, 2))
        return Layout((Component(0, 0, 1), *chroma_planes), int(bits or 8), 0, False, variant == "j")
    if match := _SEMI_PLANAR_HIGH.fullmatch(name):
        chroma = {"0": (1, 1), "2": (1, 0), "4": (0, 0)}[match[1]]
        return _semi_planar(chroma, int(match[2]), 16 - int(match[2]), False)
    if match := _GRAY.fullmatch(name):
        return Layout((Component(0, 0, 1),), int(match[1] or 8), 0, False, False)
    if match := _PLANAR_RGB.fullmatch(name):
        planes = tuple(Component(plane, 0, 1) for plane in (2, 0, 1))  # stored G, B, R
        return Layout(planes, int(match[2] or 8), 0, True, True)
    if (match := _PACKED_RGB.fullmatch(name)) and {"r", "g", "b"} <= set(match[1]):
        order, size = match.groups()
        if (len(order) == 3) != (size in ("24", "48le")) or (len(order) == 4 and size not in (None, "64le")):
            return None
        depth = 16 if size in ("48le", "64le") else 8
        return Layout(tuple(Component(0, order.index(c), len(order)) for c in "rgb"), depth, 0, True, True)
    return None


def _semi_planar(chroma: tuple[int, int], depth: int, shift: int, swapped: bool) -> Layout:
    offsets = (1, 0) if swapped else (0, 1)
    pair = tuple(Component(1, offset, 2, *chroma) for offset in offsets)
    return Layout((Component(0, 0, 1), *pair), depth, shift, False, False)


def nearest_supported(name: str) -> str:
    """The format to convert to, ``name`` itself where it has a layout; keeps depth and sampling of all but exotic formats."""
    if layout_of(name) is not None:
        return name
    little_endian = re.sub(r"be$", "le", name)
    for candidate in (little_endian, _NEAREST.get(little_endian)):
        if candidate is not None and layout_of(candidate) is not None:
            return candidate
    import av

    described = av.VideoFormat(name, 16, 16)
    deep = max((component.bits for component in described.components), default=8) > 8
    if described.is_rgb or described.is_bayer or described.has_palette:
        return "rgb48le" if deep else "rgb24"
    if len(described.components) == 1:
        return "gray16le" if deep else "gray"
    return "yuv444p16le" if deep else "yuv444p"


def best_format(source: str, formats: list[str]) -> tuple[str, str]:
    """The one of ``formats`` that loses least of ``source``, and what it loses ('' for nothing)."""
    if not formats or source in formats:
        return source, ""
    ranked = sorted((_losses(source, name), index, name) for index, name in enumerate(formats) if _traits(name) is not None)
    if not ranked:
        return formats[0], "precision"
    (losses, _), _, name = ranked[0]
    words = ("colour", "bit depth", "the RGB/YUV kind", "chroma resolution", "transparency")
    return name, " and ".join(word for word, lost in zip(words, losses, strict=True) if lost)


def _losses(source: str, target: str) -> tuple[tuple[bool, ...], int]:
    have, get = _traits(source), _traits(target)
    assert get is not None
    if have is None:
        return (False,) * 5, 0
    depth, rgb, chroma, alpha, full = have
    gray = get[2] == _NO_CHROMA != chroma
    coarser = not gray and any(g > h for g, h in zip(get[2], chroma, strict=True))
    lost = (gray, get[0] < depth, get[1] != rgb and chroma != _NO_CHROMA, coarser, alpha and not get[3])
    waste = abs(get[0] - depth) + sum(h - g for g, h in zip(get[2], chroma, strict=True)) + 2 * (get[3] and not alpha)
    return lost, waste + 4 * (get[4] != full)


def _traits(name: str) -> tuple[int, bool, tuple[int, int], bool, bool] | None:
    """Depth, RGB or not, chroma subsampling (_NO_CHROMA for gray), alpha or not, yuvj or not."""
    layout = layout_of(name)
    if layout is None:
        return None
    chroma = layout.log2_chroma if len(layout.components) > 1 else _NO_CHROMA
    alpha = "a" in name.replace("gray", "") and name.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr"))
    return layout.depth, layout.is_rgb, chroma, alpha, name.startswith("yuvj")


def component_views(native: av.VideoFrame, layout: Layout) -> tuple[SampleArray, ...]:
    """Views (h, w) of the colour components of a frame, subsampled ones smaller; writing to them writes to the frame."""
    views = []
    rows = {}
    for component in layout.components:
        if component.plane not in rows:
            plane = native.planes[component.plane]
            samples = np.frombuffer(plane, dtype=layout.dtype)  # type: ignore[call-overload]
            rows[component.plane] = samples.reshape(-1, plane.line_size // samples.itemsize)
        height = -(-native.height >> component.log2_y)
        width = -(-native.width >> component.log2_x)
        stop = component.offset + (width - 1) * component.step + 1
        views.append(rows[component.plane][:height, component.offset : stop : component.step])
    return tuple(views)
