"""Commands that bring vectors in from other programs and out to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vidvec.cli.shared import Location, Mirrored, out, print_json, progress


def import_vectors(
    source: Path,
    vectors: Path,
    /,
    *,
    ids: Path | None = None,
    name: str = "",
    id_column: str = "",
    vector_column: str = "",
    corpus: Location | None = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Take vectors of another model in, to search, evaluate and fuse beside ours.

    Rows that cannot be used (no id, an id twice, another dimension, NaN, zero) are left out,
    counted, and named in rejects.jsonl.

    Args:
        source: .npy, .npz, .parquet, .arrow, .faiss or .jsonl, or a folder that datasets saved.
        vectors: Folder of the vectors.
        ids: A file with an id a row (.txt, .json, .npy), where the source has none.
        name: What made the vectors, such as clip-vit-l14; by default the source's name.
        id_column: Column of the ids; by default id, or another common name.
        vector_column: Column of the vectors; by default vector, embedding, or the only one.
        corpus: The corpus with these videos, whose titles then show in searches.
        strict: Stop at the first row that cannot be used.
        as_json: Print JSON.
    """
    from dataclasses import asdict

    from vidvec.embed.import_vectors import REJECTS
    from vidvec.embed.import_vectors import import_vectors as run

    with progress("import") as update:
        report = run(
            source,
            vectors,
            ids=ids,
            name=name,
            id_column=id_column,
            vector_column=vector_column,
            corpus=corpus,
            strict=strict,
            progress=lambda done, _: update(done),
        )
    if as_json:
        print_json(asdict(report))
        return
    unit = "of length 1" if report.normalised else "not all of length 1"
    say = f"{vectors}: {report.vectors} vectors of {report.dimension} numbers, {unit}"
    out.print(say, highlight=False, soft_wrap=True)
    if report.rejected:
        counts = ", ".join(f"{count} {reason}" for reason, count in report.rejected.items())
        out.print(f"left out: {counts}; see {vectors / REJECTS}", highlight=False, soft_wrap=True)
    if report.unknown:
        out.print(f"{report.unknown} of the ids are not in {corpus}", highlight=False)


def export_vectors(
    vectors: Location,
    to_path: Annotated[Path, Parameter(name="OUT")],
    /,
    *,
    to: Literal["numpy", "npz", "parquet", "arrow", "faiss", "datasets", "jsonl", "fiftyone"],
    corpus: Location | None = None,
) -> None:
    """Write vectors for another program: NumPy, Parquet, FAISS, datasets, FiftyOne.

    Args:
        vectors: Folder of the vectors.
        to_path: File or folder to write, which must not be there yet.
        to: numpy, faiss (folders with ids.json), npz, parquet, arrow, jsonl (files), datasets
            (folder for load_from_disk), fiftyone (folder for Dataset.from_dir).
        corpus: Adds titles, tags and files of its videos; fiftyone needs it.
    """
    from vidvec.embed.export_vectors import export_vectors as run

    counts = run(vectors, to_path, to, corpus)
    out.print(f"{to_path}: {counts['vectors']} vectors", highlight=False, soft_wrap=True)
    if counts["left_out"]:
        out.print(f"left out: {counts['left_out']} videos without a file", highlight=False)


def map_videos(
    vectors: Mirrored,
    /,
    *,
    to: Annotated[Path | None, Parameter(name="--out")] = None,
    points: int = 20_000,
    themes: int | None = None,
    method: Literal["auto", "tsne", "pca"] = "auto",
    corpus: Location | None = None,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Lay all videos out on a plane, near ones side by side, with named themes.

    Args:
        vectors: Folder of the vectors; the map is kept there, as map.json.
        to: A picture as well: .png, or a page .html.
        points: With more videos, so many are laid out and the others placed among them.
        themes: How many themes; by default as many as suit the vectors.
        method: tsne, pca, or auto: the first where openTSNE is installed (extra map).
        corpus: The corpus whose titles and tags name themes; by default the one embedded.
        seed: Of all that is drawn at random.
        as_json: Print the themes as JSON.
    """
    from dataclasses import asdict

    from rich import box
    from rich.table import Table

    from vidvec.search.map import make_map
    from vidvec.search.map_picture import check_picture, write_picture

    if to is not None:
        check_picture(to)
    with progress("map") as update:
        made = make_map(
            vectors,
            corpus=corpus,
            points=points,
            themes=themes,
            method=method,
            seed=seed,
            progress=lambda what: update(0, None, what),
        )
    if to is not None:
        write_picture(to, made, vectors, corpus)
    if as_json:
        themes_found = [asdict(theme) for theme in made.themes]
        print_json({"videos": len(made.ids), "method": made.method, "themes": themes_found})
        return
    table = Table("theme", "videos", "words", box=box.SIMPLE_HEAD, pad_edge=False)
    for theme in made.themes:
        table.add_row(theme.name, str(theme.count), ", ".join(theme.words))
    out.print(table)
    ends = "" if to is None else f"; open {to}"
    out.print(f"{len(made.ids)} videos by {made.method}{ends}", highlight=False, soft_wrap=True)
