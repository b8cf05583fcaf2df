"""The paper's first three experiments on CIFAR-10 and CIFAR-100, and what alpha does to gradients.

The paper (arXiv 2405.18498) trains VGG with batch norm on CIFAR-10 and CIFAR-100 with alpha from
-0.3 to 0.1 and reports where test accuracy is highest. Its learning rates are not published. All
numbers here are exploratory (Benjamini-Hochberg over all of them) and carry no verdict word at any
scale; the claims about accuracy are P3, P4 and P5, decided at scale full. Declared before any run:

X1  The baseline and the curve: test accuracy over alpha at one learning rate. The paper expects its
    maximum within [-0.3, 0.1]. *Rival*: the curve shows which alpha suits this learning rate.
X2  How much of the curve is left when every alpha takes steps of the size of alpha = 0 (grafted).
    *Rival of the paper*: little is left, so that alpha acted through the size of the step.
X3  Whether the best alpha moves from CIFAR-10 to CIFAR-100. The paper expects that it does.
X4  How the depth slope of gradients and their steadiness late in training move with alpha.
X5  The map: whether accuracy is predicted better at equal measured step than at equal
    learning rate.
X6  Tuned: the best alpha of the claimed range against alpha = 0, chosen by the other seeds.
X7  Classes: whether gradients and the effect of alpha differ between labels of the same images.

Added when the map was half run: accuracy at the learning rate of the map that validation accuracy
chose (X6), by how much the best learning rate moves (X5), and VGG16 and VGG19 (X1, X2). Added when
one seed of the map was there: X5 at the learning rates at which every alpha learned, since at a
third of them none does. Added when three seeds of the sweeps were there: slopes of accuracy over
the claimed range (X1, X2), the change of the step (X1), the best alpha at each learning rate of the
map (X1), the shift at chosen cells (X5) and slopes by labels (X7). Of alphas with the same accuracy
the mean is now taken, where it was the lowest.
"""

from __future__ import annotations

from analyses.questions.cifar.answer import answer
from analyses.questions.cifar.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="cifar", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
