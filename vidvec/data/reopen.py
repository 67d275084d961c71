"""Encoders opened again by what a corpus or a model says of them.

An identity names the model and fixes its content, but not where its file lies. Corpora and feature
sets note that beside it (``made_with``). What is opened is held against the identity, so that a
file that has moved or has other content is an error and never other features.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vidvec import storage
from vidvec.data.audio import AudioEncoder, open_audio_encoder
from vidvec.data.frames import (
    SHORT_NAMES,
    FrameEncoder,
    describe,
    difference,
    open_frame_encoder,
    same_encoder,
)
from vidvec.errors import MissingExtraError, UsageError, VidvecError


def absolute_spec(spec: str) -> str:
    """A spec of an encoder that means the same from any folder."""
    spec = SHORT_NAMES.get(spec, spec)
    kind, _, name = spec.partition(":")
    return f"{kind}:{Path(name).resolve()}" if name and Path(name).exists() else spec


def noted_specs(corpus: Path, kind: str = "encoder") -> list[str]:
    """Specs of the encoders that made a corpus's features, as it and its feature sets note them.

    Args:
        corpus: The folder; one that is gone has none.
        kind: ``encoder``: of frames; ``audio``.
    """
    paths = [corpus / storage.MANIFEST, *sorted(corpus.glob(f"features/*/{storage.MANIFEST}"))]
    manifests = [storage.read_json(path) for path in paths if path.is_file()]
    noted = [manifest.get("made_with", {}).get(kind, "") for manifest in manifests]
    return [spec for spec in dict.fromkeys(noted) if spec]


def reopen_frame_encoder(identity: dict[str, Any], specs: Sequence[str] = ()) -> FrameEncoder:
    """The frame encoder of an identity.

    Args:
        identity: As a checkpoint or corpus holds it.
        specs: Where it may be, ``onnx:FILE`` or ``hf:FOLDER``; a name on the hub and encoders
            without weights are found without.

    Raises:
        UsageError: None of them is that encoder; says what was found.
        MissingExtraError: The library that runs it is not installed.
    """
    kind, _, _ = str(identity["name"]).partition(":")
    options = dict(identity.get("preprocessing", {})) if kind == "onnx" else {}
    precision = identity.get("precision", "float32")
    found: list[str] = []
    for spec in _candidates(identity, specs):
        try:
            encoder = open_frame_encoder(spec, options=options, precision=precision)
        except MissingExtraError:
            raise
        except VidvecError as error:
            found.append(str(error))
            continue
        # Through JSON, as the identity to compare with is.
        opened = json.loads(json.dumps(encoder.identity))
        if _same_but_for_name(opened, identity):
            return encoder
        found.append(f"{spec} is {describe(opened)}{difference(opened, identity)}")
    raise _not_found("frames", identity, found, "give its file or folder with --encoder")


def reopen_audio_encoder(identity: dict[str, Any], specs: Sequence[str] = ()) -> AudioEncoder:
    """The audio encoder of an identity; see ``reopen_frame_encoder``."""
    found: list[str] = []
    for spec in _candidates(identity, specs):
        try:
            encoder = open_audio_encoder(spec)
        except MissingExtraError:
            raise
        except VidvecError as error:
            found.append(str(error))
            continue
        opened = {} if encoder is None else json.loads(json.dumps(encoder.identity))
        if encoder is not None and _same_but_for_name(opened, identity):
            return encoder
        found.append(f"{spec} is {describe(opened) if opened else 'no encoder'}")
    raise _not_found("audio", identity, found, "put the model back where it was")


def _candidates(identity: dict[str, Any], specs: Iterable[str]) -> list[str]:
    """Specs that may be the encoder: those given of its kind, then its name."""
    name = str(identity["name"])
    kind, _, rest = name.partition(":")
    own = [] if kind in ("onnx", "precomputed", "none", "made", "made sound") else [name]
    given = [SHORT_NAMES.get(spec, spec) for spec in specs]
    fitting = [spec for spec in given if spec.partition(":")[0] == kind and spec != name]
    # Whichever is named alike goes first: opening another for nothing costs seconds.
    fitting.sort(key=lambda spec: Path(spec.partition(":")[2]).name != rest)
    return list(dict.fromkeys([*fitting, *own]))


def _same_but_for_name(opened: dict[str, Any], identity: dict[str, Any]) -> bool:
    """A file may have another name: the revision is of its content."""
    return same_encoder({**opened, "name": identity["name"]}, identity)


def _not_found(
    what: str, identity: dict[str, Any], found: Sequence[str], advice: str
) -> UsageError:
    name = identity["name"]
    if name == "precomputed":
        return UsageError(
            f"the models read {what} that were computed elsewhere, by an encoder that is not "
            "known: files cannot be looked for"
        )
    tried = "; ".join(found) or f"the corpus does not note where {name} is"
    return UsageError(f"{what} of {describe(identity)} cannot be made here: {tried}; {advice}")
