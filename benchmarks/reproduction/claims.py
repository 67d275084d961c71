"""The published claims, as rows of a table and differences between them."""

from __future__ import annotations

from benchmarks.reproduction.arms import JOBS
from benchmarks.reproduction.chains import subset_name, subsets
from benchmarks.reproduction.measure import Contrast

CLAIMS = {
    1: "Pretraining helps",
    2: "More epochs of pretraining help",
    3: "Each of the three objectives adds",
    4: "Learning the score's rank beats learning the score",
    5: "Mean and attention pool beat `[CLS]`",
    6: "Fusion helps, and more models help more",
    7: "SVD to 256 costs little against the plain concatenation",
}
FUSED = (1, 2, 3, 5, 6)
# What the plain concatenation may lose, where the published system lost 0.001.
LITTLE = 0.005

# Row: what it says in the table.
SINGLE = {
    "untrained": "job 2, untrained",
    "pretrained": "job 2, pretrained, not finetuned",
    "scratch": "job 2, finetuned without pretraining",
    "half": "job 2, half of the epochs",
    "double": "job 2, twice the epochs",
    "tag": "job 2, tags alone",
    "raw": "job 2, finetuned on scores instead of ranks",
    "cls": "job 2 with `[CLS]` for a pool",
    "attention": "job 2 with attention pool",
    "job1": "job 1: `[CLS]` first, tags from `[CLS]`",
    "job2": "**job 2**: frames first, mean pool, tags from the vector, all objectives, ranks",
    "job3": "job 3: as job 2, without masked frames",
    "job4": "job 4: attention pool, more epochs on the pairwise videos",
    "job5": "job 5: attention pool, epochs by parts, the test videos too (unlabelled)",
    "job6": "job 6: 25 % masked",
}


def _fused(size: int) -> str:
    return f"fused-{size}"


TITLES = {
    **SINGLE,
    **{
        _fused(size): (
            "fusion of all six, SVD to 256"
            if size == len(JOBS)
            else "one model, mean of the six"
            if size == 1
            else f"fusion of {size}, mean of the {len(subsets(size))} choices"
        )
        for size in FUSED
    },
    "plain": "all six concatenated, 1536 numbers",
}
# Row: the models that it is the mean of.
ROWS = {
    **{name: [name] for name in SINGLE},
    **{_fused(size): [subset_name(chosen) for chosen in subsets(size)] for size in FUSED},
    "plain": ["plain"],
}
CONTRASTS = (
    Contrast(1, "pretrained and finetuned − finetuned alone", "job2", "scratch"),
    Contrast(2, "all − half of the epochs", "job2", "half", 0.0022),
    Contrast(2, "twice − all of the epochs", "double", "job2", 0.0012),
    Contrast(3, "+ masked words − tags alone", "job3", "tag", 0.0026),
    Contrast(3, "+ masked frames − tags and masked words", "job2", "job3", 0.0046),
    Contrast(4, "ranks − scores", "job2", "raw", 0.006),
    Contrast(5, "mean pool − `[CLS]`", "job2", "cls"),
    Contrast(5, "attention pool − `[CLS]`", "attention", "cls"),
    Contrast(6, "two models − one", _fused(2), _fused(1), 0.009),
    Contrast(6, "three − two", _fused(3), _fused(2), 0.004),
    Contrast(6, "five − three", _fused(5), _fused(3), 0.003),
    Contrast(6, "six − five", _fused(6), _fused(5)),
    Contrast(7, "SVD to 256 − concatenation", _fused(6), "plain", -0.001, LITTLE),
)
