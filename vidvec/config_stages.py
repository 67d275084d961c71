"""The training stages' sections of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vidvec.config_base import Part, Positive, Precision, Rate, Section, Share, SplitName


class StageConfig(Section):
    """What both training stages share (system.md, section 4).

    Attributes:
        batch_size: Videos a step in pretraining, pairs a step in finetuning.
        learning_rate: Of the trunk and of every part not named in ``high_rate_parts``.
        high_learning_rate: Of the parts named there.
        warmup_share: Share of all steps with linear warm-up; cosine to 0 follows.
        clip_norm: Gradient norm limit; 0: no clipping.
        modality_dropout: Probability that a video in a batch is read without its frames, and the
            same again that it is read without its title, where it has both. Vectors of words alone
            (search) and of untitled videos need it; the published system has none. Audio, speech
            and screen text are left out with the same probability each, and with one half where
            frames or title are; never all that a video has.
        evaluate_every: Steps between validations; 0: once an epoch.
        checkpoint_every: Steps between checkpoints; 0: at every validation.
        layer_decay: What the trunk's learning rate is multiplied with from each block to the one
            below it, and from the first block to the embeddings: lower layers keep more of what
            they were pretrained to. 1: all the same, as published.
        ema_decay: The model that is validated and saved is a running mean of the weights, of which
            each step keeps this share (Polyak averaging); 0: the weights themselves. Until it has
            seen ``1 / (1 - ema_decay)`` steps, the mean is over those that there were.
        adversarial: Each step learns from its batch a second time with the word table and the
            frame projection moved by this length up their gradients (fast gradient method, Miyato,
            Dai and Goodfellow 2017), and the gradients of both add up: twice the work. 0: once.
        precision: ``float32``: matrix products in float32, on a GPU with TF32's shorter mantissa,
            as published. ``bf16``: in bfloat16 by autocast; weights, gradients, optimiser, norms,
            softmax and losses stay in float32. ``auto``: bf16 on a GPU that has it, else float32.
        accumulate: Parts that a step's batch is run through in, one after the other, with their
            gradients summed, for batches that do not fit into memory at once. Tag loss, masked
            words and the pairs' error are weighted by what each part holds of them and come to
            those of the whole batch; masked frames are compared with the frames of their own part
            alone, which makes that loss easier, and dropout is drawn anew in each part.
        checkpointing: Keep only what goes into each block, and compute the rest again in the
            backward pass: about a third more work for far less memory, and the same gradients.
        compile: Fuse the blocks' elementwise work with ``torch.compile``, around attention; one
            compilation serves all lengths of batches and all blocks of one kind. It takes a minute
            or so, and a C++ compiler on the CPU; results differ by rounding.
    """

    epochs: Positive = 10
    batch_size: Positive = 32
    learning_rate: Rate = 1e-5
    high_learning_rate: Rate = 5e-5
    high_rate_parts: tuple[Part, ...] = ("pool", "projection", "tag_head")
    warmup_share: Share = 0.06
    weight_decay: Rate = 0.01
    adam_eps: float = Field(1e-6, gt=0)
    clip_norm: Rate = 0.0
    modality_dropout: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    evaluate_every: int = Field(0, ge=0)
    checkpoint_every: int = Field(0, ge=0)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    adversarial: Rate = 0.0
    precision: Precision = "auto"
    accumulate: Positive = 1
    checkpointing: bool = False
    compile: bool = False


# Groups of a corpus's parts, by name: an epoch goes through one group after the other.
Groups = tuple[tuple[str, ...], ...]


class PhaseConfig(Section):
    """A second phase of pretraining, with a warm-up and cosine of its own; moments go on.

    Attributes:
        epochs: 0: there is no such phase.
        parts: As in ``PretrainConfig``.
    """

    epochs: int = Field(0, ge=0)
    parts: Groups = ()


class PretrainConfig(StageConfig):
    """The three pretraining objectives (system.md, section 3) and what they are learnt from.

    Attributes:
        parts: Which parts of the corpus an epoch goes through, in groups: one group after the
            other, each shuffled within itself. A part is a folder of the source, such as
            ``pairwise``. Empty: all videos, shuffled.
        then: A second phase behind the ``epochs`` of this one.
        tag_weight, mlm_weight, mfm_weight, mam_weight: Of tags, masked words, masked frames and
            masked audio frames in the sum of the losses; 0 switches one off.
        twin_weight: Of telling a masked video, from itself whole, out of the batch (as SimCSE does
            with dropout alone): one more pass. 0: off.
        cross_weight: Of telling a video's title from its frames and its frames from its title: two
            more, shorter passes, and two without gradients where there is a queue. 0: off.
        twin_temperature, cross_temperature: What cosines are divided by.
        cross_queue: Keys of earlier videos that are kept to tell from, made by a slow copy of the
            encoder; 0: the batch alone.
        cross_momentum: Share that the slow copy keeps of itself in a step.
        tag_positive_focus, tag_negative_focus, tag_margin: How little classes count in the tag loss
            that are told well already (``vidvec.train.objectives.tags.Focus``); 0: as published.
        mlm_rate, mfm_rate, mam_rate: Share of words (of the title and of what other text is read),
            of frames and of audio frames that are chosen for masking.
        videos: ``train``: without the videos that finetuning validates on; ``all``: with them.
        validation_share: Of the videos, held out to choose the best checkpoint.
    """

    epochs: Positive = 40
    batch_size: Positive = 128
    learning_rate: Rate = 5e-5
    high_learning_rate: Rate = 5e-4
    parts: Groups = ()
    then: PhaseConfig = PhaseConfig()
    tag_weight: Rate = 1250 / 3
    mlm_weight: Rate = 1 / 3.75
    mfm_weight: Rate = 1 / 9
    mam_weight: Rate = 0.0
    twin_weight: Rate = 0.0
    cross_weight: Rate = 0.0
    twin_temperature: float = Field(0.05, gt=0)
    cross_temperature: float = Field(0.07, gt=0)
    cross_queue: int = Field(0, ge=0)
    cross_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.995
    tag_positive_focus: Rate = 0.0
    tag_negative_focus: Rate = 0.0
    tag_margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mlm_rate: Share = 0.15
    mfm_rate: Share = 0.15
    mam_rate: Share = 0.15
    videos: Literal["train", "all"] = "train"
    validation_share: Share = 0.02


class DistillConfig(StageConfig):
    """Learning a teacher's vectors, such as those that several models were fused to.

    Attributes:
        cosine_weight: Of one less the cosine with the teacher's vector; 0: directions are left
            open, and the student's vectors may have another size.
        relation_weight: Of the squared difference of the videos' cosines with one another.
        videos, validation_share: As in pretraining.
    """

    epochs: Positive = 20
    batch_size: Positive = 128
    learning_rate: Rate = 5e-5
    high_learning_rate: Rate = 5e-4
    cosine_weight: Rate = 1.0
    relation_weight: Rate = 1.0
    videos: Literal["train", "all"] = "train"
    validation_share: Share = 0.02

    @model_validator(mode="after")
    def _learns_something(self) -> DistillConfig:
        if not (self.cosine_weight or self.relation_weight):
            raise ValueError("nothing to learn: cosine_weight and relation_weight are both 0")
        return self


PAIR_LOSSES = ("mse", "pearson", "cosent", "angle", "soft_rank", "contrast")


class FinetuneConfig(StageConfig):
    """Tuning on scored pairs.

    Attributes:
        rank_normalise: Learn from the score's rank instead of the score.
        split: ``clean`` shares no video between training and validation; ``published`` does.
        mse_weight, pearson_weight, cosent_weight, angle_weight, soft_rank_weight, contrast_weight:
            Of the losses of pairs in their sum; 0 switches one off. Cosines regress on the targets
            (as published); correlate with them; are in their order (CoSENT), and so are angles
            (AnglE); have ranks that correlate with theirs; pick the partner out of the batch.
        tag_weight: Of the tags of the pairs' videos, which keep being learned beside.
        r_drop_weight: Of the squared difference of the cosines that two passes with different
            dropout give (R-Drop, Liang et al. 2021, with the distance that fits a regression); the
            other losses are then of both passes. Twice the work; 0: one pass.
        prefixes: The losses of pairs are also taken of the vectors' first so many numbers, brought
            to length 1, and averaged over all prefixes and the whole (Matryoshka representation
            learning, Kusupati et al. 2022): a cut vector then still ranks well. Empty: of the whole
            vectors alone.
        cosent_scale, angle_scale: What differences are multiplied with.
        soft_rank_temperature, contrast_temperature: What cosines are divided by.
        best_by: Which figure on the validation pairs chooses the checkpoint: ``mse`` of cosines and
            targets, as published, or ``spearman``, which is what counts where the losses leave the
            cosines' size open.
    """

    rank_normalise: bool = True
    split: SplitName = "clean"
    mse_weight: Rate = 1.0
    pearson_weight: Rate = 0.0
    cosent_weight: Rate = 0.0
    angle_weight: Rate = 0.0
    soft_rank_weight: Rate = 0.0
    contrast_weight: Rate = 0.0
    tag_weight: Rate = 0.0
    r_drop_weight: Rate = 0.0
    prefixes: tuple[Positive, ...] = ()
    cosent_scale: float = Field(20.0, gt=0)
    angle_scale: float = Field(20.0, gt=0)
    soft_rank_temperature: float = Field(0.05, gt=0)
    contrast_temperature: float = Field(0.05, gt=0)
    best_by: Literal["mse", "spearman"] = "mse"

    @model_validator(mode="after")
    def _learns_from_pairs(self) -> FinetuneConfig:
        names = [f"{name}_weight" for name in PAIR_LOSSES]
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"no loss of pairs has a weight: give one of {', '.join(names)}")
        return self
