import dataclasses
import json

import pytest

from gradscope.errors import UsageError
from gradscope.experiments.config import Config, read_toml


def test_defaults_are_the_first_run():
    config = Config().resolved()
    assert (config.model, config.dataset, config.alpha) == ("vgg13", "digits", -0.1)
    assert config.augment is False


def test_what_was_left_out_takes_the_data_sets_default():
    config = Config(dataset="cifar10").resolved()
    assert (config.width, config.batch_size, config.lr) == (1.0, 128, 0.1)
    assert config.augment is True
    assert Config(dataset="cifar10", width=0.5).resolved().width == 0.5


def test_steps_take_the_place_of_epochs():
    assert Config(steps=20).resolved().epochs is None
    resolved = Config().resolved()
    assert resolved.epochs is not None
    assert resolved.replace(steps=7).epochs is None
    assert resolved.replace(steps=7).replace(epochs=2).steps is None


def test_json_brings_the_same_configuration_back():
    config = Config(betas=(0.8, 0.9), lr_schedule="step", lr_milestones=(3, 5)).resolved()
    assert Config.from_mapping(json.loads(config.to_json())) == config


def test_toml_is_read_and_whole_numbers_serve_as_numbers(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('lr = 1\nbetas = [0, 0.5]\nweight-decay = 0\nevery = "auto"\n')
    config = Config.from_mapping(read_toml(path))
    assert config.lr == 1.0
    assert isinstance(config.lr, float)
    assert config.betas == (0.0, 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpa": 0.1}, "unknown configuration key 'alpa'; did you mean 'alpha'"),
        ({"lr": float("nan")}, r"`lr` must be finite and >= 0, <= 1e\+06; got nan"),
        ({"lr": -0.1}, "`lr` must be finite"),
        ({"lr": "fast"}, "`lr` must be a number; got 'fast'"),
        ({"lr": True}, "`lr` must be a number; got True"),
        ({"alpha": 1e9}, "`alpha` must be"),
        ({"betas": [0.9, 1.0]}, "`betas` must be"),
        ({"betas": [0.9]}, "`betas` must have 2 entries; got 1"),
        ({"betas": 0.9}, "`betas` must be a list of numbers"),
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"seed": -1}, "`seed` must be"),
        ({"amp": "fp8"}, "unknown amp 'fp8'"),
        ({"every": "often"}, "`every` must be a whole number or"),
        ({"epochs": 2, "steps": 3}, "not both"),
        ({"lr_schedule": "step"}, "needs `lr_milestones`"),
        ({"lr_schedule": "step", "lr_milestones": [5, 3]}, "must increase"),
        ({"model": None}, "`model` must be a text"),
    ],
)
def test_a_wrong_value_is_named(values, message):
    with pytest.raises(UsageError, match=message):
        Config.from_mapping(values)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("alpha: 3\n")
    with pytest.raises(UsageError, match=r"run\.toml is no TOML file"):
        read_toml(path)


def test_every_field_is_an_option_with_help():
    for config_field in dataclasses.fields(Config):
        assert config_field.metadata["option"].help
