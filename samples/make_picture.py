"""Makes the README's picture: frames of the sample clip before (top) and after (bottom), by the program as it stands.

python samples/make_picture.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import cv2
import numpy as np

import vidunmask

HERE = Path(__file__).parent
SHARES = (0.1, 0.45, 0.8)  # of the clip, where the frames are taken
WIDTH = 400


def frames(path: Path) -> list[np.ndarray]:
    """The chosen frames of a clip as RGB (H, W, 3)."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return [pictures[int(share * len(pictures))] for share in SHARES]


def main() -> None:
    """Runs the program on the sample and writes ``before_after.jpg``."""
    clip = HERE / "astronaut_masked.mp4"
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "unmasked.mp4"
        vidunmask.unmask(clip, result)
        rows = []
        for path in (clip, result):
            cells = []
            for picture in frames(path):
                height = round(picture.shape[0] * WIDTH / picture.shape[1])
                cells.append(cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA))
            rows.append(np.concatenate(cells, axis=1))
    sheet = np.concatenate(rows)
    cv2.imwrite(str(HERE / "before_after.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
