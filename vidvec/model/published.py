"""Names of weights elsewhere, Hugging Face models and the published checkpoints, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# BERT's names (after the trunk's prefix) and ours. Query, key and value are joined afterwards.
_BERT_NAMES = (
    (r"embeddings\.word_embeddings\.weight", "encoder.word.weight"),
    (r"embeddings\.position_embeddings\.(\w+)", r"encoder.token_embedding.position.\1"),
    (r"embeddings\.token_type_embeddings\.(\w+)", r"encoder.token_embedding.token_type.\1"),
    (r"embeddings\.LayerNorm\.(\w+)", r"encoder.token_embedding.norm.\1"),
    (r"video_fc\.(\w+)", r"encoder.frame_projection.\1"),
    (r"video_embeddings\.position_embeddings\.(\w+)", r"encoder.frame_embedding.position.\1"),
    (r"video_embeddings\.token_type_embeddings\.(\w+)", r"encoder.frame_embedding.token_type.\1"),
    (r"video_embeddings\.LayerNorm\.(\w+)", r"encoder.frame_embedding.norm.\1"),
    (
        r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.(\w+)",
        r"encoder.blocks.\1.\2.\3",
    ),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", r"encoder.blocks.\1.out.\2"),
    (
        r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.(\w+)",
        r"encoder.blocks.\1.attention_norm.\2",
    ),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(\w+)", r"encoder.blocks.\1.up.\2"),
    (r"encoder\.layer\.(\d+)\.output\.dense\.(\w+)", r"encoder.blocks.\1.down.\2"),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm\.(\w+)", r"encoder.blocks.\1.ffn_norm.\2"),
)
_HEAD_NAMES = (
    (r"predictions\.transform\.dense\.(\w+)", r"inner.\1"),
    (r"predictions\.transform\.LayerNorm\.(\w+)", r"norm.\1"),
    (r"predictions\.decoder\.weight", "decoder.weight"),
    (r"predictions\.bias", "decoder.bias"),
)
# ModernBERT's names (after its prefix) and ours.
_MODERN_NAMES = (
    (r"embeddings\.tok_embeddings\.weight", "encoder.word.weight"),
    (r"embeddings\.norm\.weight", "encoder.token_embedding.norm.weight"),
    (r"layers\.(\d+)\.attn_norm\.weight", r"encoder.blocks.\1.attention_norm.weight"),
    (r"layers\.(\d+)\.attn\.Wqkv\.weight", r"encoder.blocks.\1.qkv.weight"),
    (r"layers\.(\d+)\.attn\.Wo\.weight", r"encoder.blocks.\1.out.weight"),
    (r"layers\.(\d+)\.mlp_norm\.weight", r"encoder.blocks.\1.ffn_norm.weight"),
    (r"layers\.(\d+)\.mlp\.Wi\.weight", r"encoder.blocks.\1.up.weight"),
    (r"layers\.(\d+)\.mlp\.Wo\.weight", r"encoder.blocks.\1.down.weight"),
    (r"final_norm\.weight", "encoder.final_norm.weight"),
)
_MODERN_HEAD_NAMES = (
    (r"head\.dense\.(\w+)", r"inner.\1"),
    (r"head\.norm\.weight", "norm.weight"),
    (r"decoder\.(\w+)", r"decoder.\1"),
)
_TOP_NAMES = (
    (r"newfc_hidden\.(\w+)", r"encoder.projection.\1"),
    (r"newfc_tag\.(\w+)", r"heads.tag.\1"),
    (r"newemb_att\.0\.(\w+)", r"encoder.pool.inner.\1"),
    (r"newemb_att\.2\.(\w+)", r"encoder.pool.score.\1"),
)
# Tensors that carry nothing: counting buffers, an unused word table of the frame embedding, and the
# decoder's bias, which repeats ``predictions.bias``.
_IGNORED = re.compile(
    r".*(position_ids|video_embeddings\.word_embeddings\.weight|predictions\.decoder\.bias)$"
    r"|.*(pooler|seq_relationship)\..*"
)


def our_name(name: str) -> str | None:
    """Vidvec's name for a parameter of a Hugging Face (Modern)BERT or a published checkpoint.

    Query, key and value come out as ``….query.weight`` and so on; ``translate`` joins them.
    ``None`` where the name is unknown.
    """
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    parts: tuple[tuple[str, tuple[tuple[str, str], ...], str], ...] = (
        (r"(?:roberta\.)?(?:bert\.)?", _BERT_NAMES, ""),
        (r"(?:roberta\.)?cls\.", _HEAD_NAMES, "heads.mlm."),
        (r"roberta_mvm_lm_header\.", _HEAD_NAMES, "heads.mfm."),
        (r"(?:model\.)?", _MODERN_NAMES, ""),
        ("", _MODERN_HEAD_NAMES, "heads.mlm."),
        ("", _TOP_NAMES, ""),
    )
    for prefix, table, ours in parts:
        for pattern, replacement in table:
            match = re.fullmatch(prefix + pattern, name)
            if match:
                return ours + match.expand(replacement)
    return None


def translate(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of a Hugging Face (Modern)BERT or a published checkpoint, by vidvec's names.

    Returns:
        Tensors by our names, and the names that mean nothing to vidvec.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, tensor in tensors.items():
        ours = our_name(name)
        if ours is not None:
            renamed[ours] = tensor
        elif not _IGNORED.fullmatch(name):
            unknown.append(name)
    for name in [name for name in renamed if ".query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in renamed for part in parts):
            joined = torch.cat([renamed.pop(part) for part in parts])
            renamed[name.replace(".query.", ".qkv.")] = joined
    return renamed, sorted(unknown)
