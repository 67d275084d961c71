"""The training stages' sections of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vidvec.config_adapters import AdapterSettings
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
        evaluate_start: Validate before the first step, too: where nothing trained is better, the
            best checkpoint is the start, which few pairs or a high rate can only make worse.
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
        sharded: Of several processes (``torchrun``) each keeps a share of weights, gradients and
            optimiser instead of all of them, for models that do not fit beside their moments (FSDP,
            by PyTorch's ``fully_shard``); what is learned differs by rounding alone, and so
            checkpoints are the same and a run may go on either way. One process has nothing to
            share.
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
    evaluate_start: bool = False
    checkpoint_every: int = Field(0, ge=0)
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    adversarial: Rate = 0.0
    precision: Precision = "auto"
    accumulate: Positive = 1
    checkpointing: bool = False
    compile: bool = False
    sharded: bool = False


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
        match_weight: Of telling frames with their own title from frames with another's: a pass over
            twice the videos, by frames and title alone. With ``cross_weight`` the other titles are
            those that are hard to tell from the frames. 0: off.
        tag_soft_share: Of the tag targets, what a slow copy of the model makes of the whole video
            instead of the tags that it was given (self-distillation); rises over the first epoch.
            One more pass, without gradients. 0: off.
        tag_soft_momentum: Share that this copy keeps of itself in a step.
        tag_weighting: ``gdw``: each tag of each video, given or not, counts by whether learning it
            serves the tags of the ``trusted`` videos (generalised data weighting, Chen et al.
            2021; ``vidvec.train.objectives.tag_weighting``). ``none``: all count alike.
        trusted: Parts of the corpus whose tags are known to be right, or files of videos' ids, one
            a line, whose names end in ``.txt``.
        trusted_batch: Trusted videos that are read in a step, without gradients.
        tag_weighting_step, tag_weighting_limit: How far weights move from 1 on average, and at
            most.
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
    match_weight: Rate = 0.0
    tag_soft_share: Share = 0.0
    tag_soft_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.995
    tag_weighting: Literal["none", "gdw"] = "none"
    trusted: tuple[str, ...] = ()
    trusted_batch: Positive = 256
    tag_weighting_step: float = Field(0.1, gt=0)
    tag_weighting_limit: Annotated[float, Field(gt=0, le=1)] = 0.2
    tag_positive_focus: Rate = 0.0
    tag_negative_focus: Rate = 0.0
    tag_margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mlm_rate: Share = 0.15
    mfm_rate: Share = 0.15
    mam_rate: Share = 0.15
    videos: Literal["train", "all"] = "train"
    validation_share: Share = 0.02

    @model_validator(mode="after")
    def _somebody_is_trusted(self) -> PretrainConfig:
        if self.tag_weighting != "none" and not self.trusted:
            raise ValueError(
                f"tag_weighting {self.tag_weighting} weighs tags by videos whose tags are right: "
                "name parts of the corpus or a file of ids in trusted, or set tag_weighting=none"
            )
        return self


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


class FinetuneConfig(StageConfig, AdapterSettings):
    """Tuning on scored pairs; with few of them, of a part of the model (``AdapterSettings``).

    Attributes:
        rank_normalise: Learn from the score's rank instead of the score.
        split: ``clean`` shares no video between training and validation, nor does ``balanced``,
            which loses fewer pairs (``vidvec.data.balanced``); ``published`` does.
        fold, folds: The pairs that the split trains on are cut into so many folds that share no
            video, and this one, counted from 1, is validated on and not learned from; what the
            split validates on stays out of all of them (``vidvec.train.folds``). 0: no folds.
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
        teachers: Runs or checkpoints that were finetuned on these pairs before, with the same
            split: the mean of what they make of the training pairs is part of the targets
            (self-distillation). Those of a ``fold`` teach the pairs that they did not learn from.
            Empty: the scores alone.
        soft_share: Of the targets, what teachers make of them; 0…1, where there are teachers.
        cosent_scale, angle_scale: What differences are multiplied with.
        soft_rank_temperature, contrast_temperature: What cosines are divided by.
        pseudo_pairs: File of pairs that a model scored (``vidvec pseudo-label``), learned beside
            those that people scored; those of videos that are validated on are left out.
        pseudo_ratio: How many of them there are in a batch for each scored pair, beside the
            ``batch_size`` of those.
        best_by: Which figure on the validation pairs chooses the checkpoint: ``mse`` of cosines and
            targets, as published, or ``spearman``, which is what counts where the losses leave the
            cosines' size open.
    """

    rank_normalise: bool = True
    split: SplitName = "clean"
    fold: int = Field(0, ge=0)
    folds: int = Field(0, ge=0)
    mse_weight: Rate = 1.0
    pearson_weight: Rate = 0.0
    cosent_weight: Rate = 0.0
    angle_weight: Rate = 0.0
    soft_rank_weight: Rate = 0.0
    contrast_weight: Rate = 0.0
    tag_weight: Rate = 0.0
    r_drop_weight: Rate = 0.0
    prefixes: tuple[Positive, ...] = ()
    teachers: tuple[str, ...] = ()
    soft_share: Share = 0.5
    cosent_scale: float = Field(20.0, gt=0)
    angle_scale: float = Field(20.0, gt=0)
    soft_rank_temperature: float = Field(0.05, gt=0)
    contrast_temperature: float = Field(0.05, gt=0)
    pseudo_pairs: str = ""
    pseudo_ratio: Rate = 1.0
    best_by: Literal["mse", "spearman"] = "mse"

    @model_validator(mode="after")
    def _learns_from_pairs(self) -> FinetuneConfig:
        names = [f"{name}_weight" for name in PAIR_LOSSES]
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"no loss of pairs has a weight: give one of {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _is_one_of_the_folds(self) -> FinetuneConfig:
        if self.folds == 1 or bool(self.fold) != bool(self.folds) or self.fold > self.folds:
            raise ValueError(
                f"fold {self.fold} of folds {self.folds}: expected a fold from 1 to folds, and "
                "folds of 2 or more; both are 0 for none"
            )
        return self
