import json
from itertools import count

import numpy as np
import pytest
import torch

from gradscope.errors import UsageError
from gradscope.experiments.config import Config
from gradscope.experiments.datasets.tokens import transitions
from gradscope.experiments.training.environment import numerics
from gradscope.experiments.training.loop import Observers, train
from gradscope.experiments.training.setup import build_experiment
from gradscope.store.read.recording import open_recording

TINY = {"width": 0.05, "limit_train": 64, "batch_size": 16, "steps": 5}


def final_weights(config, path):
    built = []
    train(config, path, observers=Observers(on_start=built.append))
    return built[0].model.state_dict()


@pytest.mark.parametrize("options", [{}, {"augment": True, "clip_grad_norm": 0.5, "every": 2}])
def test_weights_are_bit_identical_with_and_without_recording(tmp_path, options):
    config = Config(**TINY, **options)
    recorded = final_weights(config, tmp_path / "run.h5")
    plain = final_weights(config, None)
    assert all(torch.equal(recorded[name], plain[name]) for name in plain)
    assert not torch.equal(
        plain["head.weight"], final_weights(Config(**TINY, seed=1), None)["head.weight"]
    )


def independent_moments(config, n_steps):
    """Gradients, second moments and updates of a loop that shares no code but data and network."""
    with numerics(seed=config.seed, deterministic=False):
        experiment = build_experiment(config)
    network = experiment.model.train()
    params = dict(network.named_parameters())
    m = {name: torch.zeros_like(p) for name, p in params.items()}
    v = {name: torch.zeros_like(p) for name, p in params.items()}
    rows = []
    for step in range(1, n_steps + 1):
        images, labels = next(experiment.stream)
        loss = -network(images).log_softmax(1)[range(len(labels)), labels].mean()
        grads = dict(zip(params, torch.autograd.grad(loss, list(params.values())), strict=True))
        before = {name: p.detach().clone() for name, p in params.items()}
        for name, p in params.items():
            g = grads[name] + config.weight_decay * before[name]
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.999 * v[name] + 0.001 * g * g
            m_hat, v_hat = m[name] / (1 - 0.9**step), v[name] / (1 - 0.999**step)
            with torch.no_grad():
                p.sub_(config.lr * m_hat / (v_hat**config.alpha + config.eps))
        rows.append(
            {
                name: (grads[name].norm(), v[name].mean(), (p.detach() - before[name]).norm())
                for name, p in params.items()
            }
        )
    return rows


def test_recorded_numbers_equal_those_of_an_independent_loop(tmp_path):
    config = Config(**TINY)
    train(config, tmp_path / "run.h5")
    recording = open_recording(tmp_path / "run.h5")
    names = ("gradients/grad_norm", "second_moments/exp_avg_sq_mean", "updates/update_norm")
    for step, row in enumerate(independent_moments(config, 3), start=1):
        for param, expected in row.items():
            for name, value in zip(names, expected, strict=True):
                recorded = recording[name].sel(step=step, param=param).item()
                # Dead biases have rounding noise for gradients: relative to the largest value.
                assert recorded == pytest.approx(value.item(), rel=2e-3, abs=1e-6), (name, param)


def test_evaluation_comes_before_after_each_epoch_and_test_once(tmp_path):
    config = Config(**{**TINY, "steps": 10})
    outcome = train(config, tmp_path / "run.h5")
    evaluation = open_recording(tmp_path / "run.h5")["evaluation"].to_dataset()
    assert evaluation["step"].values.tolist() == [0, 4, 8, 10]
    assert np.isfinite(evaluation["val_accuracy"].values).all()
    assert np.isfinite(evaluation["test_accuracy"].values).tolist() == [False] * 3 + [True]
    assert outcome.metrics["test_accuracy"] == evaluation["test_accuracy"].values[-1]
    assert evaluation["train_loss"].values[0] == pytest.approx(np.log(10), abs=0.3)


def test_the_recording_says_what_ran_and_a_rerun_gives_the_same_numbers(tmp_path):
    train(Config(**TINY, seed=5), tmp_path / "first.h5")
    first = open_recording(tmp_path / "first.h5")
    assert (first.attrs["seed"], first.attrs["dataset_name"]) == (5, "digits")
    assert (first.attrs["model_name"], first.attrs["status"]) == ("vgg13", "finished")
    config = Config.from_mapping(json.loads(first.attrs["config_json"]))
    train(config, tmp_path / "again.h5")
    again = open_recording(tmp_path / "again.h5")
    for group in ("gradients", "updates", "second_moments", "activations", "evaluation"):
        assert first[group].to_dataset().identical(again[group].to_dataset()), group


