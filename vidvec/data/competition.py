"""The competition's folder (system.md, section 1): its parts, and what lies beside its records.

DIR/
  pointwise/*.tfrecords          to learn from
  pairwise/*.tfrecords           the videos that were scored
  pairwise/label.tsv             id, id, score; may also lie in DIR
  test_a/, test_b/               *.tfrecords; where there is one, a list of their ids
                                 (*.txt, *.csv, *.tsv), one a line
  tag_list.txt                   may also lie in a folder right below
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vidvec.data.tfrecord import read_ids
from vidvec.errors import UsageError
from vidvec.records import Reject

TEST_PARTS = ("test_a", "test_b")
PARTS = ("pointwise", "pairwise", *TEST_PARTS)
LABELS, TAG_LIST = "label.tsv", "tag_list.txt"
_LIST_SUFFIXES = (".csv", ".tsv", ".txt")


def record_files(folder: Path) -> list[Path]:
    """The TFRecords in and below a folder, sorted; without what a stopped writer left there."""
    files = folder.rglob("*.tfrecord*")
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def is_competition(path: Path) -> bool:
    """Whether a folder is laid out as the competition's: records in pointwise/ or pairwise/."""
    return any(record_files(path / part) for part in ("pointwise", "pairwise"))


def is_number(text: str) -> bool:
    """Whether an id is one of the competition's: a whole number."""
    return text.isascii() and text.isdigit()


def missing(folder: Path) -> list[Reject]:
    """What a competition's folder lacks: ``missing-part``, ``missing-labels``."""
    rejects = []
    for part in PARTS:
        if not record_files(folder / part):
            there = "holds no TFRecords" if (folder / part).is_dir() else "is not there"
            detail = f"the folder {part} {there}: nothing is read from it"
            rejects.append(Reject(f"{part}/", "", "missing-part", detail))
    if record_files(folder / "pairwise") and find_labels(folder) is None:
        detail = f"neither pairwise/{LABELS} nor {LABELS} is there: no scored pairs"
        rejects.append(Reject(f"pairwise/{LABELS}", "", "missing-labels", detail))
    return rejects


def find_beside(folder: Path, name: str) -> Path | None:
    """A file of this name in a folder, or in the first folder right below that has one."""
    files = [folder / name, *sorted(folder.glob(f"*/{name}"))]
    return next((file for file in files if file.is_file()), None)


def find_labels(folder: Path) -> Path | None:
    """The scored pairs of a competition's folder: those of pairwise/, else those in the folder."""
    files = [folder / "pairwise" / LABELS, folder / LABELS]
    return next((file for file in files if file.is_file()), None)


def find_id_lists(folder: Path, part: str) -> list[Path]:
    """Lists of the ids of a test part, sorted."""
    files = [file for file in (folder / part).glob("*") if file.suffix.lower() in _LIST_SUFFIXES]
    return sorted(file for file in files if file.is_file() and file.name not in (LABELS, TAG_LIST))


def read_id_list(path: Path, name: str) -> Iterator[tuple[str, str] | Reject]:
    """Yields the ids of a list, one a line, in order.

    More columns, behind a comma or a tab, are ignored, and so are blank lines. The first line is a
    header where its first field has no digit.

    Args:
        path: The list; lines may end in CRLF, and it may begin with a byte order mark.
        name: What it is called in messages.

    Yields:
        Where it stands, such as ``test_a/ids.txt:3``, and the id; or a ``bad-id``.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            field = line.replace(",", "\t").split("\t")[0].strip().strip('"')
            if not line.strip() or (number == 1 and not any(map(str.isdigit, field))):
                continue
            where = f"{name}:{number}"
            if is_number(field):
                yield where, field
            else:
                detail = f"found {field[:40]!r}, expected an id, a whole number"
                yield Reject(where, field[:40], "bad-id", detail)


def test_ids(folder: Path) -> list[str]:
    """The ids of a competition's test videos, each once: those that a submission must hold.

    They are read off the records of test_a and test_b, in order, without their frames. A record
    that is damaged still counts with its id where that can be read and, where the part has a list
    of ids, is in it. Ids of such lists that no record has come last.

    Args:
        folder: The competition's folder.

    Raises:
        UsageError: There is no test id.
    """
    ids: dict[str, None] = {}
    listed: dict[str, None] = {}
    for part in TEST_PARTS:
        lists = [_listed(file) for file in find_id_lists(folder, part)]
        own = {video for some in lists for video in some}
        for file in record_files(folder / part):
            for video, intact in read_ids(file):
                if intact or (video in own if own else is_number(video)):
                    ids[video] = None
        listed |= dict.fromkeys(video for some in lists for video in some)
    ids |= listed
    if not ids:
        raise UsageError(
            f"{folder} has no test videos: expected TFRecords in {' and '.join(TEST_PARTS)}"
        )
    return list(ids)


def _listed(file: Path) -> list[str]:
    return [row[1] for row in read_id_list(file, file.name) if not isinstance(row, Reject)]
