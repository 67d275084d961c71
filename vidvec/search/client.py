"""A client for ``vidvec serve``: what the server answers as records, its errors as ours.

>>> with Client("http://127.0.0.1:8000") as client:
...     for hit in client.search("a dog on a beach", k=3):
...         print(hit.cosine, hit.video.title)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, MissingExtraError, ServerError, UsageError
from vidvec.search.types import Filter, IndexedVideo, Why

if TYPE_CHECKING:
    import httpx

Floats = NDArray[np.float32]

# A server that says when to ask again is asked again, unless that is later than this.
LONGEST_WAIT_SECONDS = 10.0
_ASK_AGAIN = (429, 503)
_OURS = ("unauthorised", "too-many-requests", "busy", "timed-out", "unreachable", "internal")


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """A video that was found.

    Attributes:
        video: What is known of it; its ``file`` is the server's matter, and empty.
        pictures: How many pictures of it there are.
        cosine: Of its vector and the query's; of words, how well they fit.
        probability: That the two are similar; ``None`` where nothing was calibrated.
        why: ``None`` where it was not asked for.
    """

    video: IndexedVideo
    pictures: int
    cosine: float
    probability: float | None
    why: Why | None

    @property
    def id(self) -> str:
        """Of the video."""
        return self.video.id


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """Near duplicates, the one that stands for all first, with their cosine to it."""

    members: tuple[FoundVideo, ...]


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """A scored pair; see ``vidvec.search.worst.WorstPair``."""

    video_1: IndexedVideo
    video_2: IndexedVideo
    score: float
    cosine: float
    score_rank: float
    cosine_rank: float
    gap: float
    why: Mapping[str, float] | None


@dataclass(frozen=True, slots=True)
class ServerFacets:
    """What the videos that pass a filter have, by count: see ``SearchIndex.facets``."""

    videos: int
    tags: dict[str, int]
    categories: dict[str, int]
    languages: dict[str, int]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server has.

    Attributes:
        name: Of the folder of vectors.
        version: Of vidvec there.
        videos: How many there are.
        dimension: E.
        kind: Of the index.
        generation: Of the index.
        model: What made the vectors; ``None`` where it is not there.
        modalities: What it reads.
        can: What the server can do: text, upload, why, probability, map, pairs, groups, pictures.
        limits: k, upload_bytes, text_chars.
    """

    name: str
    version: str
    videos: int
    dimension: int
    kind: str
    generation: int
    model: str | None
    modalities: tuple[str, ...]
    can: dict[str, bool]
    limits: dict[str, int]


