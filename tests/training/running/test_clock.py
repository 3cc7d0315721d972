"""What ends a training run."""

import signal

import pytest

from vidunmask.training.running.clock import Clock

EVERY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def clock():
    clock = Clock(images=0, total_images=10, minutes=1)
    yield clock
    clock.close()


@pytest.mark.parametrize("number", EVERY)
def test_a_signal_ends_a_run_after_the_step_in_hand_and_is_given_back(clock, number):
    before = [signal.getsignal(each) for each in EVERY]
    clock.listen()
    assert not clock.over
    signal.raise_signal(number)
    assert clock.over
    clock.close()
    assert [signal.getsignal(each) for each in EVERY] == before


def test_a_hangup_that_is_ignored_as_under_nohup_does_not_end_it(clock):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        clock.listen()
        signal.raise_signal(signal.SIGHUP)
        assert not clock.over
    finally:
        clock.close()
        signal.signal(signal.SIGHUP, before)
