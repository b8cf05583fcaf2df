"""A recorder that cannot be attached, or was closed, leaves nothing behind."""

from __future__ import annotations

import random
import threading
import warnings

import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

from gradscope.record.hooks.compile_taps import _open
from gradscope.record.hooks.grad_clip import ClipWatch
from gradscope.record.hooks.grad_scaler import ScalerWatch
from gradscope.record.hooks.other_steps import OtherSteps
from gradscope.record.live import is_attached
from gradscope.record.recorder import Recorder
from tests.record.faults.injecting import FULL, N_FAULTS, SEED, Fault, places

CLIPS = ("_clip_grads_with_norm_", "clip_grad_value_")
GLOBAL_HOOKS = (
    "_global_forward_pre_hooks",
    "_global_forward_hooks",
    "_global_forward_hooks_with_kwargs",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def surroundings(optimizers, folder):
    """What an attached recorder changes, and must put back."""
    torch_module = nn.modules.module
    cells = [getattr(nn.utils.clip_grad, name).__closure__ for name in CLIPS]
    return {
        "filters": list(warnings.filters),
        "modules": [len(vars(torch_module)[name]) for name in GLOBAL_HOOKS],
        "optimizers": [
            (len(o._optimizer_step_pre_hooks), len(o._optimizer_step_post_hooks))
            for o in optimizers.values()
        ],
        "clipping": [cell[0].cell_contents for cell in cells if cell],
        "scaler": torch.amp.GradScaler.step,
        "threads": sorted(t.name for t in threading.enumerate() if t.name.startswith("gradscope")),
        "all optimizers": len(_global_optimizer_post_hooks),
        "watches": [
            list(known)
            for known in (OtherSteps._watches, ClipWatch._listeners, ScalerWatch._watches, _open)
        ],
        "recorders": [o for o in optimizers.values() if is_attached(o)],
        "files": sorted(path.name for path in folder.rglob("*")),
    }


def test_a_recorder_that_cannot_be_attached_leaves_nothing_behind(tmp_path, calls):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    optimizers = {
        "a": torch.optim.Adam(model[0].parameters()),
        "b": torch.optim.SGD([*model[2].parameters()], lr=0.1),
    }
    scaler = torch.amp.GradScaler("cpu")

    def attach(at):
        calls.begin(at)
        try:
            return Recorder(model, optimizers, tmp_path / "run.h5", grad_scaler=scaler, **FULL)
        finally:
            calls.is_on = False

    before = surroundings(optimizers, tmp_path)
    recorder = attach(None)
    names = list(calls.names)
    assert surroundings(optimizers, tmp_path) != before
    recorder.close()
    recorder.path.unlink()
    assert surroundings(optimizers, tmp_path) == before  # a regular end, too
    numbered = places(names, random.Random(SEED))
    n_functions = len(set(names))
    assert n_functions > 50
    wrong, n_raised = [], 0
    for at in numbered[: max(n_functions, N_FAULTS)]:
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            within = before | {"filters": list(warnings.filters)}
            try:
                recorder = attach(at)
            except Fault:
                n_raised += 1
            else:  # it failed on a thread, or where that does no harm
                recorder.close()
                recorder.path.unlink(missing_ok=True)
            after = surroundings(optimizers, tmp_path)
        wrong += [
            f"{names[at - 1]} ({at}): {key}: {after[key]}"
            for key in within
            if after[key] != within[key]
        ]
    assert n_raised > 40 and not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:40])
