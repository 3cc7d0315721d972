"""What several folders of tests use."""

import os
from pathlib import Path

import pytest

# Two workers share two cores, and threads of the same sums would wait for each other. What a test starts inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of test data that is no part of the project; skips where it is absent."""
    folder = Path(os.environ.get("VIDUNMASK_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (folder / "data").is_dir():
        pytest.skip("no shared test data: set VIDUNMASK_SHARED")
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """The first second of the sample clip (25 frames, sound), copied packet by packet."""
    import av

    sample = Path(__file__).resolve().parents[1] / "samples" / "astronaut_masked.mp4"
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    with av.open(str(sample)) as source, av.open(str(path), "w") as target:
        target.metadata.update({key: source.metadata[key] for key in ("title", "comment")})
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts * packet.time_base >= 1:
                continue
            packet.stream = streams[packet.stream.index]
            target.mux(packet)
    return path
