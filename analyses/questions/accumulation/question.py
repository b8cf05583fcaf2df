"""Accumulation bias: vanishing and explosion from layer to layer, and what alpha does to them.

The paper (arXiv 2405.18498) holds that vanishing and explosion accumulate through backpropagation
and that the second moment, raised to alpha, counteracts them. Declared before any run:

Primary P1 (H1a)
    Within the stages of batch-norm VGG13, 16 and 19 at initialisation, the first convolution and
    the head apart, ln output_grad has a slope over depth of at least 0.05 nat a layer, of either
    sign. One slope a run; the run is the unit. *Rival*: batch norm itself explodes at
    initialisation, by ln sqrt(pi / (pi - 1)) = 0.19 a layer toward the input (arXiv 1902.08129),
    which would be no property of the task and would fade in training.
    *Breaks* if an instrument check fails, or plain nets miss their known slopes by over 0.02.
Primary P2 (H1d)
    At equilibrium age > 3, over the scale-invariant weights of a net, ln update_ratio against
    ln grad_rms has slope 0 with decoupled and -alpha with coupled decay, to 0.03. This *is* the
    rival to accumulation: batch norm and weight decay set every layer's relative step, and alpha
    acts on it through the decay only. *Breaks* at an age of 3 or less. Added after pilot runs, in
    which nets of age 6 were far from balance: it breaks too where norms are not at rest.

Exploratory, without a verdict (Benjamini-Hochberg over all of them):

H1b
    The slope persists: slope(t) - slope(start) / 2, in the start's direction, is positive at 1 %,
    10 % and in the last 10 % of the steps. Rival: it is gone after the first steps.
H1c
    Gradients go on more or less steadily as alpha varies, at the same global step size. Rival: no
    difference, so that alpha moved it only through the size of the step. Added after the first runs
    were seen: their depth slope late in training differs.
H1e
    An effect of alpha on the training loss comes from the layers' shares of the step (as the theory
    of balance says) or from directions within layers: a 2x2 by grafting, at the global step size of
    alpha = 0. y_layer - (y_full + y_0) / 2 is negative where shares do more than half of a gain.

RMS gradient, |g||w|, output gradient and update ratio are reported side by side: "the bias"
has no sign before the quantity is named.
"""

from __future__ import annotations

from analyses.questions.accumulation.answer import answer
from analyses.questions.accumulation.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="accumulation_bias", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
