"""What is said in a video, by a speech recogniser of Whisper's family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.hub_folder import MODEL_FILES, model_folder
from vidvec.data.sound import SAMPLE_RATE
from vidvec.data.torch_frames import torch_device
from vidvec.errors import MissingExtraError, UsageError

MAX_SECONDS = 1800.0  # of a video that are transcribed: half an hour is 57 MB of samples
CHUNK_SECONDS = 30
# A chunk ends where it is quietest in its last seconds, so that no word is cut in two.
_SEARCH_SECONDS = 5.0
_QUIET_SECONDS = 0.1
# Below −60 dB nobody speaks, and Whisper makes words up.
_SILENT = 1e-3
_BATCH = 8
_FILES = (
    *MODEL_FILES,
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_EXPECTED = (
    "config.json, generation_config.json, preprocessor_config.json, tokenizer.json and "
    "model.safetensors"
)


@dataclass(frozen=True, slots=True)
class Speech:
    """What was said.

    Attributes:
        text: All chunks, joined by spaces; empty where nobody speaks.
        language: Code of the language that was heard, such as ``zh``; empty where the model does
            not say.
    """

    text: str
    language: str


class SpeechRecognizer:
    """Transcribes sound with a transformers model that makes text from it.

    Attributes:
        languages: Codes of the languages that it tells apart, with their tokens; empty where it
            knows only one.
    """

    def __init__(self, source: str) -> None:
        """Loads the model.

        Args:
            source: A local folder, or a name on the hub with ``@revision`` where wanted.

        Raises:
            UsageError: The folder or name holds no such model in safetensors.
            MissingExtraError: transformers is not installed.
            OfflineError: The model is not on this disk and the hub cannot be reached.
        """
        self._model, self._processor = _load(source)
        self._device = torch_device()
        self._model.eval().to(self._device)
        self._rate = int(self._processor.feature_extractor.sampling_rate)
        if self._rate != SAMPLE_RATE:
            raise UsageError(
                f"hf:{source} takes sound at {self._rate} Hz, expected {SAMPLE_RATE} Hz"
            )
        settings = self._model.generation_config
        tokens = getattr(settings, "lang_to_id", None) or {}
        several = getattr(settings, "is_multilingual", False) and len(tokens) > 1
        self.languages: dict[str, int] = {
            token.strip("<|>"): number for token, number in tokens.items() if several
        }

    def transcribe(self, samples: NDArray[np.int16], language: str = "") -> Speech:
        """Transcribes the sound of one video.

        Args:
            samples: (n,) int16 at 16 kHz, mono.
            language: The language spoken, as a BCP 47 code; empty, or one that the model does not
                know: the model decides, by the first chunk in which there is sound.
        """
        chunks = [chunk for chunk in split(_floats(samples)) if _is_loud(chunk)]
        if not chunks:
            return Speech("", "")
        known = language.partition("-")[0].casefold()
        if known not in self.languages:
            known = self._language(chunks[0]) if self.languages else ""
        texts: list[str] = []
        for start in range(0, len(chunks), _BATCH):
            texts += self._texts(chunks[start : start + _BATCH], known)
        return Speech(" ".join(text for text in texts if text), known)

    def _inputs(self, chunks: Sequence[NDArray[np.float32]]) -> Any:
        extract = self._processor.feature_extractor
        inputs = extract(
            list(chunks), sampling_rate=self._rate, return_tensors="pt", return_attention_mask=True
        )
        return inputs.to(self._device)

    def _language(self, chunk: NDArray[np.float32]) -> str:
        import torch

        with torch.inference_mode():
            found = self._model.detect_language(self._inputs([chunk]).input_features)
        code = {number: code for code, number in self.languages.items()}
        return code.get(int(found[0]), "")

    def _texts(self, chunks: Sequence[NDArray[np.float32]], language: str) -> list[str]:
        import torch

        inputs = self._inputs(chunks)
        # One call a language: the token that begins each text says it, and the task.
        asked = {"language": language, "task": "transcribe"} if language else {}
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, **asked)
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]


def split(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Cuts sound into chunks of at most 30 s, each ending where it is quietest in its last 5 s.

    Args:
        samples: (n,) at 16 kHz.

    Yields:
        Parts that follow one another and are all of it.
    """
    longest, quiet = CHUNK_SECONDS * SAMPLE_RATE, round(_QUIET_SECONDS * SAMPLE_RATE)
    while len(samples) > longest:
        search = samples[longest - round(_SEARCH_SECONDS * SAMPLE_RATE) : longest]
        loudness = np.square(search, dtype=np.float64).reshape(-1, quiet).mean(axis=1)
        # The last one of several that are as quiet.
        place = len(loudness) - 1 - int(np.argmin(loudness[::-1]))
        end = longest - len(search) + place * quiet + quiet // 2
        yield samples[:end]
        samples = samples[end:]
    if len(samples):
        yield samples


def _floats(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(32767)


def _is_loud(chunk: NDArray[np.float32]) -> bool:
    """Whether any tenth of a second of a chunk is loud enough for speech."""
    quiet = round(_QUIET_SECONDS * SAMPLE_RATE)
    parts = np.pad(chunk, (0, -len(chunk) % quiet)).reshape(-1, quiet)
    return bool(np.sqrt(np.square(parts).mean(axis=1)).max() >= _SILENT)


def _load(source: str) -> tuple[Any, Any]:
    """Model and processor."""
    try:
        import torch
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    folder = model_folder(source, "speech recogniser", files=_FILES, expected=_EXPECTED)
    transformers.utils.logging.disable_progress_bar()
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, **common)
        model, report = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **common
        )
    except Exception as error:  # whatever a foreign folder makes the library raise
        reason = str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
        raise UsageError(
            f"hf:{source} cannot be opened as a transformers speech recogniser ({reason}); "
            f"expected {_EXPECTED} in {folder}"
        ) from None
    if not hasattr(processor, "feature_extractor") or not hasattr(processor, "batch_decode"):
        raise UsageError(f"hf:{source} is no speech recogniser: it lacks a tokenizer")
    # The output shares the decoder's embedding, and is not stored.
    if lost := [key for key in sorted(report["missing_keys"]) if key != "proj_out.weight"]:
        raise UsageError(
            f"hf:{source} lacks {len(lost)} of its model's weights, such as {lost[0]}; they would "
            "be random"
        )
    return model, processor
