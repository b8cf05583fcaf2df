import json

from gradscope.derived.summary import configuration, summarise
from tests.helpers import synthetic_recording


def test_summary_is_json_and_counts_every_parameter():
    tree = synthetic_recording(10, 3)
    found = json.loads(json.dumps(summarise(tree), allow_nan=False))
    numel = tree["gradients"]["numel"].values
    assert found["n_parameters"] == numel.sum()
    layers = [layer["layer"] for layer in found["layers"]]
    assert layers == ["features.0", "features.1", "features.3", "features.4", "classifier"]
    assert found["groups"]["training"]["first_step"] == 1
    assert found["last"]["lr"] == {"step": 10, "value": 0.1}


def test_last_value_is_the_newest_that_is_not_missing():
    tree = synthetic_recording(10, 3)
    accuracy = tree["evaluation"]["val_accuracy"]
    accuracy.values[-1] = float("nan")
    last = summarise(tree)["last"]["val_accuracy"]
    assert last == {"step": 5, "value": accuracy.values[-2]}


def test_configuration_of_others_is_kept_or_left_out():
    tree = synthetic_recording(5, 2)
    tree.attrs["config_json"] = "[1, 2]"
    assert configuration(tree) == {"config": [1, 2]}
    tree.attrs["config_json"] = "{"
    assert configuration(tree) == {}
