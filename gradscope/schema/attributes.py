"""Attributes of the root group, and the version of the schema."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.errors import unknown

SCHEMA_VERSION = "2.0"
"""Major versions differ in meaning, minor ones only add names."""

FORMER_NAMES = {"activations": "signals"}
"""What a group is called in files of schema version 1."""

STATUSES = ("running", "finished", "interrupted", "diverged", "failed")

ROOT_ATTRIBUTES: dict[str, str] = {
    "schema_version": "version of the vocabulary, major.minor",
    "status": "running, finished, interrupted, diverged or failed",
    "is_complete": "1 once the recording was properly closed",
    "failure": "why recording stopped early, when an error of gradscope closed it",
    "changed_outside_step": "first step before which parameters were changed outside the "
    "optimizer's step; updates are the optimizer's own",
    "shared_params": "parameters that several optimizers step; each of these steps is a row of its "
    "own, and param_group is -1",
    "stop_reason": "finding of a health rule that ended the training, as asked for",
    "run_name": "name that the user gave the run",
    "tags": "words that the user put the run under, between commas",
    "notes": "what the user wrote about the run",
    "created_at": "start of the recording, UTC, ISO 8601",
    "creation_library": "gradscope",
    "creation_library_version": "version of gradscope",
    "torch_version": "version of PyTorch",
    "python_version": "version of Python",
    "numpy_version": "version of NumPy",
    "cuda_version": "version of CUDA that PyTorch was built for",
    "device": "device of the parameters",
    "git_commit": "commit of the working folder, with a mark where files differ",
    "command": "command line, paths as typed",
    "seed": "seed of the run",
    "model_name": "name of the model",
    "dataset_name": "name of the data set",
    "optimizer_name": "class of the optimizer",
    "optimizer_names": "classes of several optimizers, in the order of their index",
    "sample_dims": "dimensions of the data set's samples",
    "config_json": "configuration, enough to run it again",
    "logged_names": "JSON of the names in the file to the names that were logged",
    "custom_json": "long_name, units, aggregation and scale of the variables of /custom, by name",
    "record_bytes": "bytes written, merges included",
    "record_seconds": "host time that recording took",
    "first_nonfinite_step": "first step with a gradient that is not finite",
    "first_nonfinite_layer": "layer nearest to the loss where it was not finite",
    "recorded_groups": "groups that were asked for",
    "cadence": "which steps were recorded",
    "max_overhead": "largest cost of recording that was asked for, relative to the training",
    "thinning": "one in so many steps of the cadence was recorded to keep below max_overhead",
    "batch_size_source": "how batch_size was known, or why it is missing; the attribute source of "
    "/training/batch_size says the same",
    "resume_step": "of a segment only: rows of earlier segments beyond it are void",
    "world_size": "processes that trained together",
    "local_since_step": "first step whose rows are rank 0's own, the others being lost",
}
"""Attributes of the root group, with their meanings."""


def check_attributes(names: Iterable[str]) -> None:
    """Check names of root attributes.

    Raises
    ------
    ValueError
        If the schema declares no such attribute.
    """
    for name in names:
        if name not in ROOT_ATTRIBUTES:
            raise ValueError(unknown("root attribute", name, ROOT_ATTRIBUTES))
