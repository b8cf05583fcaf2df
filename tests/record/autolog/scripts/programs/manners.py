"""Prints what a program sees of itself, then ends as it is told."""

import json
import sys
from pathlib import Path

seen = {
    "torch": "torch" in sys.modules,
    "argv": sys.argv,
    "path": sys.path[0],
    "file": __file__,
    "name": __name__,
    "spec": __spec__ is None,
    "package": __package__,
    "cwd": str(Path.cwd()),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "stdin": sys.stdin.read(),
    "doc": __doc__[:6],
}
print(json.dumps(seen))
sys.stdout.flush()


def fall():
    raise LookupError("of the script")


if sys.argv[1] == "raise":
    fall()
elif sys.argv[1] == "interrupt":
    raise KeyboardInterrupt
elif sys.argv[1] == "text":
    sys.exit("a last word")
elif sys.argv[1] == "code":
    sys.exit(7)
elif sys.argv[1] == "hook":
    sys.excepthook = lambda kind, error, trace: print("hooked", error)
    fall()
