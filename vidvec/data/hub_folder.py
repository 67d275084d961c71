"""The folder of a transformers model: on this disk, in the hub's local cache, or fetched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vidvec.errors import MissingExtraError, OfflineError, UsageError

# Never pickled weights: loading those runs code.
MODEL_FILES = (
    "config.json",
    "*processor_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
)


def model_folder(
    source: str,
    what: str,
    *,
    files: Sequence[str] = MODEL_FILES,
    expected: str = "config.json, preprocessor_config.json and model.safetensors",
) -> str:
    """The local folder, or the hub's files in the local cache, fetched where they are not there.

    Args:
        source: A folder, or a name on the hub with ``@revision`` where wanted.
        what: Kind of model, for messages.
        files: Patterns of the files that are needed.
        expected: The same in words.

    Raises:
        UsageError: It is no folder, and no model on the hub that anybody may have.
        MissingExtraError: huggingface_hub is not installed.
        OfflineError: It is no folder, and the hub cannot be reached.
    """
    if Path(source).is_dir():
        return source
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hf") from None
    name, _, revision = source.partition("@")
    try:
        return str(
            huggingface_hub.snapshot_download(
                name, revision=revision or None, allow_patterns=list(files)
            )
        )
    except errors.GatedRepoError:
        raise UsageError(
            f"{what} hf:{source}: its owner gives it only to those who accept its licence: "
            f"do so on the page of {name} on the hub, then log in (hf auth login) or set HF_TOKEN"
        ) from None
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    ) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UsageError(
            f"{what} hf:{source}: it is no folder on this disk and no model on the hub ({reason})"
        ) from None
    except Exception as error:  # connections fail in many ways
        hub = os.environ.get("HF_ENDPOINT", "not set")
        raise OfflineError(
            f"no {what} hf:{source}: it is no folder on this disk, not in the local cache, "
            f"and the hub (HF_ENDPOINT: {hub}) did not give it ({type(error).__name__}). Set "
            f"HF_ENDPOINT to a hub that can be reached, or give a folder with {expected}: hf:FOLDER"
        ) from None
