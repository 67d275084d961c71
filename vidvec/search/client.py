"""A client for ``vidvec serve``: what the server answers as records, its errors as ours.

>>> with Client("http://127.0.0.1:8000") as client:
...     for hit in client.search("a dog on a beach", k=3):
...         print(hit.cosine, hit.video.title)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vidvec.errors import BadRecord, MissingExtraError, ServerError, UsageError, VidvecError
from vidvec.search.found import (
    FoundGroup,
    FoundVideo,
    ScoredPair,
    ServerFacets,
    ServerInfo,
    read_hits,
    read_missing,
    read_video,
)
from vidvec.search.partial import Found
from vidvec.search.types import Filter, IndexedVideo

if TYPE_CHECKING:
    import httpx

__all__ = ["Client", "FoundGroup", "FoundVideo", "ScoredPair", "ServerFacets", "ServerInfo"]

Floats = NDArray[np.float32]

# A server that says when to ask again is asked again, unless that is later than this.
LONGEST_WAIT_SECONDS = 10.0
_ASK_AGAIN = (429, 503)
_OURS = ("unauthorised", "too-many-requests", "busy", "timed-out", "unreachable", "internal")


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
    ) -> Found[FoundVideo]:
        """Videos that are like words, like other videos, or like both, best first.

        Args:
            text: Words.
            ids: Videos, which are not found themselves.
            unlike_ids: Hits are to be unlike these.
            k: At most so many.
            filter: Which videos may be found.
            explain: Say why each was found.
            words: Look for the words in titles, not by vectors.

        Returns:
            What was found; its ``missing`` says which shards did not answer, where the server
            searches some.

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
        return _found(self._post("/api/v1/search", body))

    def search_file(
        self,
        file: Path,
        *,
        text: str = "",
        k: int = 20,
        filter: Filter = Filter(),  # noqa: A002, B008
        explain: bool = False,
    ) -> Found[FoundVideo]:
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
        return _found(self._upload("/api/v1/search/upload", file, form))

    def similar(
        self,
        ids: Sequence[str],
        *,
        k: int = 20,
        filter: Filter = Filter(),  # noqa: A002, B008
    ) -> dict[str, Found[FoundVideo]]:
        """The neighbours of each of these videos, itself left out."""
        body = {"ids": list(ids), "k": k, "filter": asdict(filter)}
        found = self._post("/api/v1/similar", body)
        missing = found["missing"]
        return {each["id"]: read_hits(each["hits"], missing) for each in found["results"]}

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
        return read_video(self._get("/api/v1/video", id=video_id))

    def neighbours(self, video_id: str, *, k: int = 20, explain: bool = False) -> Found[FoundVideo]:
        """The videos nearest to a video, itself left out."""
        return _found(self._get("/api/v1/video/neighbours", id=video_id, k=k, explain=explain))

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
        return ServerFacets(found["videos"], **counts, missing=read_missing(found["missing"]))

    def groups(self, threshold: float | None = None) -> Iterator[FoundGroup]:
        """Groups of near duplicates, largest first, page by page."""
        asked = {} if threshold is None else {"threshold": threshold}
        for each in self._pages("/api/v1/groups", "groups", 50, **asked):
            yield FoundGroup(tuple(read_hits(each["members"])))

    def pairs(self, split: str = "clean", *, explain: bool = False) -> Iterator[ScoredPair]:
        """Scored pairs, those first on which cosine and score disagree most, page by page."""
        for each in self._pages("/api/v1/pairs", "pairs", 50, split=split, explain=explain):
            videos = {name: read_video(each[name]) for name in ("video_1", "video_2")}
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
        _check(response, self._refused)
        return response

    @staticmethod
    def _refused(code: str, said: str, status: int) -> VidvecError:
        """The error of a request that the server does not answer."""
        return ServerError(code, said, status) if code in _OURS else UsageError(said)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        opened = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None
    with opened:
        yield opened


def _check(response: httpx.Response, refused: Callable[[str, str, int], VidvecError]) -> None:
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
    raise refused(code, said, response.status_code)


def _json(response: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = response.json()
    return found


def _found(answer: Mapping[str, Any]) -> Found[FoundVideo]:
    return read_hits(answer["hits"], answer["missing"])
