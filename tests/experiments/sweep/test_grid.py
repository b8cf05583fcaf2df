import pytest

from gradscope.cli.train.sweep import explain_edges
from gradscope.errors import UsageError
from gradscope.experiments.sweep.grid import Finished, read_sweep


def read(tmp_path, text, **options):
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return read_sweep(path, **options)


GRID = """
name = "alphas"
seeds = [4, 5]
[base]
lr = 0.05
epochs = 2
[grid]
alpha = [-0.1, 0, 0.1]
model = ["vgg13", "vgg16"]
[scale.cpu]
epochs = 1
width = 0.1
"""


def test_a_grid_is_every_combination_with_every_seed(tmp_path):
    runs = read(tmp_path, GRID).plan({})
    found = {(run.config.alpha, run.config.model, run.config.seed) for run in runs}
    assert found == {(a, m, s) for a in (-0.1, 0, 0.1) for m in ("vgg13", "vgg16") for s in (4, 5)}
    assert all(run.config.lr == 0.05 for run in runs)
    assert len({run.path for run in runs}) == 12
    assert runs[0].path.name.startswith("alpha-0.1-modelvgg13-s4-")
    assert str(runs[0].path.parent) == "runs/alphas"


def test_a_name_stays_the_same_and_follows_the_whole_configuration(tmp_path):
    first = [run.path for run in read(tmp_path, GRID).plan({})]
    assert first == [run.path for run in read(tmp_path, GRID).plan({})]
    changed = read(tmp_path, GRID.replace("lr = 0.05", "lr = 0.06")).plan({})
    assert not {run.path for run in changed} & set(first)


def test_a_key_that_is_as_by_default_is_not_in_the_name(tmp_path):
    first = [run.path for run in read(tmp_path, GRID).plan({})]
    other = GRID.replace("lr = 0.05", "lr = 0.05\nclip_grad_norm = 1.0")
    default = GRID.replace("lr = 0.05", "lr = 0.05\nzipf = 1.0")
    assert first == [run.path for run in read(tmp_path, default).plan({})]
    assert not {run.path for run in read(tmp_path, other).plan({})} & set(first)


def test_a_scale_replaces_keys_and_has_its_own_folder(tmp_path):
    sweep = read(tmp_path, GRID, scale="cpu")
    assert {(run.config.epochs, run.config.width) for run in sweep.plan({})} == {(1, 0.1)}
    assert str(sweep.folder) == "runs/alphas-cpu"
    with pytest.raises(UsageError, match="unknown scale 'cpus'; did you mean 'cpu'"):
        read(tmp_path, GRID, scale="cpus")


def test_a_scale_may_have_its_own_grid_and_seeds(tmp_path):
    own = "seeds = 1\n[scale.cpu.grid]\nalpha = [0.5]\n"
    runs = read(tmp_path, GRID + own, scale="cpu").plan({})
    assert [(run.config.alpha, run.config.seed, run.config.model) for run in runs] == [
        (0.5, 0, "vgg13")
    ]
    assert len(read(tmp_path, GRID + own).plan({})) == 12


def test_single_cells_can_be_listed(tmp_path):
    text = "seeds = 3\n[[runs]]\nalpha = 0\nlr = 1.0\n[[runs]]\nalpha = 0.5\nlr = 0.001\n"
    found = {(run.config.alpha, run.config.lr) for run in read(tmp_path, text).plan({})}
    assert found == {(0, 1.0), (0.5, 0.001)}


def test_the_grafted_arm_takes_its_norm_from_alpha_zero(tmp_path):
    runs = read(tmp_path, 'arm = "grafted"\n[grid]\nalpha = [-0.1, 0.1]\n').plan({})
    assert {(run.config.graft, run.config.graft_from) for run in runs} == {("global", "zero")}


TUNED = """
arm = "tuned"
seeds = [0, 1, 2]
[base]
lr = 0.1
weight_decay = 0
[grid]
alpha = [-0.1, 0.1]
[tuning]
trials = 9
"""


def test_the_tuned_arm_goes_on_from_what_has_ended(tmp_path):
    sweep = read(tmp_path, TUNED)
    outcomes = run_all(sweep, {-0.1: 0.4, 0.1: 0.1})
    runs = sweep.plan(outcomes)
    trials = [run for run in runs if run.config.seed == 1_000_000]
    final = [run for run in runs if run.config.seed in (0, 1, 2)]
    assert len(trials) == 5 + 3
    assert {(run.config.alpha, run.config.lr) for run in final} == {(-0.1, 0.4), (0.1, 0.1)}
    assert len(final) == 6
    assert len({run.path for run in runs}) == len(runs)
    assert all(run.path in outcomes for run in runs)


