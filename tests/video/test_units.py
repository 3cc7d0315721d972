"""The units of coded video, in bytes written by hand."""

from vidunmask.video import units


def test_units_are_split_by_length_or_start_code_and_joined_again():
    one, two = b"\x67\1\2", b"\x65\7"
    assert list(units.split(b"\0\0\0\3" + one + b"\0\0\0\0" + b"\0\0\0\2" + two, 4)) == [one, two]
    assert list(units.split(units.with_start_codes([one, two]), 0)) == [one, two]


def test_an_hevc_key_frame_is_told_to_forget_what_came_before():
    cra, slice_, layered = bytes([21 << 1, 1, 9]), bytes([1 << 1, 1, 9]), bytes([21 << 1 | 1, 1, 9])
    assert units.hevc_spliced(cra) == bytes([18 << 1, 1, 9])
    assert units.hevc_spliced(layered) == bytes([18 << 1 | 1, 1, 9])
    assert units.hevc_spliced(slice_) == slice_
    assert (units.hevc_layer(cra), units.hevc_layer(layered)) == (0, 32)


def test_parameter_sets_stand_first_but_for_a_delimiter():
    sets, delimiter, key = (units.with_start_codes([unit]) for unit in (b"\x40\1", b"\x46\1\x50", b"\x28\1\5"))
    assert units.hevc_with_sets(key, sets) == sets + key
    assert units.hevc_with_sets(delimiter + key, sets) == delimiter + sets + key


def test_av1_begins_where_a_key_frame_is_shown_and_described():
    delimiter, sequence = b"\x12\0", b"\x0a\2\0\0"
    shown, hidden, inter, repeated = (bytes([0x32, 2, first, 0]) for first in (0x10, 0x00, 0x30, 0x80))
    assert units.av1_begins(delimiter + sequence + shown)
    assert not units.av1_begins(delimiter + shown)
    assert not any(units.av1_begins(delimiter + sequence + frame) for frame in (hidden, inter, repeated))
    still = b"\x0a\2\x18\0"
    assert not units.av1_begins(still + shown)
    assert units.av1_begins(sequence + b"\x30" + b"\x10\0")  # the last unit may go on to the end
