"""Regions of a native frame as RGB, and RGB back into it; the rest of the frame is neither converted nor touched.

Every component (Y, U, V or R, G, B) is resampled on its own grid, so that a crop of S x S costs S x S colour conversions
however large the picture is, and chroma keeps its siting: co-sited with the left luma column (the default of H.264, H.265,
AV1 and MPEG-2), between the rows.
"""

from __future__ import annotations

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from vidunmask import geometry
from vidunmask.types import ByteArray, FloatArray, Frame
from vidunmask.video.colour import coding_of, from_pq, space_of, to_pq
from vidunmask.video.formats import Component, Layout, SampleArray, component_views, layout_of

_SHRINK_FROM = 1 / 1.5  # below this scale bilinear sampling skips pixels and aliases
_FAINTEST = 1 / 512  # an alpha below this cannot move a sample by half a code of 8 bits


def editable(frame: Frame) -> Frame:
    """The same frame with planes of its own, to be called before the first write.

    A decoder keeps reading the buffers of its reference frames: writing into them would damage the frames that follow. The
    planes are copied when anyone else holds them and left alone otherwise, so that calling it twice copies once.
    """
    frame.native.make_writable()
    return frame


def read_crop(frame: Frame, frame_to_crop: FloatArray, size: int) -> ByteArray:
    """The crop (size, size, 3) RGB that ``frame_to_crop`` (2, 3), display to crop pixels, cuts out of the frame.

    Area-filtered where it shrinks by more than 1.5; beyond the border of the picture the edge is repeated.
    """
    native, layout = frame.native, _layout(frame)
    native_to_crop = geometry.compose(frame.native_to_display, frame_to_crop)
    box = _covered(native_to_crop, size, (native.height, native.width), layout)
    planes = []
    for component, view in zip(layout.components, component_views(native, layout), strict=True):
        region, offset = _cut(view, component, box)
        component_to_crop = geometry.compose(_component_to_native(component, offset), native_to_crop)
        planes.append(resample(region, component_to_crop, (size, size)))
    return _to_rgb(planes, frame, layout)


def small_rgb(frame: Frame, max_side: int) -> tuple[ByteArray, FloatArray]:
    """The whole picture upright and small: (h, w, 3) RGB with max(h, w) <= max_side, and frame_to_small (2, 3).

    Never enlarges. For detectors: chroma siting is ignored, shrinking by less than two is bilinear.
    """
    native, layout = frame.native, _layout(frame)
    height, width = frame.display_size
    factor = min(1.0, max_side / max(height, width))
    shown = np.array([max(1, round(width * factor)), max(1, round(height * factor))])
    turn = np.sign(frame.native_to_display[:, :2])
    stored = np.abs(turn.T) @ shown  # (w, h) before turning
    planes = []
    for view in component_views(native, layout):
        planes.append(_shrink(view, (int(stored[0]), int(stored[1]))))
    image = _turn(_to_rgb(planes, frame, layout), turn)
    scale = shown / [width, height]
    frame_to_small = np.array([[scale[0], 0, scale[0] / 2 - 0.5], [0, scale[1], scale[1] / 2 - 0.5]])
    return image, frame_to_small


