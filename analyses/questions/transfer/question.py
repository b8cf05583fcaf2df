"""Architecture transfer: whether other networks have the curve over alpha that VGG has.

The paper (arXiv 2405.18498) trained VGG with batch norm and leaves other architectures open. Here:
VGG13, ResNet-14, the same network without skips, an EfficientNet-like network (depthwise
convolutions, squeeze and excitation) and a vision transformer, all narrow. Each has one learning
rate for all alphas, the best of its own pilot at alpha = 0 (seed 50); the fixed arm takes it as it
is, the grafted arm gives every alpha the global step size of alpha = 0 in the same state. All
numbers are exploratory (Benjamini-Hochberg over all of them): no verdict at any scale. Declared
before the runs:

T1  The order of alphas by outcome is that of VGG13. *Alternative*: each architecture has its own.
    Rank correlation of a seed's curve with the mean curve of VGG13 over the *other* seeds; its
    ceiling is the correlation with the architecture's own mean curve over the other seeds.
T2  The best alpha is that of VGG13. *Alternative*: it is shifted, for all seeds to one side.
T3  In each architecture the curve is flatter at one step size than at one learning rate.
    *Alternative*: alpha acts through more than the size of the step in some architectures.
T4  The depth slope of gradients at the first step differs: nearly 0 with skips or layer norm,
    negative (growing toward the input) without skips. *Alternative*: skips do not change it.

Slopes compare like with like: the output gradient at the convolutions of VGG, and at the last
weight layer of each block otherwise, over blocks of one resolution.
**Invalid** where a network has not learned at alpha = 0 (accuracy below 0.5; on CIFAR-10, scale
mini, below 0.3), and where curves are flat: an order among equal values is noise, which the ceiling
shows. Networks of this size, after 100 steps on digits or two epochs of CIFAR-10, say nothing about
the architectures at the size that they are used at.
"""

from __future__ import annotations

from analyses.questions.transfer.answer import answer
from analyses.questions.transfer.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="architecture_transfer", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
