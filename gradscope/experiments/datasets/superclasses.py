"""The twenty superclasses of CIFAR-100, and a merge of them into two.

A. Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009; the table is that of
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradscope.errors import UsageError

LIVING = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
}
NOT_LIVING = {
    "food_containers": "bottle bowl can cup plate",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
BINARY = ("living", "not living")


def find(classes: Sequence[str], *, is_binary: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the superclass of each class, as an index, and the names of those that occur.

    Parameters
    ----------
    classes : sequence of str
        Names of CIFAR-100's classes, all or some.
    is_binary : bool
        Living against not living, in place of the twenty superclasses.

    Raises
    ------
    UsageError
        If a class is none of CIFAR-100's, or all fall into one superclass.
    """
    coarse_of = {
        fine: BINARY[index] if is_binary else coarse
        for index, table in enumerate((LIVING, NOT_LIVING))
        for coarse, words in table.items()
        for fine in words.split()
    }
    foreign = [name for name in classes if name not in coarse_of]
    if foreign:
        raise UsageError(f"coarse labels exist for CIFAR-100's classes only; got {foreign[0]!r}")
    names = tuple(sorted({coarse_of[name] for name in classes}))
    if len(names) < 2:
        raise UsageError(f"all classes fall into one superclass, {names[0]}")
    return np.array([names.index(coarse_of[name]) for name in classes], dtype=np.int64), names
