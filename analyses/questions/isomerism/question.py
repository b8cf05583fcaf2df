"""Dataset isomerism: data are said to move gradients, and with them the best alpha.

The paper (arXiv 2405.18498) holds that many samples of few classes tend to explosion, few samples
of many classes to vanishing, and that the best alpha moves with it. By arithmetic the number of
classes does not change hidden gradients at initialisation (E|p - y|^2 = 1 - 1/C); only the head's
get sparser. Data sets here differ in one property at a time: the number of classes at a fixed total
of examples, with a head of its own size or of a constant one; for CIFAR-100 the same images
labelled fine, coarse, in two, or merged at random. Declared before any run:

Primary P5 (H3c)
    The best alpha of the tuned arm, the vertex of a parabola through accuracy over alpha, moves by
    more than 0.1 between the fewest classes and the most. *Rival*: it stays; what moved in the
    paper was the best size of the step. *Breaks* if a vertex is not identified (more than 5 % of
    resampled fits are not concave, or its interval touches an end of the range) or if the vertices
    do not move monotonically with the number of classes.

Exploratory, without a verdict (Benjamini-Hochberg over all of them):

H3a
    The depth slope of ln gradient moves with the number of classes, at equal loss over ln(classes).
    Rival: it moves at equal step only, because training is at another stage, or with the own head
    only, because the head is another.
H3b
    Gradients of the inner weights get sparser with the number of classes (ln kurtosis rises).
    Rival: the head's alone do.
H3e
    What classes, samples per class, label noise, imbalance and augmentation each change over the
    ranges that were run, in half of a 2^5 factorial; with intervals, and without a ranking, since a
    range of one factor is no unit of another.

Claims about accuracy are decided at the full scale only.
"""

from __future__ import annotations

from analyses.questions.isomerism.answer import answer
from analyses.questions.isomerism.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="dataset_isomerism", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
