"""The published way, written plainly on Hugging Face's ``BertModel``, to measure vidvec against.

Every video is padded to 32 frames and 36 title positions and all 68 run; the masked language
model's logits are computed for all of them; the masked frame model compares every frame position of
the batch with every other and reads the diagonal (system.md, sections 2, 3 and 6). Float32 without
autocast, AdamW as a loop over the parameters. Nothing is slower than this way has to be: attention
is the fused one that ``BertModel`` takes by default. Batches and masks: ``benchmarks.plain_data``.

``tests/golden/test_plain.py`` holds it to the published code's numbers.

Letters for dimensions, beside those of ``vidvec.records``: F = 32 frame positions, T = 36 title
positions of every video, L = F + T.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, get_cosine_schedule_with_warmup
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertEmbeddings, BertOnlyMLMHead

# system.md, section 3: the sum that the losses' weights come from, divided by the number of tasks.
TASK_WEIGHTS = {"tag": 1250.0, "mlm": 1 / 1.25, "mfm": 1 / 3}
NO_LOSS = -100
PlainBatch = dict[str, Tensor]


class PlainModel(nn.Module):
    """Title and frames of padded videos in one BERT, with the heads of pretraining.

    Args:
        config: Of the BERT.
        frame_size: D, numbers of a frame's features.
        tags: C, classes of the tag head.
        embedding_size: E, numbers of a video's vector.
        order: ``cls_first``: ``[CLS] frames [SEP] title [SEP]``; ``frames_first``: the frames in
            front of ``[CLS]``.
        pool: Mean over all positions, or softmax attention over them; padding counts.
        tag_from: The tag head reads ``[CLS]``, or the vector before it is normalised.
    """

    def __init__(
        self,
        config: BertConfig,
        frame_size: int,
        tags: int,
        embedding_size: int = 256,
        *,
        order: Literal["cls_first", "frames_first"] = "cls_first",
        pool: Literal["mean", "attention"] = "mean",
        tag_from: Literal["cls", "embedding"] = "cls",
    ) -> None:
        super().__init__()
        self.order, self.tag_from = order, tag_from
        size = config.hidden_size
        self.bert = BertModel(config, add_pooling_layer=False)
        self.frame_fc = nn.Linear(frame_size, size)
        self.frame_embeddings = BertEmbeddings(config)
        self.attention_pool = (
            nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1))
            if pool == "attention"
            else None
        )
        self.projection = nn.Linear(size, embedding_size)
        self.tag_head = nn.Linear(size if tag_from == "cls" else embedding_size, tags)
        self.mlm_head = _prediction_head(config, config.vocab_size)
        self.mfm_head = _prediction_head(config, frame_size)

    def ordered(self, title: Tensor, frames: Tensor) -> Tensor:
        """(B, T, …) and (B, F, …) joined in the order of the sequence, (B, L, …)."""
        if self.order == "cls_first":
            return torch.cat([title[:, :1], frames, title[:, 1:]], 1)
        return torch.cat([frames, title], 1)

    def frame_positions(self, hidden: Tensor, frames: int) -> Tensor:
        """(B, F, H): those of (B, L, H) where the frames stand."""
        first = 1 if self.order == "cls_first" else 0
        return hidden[:, first : first + frames]

    def cls(self, hidden: Tensor, frames: int) -> Tensor:
        """(B, H): those of (B, L, H) where ``[CLS]`` stands."""
        return hidden[:, 0 if self.order == "cls_first" else frames]

    def forward(self, batch: PlainBatch) -> Tensor:
        """The last hidden states (B, L, H) of ``input_ids``, ``frames`` and their masks."""
        title = self.bert.embeddings(batch["input_ids"])
        frames = self.frame_embeddings(inputs_embeds=self.frame_fc(batch["frames"]))
        hidden = self.ordered(title, frames)
        mask = create_bidirectional_mask(
            config=self.bert.config,
            inputs_embeds=hidden,
            attention_mask=self.ordered(batch["attention_mask"], batch["frame_mask"]),
        )
        return self.bert.encoder(hidden, attention_mask=mask).last_hidden_state

    def pooled(self, hidden: Tensor) -> Tensor:
        """(B, E) vectors before normalisation, of (B, L, H)."""
        if self.attention_pool is None:
            return self.projection(hidden.mean(1))
        weights = torch.softmax(self.attention_pool(hidden), 1)
        return self.projection((hidden * weights).sum(1))

    def vectors(self, batch: PlainBatch) -> Tensor:
        """(B, E) vectors of length 1."""
        return F.normalize(self.pooled(self(batch)), dim=-1)

    def tag_logits(self, hidden: Tensor, frames: int) -> Tensor:
        """(B, C)."""
        read = self.cls(hidden, frames) if self.tag_from == "cls" else self.pooled(hidden)
        return self.tag_head(F.relu(read))


def _prediction_head(config: BertConfig, outputs: int) -> BertOnlyMLMHead:
    """BERT's head for masked words, with a decoder of its own."""
    sized = copy.deepcopy(config)
    sized.vocab_size = outputs
    head = BertOnlyMLMHead(sized)
    nn.init.normal_(head.predictions.decoder.weight, std=config.initializer_range)
    # The library holds the bias twice and ties the two in its own models only.
    head.predictions.bias = head.predictions.decoder.bias
    return head


