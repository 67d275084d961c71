"""Pretrained models by name: fetched from a hub into its cache or a plain folder, and checked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidvec import storage
from vidvec.errors import FormatError, MissingExtraError, OfflineError, UsageError, VidvecError
from vidvec.model.hub_errors import explain, explained
from vidvec.model.hub_listing import (
    Kind,
    Listing,
    cached_file,
    cached_folder,
    choose,
    list_cached,
    list_hub,
)
from vidvec.model.transfer import HubFile, check_space, fault, fetch_file, partial_path

FOLDER_KIND = "pretrained"
DAMAGED = "fetched anew: it was damaged"


@dataclass(frozen=True, slots=True)
class Download:
    """A pretrained model that lies whole on this disk.

    Attributes:
        source: As it was asked for.
        folder: Where its files are.
        files: Name, bytes, and what was done: ``fetched``, ``was there``, ``copied`` (from the
            cache), or ``DAMAGED``.
        came: Bytes that came from the hub.
        checked: Whether sizes or digests were known; then they hold.
        reached: Whether the hub answered; else it is what an earlier download left.
    """

    source: str
    folder: Path
    files: tuple[tuple[str, int, str], ...]
    came: int
    checked: bool
    reached: bool


def fetch_pretrained(source: str) -> Path:
    """The folder of a Hugging Face BERT: the source itself, or what the hub gives by this name.

    What lies whole in the hub's cache is taken from there without asking the hub, so that a run
    never starts from other weights than the one before it; ``download`` brings it up to date.

    Args:
        source: A folder, or a name on the hub with ``@revision`` where wanted.

    Raises:
        UsageError: The hub has no such model, or does not give it to this user.
        OfflineError: It is neither a folder nor in the cache, and the hub cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    if Path(source).is_dir():
        return Path(source)
    _need_library()
    with explained(source, frames=False):
        found = list_cached(source, "text")
    return cached_folder(found) if found is not None else download(source).folder


def download(source: str, kind: Kind = "text", to: Path | None = None) -> Download:
    """Fetches what is missing of a model and checks all of it.

    Args:
        source: A name on the hub with ``@revision`` where wanted; or a folder, which is only
            checked.
        kind: ``text``: a BERT with its tokenizer. ``frames``: a vision model in safetensors.
        to: A plain folder to write; without it the files go to the hub's cache.

    Raises:
        UsageError: The hub has no such model, does not give it to this user, or it lacks a file
            that is needed; the disk is too full; ``to`` holds something else.
        FormatError: A file is not what the hub states.
        OfflineError: Something is missing, and the hub cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    if Path(source).is_dir():
        if to is not None:
            raise UsageError(f"{source} is a folder on this disk: --to has nothing to fetch")
        return _checked_folder(Path(source), kind)
    _need_library()
    with explained(source, kind == "frames"):
        listing = _list_everywhere(source, kind)
        return _into_cache(listing) if to is None else _into_folder(listing, to)


def _need_library() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None


def _list_everywhere(source: str, kind: Kind) -> Listing:
    """The files that the hub lists; where it cannot be reached, those of an earlier download."""
    try:
        with explained(source, kind == "frames"):
            return list_hub(source, kind)
    except OfflineError:
        cached = list_cached(source, kind)
        if cached is None:
            raise
        return cached


def _into_cache(listing: Listing) -> Download:
    """Fetches into the hub's cache, where its library and all that use it find the files."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    done = {file.name: "was there" for file in listing.files}
    blobs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=listing.name, repo_type="model") / "blobs"
    wanted = []
    for file in listing.files:
        place = cached_file(listing, file)
        wrong = fault(place, file) if place else "is missing"
        if not wrong:
            continue
        done[file.name] = "fetched"
        if place is not None:
            _refuse_offline(listing, f"{place} {wrong}")
            place.resolve().unlink(missing_ok=True)
            place.unlink(missing_ok=True)
            done[file.name] = DAMAGED
        # The library looks for a file under the tag that the hub gives it.
        tag = get_hf_file_metadata(_url(listing, file)).etag or file.digest
        wanted.append((file, blobs / PurePosixPath(tag).name))
    came = _fetch(listing, blobs, wanted)
    for file, _ in wanted:
        hf_hub_download(listing.name, file.name, revision=listing.commit)
    if listing.reached and listing.revision != listing.commit:
        # Notes in the cache which commit the revision means; the file is there.
        hf_hub_download(listing.name, "config.json", revision=listing.revision)
    return _report(listing, cached_folder(listing), done, came)


