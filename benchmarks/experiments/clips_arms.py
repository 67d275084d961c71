"""What is trained on the real clips, and what each arm's vectors are."""

from __future__ import annotations

from dataclasses import dataclass

from vidvec.config import Recipe, load_recipe

FEW = "vidvec/few"
MEAN = "mean"
# Job 2's model and losses with as many steps, at the same rates, as the recipe for few videos.
PUBLISHED = (
    "model.count_padding=false",
    "model.embedding_size=256",
    "pretrain.parts=[]",
    "pretrain.videos=train",
    "pretrain.epochs=10",
    "pretrain.learning_rate=1e-4",
    "pretrain.high_learning_rate=1e-4",
    "finetune.split=clean",
    "finetune.epochs=20",
    "finetune.learning_rate=1e-4",
    "finetune.high_learning_rate=1e-4",
)


@dataclass(frozen=True, slots=True)
class ClipArm:
    """Vectors of clips.

    Attributes:
        name: Of its folder.
        title: Of its row.
        recipe, settings: What is trained; the recipe is empty where nothing is.
        pretrained, tuned: Which stages run.
        joined: Name of the arm whose vectors are joined with the mean of the frame features.
    """

    name: str
    title: str
    recipe: str = FEW
    settings: tuple[str, ...] = ()
    pretrained: bool = True
    tuned: bool = True
    joined: str = ""

    def resolved(self, seed: int) -> Recipe:
        """The recipe with a seed."""
        # So few pairs choose here that a start could be kept by chance.
        more = ("finetune.evaluate_start=false", f"seed={seed}")
        return load_recipe(self.recipe, [*self.settings, *more])


MEAN_POOL = ("model.pool=mean", "model.tag_input=relu")
APART = ("pretrain.modality_dropout=0.3", "finetune.modality_dropout=0.3")
TWIN = ("pretrain.twin_weight=1.0", "pretrain.twin_temperature=0.05")
CROSS = ("pretrain.cross_weight=1.0",)
ARMS = (
    ClipArm(MEAN, "mean of the frame features, not trained", "", (), False, False),
    ClipArm("untrained", "mean pool, not trained", FEW, MEAN_POOL, False, False),
    ClipArm("scratch", "mean pool, tuned without pretraining", FEW, MEAN_POOL, False, True),
    ClipArm("pretrained", "mean pool, pretrained alone", FEW, MEAN_POOL, True, False),
    ClipArm("few", "mean pool, pretrained and tuned", FEW, MEAN_POOL),
    ClipArm(
        "published",
        "job 2's model and losses at the same steps and rates",
        "aiac2021/tiny-job2",
        PUBLISHED,
    ),
    ClipArm("apart", "mean pool, modality dropout 0.3", FEW, (*MEAN_POOL, *APART)),
    ClipArm("twin", "mean pool, a video told from itself", FEW, (*MEAN_POOL, *TWIN)),
    ClipArm("cross", "mean pool, frames told from titles", FEW, (*MEAN_POOL, *CROSS)),
    ClipArm("joined", "mean pool, joined with the mean of the features", joined="few"),
    ClipArm("attention", "**`vidvec/few`**: attention pool, tags told from the direction"),
    ClipArm("both", "the same, joined with the mean of the features", joined="attention"),
)
