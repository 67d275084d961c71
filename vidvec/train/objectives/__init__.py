"""The losses, one a file, each a function of what a batch was encoded to.

Pretraining (system.md, section 3): ``tags``, ``masked_words``, ``masked_features``, together in
``pretraining``; of videos that are read more than once, ``info_nce`` and ``matching``. Tags, and
scores of pairs, that are not taken at their word: ``tag_weighting``, ``soft_targets``. Scored
pairs: ``cosine_mse`` (as published), ``pearson``, ``cosent``, ``angle``, ``soft_rank``,
``contrast``, together in ``pair_losses``. A teacher's vectors: ``distillation``.
"""
