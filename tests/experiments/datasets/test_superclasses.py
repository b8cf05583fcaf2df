from gradscope.experiments.datasets.superclasses import LIVING, NOT_LIVING


def test_twenty_superclasses_of_five_hold_a_hundred_classes():
    table = LIVING | NOT_LIVING
    fine = [name for words in table.values() for name in words.split()]
    assert len(table) == 20
    assert all(len(words.split()) == 5 for words in table.values())
    assert len(set(fine)) == 100