def test_each_cell_of_a_tuned_arm_may_begin_its_search_elsewhere(tmp_path):
    begin = "runs = [{ alpha = -0.1, lr = 0.8 }, { alpha = 0.1, lr = 0.05 }]\n"
    text = TUNED.replace("[grid]\nalpha = [-0.1, 0.1]\n", "")
    first = read(tmp_path, begin + text).plan({})
    assert {(run.config.alpha, run.config.lr) for run in first} == {
        (alpha, lr * factor) for alpha, lr in ((-0.1, 0.8), (0.1, 0.05)) for factor in (0.5, 1, 2)
    }
    assert all(run.path.name.count("lr") == 1 for run in first)


def run_all(sweep, best):
    """Outcomes of a sweep in which each alpha is the better, the nearer its lr is to the best."""
    outcomes = {}
    while missing := [run for run in sweep.plan(outcomes) if run.path not in outcomes]:
        for run in missing:
            distance = abs(run.config.lr / best[run.config.alpha] - 1)
            outcomes[run.path] = Finished("finished", {"val_accuracy": 1 / (1 + distance)})
    return outcomes


def test_a_budget_that_ends_at_the_edge_is_told(tmp_path):
    sweep = read(tmp_path, TUNED.replace("trials = 9", "trials = 3"))
    assert sweep.cells_at_edge({}) == []
    outcomes = run_all(sweep, {-0.1: 0.4, 0.1: 0.1})
    assert [cell.alpha for cell in sweep.cells_at_edge(outcomes)] == [-0.1]
    (line,) = explain_edges(sweep, outcomes)
    assert line == "alpha -0.1: the best trial is at the edge of what was tried; raise `trials`"
    enough = read(tmp_path, TUNED)
    assert enough.cells_at_edge(run_all(enough, {-0.1: 0.4, 0.1: 0.1})) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedes = 2\n", "unknown key of a sweep 'sedes'; did you mean 'seeds'"),
        ('arm = "fix"\n', "unknown arm 'fix'"),
        ("seeds = []\n", "`seeds` must be"),
        ("seeds = [1, 1]\n", "`seeds` must be"),
        ("[grid]\nalpha = 0.1\n", r"\[grid\] `alpha` must be a list"),
        ("[grid]\nalhpa = [0.1]\n", "unknown configuration key 'alhpa'"),
        ("[grid]\nseed = [1]\n", "give `seeds` at the top"),
        ("[tuning]\ntrials = 3\n", r"\[tuning\] needs arm"),
        (TUNED + "trails = 3\n", "unknown key of .tuning. 'trails'"),
        (TUNED + "seed = 1\n", "use fresh ones"),
        (TUNED.replace("alpha = [-0.1", "lr = [0.2"), "leave them out of .grid."),
    ],
)
def test_what_is_wrong_in_a_spec_is_named(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read(tmp_path, text)


def test_steps_of_a_scale_displace_the_epochs_of_the_base(tmp_path):
    text = "[base]\nepochs = 9\n[scale.smoke]\nsteps = 2\n"
    (run,) = read(tmp_path, text, scale="smoke").plan({})
    assert (run.config.epochs, run.config.steps) == (None, 2)


def test_the_folder_keeps_its_dots(tmp_path):
    assert str(read(tmp_path, 'out = "runs/alpha-0.1"\n').folder) == "runs/alpha-0.1"


def test_where_cifar_lies_renames_no_run(tmp_path):
    def name(dataset, place):
        path = tmp_path / "s.toml"
        path.write_text(f'[base]\ndataset = "{dataset}"\ndata_dir = "{place}"\n')
        return read_sweep(path).plan({})[0].path.name

    assert name("cifar10", "here") == name("cifar10", "there")
    # Of other data the place says what they are.
    assert name("folder", "here") != name("folder", "there")


@pytest.mark.parametrize(
    "text",
    [
        "name = 1",
        "out = 2",
        "arm = []",
        "base = 1",
        "grid = 3",
        "runs = 1",
        "runs = [1]",
        "scale = 1",
        "scale.a = 1",
        "scale.a.grid = 1",
        "tuning = 1",
    ],
)
def test_values_of_another_kind_are_refused(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"sweep.toml: `\w+` must (be|hold) "):
        read_sweep(path)
