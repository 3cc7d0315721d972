"""What a batch does with a cluster, on a stand-in for Ray."""

import sys
from types import SimpleNamespace

import pytest

from vidunmask.errors import DeviceError
from vidunmask.pipelines.batch.cluster import RayWorkers
from vidunmask.pipelines.config import Config


class LostError(Exception):
    pass


def cluster(starts):
    """A module like Ray on eight cores; ``starts`` says of each worker, one behind the other, whether it comes up."""

    class Handle:
        def __init__(self):
            self.ready = SimpleNamespace(remote=lambda: ("greeting", next(starts), object()))

    def get(reference):
        if not reference[1]:
            raise LostError("a machine's trouble\nNo module named 'vidunmask'")
        return "10.0.0.1", 4711

    return SimpleNamespace(
        init=lambda **options: None,
        cluster_resources=lambda: {"CPU": 8.0},
        remote=lambda kind: SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda config: Handle())),
        wait=lambda references, **options: (references[:1], references[1:]),
        get=get,
        kill=lambda handle: None,
        shutdown=lambda: None,
        exceptions=SimpleNamespace(RayError=LostError),
    )


def workers(monkeypatch, starts):
    monkeypatch.setitem(sys.modules, "ray", cluster(iter(starts)))
    return RayWorkers("local", Config(device="cpu"), 2, lambda message: None)


def test_a_cluster_on_which_no_worker_comes_up_ends_the_batch_with_the_reason(monkeypatch):
    made = workers(monkeypatch, [False] * 100)
    with pytest.raises(DeviceError, match=r"--ray local: no worker comes up there \(No module named 'vidunmask'\)"):
        list(iter(made.wait, None))


def test_a_worker_that_comes_up_at_the_third_try_is_waited_for(monkeypatch):
    made = workers(monkeypatch, [False, False, True, False, False, True])
    while made.room < 2:
        assert made.wait() == []
