"""A batch on a cluster: two workers of this machine, of which one is killed in the midst of its work."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest

from vidunmask.pipelines.batch.ledger import WORK

from .conftest import SAMPLES, SEGMENT

pytest.importorskip("ray", reason="Ray is not installed")


def decoded(path):
    with av.open(str(path)) as container:
        return [(frame.pts, frame.to_ndarray()) for frame in container.decode(video=0)]


def test_a_cluster_that_loses_a_worker_gives_the_result_of_one_machine(tmp_path, tiny, in_segments):
    out = tmp_path / "out"
    command = ["batch", SAMPLES / "astronaut_masked.mp4", "--out", out, "--segment", SEGMENT, "--ray", "local", "--jobs", 2]
    process = subprocess.Popen(
        [sys.executable, "-m", "vidunmask.pipelines.cli", *map(str, [*command, *tiny])],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,
    )
    said = []
    ready = re.compile(r"a worker is ready: process (\d+) on")

    def listen():
        for line in process.stderr:
            said.append(line)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        deadline = time.monotonic() + 300
        while not (list(out.glob(f"{WORK}/*/*.packets.*.part")) and ready.search("".join(said))):
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        os.kill(int(ready.search("".join(said))[1]), signal.SIGKILL)
        process.wait(300)
    finally:
        process.kill()
        listener.join()
    text = "".join(said)
    assert process.returncode == 0, text
    assert "a worker was lost, its part is done again" in text
    entry = json.loads((out / "batch.json").read_text())["files"][0]
    assert (entry["status"], entry["segments_done"], entry["frames_edited"]) == ("done", 3, 125)
    one, other = decoded(in_segments), decoded(out / "astronaut_masked.mp4")
    assert [pts for pts, _ in one] == [pts for pts, _ in other]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


def test_an_address_without_a_cluster_is_named(program, tmp_path, tiny):
    result = program(
        "batch", SAMPLES / "astronaut_masked.jpg", "--out", tmp_path / "out", "--ray", "127.0.0.1:1", "--quiet", *tiny
    )
    assert result.returncode == 5
    lines = [line for line in result.stderr.splitlines() if line.startswith("vidunmask: ")]
    assert len(lines) == 1
    assert "--ray 127.0.0.1:1" in lines[0]
