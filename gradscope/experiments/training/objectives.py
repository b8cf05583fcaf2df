"""What a network is trained for: the loss of a batch, and the score that evaluations report."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    one_hot,
    smooth_l1_loss,
)

from gradscope.experiments.datasets.detection.scenes import CELL, GRID, NOTHING


class Objective(Protocol):
    """Loss and score of a task."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar."""

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return numerator and denominator of the score, float64; both add up over batches."""


class Classification:
    """Cross-entropy and accuracy, of images or of each symbol."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy in nat."""
        return cross_entropy(outputs.float().flatten(0, -2), targets.flatten())

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return how many classes are right, and how many there are."""
        n_correct = (outputs.argmax(-1) == targets).sum()
        return torch.stack([n_correct, torch.full_like(n_correct, targets.numel())]).double()


class Detection:
    """Boxes and classes on a grid of cells; the score is F1 at an overlap of one half.

    The loss is the mean binary cross-entropy of "a centre lies here" over cells, plus the
    cross-entropy of the class and the smooth L1 distance of the box over cells with a centre.
    """

    MIN_OVERLAP = 0.5

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of outputs (batch, cells, 5 + classes), targets (batch, cells, 5)."""
        outputs = outputs.float()
        is_object = targets[..., 0] != NOTHING
        found = binary_cross_entropy_with_logits(outputs[..., 0], is_object.float())
        own, wanted = outputs[is_object], targets[is_object]
        named = cross_entropy(own[:, 5:], wanted[:, 0])
        boxes = boxes_of(outputs)[is_object]
        return found + named + smooth_l1_loss(boxes / CELL, wanted[:, 1:].float() / CELL)

    def counts(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return twice the hits, and the predicted plus the true objects: F1 is their ratio."""
        outputs = outputs.float()
        chance, boxes = outputs[..., 0].sigmoid(), boxes_of(outputs)
        classes = outputs[..., 5:].argmax(-1)
        is_object, is_found = targets[..., 0] != NOTHING, chance > 0.5
        hits = 0
        for scene in range(len(targets)):
            found, true = is_found[scene], is_object[scene]
            order = chance[scene, found].argsort(descending=True)
            fits = overlaps(boxes[scene, found][order], targets[scene, true, 1:].float())
            is_same = classes[scene, found][order][:, None] == targets[scene, true, 0]
            hits += count_hits((fits >= self.MIN_OVERLAP) & is_same, fits)
        n = is_object.sum() + is_found.sum()
        return torch.tensor([2.0 * hits, n], dtype=torch.float64, device=outputs.device)


def boxes_of(outputs: Tensor) -> Tensor:
    """Return the predicted boxes in pixels: left, top, right, bottom.

    Outputs 1 to 4 of a cell are the centre within the cell, before a sigmoid, and the logarithms of
    the sides over that of a cell.
    """
    cells = torch.arange(GRID * GRID, device=outputs.device)
    corner = torch.stack([cells % GRID, cells // GRID], -1)
    centre = (corner + outputs[..., 1:3].sigmoid()) * CELL
    # Sides of more than e^4 cells mean that training has gone astray, and would overflow.
    half = outputs[..., 3:5].clamp(-4, 4).exp() * (CELL / 2)
    return torch.cat([centre - half, centre + half], -1)


def overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Return intersection over union of each box of a (n, 4) with each of b (m, 4)."""
    corner = torch.maximum(a[:, None, :2], b[:, :2])
    common = (torch.minimum(a[:, None, 2:], b[:, 2:]) - corner).clamp(min=0).prod(-1)
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(-1) for box in (a, b))
    return common / (area_a[:, None] + area_b - common)


def count_hits(is_match: Tensor, fits: Tensor) -> int:
    """Give each prediction, the surest first, the free object that it fits best; count them.

    Parameters
    ----------
    is_match : Tensor of bool, shape (predictions, objects)
        Whether class and overlap suffice.
    fits : Tensor, same shape
        The overlaps.
    """
    is_free = torch.ones(is_match.shape[1], dtype=torch.bool, device=is_match.device)
    hits = 0
    for row, values in zip(is_match, fits, strict=True):
        usable = row & is_free
        if usable.any():
            is_free &= ~one_hot(values.where(usable, -1).argmax(), len(values)).bool()
            hits += 1
    return hits


def choose_objective(dataset: str) -> Objective:
    """Return what networks are trained for on a data set."""
    return Detection() if dataset == "scenes" else Classification()