def test_a_loss_that_is_not_finite_ends_the_run_and_names_its_origin(tmp_path):
    config = Config(**{**TINY, "lr": 1e6, "steps": 50}, batch_norm=False)
    outcome = train(config, tmp_path / "run.h5")
    assert outcome.status == "diverged"
    assert outcome.step < 50
    assert "test_loss" not in outcome.metrics
    attrs = open_recording(tmp_path / "run.h5").attrs
    assert attrs["status"] == "diverged"
    assert outcome.first_nonfinite is not None
    step, layer = outcome.first_nonfinite
    assert 1 <= step <= outcome.step
    assert layer.startswith(("features.", "head"))


def test_a_run_that_is_stopped_is_kept(tmp_path):
    steps = count()
    outcome = train(
        Config(**TINY),
        tmp_path / "run.h5",
        observers=Observers(should_stop=lambda: next(steps) == 2),
    )
    assert (outcome.status, outcome.step) == ("interrupted", 2)
    recording = open_recording(tmp_path / "run.h5")
    assert recording.attrs["status"] == "interrupted"
    assert recording["gradients/grad_norm"].sizes["step"] == 2


def test_the_learning_rate_follows_its_schedule(tmp_path):
    train(Config(**TINY, lr=0.2, lr_schedule="step", lr_milestones=(1,)), tmp_path / "run.h5")
    lr = open_recording(tmp_path / "run.h5")["training/lr"].values.ravel()
    assert lr == pytest.approx([0.2] * 4 + [0.04])


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_trains(tmp_path, amp):
    outcome = train(Config(**TINY, amp=amp), tmp_path / "run.h5")
    assert outcome.status == "finished"
    training = open_recording(tmp_path / "run.h5")["training"].to_dataset()
    assert np.isfinite(training["loss"].values).all()
    assert ("loss_scale" in training) == (amp == "fp16")


def test_progress_tells_the_step_and_the_latest_metrics():
    told = []
    train(Config(**TINY), None, observers=Observers(on_progress=told.append))
    last = told[-1]
    assert (last.step, last.n_steps, last.steps_per_epoch) == (5, 5, 4)
    assert last.loss > 0
    assert set(last.metrics) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}


@pytest.mark.parametrize(
    "options",
    [
        {"model": "resnet20"},
        {"model": "plain", "units": 16, "depth": 3},
        {"model": "torchvision.shufflenet_v2_x0_5"},
        {"model": "transformer", "dataset": "zipf", "units": 16, "n_tokens": 9000},
        {"dataset": "synthetic", "n_classes": 3, "samples_per_class": 30, "n_outputs": 5},
        {"label_noise": 0.5, "imbalance": 3, "keep_classes": (0, 1, 2), "limit_train": None},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_family_and_variation_trains(options):
    outcome = train(Config(**{**TINY, "steps": 2, **options}), None)
    assert outcome.status == "finished"
    assert 0 <= outcome.metrics["test_accuracy"] <= 1


def test_the_head_has_as_many_outputs_as_asked():
    built = []
    train(Config(**TINY, n_outputs=17), None, observers=Observers(on_start=built.append))
    assert built[0].model.head.out_features == 17
    with pytest.raises(UsageError, match="`n_outputs` is 9, but there are 10 classes"):
        train(Config(**TINY, n_outputs=9), None)


def entropy_rate(transition):
    """Lowest mean loss on a Markov chain: -sum_i p_i sum_j P_ij ln P_ij, p stationary."""
    values, vectors = np.linalg.eig(transition.T)
    stationary = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    stationary = stationary / stationary.sum()
    return -(stationary @ (transition * np.log(transition)).sum(axis=1))


def test_a_transformer_learns_a_markov_chain_to_its_entropy_rate():
    floor = entropy_rate(transitions(10, 1.0, np.random.default_rng(0)))
    config = Config(
        model="transformer",
        dataset="zipf",
        n_classes=10,
        n_tokens=30_000,
        context=16,
        units=32,
        depth=1,
        batch_size=64,
        steps=150,
        alpha=0.5,
        lr=0.01,
        weight_decay=0,
    )
    loss = train(config, None).metrics["test_loss"]
    assert floor - 0.03 < loss < floor + 0.06
    assert loss < np.log(10) - 0.3


def test_symbols_are_not_augmented():
    with pytest.raises(UsageError, match="`augment` is for images"):
        train(Config(model="transformer", dataset="zipf", augment=True), None)
