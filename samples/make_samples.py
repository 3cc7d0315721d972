"""Makes the clips and the picture of this folder: a public-domain portrait, a slow camera, a drawn face mask, a made-up sound.

The portrait is NASA's of Eileen Collins (public domain) as it comes with scikit-image. Everything else is drawn here.
Run: python samples/make_samples.py [FOLDER]   needs: pip install 'vidunmask[test]'
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

FPS, SECONDS, RATE = 25, 5, 48000
WIDTH, HEIGHT = 640, 480
FINE = 4  # the mask is drawn at four times the portrait's size and shrunk, so that its edges are smooth


def portrait() -> tuple[np.ndarray, np.ndarray]:
    """The portrait (512, 512, 3) RGB and its landmarks (68, 2) in pixels, dlib order."""
    from skimage import data

    from vidunmask import detectors

    image = data.astronaut()
    detector = detectors.create("yunet")
    face = max(detector.detect(image), key=lambda found: found.score)
    return image, detectors.find_landmarks(detector, image, face).points.astype(float)


def wear_mask(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The portrait with a pleated surgical mask: light blue, lit like the face, with folds, a nose wire and ear loops."""
    height, width = image.shape[:2]
    points = landmarks * FINE
    jaw, bridge, chin = points[:17], points[28], points[8]
    down = (chin - bridge) / np.linalg.norm(chin - bridge)
    left, right = jaw[2], jaw[14]
    top = _curve(left - 4 * down, bridge - 6 * down, right - 4 * down, lift=0.9)
    bottom = _curve(jaw[12] + 10 * down, chin + 40 * down, jaw[4] + 10 * down, lift=0.85)
    outline = np.concatenate([top, bottom])

    alpha = _draw((height, width), lambda canvas: cv2.fillPoly(canvas, [np.round(outline).astype(np.int32)], 255))
    loops = _draw((height, width), lambda canvas: _loops(canvas, points, down))

    # Light falls on the cloth as on the face beneath, without the face's own dark parts (mouth, nostrils).
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    light = cv2.GaussianBlur(grey, (0, 0), 14)
    light = 0.72 + 0.34 * light / light[alpha > 0.5].mean()
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along = ((x - bridge[0] / FINE) * down[0] + (y - bridge[1] / FINE) * down[1]) / (np.linalg.norm(chin - bridge) / FINE)
    across = (x - (left[0] + right[0]) / 2 / FINE) / ((right[0] - left[0]) / 2 / FINE)
    folds = sum(np.exp(-(((along - at - 0.06 * across**2) / 0.018) ** 2)) for at in (0.38, 0.58, 0.78))
    wire = np.exp(-(((along - 0.13 - 0.10 * across**2) / 0.02) ** 2)) * (np.abs(across) < 0.55)
    round_off = 1 - 0.22 * np.clip(np.abs(across), 0, 1.2) ** 3
    shade = light * round_off * (1 - 0.16 * folds + 0.08 * np.roll(folds, 2, axis=0) + 0.07 * wire)
    cloth = np.array([150, 190, 214], np.float32) * shade[..., None]
    cloth += np.random.default_rng(7).normal(0, 2.0, (height, width, 1))

    shadow = cv2.GaussianBlur(alpha, (0, 0), 3.0)
    shadow = np.clip(np.roll(shadow, 3, axis=0) - alpha, 0, 1)[..., None]
    out = image.astype(np.float32) * (1 - 0.35 * shadow)
    out += (np.array([225, 228, 230], np.float32) * light[..., None] - out) * loops[..., None]
    out += (cloth - out) * alpha[..., None]
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)


def _curve(start: np.ndarray, middle: np.ndarray, end: np.ndarray, *, lift: float) -> np.ndarray:
    """Points (33, 2) of a curve from start through about ``middle`` to end; a smaller ``lift`` is flatter."""
    control = (start + end) / 2 + 2 * lift * (middle - (start + end) / 2)
    t = np.linspace(0, 1, 33)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def _loops(canvas: np.ndarray, points: np.ndarray, down: np.ndarray) -> None:
    for near, low, ear in ((2, 4, 0), (14, 12, 16)):
        outward = points[ear] - points[8 + (ear - 8) // 4]
        outward = outward / np.linalg.norm(outward)
        for start in (points[near] + 4 * down, points[low]):
            path = _curve(start, (start + points[ear]) / 2 + 6 * outward, points[ear] + 14 * outward - 10 * down, lift=0.6)
            cv2.polylines(canvas, [np.round(path).astype(np.int32)], False, 255, thickness=6, lineType=cv2.LINE_AA)


def _draw(shape: tuple[int, int], paint) -> np.ndarray:
    canvas = np.zeros((shape[0] * FINE, shape[1] * FINE), np.uint8)
    paint(canvas)
    return cv2.resize(canvas, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def camera(index: int) -> np.ndarray:
    """The transform (2, 3) from portrait to frame: a slow pan, zoom and roll that ends where it began."""
    turn = 2 * np.pi * index / (FPS * SECONDS)
    scale = 1.75 + 0.22 * np.sin(turn)
    angle = np.radians(4 * np.sin(turn + 1))
    look_at = np.array([232 + 16 * np.sin(turn + 0.5), 140 + 7 * np.cos(2 * turn)])
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.concatenate([linear, (np.array([WIDTH / 2, HEIGHT / 2]) - linear @ look_at)[:, None]], axis=1)


def sound() -> np.ndarray:
    """Five seconds (1, N) float32 of two soft tones that swell and fade."""
    t = np.arange(RATE * SECONDS) / RATE
    swell = np.sin(np.pi * t / SECONDS) ** 2
    tones = 0.12 * np.sin(2 * np.pi * 220 * t) + 0.06 * np.sin(2 * np.pi * 330 * t + 1.0)
    return (swell * tones).astype(np.float32)[None]


def write_clip(path: Path, image: np.ndarray) -> None:
    """A clip of the portrait under the moving camera, H.264 and AAC."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "slow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.color_range = 1
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        audio.bit_rate = 64000
        container.metadata["title"] = "A sample of vidunmask"
        container.metadata["comment"] = "Portrait: NASA, public domain (scikit-image's astronaut). Mask and sound are drawn."
        for index in range(FPS * SECONDS):
            to_frame, border = camera(index), cv2.BORDER_REFLECT_101
            view = cv2.warpAffine(image, to_frame, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=border)
            frame = av.VideoFrame.from_ndarray(view, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples, step = sound(), 1024
        for start in range(0, samples.shape[1], step):
            part = np.ascontiguousarray(samples[:, start : start + step])
            block = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the sample clips and the sample picture.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    folder = parser.parse_args().folder
    image, landmarks = portrait()
    masked = wear_mask(image, landmarks)
    write_clip(folder / "astronaut_masked.mp4", masked)
    write_clip(folder / "astronaut_truth.mp4", image)
    from PIL import Image

    Image.fromarray(masked).save(folder / "astronaut_masked.jpg", quality=92)
    for path in sorted(folder.glob("astronaut_*")):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
