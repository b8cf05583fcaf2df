"""Names of variables are read without a trace in the program that is read."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from torch import nn

from gradscope.record.autolog.discover import variable_names


def test_reading_a_running_function_keeps_nothing_alive():
    net = nn.Linear(2, 2)
    assert variable_names([net]) == {id(net): "net"}
    ref = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert ref() is None
    finally:
        gc.enable()


def test_variables_that_a_program_has_taken_stay_its_own():
    net = nn.Linear(2, 2)
    taken = locals()
    variable_names([net])
    assert taken["net"] is net


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="exec in a function leaves nothing there")
def test_what_exec_has_made_in_a_function_stays():
    exec("n_epochs = 7")
    net = nn.Linear(2, 2)
    variable_names([net])
    assert eval("n_epochs") == 7


def test_a_function_that_is_traced_keeps_its_variables():
    names = []

    def trace(frame, event, arg):
        if frame.f_code is traced.__code__ and event == "line":
            names.append(variable_names([here]))
        return trace

    here = nn.Linear(2, 2)

    def traced(net):
        number = 3
        return net, number

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        result = traced(here)
    finally:
        sys.settrace(before)
    assert result == (here, 3) and names and all(name[id(here)] == "here" for name in names)