class Preview:
    """The whole picture upright for people to look at, through FFmpeg's scaler; a quarter of the time of `small_rgb`.

    Holds the scaler's state: one thread at a time.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def rgb(self, frame: Frame, max_side: int) -> tuple[ByteArray, FloatArray]:
        """(h, w, 3) RGB with max(h, w) <= max_side, never enlarged, and frame_to_small (2, 3)."""
        native, layout = frame.native, _layout(frame)
        coding = coding_of(native, layout)
        plain = bool((frame.native_to_display == np.eye(2, 3)).all())
        if not plain or coding.is_pq:
            return small_rgb(frame, max_side)
        height, width = frame.display_size
        factor = min(1.0, max_side / max(height, width))
        shown = max(1, round(width * factor)), max(1, round(height * factor))
        tags = (
            {} if layout.is_rgb else {"src_colorspace": space_of(native, layout), "src_color_range": native.color_range or None}
        )
        image = self._reformatter.reformat(native, shown[0], shown[1], "rgb24", interpolation="FAST_BILINEAR", **tags)
        scale = np.array(shown) / [width, height]
        frame_to_small = np.array([[scale[0], 0, scale[0] / 2 - 0.5], [0, scale[1], scale[1] / 2 - 0.5]])
        return np.asarray(image.to_ndarray(), np.uint8), frame_to_small


def paste_crop(frame: Frame, image: SampleArray | FloatArray, alpha: FloatArray, frame_to_crop: FloatArray) -> None:
    """Blends a crop into the frame in place: ``image`` (S, S, 3) RGB, uint8 or float 0..1, by ``alpha`` (S, S) 0..1.

    The frame must be `editable`. Samples where the warped alpha is zero keep their bits; a chroma sample is touched only
    where some luma sample under it is. Where alpha is 1 the picture is replaced, not added to: a difference would carry the
    fine texture of a face mask, which the crop is too small to hold, over into the face.
    """
    native, layout = frame.native, _layout(frame)
    x, y, w, h = cv2.boundingRect((alpha >= _FAINTEST).astype(np.uint8))
    if w == 0:
        return
    image_to_native = geometry.invert(geometry.compose(frame.native_to_display, frame_to_crop))
    corners = np.array([[x - 1.0, y - 1], [x + w, y - 1], [x - 1, y + h], [x + w, y + h]])
    box = _aligned(geometry.apply(image_to_native, corners), (native.height, native.width), layout)
    if box is None:
        return
    x0, y0, x1, y1 = box
    image_to_box = image_to_native - np.array([[0, 0, x0], [0, 0, y0]])
    luma_alpha = resample(alpha.astype(np.float32, copy=False), image_to_box, (x1 - x0, y1 - y0), replicate=False)
    luma_alpha[luma_alpha < _FAINTEST] = 0

    coding = coding_of(native, layout)
    from_rgb = coding.from_rgb.copy()
    if coding.is_pq:
        image = to_pq(image / 255 if image.dtype == np.uint8 else image)
    elif image.dtype == np.uint8:
        from_rgb[:, :3] /= 255
    codes = cv2.transform(np.ascontiguousarray(image, dtype=np.float32), from_rgb.astype(np.float32))
    codes = codes.reshape(*image.shape[:2], -1)
    alphas: dict[tuple[int, int], SampleArray] = {(0, 0): luma_alpha}
    for index, (component, view) in enumerate(zip(layout.components, component_views(native, layout), strict=True)):
        region, offset = _cut(view, component, box)
        sampling = (component.log2_x, component.log2_y)
        if sampling not in alphas:
            alphas[sampling] = _cover(luma_alpha, region.shape, sampling)
        weight = alphas[sampling]
        native_to_component = geometry.invert(_component_to_native(component, offset))
        fill = resample(
            np.ascontiguousarray(codes[:, :, index]),
            geometry.compose(image_to_native, native_to_component),
            (region.shape[1], region.shape[0]),
            cubic=True,
        )
        stored = (region >> layout.shift if layout.shift else region).astype(np.float32)
        # Exact in float32 up to 16 bits: where the weight is 0 the stored code comes back.
        mixed = np.clip(np.rint(stored + weight * (fill - stored)), 0, coding.maximum).astype(region.dtype)
        np.copyto(region, mixed << layout.shift if layout.shift else mixed, where=weight > 0)


def resample(
    image: SampleArray, image_to_out: FloatArray, size: tuple[int, int], *, replicate: bool = True, cubic: bool = False
) -> SampleArray:
    """``image`` warped to ``size`` (width, height), area-filtered along each axis that shrinks by more than 1.5.

    Outside the image: its edge where ``replicate``, else zero.
    """
    height, width = image.shape[:2]
    scale = np.hypot(image_to_out[0, :2], image_to_out[1, :2])  # out pixels per image pixel, along x and along y
    if scale.min() < _SHRINK_FROM:
        target = [
            max(1, int(np.ceil(side * s))) if s < _SHRINK_FROM else side for side, s in zip((width, height), scale, strict=True)
        ]
        image = cv2.resize(image, (target[0], target[1]), interpolation=cv2.INTER_AREA)
        grow = np.array([width / target[0], height / target[1]])
        back = np.array([[grow[0], 0, grow[0] / 2 - 0.5], [0, grow[1], grow[1] / 2 - 0.5]])
        image_to_out = geometry.compose(back, image_to_out)
    flags = cv2.INTER_CUBIC if cubic and scale.max() > 1 else cv2.INTER_LINEAR
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    return cv2.warpAffine(image, image_to_out, size, flags=flags, borderMode=border, borderValue=0)


def _layout(frame: Frame) -> Layout:
    layout = layout_of(frame.native.format.name)
    if layout is None:
        raise ValueError(f"pixel format {frame.native.format.name} has no layout; readers convert such frames")
    return layout


def _covered(native_to_crop: FloatArray, size: int, picture: tuple[int, int], layout: Layout) -> tuple[int, int, int, int]:
    """The box xyxy of stored pixels that a crop needs, with a margin for the filters; never empty."""
    margin = 3 + 2 / geometry.scale_of(native_to_crop)
    far = size - 0.5
    corners = geometry.apply(geometry.invert(native_to_crop), np.array([[-0.5, -0.5], [far, -0.5], [-0.5, far], [far, far]]))
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    height, width = picture
    limit = np.array([width - 1, height - 1])
    # A crop beside the picture sees the nearest edge, so the box keeps at least that edge.
    box = _aligned(np.stack([np.clip(low, 0, limit), np.clip(high, 0, limit)]), picture, layout)
    assert box is not None
    return box


def _aligned(points: FloatArray, picture: tuple[int, int], layout: Layout) -> tuple[int, int, int, int] | None:
    """The box xyxy around points (N, 2), grown to whole chroma samples and cut to the picture; None where nothing is left."""
    height, width = picture
    step_x, step_y = (1 << shift for shift in layout.log2_chroma)
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)) + 1
    x0, y0 = max(0, int(low[0]) // step_x * step_x), max(0, int(low[1]) // step_y * step_y)
    x1, y1 = min(width, -(-int(high[0]) // step_x) * step_x), min(height, -(-int(high[1]) // step_y) * step_y)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _cut(view: SampleArray, component: Component, box: tuple[int, int, int, int]) -> tuple[SampleArray, tuple[int, int]]:
    """The samples of a component under a chroma-aligned box of stored pixels, and the first one's (column, row)."""
    x0, y0, x1, y1 = box
    column, row = x0 >> component.log2_x, y0 >> component.log2_y
    right, bottom = -(-x1 >> component.log2_x), -(-y1 >> component.log2_y)
    return view[row:bottom, column:right], (column, row)


