"""Runs one check and writes its findings, each as soon as it is known."""

from __future__ import annotations

import os
import sys
from importlib import import_module


def main(target: str, *arguments: str) -> None:
    """Runs ``module:function`` with ``arguments``."""
    from vidvec.doctor.findings import to_line

    # Libraries print where they like; findings go where they cannot.
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module, _, function = target.partition(":")
    for finding in getattr(import_module(module), function)(*arguments):
        own.write("\n" + to_line(finding) + "\n")
        own.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
