r"""Limits of alpha: where training is stable, over alpha from -1 to 1 and the learning rate.

The paper (arXiv 2405.18498) names the range -0.3 to 0.1 and says that the loss diverges where alpha
is too positive. Theory of two limits, before any run:

*Slow v* (beta2 near 1): a quadratic is stable below
``lr = 2 (1 + beta1) / ((1 - beta1) lambda_max)``, where lambda_max is the largest eigenvalue of the
Hessian preconditioned by ``v^alpha + eps`` (`analyses.measures.alpha.stability_line`, after
arXiv 2207.14484). This is **the line**; it is computed from the initial network, run by run.

*Fast v* (v = g^2, no momentum), one direction of curvature h, g = h x:
``x -> x - lr sign(g) |g|^(1 - 2 alpha)``. Where ``lr h |g|^(-2 alpha) = 2``, the step is 2 x and
only changes the sign of x. The slope of the map there is 4 alpha - 1. For alpha < 0 this cycle
repels: beyond it x runs away, faster than exponentially. For 0 < alpha < 1/2 it attracts: x stays
bounded at any learning rate. For alpha > 1/2 it repels, but steps shrink as g grows: x neither
settles nor runs away.

Hypotheses, all exploratory (Benjamini-Hochberg over all of them; no verdict at any scale):

L1  The largest stable learning rate follows the line over alpha. *Alternatives*: it follows a line
    of one number for all parameters, ``v^(-alpha)`` at the geometric mean of v, as if alpha were a
    factor on the learning rate only; or it does not move with alpha.
L2  Beyond the line, alpha < 0 ends in numbers that are not finite and alpha > 0 in a bounded loss,
    as the fast limit says. *Alternative*: the kind of end does not depend on the sign of alpha, or
    it is the opposite, as the paper's words suggest.
L3  At alpha < 0 the boundary lies below the line, since v grows with the gradient that grows.
    *Alternative*: distances from the line do not depend on alpha.
L4  Batch norm raises the boundary above the line: scale-invariant weights grow under large steps,
    which lowers their curvature. *Alternative*: it does not.

*Unstable* means that the training loss rises above twice its first value within 50 steps, or is not
finite. This definition and the range of learning rates were set on pilot runs with another seed.
The design has five seeds; three of them were run and looked at first, for want of time.
**Invalid** where no stable or no unstable learning rate was run (censored, said in the notes), and
for networks, data and lengths other than these: 100 steps of a small network say nothing about
which alpha is best.
"""

from __future__ import annotations

from analyses.questions.limits.answer import answer
from analyses.questions.limits.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="alpha_limits", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
