"""Parts of a bulk job on shared storage, until they are put together.

    FOLDER/staging/
      manifest.json       what the parts are of, and how many rows each has; see ``Staging``
      parts/000012.arrow  a part that is done, .npy of vectors; there whole or not at all
      attempts/           parts that were begun and did not end; see ``attempts.py``

Whoever writes a part puts it under a temporary name and renames it. Two workers that do the same
part, as when one was taken for dead, write the same bytes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.errors import UsageError

KIND = "staging"
FOLDER = "staging"


class Staging:
    """The staging folder of one job.

    Args:
        target: The folder that the job makes.
        suffix: Of a part's file.
    """

    def __init__(self, target: Path, suffix: str = ".arrow") -> None:
        self.path, self._suffix = target / FOLDER, suffix
        self.attempts = self.path / "attempts"

    def open(self, facts: dict[str, Any], rows: int | None, default_rows: int) -> int:
        """Begins a job, or goes on with the one that is there.

        Args:
            facts: What makes the parts what they are. With another ``of`` among them, the parts
                are left over from another job, and removed.
            rows: Rows of a part; ``None``: as before, else ``default_rows``.
            default_rows: See there.

        Returns:
            Rows of a part.

        Raises:
            UsageError: The parts are of the same job with other options, or of other sizes.
        """
        facts = json.loads(json.dumps(facts))  # as the manifest has them
        held = self._held()
        if held is not None and held["facts"]["of"] != facts["of"]:
            self.remove()
            held = None
        if held is None:
            rows = rows or default_rows
            storage.write_manifest(self.path, KIND, facts=facts, rows=rows)
            return rows
        others = {key for key in facts if held["facts"].get(key) != facts[key]}
        if others:
            said = "; ".join(
                f"{key}: {held['facts'].get(key)!r}, now {facts[key]!r}" for key in sorted(others)
            )
            raise UsageError(
                f"{self.path} holds parts of this job that were made otherwise ({said}): run it as "
                "before, or delete that folder, with which these parts are lost"
            )
        if rows not in (None, held["rows"]):
            raise UsageError(
                f"{self.path} holds parts of {held['rows']} rows, expected {rows}: leave "
                "--part-rows out, or delete that folder, with which these parts are lost"
            )
        return int(held["rows"])

    def _held(self) -> dict[str, Any] | None:
        if not (self.path / storage.MANIFEST).is_file():
            return None
        return storage.read_manifest(self.path, KIND)

    def part(self, number: int) -> Path:
        """Where a part is, once it is done."""
        return self.path / "parts" / f"{number:06d}{self._suffix}"

    def holds(self, number: int) -> bool:
        """Whether a part is done."""
        return self.part(number).is_file()

    def note(self, **more: Any) -> None:
        """Adds to the manifest what a rerun need not find out again."""
        held = self._held() or {}
        held = {key: held[key] for key in held if key not in ("kind", "format_version")}
        storage.write_manifest(self.path, KIND, **(held | more))

    def noted(self, name: str) -> Any:
        """What was noted under this name; ``None``: nothing."""
        return (self._held() or {}).get(name)

    def remove(self) -> None:
        """Removes all; the manifest last, so that what is left is known for what it is."""
        for folder in (self.path / "parts", self.attempts):
            if folder.is_dir():
                for file in folder.iterdir():
                    file.unlink(missing_ok=True)
        (self.path / storage.MANIFEST).unlink(missing_ok=True)
        if not storage.is_remote(self.path):
            shutil.rmtree(self.path, ignore_errors=True)
