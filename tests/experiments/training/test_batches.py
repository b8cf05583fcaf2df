import pytest
import torch

from gradscope.experiments.datasets.splits import Split
from gradscope.experiments.training.batches import (
    PADDING,
    Normalise,
    TrainingStream,
    crop_and_flip,
    in_order,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def all_crops(image):
    """Every image that padding by four zeros, cropping and mirroring can give."""
    padded = torch.nn.functional.pad(image, (PADDING,) * 4)
    height, width = image.shape[1:]
    crops = [
        padded[:, y : y + height, x : x + width]
        for y in range(2 * PADDING + 1)
        for x in range(2 * PADDING + 1)
    ]
    return crops + [crop.flip(2) for crop in crops]


def test_augmented_images_are_crops_of_their_own_image():
    images = torch.randint(1, 256, (40, 3, 6, 5), generator=seeded(), dtype=torch.uint8)
    augmented = crop_and_flip(images, generator=seeded(1))
    for image, result in zip(images, augmented, strict=True):
        assert any(torch.equal(result, crop) for crop in all_crops(image))


def test_each_image_has_its_own_offset_and_coin_and_none_is_preferred():
    image = torch.arange(1, 82, dtype=torch.uint8).reshape(1, 1, 9, 9)
    augmented = crop_and_flip(image.expand(20_000, -1, -1, -1), generator=seeded())
    centre = augmented[:, 0, 4, 4].long()
    counts = torch.bincount(centre, minlength=82)[1:]
    # The centre pixel is uniform over the 81 pixels: chi-squared with 80 degrees of freedom.
    expected = 20_000 / 81
    assert ((counts - expected) ** 2 / expected).sum() < 125
    is_flipped = augmented[:, 0, 4, 3] > augmented[:, 0, 4, 5]
    assert abs(is_flipped.float().mean() - 0.5) < 0.05


def make_split(n=10):
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 3, 3)
    return Split(images.contiguous(), torch.arange(n))


NORMALISE = Normalise(torch.tensor([0.5, 0.1]), torch.tensor([0.2, 0.4]))


def make_stream(n=10, batch_size=4, augment=False, seed=0):
    return TrainingStream(
        make_split(n), NORMALISE, batch_size=batch_size, augment=augment, seed=seed
    )


def test_an_epoch_shows_no_image_twice_and_drops_what_is_left():
    stream = make_stream()
    assert stream.steps_per_epoch == 2
    first = [next(stream)[1].tolist() for _ in range(2)]
    second = [next(stream)[1].tolist() for _ in range(2)]
    assert len({*first[0], *first[1]}) == 8
    assert len({*second[0], *second[1]}) == 8
    assert first != second


def test_pixels_are_normalised_by_channel():
    images, labels = next(make_stream())
    expected = (labels / 255 - 0.5) / 0.2, (labels / 255 - 0.1) / 0.4
    torch.testing.assert_close(images[:, 0, 0, 0], expected[0])
    torch.testing.assert_close(images[:, 1, 2, 2], expected[1])


def test_padding_is_black_before_it_is_normalised():
    images, labels = zip(*(next(make_stream(augment=True)) for _ in range(5)), strict=True)
    for image, label in zip(torch.cat(images), torch.cat(labels), strict=True):
        pixels = (image[0] * 0.2 + 0.5) * 255
        assert set(pixels.round().long().flatten().tolist()) <= {0, label.item()}


def test_in_order_shows_everything_once():
    labels = torch.cat([labels for _, labels in in_order(make_split(), NORMALISE, batch_size=4)])
    assert labels.tolist() == list(range(10))


def test_the_same_seed_gives_the_same_batches_whatever_torchs_own_state():
    def draw(global_seed):
        torch.manual_seed(global_seed)
        stream = make_stream(augment=True)
        return torch.stack([next(stream)[0] for _ in range(6)])

    assert torch.equal(draw(1), draw(2))


def test_a_small_split_makes_one_small_batch():
    assert make_stream(n=3).steps_per_epoch == 1
    assert len(next(make_stream(n=3))[1]) == 3


@pytest.mark.parametrize("n_before", [0, 1, 2, 3])
def test_a_saved_stream_continues_with_the_next_batch(n_before):
    stream, other = make_stream(augment=True), make_stream(augment=True, seed=9)
    for _ in range(n_before):
        next(stream)
    other.load_state_dict(stream.state_dict())
    for _ in range(5):
        for ours, theirs in zip(next(stream), next(other), strict=True):
            assert torch.equal(ours, theirs)
