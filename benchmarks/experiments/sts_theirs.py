"""The same model in sentence-transformers, with its own losses and its own trainer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from benchmarks.experiments.sts_data import Scored, Task
from vidvec import Encoder, Video, metrics
from vidvec.model.weights import VideoModel, checkpoint_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LOSSES = {
    "cosent": "CoSENTLoss",
    "angle": "AnglELoss",
    "cosine": "CosineSimilarityLoss",
}
BATCH = 128
HELD = "held"


def bert_folder(start: Path, folder: Path) -> Path:
    """Writes the trunk and tokenizer of a vidvec checkpoint as transformers reads a BERT.

    Args:
        start: A checkpoint or run of a BERT-shaped model.
        folder: Where to.
    """
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    encoder = Encoder.load(start, "cpu")
    model, config = encoder.model, encoder.model.recipe.model
    bert = BertModel(
        BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.ffn_size,
            max_position_embeddings=config.max_positions,
            type_vocab_size=config.type_vocab_size,
            layer_norm_eps=config.layer_norm_eps,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            pad_token_id=model.encoder.pad_id,
        ),
        add_pooling_layer=False,
    )
    bert.load_state_dict(bert_names(model))
    bert.save_pretrained(folder)
    tokens = Tokenizer.from_file(str(checkpoint_folder(start) / "tokenizer" / "tokenizer.json"))
    ends = {name: tokens.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokens.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=list(ends.items())
    )
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "pad", "unk", "mask")}
    PreTrainedTokenizerFast(
        tokenizer_object=tokens, model_max_length=config.max_tokens, **names
    ).save_pretrained(folder)
    return folder


def bert_names(model: VideoModel) -> dict[str, torch.Tensor]:
    """The weights of a BERT-shaped trunk by the names that transformers' ``BertModel`` has."""
    parts = {
        "out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "ffn_norm": "output.LayerNorm",
    }
    ours = {name: value.detach().clone() for name, value in model.encoder.named_parameters()}
    theirs = {
        "embeddings.word_embeddings.weight": ours["word.weight"],
        "embeddings.position_embeddings.weight": ours["token_embedding.position.weight"],
        "embeddings.token_type_embeddings.weight": ours["token_embedding.token_type.weight"],
        "embeddings.LayerNorm.weight": ours["token_embedding.norm.weight"],
        "embeddings.LayerNorm.bias": ours["token_embedding.norm.bias"],
    }
    for layer in range(model.recipe.model.layers):
        here, there = f"blocks.{layer}", f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            joined = ours[f"{here}.qkv.{kind}"].chunk(3)
            for name, value in zip(("query", "key", "value"), joined, strict=True):
                theirs[f"{there}.attention.self.{name}.{kind}"] = value.clone()
            for own, name in parts.items():
                theirs[f"{there}.{name}.{kind}"] = ours[f"{here}.{own}.{kind}"]
    return theirs


def sentence_transformer(folder: Path, start: Path) -> SentenceTransformer:
    """Trunk, mean pool and projection of a vidvec checkpoint.

    Args:
        folder: As ``bert_folder`` wrote it.
        start: The checkpoint, which has the projection.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

    projection = Encoder.load(start, "cpu").model.encoder.projection
    trunk = Transformer(str(folder))
    dense = Dense(
        projection.in_features,
        projection.out_features,
        activation_function=torch.nn.Identity(),
        init_weight=projection.weight.detach().clone(),
        init_bias=projection.bias.detach().clone(),
    )
    pool = Pooling(projection.in_features, "mean")
    return SentenceTransformer(modules=[trunk, pool, dense], device="cpu")


def largest_difference(start: Path, theirs: SentenceTransformer, titles: Sequence[str]) -> float:
    """Between token outputs and between vectors of both libraries, before any training."""
    ours = Encoder.load(start, "cpu")
    found = []
    for title in titles:
        batch = ours._assembled([Video(id="", title=title)])
        with torch.inference_mode():
            own = ours.model.encoder(batch)
            other = theirs(theirs.preprocess([title]))
        found += [
            (own.tokens - other["token_embeddings"][0]).abs().max(),
            (own.projected[0] - other["sentence_embedding"][0]).abs().max(),
        ]
    return float(torch.stack(found).max())


def cosines(model: SentenceTransformer, pairs: Sequence[Scored]) -> NDArray[np.float64]:
    """(P,) cosine of the two sentences of each pair."""
    sides = [[pair.first for pair in pairs], [pair.second for pair in pairs]]
    first, second = (model.encode(side, batch_size=BATCH) for side in sides)
    return metrics.cosines(first, second)


def fit(
    model: SentenceTransformer,
    loss: str,
    task: Task,
    folder: Path,
    settings: dict[str, Any],
) -> float:
    """Trains in place, with the epoch that ranks the held-out pairs best; returns its Spearman.

    Args:
        model: The start.
        loss: One of ``LOSSES``.
        task: Pairs to learn from and to choose by.
        folder: For its checkpoints.
        settings: Of ``SentenceTransformerTrainingArguments``, over those that all runs have.
    """
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    evaluator = EmbeddingSimilarityEvaluator(*_columns(task.held), batch_size=BATCH, name=HELD)
    columns = dict(zip(("sentence1", "sentence2", "score"), _columns(task.train), strict=True))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        lr_scheduler_type="cosine",
        use_cpu=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{HELD}_spearman_cosine",
        greater_is_better=True,
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        **settings,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(columns),
        loss=getattr(losses, LOSSES[loss])(model),
        evaluator=evaluator,
    )
    trainer.train()
    return float(trainer.state.best_metric)


def _columns(pairs: Sequence[Scored]) -> tuple[list[str], list[str], list[float]]:
    return (
        [pair.first for pair in pairs],
        [pair.second for pair in pairs],
        [pair.score for pair in pairs],
    )