class Client:
    """A connection to a server; usable from several threads.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
        api_key: Where the server asks for one.
        timeout_seconds: To wait for an answer.
        retries: How often to ask again where the server is busy and says when.

    Raises:
        MissingExtraError: httpx is not installed.
    """

    def __init__(
        self, url: str, *, api_key: str = "", timeout_seconds: float = 60.0, retries: int = 3
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("httpx", "serve") from None
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._retries, self._url = retries, url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def info(self) -> ServerInfo:
        """What the server has."""
        found = self._get("/api/v1/info")
        return ServerInfo(**{**found, "modalities": tuple(found["modalities"])})

    def ready(self) -> bool:
        """Whether the server has loaded all it needs; raises where nothing answers."""
        try:
            return bool(self._send("GET", "/readyz", retries=0).is_success)
        except ServerError as error:
            if error.code == "busy":
                return False
            raise

    def search(
        self,
        text: str | None = None,
        *,
        ids: Sequence[str] = (),
        unlike_ids: Sequence[str] = (),
        k: int = 20,
        filter: Filter = Filter(),  # noqa: A002, B008 - the search's word for it; frozen
        explain: bool = False,
        words: bool = False,
    ) -> list[FoundVideo]:
        """Videos that are like words, like other videos, or like both, best first.

        Args:
            text: Words.
            ids: Videos, which are not found themselves.
            unlike_ids: Hits are to be unlike these.
            k: At most so many.
            filter: Which videos may be found.
            explain: Say why each was found.
            words: Look for the words in titles, not by vectors.

        Raises:
            UsageError: The server cannot use the request; its message says why.
            ServerError: It cannot be reached, is busy, or asks for another key.
        """
        body = {
            "ids": list(ids),
            "unlike_ids": list(unlike_ids),
            "k": k,
            "filter": asdict(filter),
            "explain": explain,
            "words": words,
        }
        if text is not None:
            body["text"] = text
        return _hits(self._post("/api/v1/search", body)["hits"])

    def search_file(
        self,
        file: Path,
        *,
        text: str = "",
        k: int = 20,
        filter: Filter = Filter(),  # noqa: A002, B008
        explain: bool = False,
    ) -> list[FoundVideo]:
        """Videos that are like a video file or a picture, and like words where there are some.

        Raises:
            BadRecord: The server cannot read the file.
            UsageError, ServerError: As ``search``.
        """
        import json

        form = {
            "text": text,
            "k": str(k),
            "filter": json.dumps(asdict(filter)),
            "explain": str(explain).lower(),
        }
        return _hits(self._upload("/api/v1/search/upload", file, form)["hits"])

    def similar(
        self,
        ids: Sequence[str],
        *,
        k: int = 20,
        filter: Filter = Filter(),  # noqa: A002, B008
    ) -> dict[str, list[FoundVideo]]:
        """The neighbours of each of these videos, itself left out."""
        body = {"ids": list(ids), "k": k, "filter": asdict(filter)}
        found = self._post("/api/v1/similar", body)["results"]
        return {each["id"]: _hits(each["hits"]) for each in found}

    def embed(self, texts: Sequence[str]) -> Floats:
        """(n, E) float32 unit vectors of texts, as of videos with these titles alone."""
        found = self._post("/api/v1/embed", {"texts": list(texts)})
        return np.array(found["vectors"], np.float32).reshape(-1, found["dimension"])

    def embed_file(self, file: Path, *, title: str = "") -> Floats:
        """(E,) float32 unit vector of a video file or a picture.

        Raises:
            BadRecord: The server cannot read the file.
        """
        found = self._upload("/api/v1/embed/upload", file, {"title": title})
        return np.array(found["vectors"][0], np.float32)

    def video(self, video_id: str) -> IndexedVideo:
        """What is known of a video."""
        return _video(self._get("/api/v1/video", id=video_id))

    def neighbours(self, video_id: str, *, k: int = 20, explain: bool = False) -> list[FoundVideo]:
        """The videos nearest to a video, itself left out."""
        found = self._get("/api/v1/video/neighbours", id=video_id, k=k, explain=explain)
        return _hits(found["hits"])

    def picture(self, video_id: str, number: int = 0) -> bytes:
        """A JPEG picture of a video, in time order from 0 on."""
        return bytes(
            self._send("GET", "/api/v1/picture", params={"id": video_id, "n": number}).content
        )

    def facets(self, filter: Filter = Filter()) -> ServerFacets:  # noqa: A002, B008
        """What the videos that pass a filter have: tags, categories, languages."""
        asked = {name: each for name, each in asdict(filter).items() if each or each == 0}
        found = self._get("/api/v1/facets", **asked)
        counts = {
            name: {each["value"]: each["count"] for each in found[name]}
            for name in ("tags", "categories", "languages")
        }
        return ServerFacets(found["videos"], **counts)

    def groups(self, threshold: float | None = None) -> Iterator[FoundGroup]:
        """Groups of near duplicates, largest first, page by page."""
        asked = {} if threshold is None else {"threshold": threshold}
        for each in self._pages("/api/v1/groups", "groups", 50, **asked):
            yield FoundGroup(tuple(_hits(each["members"])))

    def pairs(self, split: str = "clean", *, explain: bool = False) -> Iterator[ScoredPair]:
        """Scored pairs, those first on which cosine and score disagree most, page by page."""
        for each in self._pages("/api/v1/pairs", "pairs", 50, split=split, explain=explain):
            videos = {name: _video(each[name]) for name in ("video_1", "video_2")}
            yield ScoredPair(**{**each, **videos})

    def map(self) -> dict[str, Any]:
        """All videos in the plane: ``points`` and ``themes``, as in ``map.json``."""
        return self._get("/api/v1/map")

    def _pages(self, path: str, name: str, limit: int, **asked: Any) -> Iterator[dict[str, Any]]:
        offset, total = 0, 1
        while offset < total:
            found = self._get(path, offset=offset, limit=limit, **asked)
            yield from found[name]
            offset, total = offset + limit, found["total"]

    def _get(self, path: str, **params: Any) -> dict[str, Any]:
        return _json(self._send("GET", path, params=params))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _json(self._send("POST", path, json=body))

    def _upload(self, path: str, file: Path, form: Mapping[str, str]) -> dict[str, Any]:
        with _opened(file) as opened:
            return _json(self._send("POST", path, data=form, files={"file": (file.name, opened)}))

    def _send(
        self, method: str, path: str, *, retries: int | None = None, **request: Any
    ) -> httpx.Response:
        import httpx

        left = self._retries if retries is None else retries
        while True:
            try:
                response = self._http.request(method, path, **request)
            except httpx.HTTPError as error:
                raise ServerError(
                    "unreachable", f"no answer from {self._url}: {error or type(error).__name__}"
                ) from None
            wait = float(response.headers.get("retry-after", "inf"))
            again = response.status_code in _ASK_AGAIN and wait <= LONGEST_WAIT_SECONDS
            if response.is_success or not again or left <= 0:
                break
            time.sleep(wait)
            left -= 1
            for _, opened in request.get("files", {}).values():
                opened.seek(0)
        _check(response)
        return response


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        opened = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    with opened:
        yield opened


def _check(response: httpx.Response) -> None:
    """Raises the server's error as one of ours."""
    if response.is_success:
        return
    try:
        error = response.json()["error"]
        code, message, hint = error["code"], error["message"], error["hint"]
    except (ValueError, KeyError, TypeError):
        raise ServerError(
            "unreachable",
            f"{response.url} answers with status {response.status_code} and no error of vidvec's: "
            "is it a vidvec server?",
            response.status_code,
        ) from None
    if code == "bad-video":
        reason, _, detail = message.partition(": ")
        raise BadRecord(reason, detail)
    said = f"{message}: {hint}" if hint else message
    if code in _OURS:
        raise ServerError(code, said, response.status_code)
    raise UsageError(said)


def _json(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found


_KNOWN = ("id", "title", "category", "language", "duration_seconds", "date")


def _video(found: Mapping[str, Any]) -> IndexedVideo:
    return IndexedVideo(**{name: found[name] for name in _KNOWN}, tags=tuple(found["tags"]))


def _hits(found: Sequence[Mapping[str, Any]]) -> list[FoundVideo]:
    return [
        FoundVideo(
            _video(each),
            each["pictures"],
            each["cosine"],
            each["probability"],
            None if each["why"] is None else Why(each["why"]["alone"], each["why"]["lost"]),
        )
        for each in found
    ]
