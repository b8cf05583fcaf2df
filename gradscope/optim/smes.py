"""SMES, second-moment exponential scaling: momentum SGD, Adam and what lies around them.

    theta <- theta - lr * m_hat / (v_hat^alpha + eps)

with Adam's bias-corrected moments. alpha = 0.5 is Adam, alpha = 0 is SGD with an averaged
momentum, negative alpha amplifies what is already large. `smes_update` is the mathematics; `SMES`
is torch's contract around it.

References
----------
G. Zhang, H. Liu. The Unified Balance Theory of Second-Moment Exponential Scaling Optimizers in
Visual Tasks. arXiv:2405.18498.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer, ParamsT, StateDict

from gradscope.optim.arms import update_arms
from gradscope.optim.kernels.paths import Scaling, lives_on_device, makes_sums, update_group
from gradscope.optim.options import check_options, is_elementwise
from gradscope.optim.step_sums import StepSums
from gradscope.optim.update import Updated, smes_update

__all__ = ["SMES", "Updated", "smes_update"]

MOMENTS = ("exp_avg", "exp_avg_sq")


class SMES(Optimizer):
    r"""Adam with a free exponent on its second moment.

    .. math:: \theta \leftarrow \theta - lr \cdot \hat m / (\hat v^{\alpha} + \epsilon)

    Parameters
    ----------
    params : iterable of Tensor, of groups, or of named parameters
        What to optimize. Every option may differ from group to group.
    lr : float or Tensor, default 1e-3
        Learning rate. At alpha = 0 it is SGD's divided by ``1 - beta1``: 0.1 becomes 1.0.
    betas : pair of float, default (0.9, 0.999)
        Decay of the first and second moment.
    eps : float, default 1e-8
        Added to ``v_hat^alpha``, outside the power.
    weight_decay : float, default 0
        L2 coefficient; added to the gradient, or decoupled from it.
    alpha : float, default 0.5
        The exponent: 0.5 is Adam, 0 averaged-momentum SGD, 1 root-free Adam, negative amplifies.
    decoupled_weight_decay : bool, default False
        AdamW's decay instead of Adam's.
    bias_correction : bool, default True
        Divide the moments by ``1 - beta^step``.
    scope : {"element", "tensor", "residual", "global"}, default "element"
        What is raised to alpha: v_hat itself (the paper); its geometric mean over v > 0 in the
        tensor; v_hat over that mean; the geometric mean over all tensors.
    graft : {"none", "global", "tensor", "profile"}, default "none"
        Give the step another step's norm: over all tensors, or tensor by tensor; "profile" takes
        the norms tensor by tensor but keeps the direction's own norm over all.
    graft_from : {"zero", "alpha"}, default "zero"
        Where the norm comes from. "zero": norm of the alpha = 0 step, direction of alpha's.
        "alpha": the reverse.
    maximize : bool, default False
        Ascend.
    foreach, fused : bool, optional
        ``foreach=True`` runs operators over many tensors, ``fused=True`` one kernel (torch's own
        at alpha = 0.5), both False the plain loop. None takes the fastest that fits.
    capturable : bool, default False
        Keep the step count on the device, so that the step can be captured in a CUDA graph. The
        alpha of the capture is the alpha of every replay.

    Raises
    ------
    TypeError, ValueError
        For options that have no meaning.

    Notes
    -----
    The state has Adam's keys, ``step``, ``exp_avg`` and ``exp_avg_sq``; v is kept at every alpha,
    so alpha may change, pass through 0 and return. Moments of half-precision parameters are
    float32. States of `torch.optim.Adam` and `~torch.optim.AdamW` load.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = SMES(model.parameters(), lr=1.0, alpha=0.0)
    >>> model(torch.ones(2)).sum().backward()
    >>> optimizer.step()
    """

    _request: StepSums | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        *,
        alpha: float = 0.5,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        scope: str = "element",
        graft: str = "none",
        graft_from: str = "zero",
        maximize: bool = False,
        foreach: bool | None = None,
        fused: bool | None = None,
        capturable: bool = False,
    ) -> None:
        options = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "alpha": alpha,
            "decoupled_weight_decay": decoupled_weight_decay,
            "bias_correction": bias_correction,
            "scope": scope,
            "graft": graft,
            "graft_from": graft_from,
            "maximize": maximize,
            "foreach": foreach,
            "fused": fused,
            "capturable": capturable,
        }
        super().__init__(params, options)
        self._announce_amp()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; options it leaves out are the optimizer's own."""
        check_options({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        self._announce_amp()

    def _announce_amp(self) -> None:
        """Tell GradScaler whether to leave unscaling and skipping to the kernel."""
        self._step_supports_amp_scaling = bool(self.defaults["fused"])

    @_disable_dynamo
    def load_state_dict(self, state_dict: StateDict) -> None:
        """Load a state of SMES, `torch.optim.Adam` or `~torch.optim.AdamW`.

        Options that the loaded groups lack, such as alpha in Adam's, stay as they are.

        Raises
        ------
        ValueError
            For a state with ``amsgrad=True``: SMES has no maximum of second moments.
        """
        loaded: dict[str, Any] = {}

        def prepare(optimizer: Optimizer, state_dict: StateDict) -> StateDict:
            if any(group.get("amsgrad") for group in state_dict["param_groups"]):
                raise ValueError("the state has amsgrad=True; SMES keeps no maximum of v. Use Adam")
            groups = zip(optimizer.param_groups, state_dict["param_groups"], strict=False)
            own = [{**{k: g[k] for k in self.defaults}, **saved} for g, saved in groups]
            own += state_dict["param_groups"][len(own) :]
            loaded.update(state_dict, param_groups=own)
            return loaded

        hook = self.register_load_state_dict_pre_hook(prepare)
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()
        self._restore_float32_moments(loaded)

    def _restore_float32_moments(self, loaded: StateDict) -> None:
        """Undo torch's cast of loaded state to the parameters' half precision."""
        for group, saved in zip(self.param_groups, loaded["param_groups"], strict=True):
            for param, key in zip(group["params"], saved["params"], strict=True):
                if param.dtype not in (torch.float16, torch.bfloat16):
                    continue
                for name in MOMENTS:
                    if name in loaded["state"].get(key, {}):
                        moment = loaded["state"][key][name]
                        self.state[param][name] = moment.to(param.device, torch.float32, copy=True)

    def _init_group(
        self,
        group: dict[str, Any],
        params: list[Tensor],
        grads: list[Tensor],
        exp_avgs: list[Tensor],
        exp_avg_sqs: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        """Append the group's parameters that have a gradient, with their (new) state."""
        for param in group["params"]:
            if param.grad is None:
                continue
            state = self.state[param]
            _refuse_kind(param.grad)
            if not state:
                device = param.device if lives_on_device(group) else "cpu"
                state["step"] = torch.zeros((), dtype=torch.float32, device=device)
                wide = torch.promote_types(param.dtype, torch.float32)
                for name in MOMENTS:
                    state[name] = torch.zeros_like(
                        param, dtype=wide, memory_format=torch.preserve_format
                    )
            params.append(param)
            grads.append(param.grad)
            exp_avgs.append(state["exp_avg"])
            exp_avg_sqs.append(state["exp_avg_sq"])
            steps.append(state["step"])

    def sum_next_step(
        self, params: Sequence[Tensor], out: Tensor, below: Tensor, above: Tensor
    ) -> StepSums:
        """Ask for raw sums of the next step, made in the pass that makes the step.

        Parameters
        ----------
        params, out, below, above
            See `gradscope.optim.step_sums.StepSums`.

        Returns
        -------
        StepSums
            Says which rows of ``out`` the step will fill: those that the compiled CPU kernel
            updates. The weights are the same bits with and without.
        """
        request = StepSums(params, out, below, above)
        for group in self.param_groups:
            active = [p for p in group["params"] if p.grad is not None]
            if active and is_elementwise(group):
                will = makes_sums(group, active, [self.state.get(p, {}) for p in active])
                places = zip(request.positions(active), will, strict=True)
                request.accepted += [i for i, fits in places if fits and i is not None]
        self._request = request if request.accepted else None
        return request

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Parameters
        ----------
        closure : callable, optional
            Computes the loss and its gradients anew; called once, before the step.

        Returns
        -------
        The closure's loss, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scaling = Scaling(getattr(self, "grad_scale", None), getattr(self, "found_inf", None))
        request = self._request
        if request is not None:  # torch.compile of torch 2.9 cannot trace the assignment
            self._request = None
        arms: list[Any] = []
        for group in self.param_groups:
            lists: tuple[list[Tensor], ...] = ([], [], [], [], [])
            self._init_group(group, *lists)
            if is_elementwise(group):
                update_group(group, *lists, scaling=scaling, request=request)
            else:
                arms.append((group, *lists))
        update_arms(arms)
        return loss


def _refuse_kind(grad: Tensor) -> None:
    if grad.is_sparse:
        raise RuntimeError("SMES takes no sparse gradients; use torch.optim.SparseAdam for them")
    if grad.is_complex():
        raise RuntimeError(
            "SMES takes no complex parameters: alpha has no meaning for them. Optimize "
            "torch.view_as_real of the parameter, or use torch.optim.Adam"
        )
