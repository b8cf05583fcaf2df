"""Detection: overlaps against counted pixels, F1 against an optimal matching, the loss by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from gradscope.experiments.training.objectives import (
    Classification,
    Detection,
    boxes_of,
    count_hits,
    overlaps,
)


def mask(box):
    drawn = np.zeros((40, 40), dtype=bool)
    left, top, right, bottom = (int(place) for place in box)
    drawn[top:bottom, left:right] = True
    return drawn


def draw_boxes(generator, n):
    corner = generator.integers(0, 24, (n, 2))
    return np.concatenate([corner, corner + generator.integers(6, 16, (n, 2))], axis=1)


def outputs_for(labels, n_classes=10):
    """Outputs that say exactly what the labels say."""
    outputs = torch.zeros(*labels.shape[:2], 5 + n_classes)
    outputs[..., 0] = torch.where(labels[..., 0] >= 0, 9.0, -9.0)
    for scene, cell in np.argwhere(labels[..., 0].numpy() >= 0):
        own, left, top, right, bottom = labels[scene, cell].tolist()
        within = [(left + right) / 16 - cell % 4, (top + bottom) / 16 - cell // 4]
        outputs[scene, cell, 1:3] = torch.tensor([math.log(p / (1 - p)) for p in within])
        outputs[scene, cell, 3:5] = torch.tensor([right - left, bottom - top]).div(8).log()
        outputs[scene, cell, 5 + own] = 9.0
    return outputs


@pytest.fixture
def labels():
    labels = torch.full((2, 16, 5), -1)
    labels[0, 5] = torch.tensor([3, 6, 7, 18, 19])
    labels[0, 10] = torch.tensor([7, 15, 15, 27, 27])
    labels[1, 0] = torch.tensor([3, 0, 0, 11, 11])
    return labels


def test_overlaps_are_shares_of_pixels():
    generator = np.random.default_rng(0)
    a, b = draw_boxes(generator, 6), draw_boxes(generator, 5)
    expected = [[(mask(p) & mask(q)).sum() / (mask(p) | mask(q)).sum() for q in b] for p in a]
    found = overlaps(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_hits_are_those_of_an_optimal_matching():
    generator = np.random.default_rng(1)
    for _ in range(50):
        # No prediction suits two objects, as with boxes that hardly overlap.
        owner = generator.integers(-1, 3, 5)
        is_match = owner[:, None] == np.arange(3)
        fits = torch.from_numpy(generator.random((5, 3)))
        rows, columns = linear_sum_assignment(-is_match.astype(float))
        expected = int(is_match[rows, columns].sum())
        assert count_hits(torch.from_numpy(is_match), fits) == expected
    assert count_hits(torch.zeros(2, 0, dtype=torch.bool), torch.zeros(2, 0)) == 0


def test_the_labels_own_outputs_score_one_and_each_mistake_counts(labels):
    outputs, detection = outputs_for(labels), Detection()
    is_object = labels[..., 0] >= 0
    torch.testing.assert_close(boxes_of(outputs)[is_object], labels[is_object][:, 1:].float())
    assert detection.counts(outputs, labels).tolist() == [6, 6]
    wrong = outputs.clone()
    wrong[0, 5, 5:] = wrong[0, 5, 5:].roll(1)  # another class: a hit less
    wrong[1, 0, 3:5] += math.log(2)  # four times the area: an overlap of 1/4
    wrong[1, 15, 0] = 9.0  # an object that is not there
    assert detection.counts(wrong, labels).tolist() == [2, 7]
    wrong[..., 0] = -9.0
    assert detection.counts(wrong, labels).tolist() == [0, 3]


def test_the_loss_of_outputs_of_zero_is_known(labels):
    outputs = torch.zeros(2, 16, 15)
    # Every box is predicted in the middle of its cell with a side of 8 pixels.
    centres = torch.tensor([[12.0, 12.0], [20.0, 20.0], [4.0, 4.0]])
    wanted = labels[labels[..., 0] >= 0][:, 1:].float()
    away = torch.cat([centres - 4, centres + 4], 1).sub(wanted).abs() / 8
    smooth = torch.where(away < 1, away**2 / 2, away - 0.5).mean().item()
    expected = math.log(2) + math.log(10) + smooth
    assert Detection().loss(outputs, labels).item() == pytest.approx(expected, rel=1e-6)


def test_accuracy_counts_what_is_right():
    outputs, targets = torch.eye(3)[None], torch.tensor([[0, 1, 0]])
    assert Classification().counts(outputs, targets).tolist() == [2, 3]