def _into_folder(listing: Listing, to: Path) -> Download:
    """Fetches into a plain folder, from the cache where that has a file."""
    _claim(listing, to)
    done = {file.name: "was there" for file in listing.files}
    wanted = []
    for file in listing.files:
        destination, place = to / file.name, cached_file(listing, file)
        if not fault(destination, file):
            continue
        wrong = fault(place, file) if place else "is missing"
        if place is not None and not wrong:
            with storage.atomic_path(destination) as temporary:
                shutil.copyfile(place, temporary)
            done[file.name] = "copied"
        else:
            _refuse_offline(listing, f"{place} {wrong}")
            done[file.name] = DAMAGED if destination.exists() else "fetched"
            wanted.append((file, destination))
    came = _fetch(listing, to, wanted)
    report = _report(listing, to, done, came)
    digests = {file.name: file.digest for file in listing.files}
    files = [{"name": n, "bytes": size, "digest": digests[n]} for n, size, _ in report.files]
    _write_claim(listing, to, files)
    return report


def _fetch(listing: Listing, folder: Path, wanted: list[tuple[HubFile, Path]]) -> int:
    """Downloads files, each to its place; returns how many bytes came."""
    from huggingface_hub.utils import build_hf_headers

    check_space(folder, wanted)
    headers = dict(build_hf_headers(library_name="vidvec"))
    came = 0
    for file, destination in wanted:
        try:
            came += fetch_file(_url(listing, file), file, destination, headers)
        except VidvecError:
            raise
        except Exception as error:  # connections fail in many ways
            said = explain(error, listing.source, listing.kind == "frames")
            if not isinstance(said, OfflineError):
                raise
            part = partial_path(destination)
            have = part.stat().st_size if part.is_file() else 0
            of = f" of {file.size:,}" if file.size is not None else ""
            raise OfflineError(
                f"{listing.source}: {file.name} broke off after {have:,}{of} bytes "
                f"({type(error).__name__}). What came is kept: the same command carries on"
            ) from None
    return came


def _claim(listing: Listing, to: Path) -> None:
    """Refuses a folder that holds anything else, and marks it as this model's."""
    if to.exists() and not to.is_dir():
        raise UsageError(f"--to {to} is a file, expected a folder")
    if (to / storage.MANIFEST).is_file():
        source = storage.read_manifest(to, FOLDER_KIND).get("source")
        if source != listing.source:
            raise UsageError(f"--to {to} holds {source}, not {listing.source}: give another folder")
    elif to.is_dir() and any(to.iterdir()):
        raise UsageError(f"--to {to} holds something else: give a new or an empty folder")
    _write_claim(listing, to, [])


def _write_claim(listing: Listing, to: Path, files: list[dict[str, object]]) -> None:
    """Writes the folder's manifest; one without files belongs to a download that is under way."""
    storage.write_manifest(
        to,
        FOLDER_KIND,
        source=listing.source,
        reads=listing.kind,
        revision=listing.commit,
        files=files,
    )


def _checked_folder(folder: Path, kind: Kind) -> Download:
    """Holds a folder against its manifest, or, where it has none, against what is needed.

    Raises:
        FormatError: A file is missing or damaged.
        UsageError: A file that is needed is missing, and no manifest says what belongs there.
    """
    source, files = str(folder), []
    if (folder / storage.MANIFEST).is_file():
        manifest = storage.read_manifest(folder, FOLDER_KIND)
        source = str(manifest["source"])
        files = [HubFile(each["name"], each["bytes"], each["digest"]) for each in manifest["files"]]
        if not files:
            raise FormatError(
                f"{folder} is not whole: its download was stopped. Run `vidvec download {source} "
                f"--to {folder}` again where the hub can be reached"
            )
    checked = bool(files)
    if not checked:
        names = [each.relative_to(folder).as_posix() for each in folder.rglob("*")]
        files = [HubFile(name) for name in choose(names, kind, str(folder))]
    for file in files:
        if wrong := fault(folder / file.name, file):
            raise FormatError(
                f"{folder / file.name} {wrong}: copy it again, or run `vidvec download {source} "
                "--to FOLDER` where the hub can be reached"
            )
    sizes = tuple((f.name, (folder / f.name).stat().st_size, "was there") for f in files)
    return Download(str(folder), folder, sizes, 0, checked, reached=False)


def _report(listing: Listing, folder: Path, done: dict[str, str], came: int) -> Download:
    sizes = ((name, (folder / name).stat().st_size, what) for name, what in done.items())
    checked = all(file.digest or file.size is not None for file in listing.files)
    return Download(listing.source, folder, tuple(sizes), came, checked, listing.reached)


def _refuse_offline(listing: Listing, what: str) -> None:
    if not listing.reached:
        raise FormatError(
            f"{what}, and the hub cannot be reached: run `vidvec download {listing.source}` again "
            "where it can, or set HF_ENDPOINT to a hub or mirror that can be reached"
        )


def _url(listing: Listing, file: HubFile) -> str:
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(listing.name, file.name, revision=listing.commit))
