from fractions import Fraction

import pytest

from vidunmask.errors import UsageError
from vidunmask.pipelines.dump.choice import FrameChoice, TimeChoice, choose

RATE = 10


def chosen(choice, frames=60):
    """What is chosen of a video of ten frames a second, and the frame after which nothing more can be."""
    found, over = [], None
    for index in range(frames):
        seconds = Fraction(index, RATE)
        if choice.wants(index, seconds):
            found.append(index)
        if over is None and choice.is_over(index, seconds):
            over = index
    return found, over


@pytest.mark.parametrize(
    ("text", "frames", "over"),
    [
        ("10:20:5", [10, 15], 15),
        ("10:21:5", [10, 15, 20], 20),
        ("7", [7], 7),
        (":3", [0, 1, 2], 2),
        ("57:", [57, 58, 59], None),
        ("::25", [0, 25, 50], None),
        ("40, 3:5,4", [3, 4, 40], 40),
    ],
)
def test_frames_are_chosen_as_python_ranges_do(text, frames, over):
    assert chosen(FrameChoice(text)) == (frames, over)


@pytest.mark.parametrize(
    ("text", "frames", "over"),
    [
        ("3.2:3.5", [32, 33, 34], 35),
        ("3.25:3.45", [33, 34], 35),
        ("0:1:.5", [0, 5], 5),
        ("5.8:99", [58, 59], None),
        ("1:2:0.33", [10, 14, 17], 20),
    ],
)
def test_times_are_chosen_by_their_exact_stamps(text, frames, over):
    assert chosen(TimeChoice(text)) == (frames, over)


@pytest.mark.parametrize(
    "text",
    ["9:3", "5:5", "-3:5", "3:-5", "-1", "1:9:0", "1:9:-1", "a:b", "", "1:2:3:4", "1.5:3", "3,,4", ":", "0x3"],
)
def test_a_range_without_frames_is_one_line_that_names_the_flag_and_the_value(text):
    if text == ":":
        assert chosen(FrameChoice(text))[0] == list(range(60))
        return
    with pytest.raises(UsageError) as error:
        FrameChoice(text)
    assert str(error.value).startswith(f"--frames {text}: ")
    assert "100:200:5" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["4:3.2", "2:2", "-1:3", "3.2", "1:2:0", "a:b", "1e3:2e3", ""])
def test_a_span_without_frames_is_one_line_too(text):
    with pytest.raises(UsageError, match=r"^--time .*3\.2:4"):
        TimeChoice(text)


def test_both_flags_exclude_each_other_and_neither_takes_a_bounded_choice():
    with pytest.raises(UsageError, match="exclude each other"):
        choose("1:2", "1:2")
    assert chosen(choose(None, None), 400)[0] == list(range(0, 250, 10))


def test_a_choice_behind_the_end_is_known_before_any_work():
    assert "the last is 99" in FrameChoice("100:200").begins_after(100, None)
    assert FrameChoice("99:200").begins_after(100, None) is None
    assert FrameChoice("100:200").begins_after(None, None) is None
    assert "4.00 s" in TimeChoice("4:5").begins_after(None, Fraction(4))
    assert TimeChoice("3.9:5").begins_after(None, Fraction(4)) is None


def test_how_much_there_is_to_do_is_known_where_the_end_is():
    assert FrameChoice("10:20:5").expected(100, None) == 16
    assert FrameChoice("10:").expected(100, None) == 100
    assert FrameChoice("10:").expected(None, None) is None
    assert TimeChoice("1:2").expected(100, Fraction(10)) == 21
