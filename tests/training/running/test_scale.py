"""Training at scale: several processes, accumulated passes, batches made ahead, exact resuming, failures, TensorBoard."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vidunmask.errors import OutputError, UsageError, WeightsError
from vidunmask.training import inpainter, losses, segmenter
from vidunmask.training.dataset.stored import masks_for
from vidunmask.training.pack import Order, on_device, open_pack
from vidunmask.training.running import clock, health, loop
from vidunmask.training.running.distributed import Team
from vidunmask.training.running.feed import Held, draw_batches, hold
from vidunmask.training.running.health import DIVERGED, WINDOW, Watch
from vidunmask.training.running.settings import changes

FAST = {"preset": "tiny", "precision": "float32", "evaluate_every": 1000, "val_faces": 2}


def options(pack, run, **more):
    values = {"pack": pack, "run": run, "batch": 4, **FAST, **more}
    flags = [f"--{key.replace('_', '-')}" if value is True else "" for key, value in values.items()]
    pairs = [(f"--{key.replace('_', '-')}", str(value)) for key, value in values.items() if value is not True]
    return [flag for flag in flags if flag] + [part for pair in pairs for part in pair]


def critics(vgg):
    return {"vgg": vgg, "critic_width": 4, "feature_scale": 0.5, "adversarial_from": 4, "size": 64}


def stored(run):
    return torch.load(run / "checkpoint.pt", weights_only=True)


def assert_same(run, other, *, exactly=True, parts=("network", "average", "optimizer")):
    a, b = stored(run), stored(other)
    assert a["values"]["images"] == b["values"]["images"]
    tolerance = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-3, "atol": 2e-5}
    for part in parts:
        one, two = a["parts"][part], b["parts"][part]
        if not exactly:
            # Spectral norm's power iteration goes a step with every pass, and two passes are two steps in one process.
            one, two = ({k: v for k, v in state.items() if not k.endswith(("._u", "._v"))} for state in (one, two))
        torch.testing.assert_close(one, two, **tolerance)


def torchrun(program, arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, "-m", "--", program.__name__, *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def test_two_processes_stopped_and_resumed_learn_what_one_does_in_two_passes(pack, vgg, tmp_path):
    inpainter.main(options(pack, tmp_path / "one", images=20, accumulate=2, **critics(vgg)))
    torchrun(inpainter, options(pack, tmp_path / "two", images=12, **critics(vgg)))  # an epoch has 8 faces
    said = torchrun(inpainter, options(pack, tmp_path / "two", images=20, **critics(vgg)))
    assert said.count("resumed at 12 images") == 1  # by the first process alone
    assert "other options" not in said
    assert_same(tmp_path / "one", tmp_path / "two", exactly=False, parts=("network", "average", "critics"))


def test_a_run_goes_on_without_the_weights_that_it_started_from(pack, networks, tmp_path, capsys):
    weights = tmp_path / "first.safetensors"
    shutil.copy(networks.segmenter, weights)
    more = {"start_from": weights}
    segmenter.main(options(pack, tmp_path / "run", images=4, **more))
    weights.unlink()
    segmenter.main(options(pack, tmp_path / "run", images=8, **more))
    assert capsys.readouterr().out.count("started from") == 1
    with pytest.raises(WeightsError, match=r"first\.safetensors"):
        segmenter.main(options(pack, tmp_path / "new", images=4, **more))


def test_a_run_is_measured_once_at_its_end(pack, tmp_path, capsys):
    segmenter.main(options(pack, tmp_path / "run", images=8, evaluate_every=4))
    said = capsys.readouterr().out
    assert said.count("       4 val  ") == said.count("       8 val  ") == 1


def test_the_order_is_the_same_however_it_is_asked_for():
    one, two = Order(np.arange(8), seed=0), Order(np.arange(8), seed=0)
    assert one.at(4, 8).tolist() == [*two.at(4, 4), *two.at(8, 4)]


def test_a_run_of_two_passes_a_step_stopped_within_an_epoch_goes_on_to_the_bit(pack, vgg, tmp_path):
    extra = {**critics(vgg), "accumulate": 2}
    inpainter.main(options(pack, tmp_path / "whole", images=20, **extra))
    inpainter.main(options(pack, tmp_path / "parts", images=12, **extra))
    inpainter.main(options(pack, tmp_path / "parts", images=20, **extra))
    parts = ("network", "average", "optimizer", "critics", "critic_optimizer")
    assert_same(tmp_path / "whole", tmp_path / "parts", parts=parts)


def test_one_seed_gives_one_run_to_the_bit(pack, tmp_path):
    segmenter.main(options(pack, tmp_path / "plain", images=16))
    segmenter.main(options(pack, tmp_path / "again", images=16))
    segmenter.main(options(pack, tmp_path / "other", images=16, seed=1))
    assert_same(tmp_path / "plain", tmp_path / "again")
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "plain", tmp_path / "other")


def test_batches_are_the_same_made_ahead_from_memory_as_made_in_time_from_disk(pack):
    def batches(where, *, ahead, seed=0):
        cpu = torch.device("cpu")
        train, _ = hold(open_pack(pack, "train"), where, cpu)
        prepare = segmenter.preparation(train, masks_for(train), cpu, turn=0.5)
        order = Order(train.rows, seed=seed)
        made = draw_batches(prepare, order, team=Team(cpu), batch=4, accumulate=1, seed=seed, start=0, ahead=ahead)
        with contextlib.closing(made):
            return [next(made).data for _ in range(4)]

    def apart(made):
        """The largest share of a tensor that differs from that of `plain`."""
        pairs = [(a, b) for one, two in zip(made, plain, strict=True) for a, b in zip(one, two, strict=True)]
        return max(float(((a.float() - b.float()).abs() > 1e-4).float().mean()) for a, b in pairs)

    # In a thread the math library may divide its sums otherwise: equal to rounding, not to the bit; and where a turned head
    # hides itself, rounding decides which of two places a pixel shows.
    plain = batches("disk", ahead=0)
    assert apart(batches("memory", ahead=3)) < 0.01
    assert apart(batches("memory", ahead=3, seed=1)) > 0.5


def test_a_run_whose_pictures_are_drawn_for_several_steps_at_once_goes_on_to_the_bit(pack, vgg, tmp_path):
    extra = {**critics(vgg), "together": 3, "accumulate": 2, "close_ups": 0.5}
    inpainter.main(options(pack, tmp_path / "whole", images=28, **extra))
    for images in (8, 20, 28):  # the second of three, the last of three
        inpainter.main(options(pack, tmp_path / "parts", images=images, **extra))
    assert_same(tmp_path / "whole", tmp_path / "parts", parts=("network", "average", "optimizer", "critics"))


def test_steps_drawn_together_share_the_pictures_out_in_their_order(pack):
    drawn = []

    def prepare(rows, generator):
        drawn.append(rows.tolist())
        return torch.from_numpy(rows.copy()), "for all"

    def batches(order, together, count):
        how = {"team": Team(torch.device("cpu")), "batch": 4, "accumulate": 2, "seed": 0, "start": 4, "ahead": 0}
        with contextlib.closing(draw_batches(prepare, order, together=together, **how)) as made:
            return [next(made) for _ in range(count)]

    rows = open_pack(pack, "train").rows
    one, three = batches(Order(rows, seed=0), 1, 10), batches(Order(rows, seed=0), 3, 10)
    assert [batch.data[0].tolist() for batch in three] == [batch.data[0].tolist() for batch in one]
    assert [batch.images for batch in three] == [4, 4, 8, 8, 12, 12, 16, 16, 20, 20]
    assert [batch.last for batch in three] == [False, True] * 5
    assert {batch.data[1] for batch in three} == {"for all"}
    assert [len(rows) for rows in drawn] == [2] * 10 + [6] * 4


def test_a_paced_run_takes_its_time_and_ends_at_rest(pack, tmp_path, monkeypatch, capsys):
    rates, ticks = [], itertools.count()
    real = loop.learning_rate
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: 0.2 * next(ticks)))  # however slow the machine is
    monkeypatch.setattr(loop, "learning_rate", lambda at, **how: rates.append(real(at, **how)) or rates[-1])
    paced = {"pace": True, "images": 10**6, "cooldown": 10**6 - 2000, "lr": 1e-3}
    run = segmenter.main(options(pack, tmp_path / "run", minutes=0.05, **paced))
    assert run.clock.progress == 1
    assert 3 <= run.clock.elapsed < 60
    assert len(rates) > 1
    assert max(rates) == max(rates[:3])  # from there it falls
    assert rates[-1] < 0.5 * max(rates)
    again = segmenter.main(options(pack, tmp_path / "run", minutes=0.05, **paced))
    assert again.clock.images == run.clock.images  # the time of the run was spent
    assert "other options" not in capsys.readouterr().out
    segmenter.main(options(pack, tmp_path / "run", minutes=0.051, **paced))  # and with more time the rate is another
    assert "resumed with other options than before: minutes 0.051 (was 0.05)" in capsys.readouterr().out


def test_a_pace_without_a_time_is_refused(pack, tmp_path):
    with pytest.raises(UsageError, match="--pace: needs --minutes"):
        segmenter.main(options(pack, tmp_path / "run", pace=True))


def test_an_inpainter_may_learn_from_bad_cameras(pack, vgg):
    cpu = torch.device("cpu")
    train = open_pack(pack, "train")
    truths = []
    for camera in (0.0, 1.0):
        prepare = inpainter.preparation(train, masks_for(train, camera=camera), cpu, turn=0.0, photograph=camera > 0)
        truths.append(prepare(train.rows[:4], torch.Generator().manual_seed(0))[0])
    assert truths[1].shape == truths[0].shape
    assert (truths[1] - truths[0]).abs().mean() > 0.01
    assert 0 <= truths[1].min() <= truths[1].max() <= 1
    with pytest.raises(UsageError, match=r"--camera 2\.0: must lie from 0 to 1"):
        inpainter.main(options("pack", "run", camera=2.0, vgg=vgg))


def test_a_checkpoint_of_an_earlier_version_goes_on(pack, tmp_path):
    segmenter.main(options(pack, tmp_path / "run", images=8))
    state = stored(tmp_path / "run")
    generator = torch.Generator().get_state()
    state["values"] = {name: state["values"][name] for name in ("images", "updates", "spent")} | {"generator": generator}
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    segmenter.main(options(pack, tmp_path / "run", images=12))
    assert stored(tmp_path / "run")["values"]["images"] == 12


@pytest.fixture
def checkpoint(tmp_path):
    """One that stands on the disk, of a small network."""
    kept = loop.Checkpoint(tmp_path / "checkpoint.pt", {"network": torch.nn.Linear(2, 2)})
    kept.save(images=4)
    return kept


def test_a_checkpoint_that_the_disk_does_not_take_leaves_the_last_one(checkpoint, monkeypatch):
    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5920768 vs 5920656")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OutputError, match=r"checkpoint\.pt: cannot be written, perhaps for want of space"):
            checkpoint.save(images=8)
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["checkpoint.pt"]
    assert checkpoint.load() == {"images": 4}


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_named(checkpoint, content):
    checkpoint.path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt: is damaged; delete it to begin anew"):
        checkpoint.load()


def test_a_run_that_fails_gives_the_signals_back(pack, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Watch, "add", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        segmenter.main(options(pack, tmp_path / "run", images=4))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_that_ctrl_c_ended_says_so_and_waits_for_no_figures(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(Watch, "add", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    run = segmenter.main(options(pack, tmp_path / "run", images=400))
    assert (run.clock.images, run.exit_code) == (4, 130)
    monkeypatch.setattr(segmenter, "evaluate", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        segmenter.main(options(pack, tmp_path / "run", images=400))
    assert stored(tmp_path / "run")["values"]["images"] == 8


def test_a_run_that_goes_on_with_other_options_says_which(pack, tmp_path, capsys):
    segmenter.main(options(pack, tmp_path / "run", images=4))
    assert stored(tmp_path / "run")["values"]["options"]["lr"] == 2e-4
    segmenter.main(options(pack, tmp_path / "run", images=8, lr=1e-4, log_every=4))
    assert "resumed with other options than before: lr 0.0001 (was 0.0002)\n" in capsys.readouterr().out


def test_two_processes_in_the_place_of_two_passes_are_no_change():
    assert changes({"accumulate": 2, "batches a step": 2}, {"accumulate": 1, "batches a step": 2}) == []
    assert changes({"batches a step": 2}, {"batches a step": 4}) == ["batches a step 4 (was 2)"]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_ends_the_run_and_leaves_the_last_good_checkpoint(where, pack, vgg, tmp_path, monkeypatch):
    monkeypatch.setattr(loop.Run, "SAVE_SECONDS", 0)
    calls = []
    real = losses.reconstruction

    def failing(fake, truth, weight):
        calls.append(1)
        loss = real(fake, truth, weight)
        if len(calls) < 4:
            return loss
        # the square root of nothing is finite, its gradient is not
        return loss * float("nan") if where == "loss" else loss + (0 * loss).sqrt()

    monkeypatch.setattr(losses, "reconstruction", failing)
    with pytest.raises(FloatingPointError, match=r"after 16 images '(l1|gradient)' became nan; the last checkpoint is intact"):
        inpainter.main(options(pack, tmp_path / "run", images=40, **critics(vgg)))
    state = stored(tmp_path / "run")
    assert state["values"]["images"] == 12
    for part in ("network", "average"):
        assert all(tensor.isfinite().all() for tensor in state["parts"][part].values())


def feed(watch, values):
    for value in values:
        watch.add({"l1": torch.tensor(value)}, step=True, images=0)


def test_a_loss_far_above_its_best_is_a_divergence_but_noise_is_not():
    watch = Watch(Team(torch.device("cpu")))
    feed(watch, [1.0, *[0.2, 0.4] * (2 * WINDOW)])
    assert watch.healthy
    feed(watch, [0.3, 0.7] * (WINDOW // 2))
    assert watch.healthy
    with pytest.raises(FloatingPointError, match=r"'l1' is .* the run diverges"):
        feed(watch, [DIVERGED * 2] * WINDOW)


def test_no_checkpoint_replaces_the_good_one_while_the_loss_climbs(pack, tmp_path, monkeypatch, capsys):
    segmenter.main(options(pack, tmp_path / "run", images=8))
    monkeypatch.setattr(health.Watch, "healthy", property(lambda self: self.recent is None))
    monkeypatch.setattr(health, "WINDOW", 2)
    segmenter.main(options(pack, tmp_path / "run", images=16))
    assert stored(tmp_path / "run")["values"]["images"] == 8
    assert "no checkpoint at 16 images" in capsys.readouterr().out


def test_a_run_in_tensorboard_has_curves_and_sheets(pack, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    segmenter.main(options(pack, tmp_path / "run", images=8, tensorboard=True, log_every=4))
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [point.step for point in events.Scalars("train/bce")] == [4, 8]
    assert {"train/gradient", "speed/images per second", "val/iou"} <= set(events.Tags()["scalars"])
    assert events.Images("val/sheet")[-1].step == 8


def test_without_the_package_tensorboard_is_refused_with_the_remedy(pack, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"--tensorboard: .* pip install 'vidunmask\[train\]'"):
        segmenter.main(options(pack, tmp_path / "run", images=4, tensorboard=True))


def test_a_batch_that_cannot_be_shared_is_refused(pack, tmp_path):
    with pytest.raises(UsageError, match="--batch 4: cannot be shared equally by 3"):
        segmenter.main(options(pack, tmp_path / "run", accumulate=3))


def test_held_images_are_those_of_the_pack(pack):
    faces = open_pack(pack, "val")
    held, where = hold(faces, "memory", torch.device("cpu"))
    assert isinstance(held.images, Held)
    assert where.startswith("held on cpu")
    np.testing.assert_array_equal(held.images[faces.rows[[2, 0]]].numpy(), faces.images[faces.rows[[2, 0]]])
    assert hold(faces, "auto", torch.device("cpu"))[0] is faces


def test_shards_go_into_memory_where_it_is_enough_for_all_processes(pack, monkeypatch):
    class Shards:
        def __getitem__(self, rows):
            return np.zeros((len(rows), 8, 8, 3), np.uint8)

        def __len__(self):
            return 12

    faces = dataclasses.replace(open_pack(pack, "train"), images=Shards())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 0))
    monkeypatch.setattr(
        "vidunmask.training.running.feed._free_memory", lambda: 3.0 * 8 * 8 * 8 * 3
    )  # half of it: the eight faces once and a half
    for processes, where in (("1", "held on cpu"), ("2", "on disk")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert hold(faces, "auto", torch.device("cuda"))[1].startswith(where)


def test_images_in_memory_go_to_a_gpu_as_those_of_the_disk_do(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(len(self)) or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, non_blocking=False: non_blocking)
    assert on_device(np.zeros((3, 2), np.uint8), "cuda") is True
    assert on_device(torch.zeros(4, 2), "cuda") is True
    assert pinned == [3, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("data", ["device", "memory", "disk"])
def test_on_a_gpu_it_trains_from_wherever_the_images_are(data, pack, vgg, tmp_path):
    run = inpainter.main(options(pack, tmp_path / data, images=16, device="cuda", data=data, **critics(vgg)))
    assert run.clock.images == 16