def pretraining_losses(
    model: PlainModel,
    batch: PlainBatch,
    masked: PlainBatch,
    tasks: tuple[str, ...] = ("tag", "mlm", "mfm"),
) -> dict[str, Tensor]:
    """The tasks' losses, unweighted.

    Args:
        model: The model.
        batch: ``input_ids``, ``attention_mask`` (B, T), ``frames`` (B, F, D), ``frame_mask``
            (B, F), ``tag_targets`` (B, C).
        masked: ``input_ids`` and ``frames`` to be read instead, and the labels: ``mlm_labels``
            (B, T), the words; ``mfm_labels`` (B, F), the frame's place in the flattened batch.
        tasks: Which; masks are on for those that have them.
    """
    inputs = dict(batch)
    if "mlm" in tasks:
        inputs["input_ids"] = masked["input_ids"]
    if "mfm" in tasks:
        inputs["frames"] = masked["frames"]
    hidden = model(inputs)
    frames = batch["frames"].shape[1]
    losses = {}
    if "tag" in tasks:
        logits = model.tag_logits(hidden, frames)
        losses["tag"] = F.binary_cross_entropy_with_logits(logits, batch["tag_targets"])
    if "mlm" in tasks:
        labels = masked["mlm_labels"]
        no_frames = labels.new_full(masked["mfm_labels"].shape, NO_LOSS)
        logits = model.mlm_head(hidden)
        labels = model.ordered(labels, no_frames)
        losses["mlm"] = F.cross_entropy(
            logits.view(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=NO_LOSS
        )
    if "mfm" in tasks:
        predictions = model.mfm_head(model.frame_positions(hidden, frames))
        losses["mfm"] = frame_contrast(predictions, batch, masked["mfm_labels"])
    return losses


def frame_contrast(predictions: Tensor, batch: PlainBatch, labels: Tensor) -> Tensor:
    """Noise-contrastive loss of the masked frames, from the whole matrix of products.

    Args:
        predictions: (B, F, D).
        batch: Its ``frames`` are the candidates, where ``frame_mask`` says that they are real.
        labels: (B, F), ``NO_LOSS`` where a frame was not masked.
    """
    width = predictions.shape[-1]
    products = predictions.reshape(-1, width) @ batch["frames"].reshape(-1, width).T
    padding = batch["frame_mask"].reshape(1, -1) == 0
    products = products.masked_fill(padding, -torch.inf)
    own = F.log_softmax(products, dim=-1).diagonal()
    return -own[labels.reshape(-1) != NO_LOSS].mean()


def full_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The losses' sum as training minimises it: weighted, and divided by their number."""
    weighted = [TASK_WEIGHTS[name] * loss for name, loss in losses.items()]
    return torch.stack(weighted).sum() / len(weighted)


def finetuning_loss(model: PlainModel, batch: PlainBatch, targets: Tensor) -> Tensor:
    """Mean squared error of the cosines; first all first videos of the pairs, then all second."""
    first, second = model.vectors(batch).chunk(2)
    return F.mse_loss((first * second).sum(-1), targets)


def make_optimizer(
    model: PlainModel, rate: float, high_rate: float, steps: int
) -> tuple[torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW as a loop over the parameters, and its schedule (system.md, section 4).

    Args:
        model: The model.
        rate: Learning rate of everything whose published name holds ``roberta``.
        high_rate: Of the rest: projection, tag head, attention pool.
        steps: Of the whole training; warm-up over 6 % of them, then a cosine to 0.
    """
    groups = []
    for name, parameter in model.named_parameters():
        published = published_name(name)
        decays = not (published.endswith("bias") or "LayerNorm.weight" in published)
        groups.append(
            {
                "params": [parameter],
                "lr": rate if "roberta" in published else high_rate,
                "weight_decay": 0.01 if decays else 0.0,
            }
        )
    optimizer = torch.optim.AdamW(groups, eps=1e-6, foreach=False, fused=False)
    return optimizer, get_cosine_schedule_with_warmup(optimizer, int(0.06 * steps), steps)


_PUBLISHED_PREFIXES = {
    "bert.": "roberta.bert.",
    "frame_fc.": "roberta.bert.video_fc.",
    "frame_embeddings.": "roberta.bert.video_embeddings.",
    "mlm_head.": "roberta.cls.",
    "mfm_head.": "roberta_mvm_lm_header.",
    "attention_pool.": "newemb_att.",
    "projection.": "newfc_hidden.",
    "tag_head.": "newfc_tag.",
}


def published_name(name: str) -> str:
    """A parameter's name in a published checkpoint."""
    prefix = next(prefix for prefix in _PUBLISHED_PREFIXES if name.startswith(prefix))
    return _PUBLISHED_PREFIXES[prefix] + name.removeprefix(prefix)
