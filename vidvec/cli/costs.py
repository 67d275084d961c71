"""The part of ``vidvec evaluate`` that shows what smaller vectors cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import out, print_json, progress
from vidvec.errors import UsageError

DtypesOption = Annotated[
    list[Literal["float32", "float16", "int8", "binary"]],
    Parameter(negative="", consume_multiple=True),
]


@Parameter(name="*", help="Smaller vectors.")
@dataclass(frozen=True)
class Small:
    """Smaller vectors.

    Args:
        sizes: Of folders of vectors: what it costs to keep only the first so many numbers, such as
            256 128 64 32: bytes, Spearman, what a search finds, and its time.
        dtypes: The same for what is kept of a number: float32, float16, int8, binary; with --sizes
            each with each.
        candidates: With --sizes or --dtypes: so many candidates a hit are put in order by the whole
            vectors; by default 16.
    """

    sizes: Annotated[list[int], Parameter(negative="", consume_multiple=True)] = field(
        default_factory=list
    )
    dtypes: DtypesOption = field(default_factory=list)
    candidates: int | None = None

    @property
    def asked(self) -> bool:
        """Whether this is what is to be done."""
        return bool(self.sizes or self.dtypes)

    def check_unasked(self) -> None:
        """Refuses what means nothing alone."""
        if self.candidates is not None:
            raise UsageError("--candidates belongs to --sizes or --dtypes, which are not given")


def show(
    small: Small, vectors: tuple[Path, ...], corpus: Path | None, split: str, as_json: bool
) -> None:
    """Measures, and prints a table for each folder of vectors."""
    from dataclasses import asdict

    from vidvec import console_costs
    from vidvec.data.corpus import Corpus
    from vidvec.embed.dtypes import DTYPES
    from vidvec.model.weights import is_model
    from vidvec.search.costs import CANDIDATES, measure_costs

    if not vectors or any(map(is_model, vectors)):
        raise UsageError(
            "what smaller vectors cost is measured of folders of vectors: vidvec embed makes one "
            "of a run"
        )
    opened = Corpus(corpus) if corpus is not None else None
    candidates = CANDIDATES if small.candidates is None else small.candidates
    found = {}
    for path in vectors:
        with progress(f"costs of {path}", transient=True) as update:
            found[str(path)] = measure_costs(
                path,
                opened,
                sizes=small.sizes,
                dtypes=small.dtypes or DTYPES[:1],
                split=split,
                candidates=candidates,
                progress=update,
            )
    if as_json:
        print_json({name: asdict(each) for name, each in found.items()})
        return
    for name, each in found.items():
        for table in console_costs.costs(name, each):
            out.print(table)