def _component_to_native(component: Component, offset: tuple[int, int]) -> FloatArray:
    """(2, 3) from samples of a cut component to stored luma pixels; chroma sits on the left column, between the rows."""
    x, y = 1 << component.log2_x, 1 << component.log2_y
    return np.array([[x, 0.0, offset[0] * x], [0.0, y, offset[1] * y + (y - 1) / 2]])


def _cover(alpha: SampleArray, shape: tuple[int, ...], sampling: tuple[int, int]) -> SampleArray:
    """Alpha (h, w) averaged over the luma samples of each chroma sample; > 0 exactly where one of them is."""
    x, y = 1 << sampling[0], 1 << sampling[1]
    rows, columns = shape[0] * y - alpha.shape[0], shape[1] * x - alpha.shape[1]
    if rows or columns:  # the last chroma sample of an odd picture covers fewer
        alpha = cv2.copyMakeBorder(alpha, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
    return cv2.resize(alpha, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _shrink(view: SampleArray, size: tuple[int, int]) -> SampleArray:
    # Every second row will do where four or more become one: half the reading, and 4K is bound by memory.
    while view.shape[0] >= 4 * size[1]:
        view = view[::2]
    view = view if view.strides[1] == view.itemsize else np.ascontiguousarray(view)
    if view.shape[1::-1] == size:
        return view
    shrink = min(view.shape[1] / size[0], view.shape[0] / size[1])
    return cv2.resize(view, size, interpolation=cv2.INTER_AREA if shrink >= 2 else cv2.INTER_LINEAR)


def _turn(image: ByteArray, turn: FloatArray) -> ByteArray:
    """``image`` turned by a signed permutation (2, 2) of its axes x, y."""
    if turn[0, 0] == 0:
        image = image.transpose(1, 0, 2)
    down, right = turn[1].sum(), turn[0].sum()
    return np.ascontiguousarray(image[:: int(down), :: int(right)])


def _to_rgb(planes: list[SampleArray], frame: Frame, layout: Layout) -> ByteArray:
    """Components of equal size (h, w) as RGB uint8 (h, w, 3)."""
    coding = coding_of(frame.native, layout)
    to_rgb = coding.to_rgb * (1 if coding.is_pq else 255)
    to_rgb[:, :-1] /= 1 << layout.shift
    stacked = cv2.merge(planes)
    matrix = to_rgb.astype(np.float32)
    if coding.is_pq:
        signal = np.clip(cv2.transform(stacked.astype(np.float32), matrix), 0, 1)
        return np.rint(from_pq(signal) * 255).astype(np.uint8)
    if layout.dtype is np.uint8:
        return np.asarray(cv2.transform(stacked, matrix), np.uint8)  # it rounds and saturates
    return np.clip(np.rint(cv2.transform(stacked.astype(np.float32), matrix)), 0, 255).astype(np.uint8)
