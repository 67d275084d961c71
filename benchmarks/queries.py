"""What queries cost, and whether a picture of a clip finds the clip.

    python -m benchmarks.queries VECTORS CORPUS

Times are of this process's CPU, with one thread for products, as a server has them. A clip's
picture is a frame from behind its middle as a JPEG file: whole, and as somebody might have cut and
saved it (the middle 80 %, half as large, quality 60).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vidvec.config import Modality
from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors
from vidvec.search.explain import explain
from vidvec.search.query import QueryEncoder

TITLES = (1, 8, 32, 128)
HITS = 20
VIEWS: tuple[tuple[Modality, ...], ...] = ((), ("frames",), ("title",), ("frames",), ("title",))


def cpu_ms(act: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU time of this process, after one run that does not count."""
    act()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        act()
        times.append(time.process_time() - began)
    return 1e3 * float(np.median(times))


def costs(vectors: Vectors, corpus: Corpus) -> None:
    """Prints what words and reasons cost."""

    def fresh(cosines: list[float] | None) -> float:
        """Explaining with nothing known of the videos: each time by another encoder."""
        times = []
        for _ in range(3):
            with QueryEncoder.load(vectors.path) as encoder:
                encoder.videos(encoder.of_corpus(corpus, ids))
                times.append(cpu_ms_once(lambda: explain(encoder, corpus, query, ids, cosines)))
        return float(np.median(times))

    with QueryEncoder.load(vectors.path) as encoder:
        for count in TITLES:
            words = [f"a person cooking {number}" for number in range(count)]
            print(f"{count} titles: {cpu_ms(lambda: encoder.titles(words)):.1f} ms")  # noqa: B023
        [query] = encoder.titles(["a person cooking"])
        cosines = vectors.matrix @ query
        ids = [vectors.ids[row] for row in np.argsort(-cosines)[:HITS]]
        known = np.sort(cosines)[::-1][:HITS].tolist()
        again = cpu_ms(lambda: explain(encoder, corpus, query, ids, known))
        plain = cpu_ms_once(lambda: one_by_one(encoder, corpus, ids))
    print(f"why of {len(ids)} hits: {fresh(None):.0f} ms, {fresh(known):.0f} ms where their")
    print(
        f"  cosines are given, {again:.1f} ms where all were seen before, {plain:.0f} ms by a loop"
    )


def one_by_one(encoder: QueryEncoder, corpus: Corpus, ids: list[str]) -> None:
    """Each video whole, through each of frames and title alone, and without each, by itself."""
    for video in encoder.of_corpus(corpus, ids):
        for left in VIEWS:
            encoder.videos([video], left)


def cpu_ms_once(act: Callable[[], object]) -> float:
    """CPU time of this process."""
    began = time.process_time()
    act()
    return 1e3 * (time.process_time() - began)


def frame_of(file: str) -> NDArray[np.uint8]:
    """(height, width, 3) BGR, a frame from behind the middle."""
    with av.open(file) as container:
        frames = list(container.decode(video=0))
    picture: NDArray[np.uint8] = frames[int(0.55 * len(frames))].to_ndarray(format="bgr24")
    return picture


def recalls(vectors: Vectors, corpus: Corpus) -> None:
    """Prints how often a picture finds its clip, by the vectors and by plain means of frames."""
    means = np.stack([mean_of(corpus.frames(corpus.row(video))) for video in vectors.ids])
    files = [corpus.video(corpus.row(video)).file for video in vectors.ids]
    ranks: dict[str, list[int]] = {}
    with QueryEncoder.load(vectors.path) as encoder, tempfile.TemporaryDirectory() as folder:
        for row, file in enumerate(files):
            picture = frame_of(file)
            tall, wide = picture.shape[0] // 10, picture.shape[1] // 10
            part = cv2.resize(picture[tall:-tall, wide:-wide], None, fx=0.5, fy=0.5)
            for name, image, quality in (("whole", picture, 85), ("cut", part, 60)):
                path = Path(folder) / "picture.jpg"
                cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
                video = encoder.read(path)
                cosines = vectors.matrix @ encoder.videos([video])[0]
                ranks.setdefault(f"{name}, vectors", []).append(rank(cosines, row))
                plain = means @ mean_of(video.frames)
                ranks.setdefault(f"{name}, mean of frames", []).append(rank(plain, row))
    for name, found in ranks.items():
        first, five = (float(np.mean(np.array(found) < k)) for k in (1, 5))
        print(f"{name}: its clip comes first {first:.3f}, among five {five:.3f}")


def mean_of(frames: NDArray[np.float16]) -> NDArray[np.float64]:
    """(D,) mean of frames, of length 1."""
    mean = frames.astype(np.float64).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def rank(cosines: NDArray[np.floating], row: int) -> int:
    """How many are nearer than the right one."""
    return int((cosines > cosines[row]).sum())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("corpus", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    vectors, corpus = Vectors(given.vectors), Corpus(given.corpus)
    costs(vectors, corpus)
    recalls(vectors, corpus)


if __name__ == "__main__":
    main()
