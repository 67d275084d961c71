"""Any transformers audio model as an audio encoder."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidvec.data.hub_folder import model_folder
from vidvec.data.sound import SAMPLE_RATE, WINDOW_SECONDS, AudioWindows
from vidvec.data.torch_frames import digest, torch_device
from vidvec.errors import MissingExtraError, UsageError

_SETTINGS_LEFT_OUT = ("processor_class", "_processor_class", "image_processor_type")
# Weights that nothing but training reads.
_UNUSED = ("pooler", "masked_spec_embed")


class HuggingFaceAudioEncoder:
    """Runs a transformers audio model on seconds of sound, with its own feature extractor.

    The feature is, in this order: the embedding of a speaker model (``…ForXVector``: the TDNN on a
    WavLM, say); the projected audio feature of a model that also reads text (CLAP); the pooled
    output (AST); the mean of the last layer over the second. Of a model that transcribes, as
    Whisper, the encoder runs. A pooler whose weights the checkpoint lacks is not used, for it would
    be random.

    Attributes:
        identity: Name, SHA-256 of the weights, preprocessing and width, JSON-able.
        frame_size: K.
    """

    def __init__(self, source: str) -> None:
        """Loads the model and runs it once, on a second of silence.

        Args:
            source: A local folder, or a name on the hub with ``@revision`` where wanted.

        Raises:
            UsageError: The folder or name holds no audio model in safetensors.
            MissingExtraError: transformers is not installed.
            OfflineError: The model is not on this disk and the hub cannot be reached.
        """
        model, self._extractor, self._missing = _load(source)
        revision = digest(model)
        self._device = torch_device()
        self._model = model.eval().to(self._device)
        self._rate = int(self._extractor.sampling_rate)
        silence = AudioWindows([np.zeros(SAMPLE_RATE, np.float32)], np.zeros(1, np.float32))
        self.frame_size = 0
        try:
            self.frame_size = self.encode(silence).shape[1]
        except Exception as error:  # whatever a foreign model raises
            raise UsageError(
                f"hf:{source} ({type(model).__name__}) cannot be used as an audio encoder: it "
                f"does not give a feature for a second of sound ({error})"
            ) from None
        name = Path(source).resolve().name if Path(source).is_dir() else source
        settings = self._extractor.to_dict()
        used = {k: v for k, v in settings.items() if k not in _SETTINGS_LEFT_OUT}
        self.identity: dict[str, Any] = {
            "name": f"hf:{name}",
            "revision": revision,
            "preprocessing": json.loads(json.dumps({**used, "seconds": WINDOW_SECONDS})),
            "frame_size": self.frame_size,
        }

    def encode(self, windows: AudioWindows) -> NDArray[np.float32]:
        """Encodes windows of sound; those that are shorter are filled up with silence.

        Returns:
            (A, K) float32.
        """
        import torch

        if not windows.samples:
            return np.zeros((0, self.frame_size), np.float32)
        length = round(WINDOW_SECONDS * SAMPLE_RATE)
        full = [np.pad(some, (0, length - len(some))) for some in windows.samples]
        heard = [_resampled(some, self._rate) for some in full]
        inputs = self._extractor(heard, sampling_rate=self._rate, return_tensors="pt")
        given = {name: value.to(self._device) for name, value in inputs.items()}
        with torch.inference_mode():
            features = self._features(given).float().cpu().numpy()
        return np.asarray(features, np.float32)

    def _features(self, inputs: dict[str, Any]) -> Any:
        """(A, K) tensor."""
        if hasattr(self._model, "get_audio_features"):
            return self._model.get_audio_features(**inputs).pooler_output
        transcribes = self._model.config.is_encoder_decoder
        output = (self._model.get_encoder() if transcribes else self._model)(**inputs)
        if "embeddings" in output:
            return output.embeddings
        pooled = output.get("pooler_output")
        if pooled is not None and not any("pooler" in name for name in self._missing):
            return pooled.flatten(1)
        last = output.last_hidden_state
        # Whisper's extractor fills up to 30 s: what follows the second is padding.
        filled = getattr(self._extractor, "chunk_length", None) or WINDOW_SECONDS
        share = min(1.0, WINDOW_SECONDS / filled)
        return last[:, : max(1, math.ceil(share * last.shape[1]))].mean(dim=1)


def _load(source: str) -> tuple[Any, Any, list[str]]:
    """Model, feature extractor, and names of weights that the checkpoint lacks."""
    try:
        import torch
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", "hf") from None
    folder = model_folder(source, "audio encoder")
    transformers.utils.logging.disable_progress_bar()
    common = {"local_files_only": True, "trust_remote_code": False}
    try:
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, **common)
        config = transformers.AutoConfig.from_pretrained(folder, **common)
        speaker = any(name.endswith("ForXVector") for name in config.architectures or ())
        kind = transformers.AutoModelForAudioXVector if speaker else transformers.AutoModel
        model, report = kind.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **common
        )
    except Exception as error:  # whatever a foreign folder makes the library raise
        reason = str(error).strip().split("\n", 1)[0].split(". ", 1)[0]
        raise UsageError(
            f"hf:{source} cannot be opened as a transformers audio model ({reason}); expected "
            f"config.json, preprocessor_config.json and model.safetensors in {folder}"
        ) from None
    if not hasattr(extractor, "sampling_rate"):
        found = f"{type(model).__name__} with {type(extractor).__name__}"
        raise UsageError(f"hf:{source} is no audio model: it is {found}")
    missing = sorted(report["missing_keys"])
    if lost := [key for key in missing if not any(name in key for name in _UNUSED)]:
        raise UsageError(
            f"hf:{source} lacks {len(lost)} of its model's weights, such as {lost[0]}; they would "
            "be random"
        )
    return model, extractor, missing


def _resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Sound at 16 kHz at another rate."""
    if rate == SAMPLE_RATE:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, SAMPLE_RATE)
    again = resample_poly(samples, rate // common, SAMPLE_RATE // common)
    return np.asarray(again, np.float32)
