"""Check recordings against the format and print every violation at once; changes nothing."""

from __future__ import annotations

import argparse

SUMMARY = "check recordings against the format"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("recordings", nargs="+", metavar="RUN", help="recording, run.h5")


def run(arguments: argparse.Namespace) -> int:
    """Print the violations of each recording; 1 if there are any."""
    from gradscope.store.maintain.validate import violations

    n_violations = 0
    for path in arguments.recordings:
        found = violations(path)
        n_violations += len(found)
        count = f"{len(found)} violation{'s' if len(found) > 1 else ''}"
        print(f"{path}: {count if found else 'sound'}")
        for line in found:
            print(f"  {line}")
    return 1 if n_violations else 0
