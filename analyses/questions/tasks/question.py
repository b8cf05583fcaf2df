"""Tasks other than classification of images: whether frequencies move the best alpha.

The paper (arXiv 2405.18498) holds that the best alpha moves with the data set (isomerism), and
leaves other tasks open. Two tasks, each at two exponents of its frequencies and alike otherwise:

*Symbols*
    A small transformer predicts the next symbol of a Markov chain. With exponent 0 all symbols are
    about equally frequent, with 1 they follow Zipf's law. What one symbol tells of the next is the
    same.
*Scenes*
    A small detector finds the digits of composed scenes, whose classes are equally frequent
    (exponent 0) or follow Zipf's law (1). The boxes are the same in distribution.

All numbers are exploratory (Benjamini-Hochberg over all of them): no verdict at any scale. Declared
before the runs:

K1  The best alpha differs between the exponents, as isomerism expects; heavy tails are known to
    favour Adam over SGD (arXiv 2402.19449), so that it moves up. *Alternative*: it stays.
K2  The effect of each alpha on the test loss, relative to alpha = 0 at the same exponent, differs
    between the exponents. *Alternative*: it does not; frequencies change the task's difficulty
    and not the order of the alphas.
K3  Both hold when every alpha takes steps of the size of alpha = 0 (grafted), and not at one
    learning rate only (fixed). *Alternative*: frequencies change the size of gradients, and with it
    the best learning rate.

Each task has one learning rate for all alphas and both exponents: of those of a pilot (seed 50,
alpha = 0), the one with the lowest mean test loss over both exponents. The outcome is the test loss
in nat; of scenes also F1 at an overlap of one half. A diverged run counts with its first loss and
F1 = 0.
**Invalid** where the best alpha is at the end of the range for both exponents (then only K2 says
something), or where a network has learned nothing at alpha = 0.
"""

from __future__ import annotations

from analyses.questions.tasks.answer import answer
from analyses.questions.tasks.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="tasks", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
