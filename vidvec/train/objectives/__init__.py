"""The losses, one a file, each a function of what a batch was encoded to.

Pretraining (system.md, section 3): ``tags``, ``masked_words``, ``masked_features``, together in
``pretraining``. Scored pairs: ``cosine_mse`` (as published), ``pearson``, ``cosent``, ``angle``,
``soft_rank``, ``contrast``, together in ``pair_losses``.
"""
