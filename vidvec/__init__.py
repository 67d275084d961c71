"""vidvec: one vector per video.

Public names, loaded when first used:

    Encoder                 a trained model: ``Encoder.load(path).encode([...])``
    Video, Pair             records
    Corpus, Vectors         open folders that other commands made
    read_video              a video file with its frame features
    ingest, pretrain, finetune, embed_corpus, evaluate, fuse, distill
                            the stages, as functions (``vidvec.embed`` is a package)
    soup                    the weights of several models, averaged
    SearchIndex, build_index, ExactIndex
                            search
    open_index              an index by its folder, or by its address in a cluster
    Client                  a running ``vidvec serve``
    import_vectors, export_vectors
                            vectors from and to elsewhere
    compress                vectors of fewer numbers and bits
    load_recipe, Recipe     recipes
    VidvecError             base of all errors
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Client": "vidvec.search.client",
    "Corpus": "vidvec.data.corpus",
    "Encoder": "vidvec.embed.embedder",
    "ExactIndex": "vidvec.search.index",
    "IngestOptions": "vidvec.data.ingest",
    "Pair": "vidvec.records",
    "Recipe": "vidvec.config",
    "SearchIndex": "vidvec.search.engine",
    "Vectors": "vidvec.embed.vectors",
    "Video": "vidvec.records",
    "VidvecError": "vidvec.errors",
    "build_index": "vidvec.search.engine",
    "compress": "vidvec.embed.compress",
    "distill": "vidvec.train.distill",
    "embed_corpus": "vidvec.embed.embedder:embed",
    "evaluate": "vidvec.embed.evaluate",
    "export_vectors": "vidvec.embed.export_vectors",
    "finetune": "vidvec.train.finetune",
    "fuse": "vidvec.embed.fusion",
    "import_vectors": "vidvec.embed.import_vectors",
    "ingest": "vidvec.data.ingest",
    "load_recipe": "vidvec.config",
    "open_index": "vidvec.search.interface",
    "pretrain": "vidvec.train.pretrain",
    "read_video": "vidvec.data.ingest",
    "soup": "vidvec.embed.soup",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list, made from the one place that names them


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidvec' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
