"""Gives faces that are larger than the networks' crop the fine texture that the crop cannot hold.

A crop of 256 pixels laid over a face of 600 is a smooth patch in a sharp picture. What the skin above the mask shows beyond the
crop's resolution, pores and film grain alike, is a random texture with a spectrum; a texture with the same spectrum and random
phases (Galerne, Gousseau and Morel, Random phase textures, IEEE TIP 20(1), 2011) looks like more of the same skin and repeats
nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vidunmask import geometry
from vidunmask.stages.memory import TrackMemory
from vidunmask.types import Fill, FloatArray, Frame

LARGE_FROM = 1.3  # display pixels per crop pixel: below, there is next to nothing to add
_LARGEST = 4.0  # at most this many texture pixels per crop pixel
_FOREHEAD = (127.5, 67.0)  # crop pixels of 256: the middle of the skin that is looked at
_WINDOW = 54.0  # its side
_TILES = 4  # along each side; hair, wrinkles and shine spoil some of them
_ENOUGH = 6  # tiles within the frame: with fewer the forehead says too little
_PERIOD = 256  # pixels after which the texture repeats
_LEAST, _MOST = 0.3, 6.0  # grey levels: less cannot be seen, more is no skin
_EVERY = 10  # frames between two looks at the forehead


@dataclass(slots=True)
class Skin:
    """The texture of one track's skin."""

    texture: FloatArray | None = None  # (P, P) float32, unit variance
    strength: float = 0.0  # grey levels
    light: float = 128.0  # mean grey level of the skin it was seen on
    factor: float = 0.0  # texture pixels per crop pixel, 0 until enough of it was seen
    age: int = 0


