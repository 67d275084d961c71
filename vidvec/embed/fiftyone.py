"""Vectors as a dataset of FiftyOne: video files with their tags, titles and vectors.

    OUT/
      metadata.json     media type, and where the vectors come from
      samples.json      a sample a video, as FiftyOne's ``Sample.to_dict`` gives it
      frames/none.json  labels of frames: none

The form is the one that FiftyOne documents as ``LegacyFiftyOneDataset``, which its importer takes
wherever ``metadata.json`` names no version. It is made of FiftyOne's public records alone, where
the newer one is an image of its database, which changes with the version:

    import fiftyone as fo
    dataset = fo.Dataset.from_dir("OUT", dataset_type=fo.types.FiftyOneDataset)

A vector is a ``VectorField`` ``embedding``: a NumPy file, compressed with zlib, as MongoDB's
extended JSON has binary data. FiftyOne keeps the name ``id`` for itself; ours is ``video_id``.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec import storage
from vidvec.data.corpus import Corpus
from vidvec.embed.vectors import Vectors

NO_FRAMES = "frames/none.json"


def write_fiftyone(vectors: Vectors, corpus: Corpus, out: Path) -> dict[str, int]:
    """Writes the dataset; videos without a file that stays are left out, as FiftyOne shows files.

    Args:
        vectors: Of the videos.
        corpus: Says where their files are.
        out: The folder.

    Returns:
        ``vectors``: how many were written; ``left_out``: how many have no file.
    """
    (out / NO_FRAMES).parent.mkdir(parents=True)
    (out / NO_FRAMES).write_text('{"frames": {}}\n', "utf-8")
    where, unit = str(vectors.path.resolve()), vectors.normalised
    info = {"made_by": "vidvec", "vectors": where, "normalised": unit}
    storage.write_json(out / "metadata.json", {"media_type": "video", "info": info})
    written = 0
    with (out / "samples.json").open("w", encoding="utf-8") as file:
        file.write('{"samples": [')
        for ids, matrix in vectors.shards():
            for video_id, vector in zip(ids, matrix, strict=True):
                sample = _sample(corpus, video_id, vector)
                if sample is not None:
                    file.write((",\n" if written else "\n") + json.dumps(sample))
                    written += 1
        file.write("\n]}\n")
    return {"vectors": written, "left_out": len(vectors) - written}


def _sample(corpus: Corpus, video_id: str, vector: NDArray[np.float32]) -> dict[str, Any] | None:
    """One sample; ``None`` where the video has no file."""
    video = corpus.video(corpus.row(video_id)) if video_id in corpus else None
    if video is None or not video.file:
        return None
    texts = {"title": video.title, "category": video.category, "language": video.language}
    return {
        "filepath": video.file,
        "tags": list(dict.fromkeys(video.tags or ())),
        "metadata": None,
        "video_id": video_id,
        **{name: text for name, text in texts.items() if text},
        "embedding": binary(vector),
        "frames": NO_FRAMES,
    }


def binary(vector: NDArray[np.float32]) -> dict[str, Any]:
    """A vector (E,) as FiftyOne stores it, in MongoDB's extended JSON."""
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(vector), allow_pickle=False)
    packed = base64.b64encode(zlib.compress(file.getvalue())).decode("ascii")
    return {"$binary": {"base64": packed, "subType": "00"}}
