"""A Whisper of a few thousand random numbers, saved as people's checkpoints are: its text is
nonsense, but always the same nonsense."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import pre_tokenizers
from transformers.models.whisper import WhisperTokenizer

LANGUAGES = ("en", "zh", "de")


def write_whisper(folder: Path, *, multilingual: bool = True, seed: int = 0) -> Path:
    """Writes model, tokenizer, feature extractor and generation settings."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    languages = [f"<|{code}|>" for code in LANGUAGES]
    tasks = ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special = ["<|startoftranscript|>", *languages, *tasks, "<|notimestamps|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    number = tokenizer.convert_tokens_to_ids
    # Token numbers behind <|notimestamps|> are times: 0.00 to 30.00 s in steps of 0.02.
    config = transformers.WhisperConfig(
        vocab_size=len(tokenizer) + 1501,
        num_mel_bins=8,
        encoder_layers=1,
        decoder_layers=1,
        d_model=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=32,
        decoder_start_token_id=number("<|startoftranscript|>"),
        eos_token_id=number("<|endoftext|>"),
        bos_token_id=number("<|endoftext|>"),
        pad_token_id=number("<|endoftext|>"),
    )
    torch.manual_seed(seed)
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 1.0)
    settings = model.generation_config
    settings._from_model_config = False  # else it is made anew when the model is loaded
    settings.max_length = 24
    settings.no_timestamps_token_id = number("<|notimestamps|>")
    settings.begin_suppress_tokens = [number("<|endoftext|>")]
    # Only letters that are text on their own, so that there is text to compare.
    plain = {number(letter) for letter in letters if letter.isascii()}
    settings.suppress_tokens = [
        token
        for token in range(config.vocab_size)
        if token not in {*plain, number("<|endoftext|>")}
    ]
    settings.is_multilingual = multilingual
    if multilingual:
        settings.lang_to_id = {token: number(token) for token in languages}
        settings.task_to_id = {task: number(f"<|{task}|>") for task in ("translate", "transcribe")}
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    return folder
