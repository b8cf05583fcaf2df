"""What each of many alphas would do to the next step, measured along any run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradscope.optim.kernels.power import power
from gradscope.optim.kernels.sharded import local, total
from gradscope.optim.update import corrections


@dataclass(frozen=True)
class ShadowTable:
    """Updates that alphas would have given at the states of one run, at learning rate 1.

    Parameters
    ----------
    step : Tensor, int64, (n,)
        Measured optimizer steps, the first is 1.
    alpha : tuple of float, k of them
        The exponents.
    param : tuple of str
        Parameters, or layers after `by_layer`.
    size : Tensor, int64, (n_param,)
        Entries of each.
    update_sq : Tensor, float64, (n, k, n_param)
        Sum of squares of ``u = -m_hat / (v_hat^alpha + eps)``; times lr squared for a step's own.
    descent : Tensor, float64, (n, k, n_param)
        ``-<g, u>``, the loss that the step would take away to first order; times lr.
    param_sq : Tensor, float64, (n, n_param)
        Sum of squares of the parameter before the step.
    """

    step: Tensor
    alpha: tuple[float, ...]
    param: tuple[str, ...]
    size: Tensor
    update_sq: Tensor
    descent: Tensor
    param_sq: Tensor

    def update_rms(self) -> Tensor:
        """Return the root mean square over all parameters, shape (n, k)."""
        return (self.update_sq.sum(-1) / self.size.sum()).sqrt()

    def update_rms_by_param(self) -> Tensor:
        """Return the root mean square within each parameter, shape (n, k, n_param)."""
        return (self.update_sq / self.size).sqrt()

    def update_ratio(self) -> Tensor:
        """Return the norm of the update over that of the parameter, shape (n, k, n_param)."""
        return (self.update_sq / self.param_sq[:, None]).sqrt()

    def by_layer(self) -> ShadowTable:
        """Add up the parameters of each layer: ``conv.weight`` and ``conv.bias`` to ``conv``."""
        layers = [name.rpartition(".")[0] or name for name in self.param]
        names = tuple(dict.fromkeys(layers))
        member = torch.tensor([[layer == name for name in names] for layer in layers])
        sums = {
            key: getattr(self, key) @ member.double()
            for key in ("update_sq", "descent", "param_sq")
        }
        return replace(self, param=names, size=self.size @ member.long(), **sums)


class ShadowMoments:
    """Measure, along any run, the update that each of many alphas would make at the same state.

    Attaches to an optimizer through its hooks and changes nothing. Where the optimizer keeps
    ``exp_avg`` and ``exp_avg_sq`` they are read; for others, such as SGD, moments are kept here.
    It says nothing of where training with another alpha would have gone.

    Parameters
    ----------
    optimizer : Optimizer
        Any of torch's kind.
    alphas : iterable of float
        The exponents to try.
    model : Module, optional
        Gives the parameters their names.
    betas : pair of float, default (0.9, 0.999)
        For moments kept here; an optimizer's own moments have its own.
    eps : float, default 1e-8
        Added to ``v_hat^alpha``.
    every : int, default 1
        Measure at step 1 and every so many steps after it.

    Examples
    --------
    >>> model = nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with ShadowMoments(optimizer, [0.0, 0.5], model=model) as shadow:
    ...     model(torch.ones(3)).sum().backward()
    ...     optimizer.step()
    >>> shadow.table().update_rms()
    tensor([[1., 1.]], dtype=torch.float64)
    """

    def __init__(
        self,
        optimizer: Optimizer,
        alphas: Iterable[float],
        *,
        model: nn.Module | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"`every` must be at least 1; got {every}")
        self.alphas = tuple(float(alpha) for alpha in alphas)
        self._betas, self._eps, self._every = betas, eps, every
        self._params = [p for group in optimizer.param_groups for p in group["params"]]
        self._names = _names(self._params, model)
        self._own: dict[Tensor, dict[str, Any]] = {}
        self._n_steps = 0
        self._param_sq = torch.zeros(0)
        self._rows: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def __enter__(self) -> ShadowMoments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Detach from the optimizer; what was measured stays."""
        for hook in self._hooks:
            hook.remove()

    def table(self) -> ShadowTable:
        """Return what was measured so far, on the CPU.

        Raises
        ------
        ValueError
            Where no step was measured yet.
        """
        if not self._rows:
            raise ValueError("no step was measured yet; call optimizer.step() first")
        steps, updates, descents, params = zip(*self._rows, strict=True)
        return ShadowTable(
            step=torch.tensor(steps),
            alpha=self.alphas,
            param=self._names,
            size=torch.tensor([p.numel() for p in self._params]),
            update_sq=torch.stack(updates).cpu(),
            descent=torch.stack(descents).cpu(),
            param_sq=torch.stack(params).cpu(),
        )

    @torch.no_grad()
    def _before(self, *_: object) -> None:
        if self._n_steps % self._every == 0:
            squares = [p.double().square().sum() for p in local(self._params)]
            self._param_sq = total(torch.stack(squares)[:, None], self._params)[:, 0]

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, *_: object) -> None:
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and found_inf.item():
            return
        states = [self._state(optimizer, p) for p in self._params]
        if self._n_steps % self._every == 0:
            self._measure(states)
        self._n_steps += 1

    def _state(self, optimizer: Optimizer, param: Tensor) -> dict[str, Any] | None:
        """Return moments, step and betas after this step; None without a gradient."""
        if param.grad is None:
            return None
        theirs = optimizer.state.get(param, {})
        if "exp_avg" in theirs and "exp_avg_sq" in theirs:
            groups = (g for g in optimizer.param_groups if any(p is param for p in g["params"]))
            group = next(groups)
            # beta = 0 has the correction 1 - 0^step = 1.
            betas = group["betas"] if group.get("bias_correction", True) else (0.0, 0.0)
            return {**theirs, "step": float(theirs["step"]), "betas": betas}
        wide = torch.promote_types(param.dtype, torch.float32)
        fresh = {name: torch.zeros_like(param, dtype=wide) for name in ("exp_avg", "exp_avg_sq")}
        own = self._own.setdefault(param, {**fresh, "step": 0, "betas": self._betas})
        grad = param.grad.to(wide)
        own["exp_avg"].lerp_(grad, 1 - self._betas[0])
        own["exp_avg_sq"].lerp_(grad.square(), 1 - self._betas[1])
        own["step"] += 1
        return own

    def _measure(self, states: list[dict[str, Any] | None]) -> None:
        pairs = zip(self._params, states, strict=True)
        sums = torch.stack([self._sums(p, state) for p, state in pairs])
        update_sq, descent = total(sums, self._params).T.reshape(2, len(self.alphas), -1)
        self._rows.append((self._n_steps + 1, update_sq, descent, self._param_sq))

    def _sums(self, param: Tensor, state: dict[str, Any] | None) -> Tensor:
        """Return the shard's sums of u^2, then of -g u, alpha by alpha."""
        if state is None:
            # What has no gradient does not move: its update is zero at every alpha.
            return torch.zeros(2 * len(self.alphas), dtype=torch.float64, device=param.device)
        grad, m, v = local([param.grad, state["exp_avg"], state["exp_avg_sq"]])  # type: ignore[list-item]
        first, second = corrections(state["step"], state["betas"])
        m_hat, v_hat, grad = m / first, v / second, grad.double()
        sizes = [(m_hat / (power(v_hat, alpha) + self._eps)).double() for alpha in self.alphas]
        return torch.stack([u.square().sum() for u in sizes] + [(grad * u).sum() for u in sizes])


def _names(params: list[Tensor], model: nn.Module | None) -> tuple[str, ...]:
    known = {p: name for name, p in model.named_parameters()} if model is not None else {}
    return tuple(known.get(p, f"param.{i}") for i, p in enumerate(params))  # type: ignore[call-overload]