class SkinDetail:
    """Enlarges blended fills to the frame's own resolution and adds the texture of the person's skin."""

    def __init__(self) -> None:
        self._tracks: TrackMemory[Skin] = TrackMemory(Skin)

    def skin_of(self, fill: Fill, frame_index: int) -> Skin | None:
        """What is remembered of the fill's track at a frame; None for a face that is not larger than its crop."""
        return None if _factor(fill) < LARGE_FROM else self._tracks.of(fill.track_id, frame_index, reset=fill.reset)

    def step(
        self, frame: Frame, fill: Fill, picture: FloatArray, alpha: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """A blended fill (S, S, 3) and alpha (S, S), float32 0..1, and its frame_to_crop, at the resolution of the frame.

        A face not larger than its crop comes back as it is. Otherwise only the part that the alpha covers does, (h, w, 3) and
        (h, w), with the transform to it.
        """
        factor = _factor(fill)
        skin = self.skin_of(fill, frame.index)
        if skin is None:
            return picture, alpha, fill.frame_to_crop
        # When a person comes closer pores are larger, and the crop holds less of them.
        renew = skin.factor == 0 or abs(np.log(factor / skin.factor)) > 0.15
        if skin.age % _EVERY == 0 or renew:
            self._look(skin, frame, fill, factor, renew=renew)
        skin.age += 1
        return self._enlarged(skin, fill, picture, alpha, factor)

    def prune(self, frame_index: int) -> None:
        """Forgets the tracks that have been away too long."""
        self._tracks.prune(frame_index)

    def _look(self, skin: Skin, frame: Frame, fill: Fill, factor: float, *, renew: bool) -> None:
        """Measures the forehead's texture beyond the crop's resolution, where enough of it is in the frame and there is any."""
        from vidunmask.video import pixels

        size = len(fill.crop)
        tile = round(_WINDOW * size / 256 * factor) // _TILES
        side = tile * _TILES
        corner = factor * (np.array(_FOREHEAD) * size / 256) - (side - 1) / 2
        to_window = fill.frame_to_crop * factor
        to_window[:, 2] -= corner
        inside = _tiles_within(to_window, tile, frame.display_size)
        if inside.sum() < _ENOUGH:
            return
        grey = cv2.cvtColor(pixels.read_crop(frame, to_window, side), cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        detail = grey - cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)
        tiles = _tiles(detail, tile)[inside]
        order = np.argsort(tiles.var(axis=(1, 2)))[1 : len(tiles) // 2]  # the calmer half is skin
        strength = float(np.sqrt(tiles[order].var(axis=(1, 2)).mean()))
        strength = 0.0 if strength < _LEAST else min(strength, _MOST)
        if strength > 0 and (renew or skin.texture is None):
            skin.texture, skin.strength, skin.factor = _texture(tiles[order]), strength, factor
        elif skin.texture is None:
            skin.factor = factor  # smooth skin is looked at again as seldom as other skin
        else:
            skin.strength += 0.3 * (strength - skin.strength)
        skin.light = max(float(np.median(_tiles(grey, tile)[inside])), 16.0)

    @staticmethod
    def _enlarged(
        skin: Skin, fill: Fill, picture: FloatArray, alpha: FloatArray, factor: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        x, y, w, h = cv2.boundingRect((alpha > 0).astype(np.uint8))
        size = (max(1, round(w * factor)), max(1, round(h * factor)))
        scale = np.array([size[0] / max(w, 1), size[1] / max(h, 1)])
        part = cv2.resize(picture[y : y + h, x : x + w], size, interpolation=cv2.INTER_CUBIC)
        cover = cv2.resize(alpha[y : y + h, x : x + w], size, interpolation=cv2.INTER_LINEAR)
        crop_to_part = np.array(
            [[scale[0], 0, (scale[0] - 1) / 2 - scale[0] * x], [0, scale[1], (scale[1] - 1) / 2 - scale[1] * y]]
        )
        if skin.texture is not None and skin.strength > 0:
            rows = (np.arange(size[1]) + round(y * factor)) % _PERIOD  # anchored to the face, not to the moving box
            columns = (np.arange(size[0]) + round(x * factor)) % _PERIOD
            light = cv2.blur(cv2.cvtColor(part, cv2.COLOR_RGB2GRAY), (9, 9)) * (255 / skin.light)
            part = part + (skin.texture[np.ix_(rows, columns)] * np.clip(light, 0.3, 1.3) * (skin.strength / 255))[..., None]
        return np.clip(part, 0, 1, dtype=np.float32), cover, geometry.compose(fill.frame_to_crop, crop_to_part)


def _factor(fill: Fill) -> float:
    """Texture pixels per crop pixel."""
    return min(_LARGEST, 1 / geometry.scale_of(fill.frame_to_crop))


def _tiles(window: FloatArray, tile: int) -> FloatArray:
    """A square window as its tiles (N, n, n), row by row."""
    return window.reshape(_TILES, tile, _TILES, tile).swapaxes(1, 2).reshape(-1, tile, tile)


def _tiles_within(frame_to_window: FloatArray, tile: int, display_size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Which of a window's tiles (N,) lie in the frame; beyond its edge a crop only repeats the edge's pixels."""
    edges = np.arange(_TILES + 1) * tile - 0.5
    corners = geometry.apply(geometry.invert(frame_to_window), np.stack(np.meshgrid(edges, edges), axis=-1))  # (T+1, T+1, 2)
    height, width = display_size
    inside = (corners >= -0.5) & (corners <= np.array([width, height]) - 0.5)
    within = inside[..., 0] & inside[..., 1]
    return (within[:-1, :-1] & within[:-1, 1:] & within[1:, :-1] & within[1:, 1:]).reshape(-1)


def _texture(tiles: FloatArray) -> FloatArray:
    """A periodic texture (P, P) of unit variance with the mean spectrum of tiles (N, n, n) and random phases."""
    n = tiles.shape[1]
    window = np.outer(np.hanning(n + 2)[1:-1], np.hanning(n + 2)[1:-1])
    centred = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * window
    correlation = np.fft.fftshift(np.fft.ifft2((np.abs(np.fft.fft2(centred)) ** 2).mean(axis=0)).real)
    # A correlation that is cut off at the tile's edge would ring; pores and grain are smaller than half a tile.
    padded = np.zeros((_PERIOD, _PERIOD))
    first = _PERIOD // 2 - n // 2
    padded[first : first + n, first : first + n] = correlation * np.outer(np.hanning(n + 2)[1:-1], np.hanning(n + 2)[1:-1])
    amplitude = np.sqrt(np.clip(np.fft.fft2(np.fft.ifftshift(padded)).real, 0, None))
    noise = np.random.default_rng(0).standard_normal((_PERIOD, _PERIOD))
    texture = np.fft.ifft2(np.fft.fft2(noise) * amplitude).real
    return (texture / max(float(texture.std()), 1e-9)).astype(np.float32)
