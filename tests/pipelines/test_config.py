import dataclasses

import pytest

from vidunmask.errors import UsageError
from vidunmask.pipelines import options
from vidunmask.pipelines.commands import remove
from vidunmask.pipelines.config import Config


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"detect_every": 0}, r"--detect-every 0: must lie from 1 to 60"),
        ({"batch": 0}, r"--batch 0: must lie from 1 to 1024"),
        ({"batch": 2.5}, r"--batch 2\.5: must be a whole number"),
        ({"crf": 99}, r"--crf 99: must lie from 0 to 63"),
        ({"device": "tpu"}, r"--device 'tpu': must be one of auto, cpu, cuda, mps"),
        ({"precision": "int4"}, r"--precision 'int4': must be one of auto, float32, bfloat16"),
        ({"codec": " "}, r"--codec ' ': must not be empty"),
        ({"preset": 8}, r"--preset 8: must be a name"),
        ({"segmenter": None}, r"--segmenter None: must be a name"),
        ({"overwrite": "no"}, r"overwrite 'no': must be True or False"),
    ],
)
def test_a_bad_value_is_refused_with_the_flag_the_value_and_what_is_valid(option, message):
    with pytest.raises(UsageError, match=message):
        Config(**option)


def test_a_config_cannot_be_changed_after_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().batch = 0


def test_every_option_of_the_config_has_a_flag_with_the_same_default():
    args = remove.parser().parse_args(["in.mp4", "out.mp4"])
    for field in dataclasses.fields(Config):
        assert getattr(args, field.name) == getattr(Config(), field.name), field.name
    assert options.config_of(args) == Config()
