"""Balance: alpha is said to steer between generalisation and fitting, early and late layers.

The paper (arXiv 2405.18498) holds that negative alpha suppresses the layers near the output and
favours early ones, that positive alpha speeds fitting up, and that the best alpha for CIFAR lies
in [-0.3, 0.1]. But alpha multiplies every step by v^(-alpha), a factor of a thousand over that
range: a sweep over alpha at one learning rate is a sweep of the learning rate. So the map comes
first, accuracy over alpha and learning rate with lines of equal *measured* step. Declared before
any run:

Primary P3 (H2d-eq)
    At a fixed learning rate the accuracy at each alpha is that of alpha = 0's direction with the
    global size that alpha's step would have: equal to 0.3 points (TOST), at every alpha. This *is*
    the rival to balance: the curve over alpha is a learning-rate curve.
    *Breaks* if alpha = 0 misses its reference accuracy (CIFAR-10 0.940, full recipe).
Primary P4 (H2d-b)
    Some alpha other than 0 beats alpha = 0 by more than 0.3 points when learning rate and weight
    decay of both are tuned with one budget. *Rival*: none does, once the step has its best size.
    *Breaks* if alpha = 0 misses its reference, if a best trial lies at the edge of what was tried,
    or if accuracy falls by more than 0.4 points an octave off the best learning rate.

Exploratory, without a verdict (Benjamini-Hochberg over all of them):

map
    One alpha's accuracy is predicted from the others' better at equal measured step than at equal
    learning rate, and the best measured step stays where the best learning rate moves.
H2a
    At equilibrium age 3 the early third's share of descent and of turning moves with alpha, with
    the sign of the measured gradient slope: down in nets whose gradients fall toward the output,
    up in the reversed control (tanh, gain 0.8, biases). Rival: decay sets every layer's turning.
H2b
    Steps to a training loss fall with alpha (tuned for training loss). Rival: no slope.
H2c
    The gap between validation and training loss, at equal training loss, rises with alpha (tuned).
    Rival: no slope; the gap belongs to the training loss and not to alpha.
H2d-a
    The best alpha within [-0.3, 0.1] beats 0.25 and 0.5 (tuned).
2x2
    At alpha's global step size, what its layer profile does and what its directions within layers
    do, and their interaction. The theory of balance says that the profile does it.

Claims about accuracy are decided at the full scale only. A diverged run counts with the accuracy of
guessing. Steps to a loss that was never reached are censored at the last step, and counted.
"""

from __future__ import annotations

from analyses.questions.balance.answer import answer
from analyses.questions.balance.measure import SPECS, measure
from analyses.study.command import command
from analyses.study.question import Question

QUESTION = Question(name="balance", specs=SPECS, measure=measure, answer=answer)

if __name__ == "__main__":
    raise SystemExit(command(QUESTION))
