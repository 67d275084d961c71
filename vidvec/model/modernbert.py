"""What a ModernBERT's ``config.json`` says beyond its sizes; mmBERT is a ModernBERT too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidvec.errors import FormatError, UsageError

GLOBAL, LOCAL = "full_attention", "sliding_attention"
# What transformers takes where a config is silent.
_EVERY, _WINDOW, _GLOBAL_THETA, _LOCAL_THETA, _EPS = 3, 128, 160_000.0, 10_000.0, 1e-5


def modernbert_settings(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The ``ModelConfig`` values, beyond the sizes, that a ModernBERT's config fixes.

    Args:
        config: In the form that transformers 4 wrote (``global_attn_every_n_layers``,
            ``global_rope_theta``, ``local_rope_theta``) or 5 writes (``layer_types``,
            ``rope_parameters``); where both are there the newer counts, as in transformers.
        file: Where it is from, for the messages.

    Returns:
        By name. There is one dropout here; it is the largest of the config's three.

    Raises:
        UsageError: The model has biases, another activation, stretched rotary positions, or global
            layers elsewhere than at every so many-th.
        FormatError: The rotary positions are given in another form.
    """
    biased = [key for key in ("norm_bias", "attention_bias", "mlp_bias") if config.get(key)]
    if biased:
        raise UsageError(
            f"{file} has {', '.join(biased)} set; vidvec's modern trunk has no biases, as "
            "ModernBERT and mmBERT were published"
        )
    for key in ("hidden_activation", "classifier_activation"):
        activation = config.get(key, "gelu")
        if activation != "gelu":
            raise UsageError(f"{file} has {key} {activation!r}; vidvec knows 'gelu'")
    dropouts = ("embedding_dropout", "attention_dropout", "mlp_dropout")
    global_theta, local_theta = _thetas(config, file)
    return {
        "trunk": "modern",
        "global_attention_every": _global_every(config, file),
        "local_attention_window": config.get("local_attention", _WINDOW),
        "global_rope_theta": global_theta,
        "local_rope_theta": local_theta,
        "layer_norm_eps": config.get("norm_eps", _EPS),
        "dropout": max(config.get(key) or 0.0 for key in dropouts),
    }


def _global_every(config: Mapping[str, Any], file: Path) -> Any:
    kinds = config.get("layer_types")
    if kinds is None:
        return config.get("global_attn_every_n_layers", _EVERY)
    for every in range(1, len(kinds) + 1):
        layers = range(config["num_hidden_layers"])
        if kinds == [LOCAL if layer % every else GLOBAL for layer in layers]:
            return every
    raise UsageError(
        f"{file} has layer_types {kinds}; vidvec knows {GLOBAL!r} at the first of its "
        f"{config['num_hidden_layers']} layers and every so many-th after it, else {LOCAL!r}"
    )


def _thetas(config: Mapping[str, Any], file: Path) -> tuple[Any, Any]:
    """Base of the rotary frequencies in global and in local layers."""
    parameters = config.get("rope_parameters") or {}
    strange = sorted(parameters.keys() - {GLOBAL, LOCAL})
    if strange:
        raise FormatError(
            f"{file} has rope_parameters of {', '.join(strange)}, expected {GLOBAL} and {LOCAL}"
        )
    everywhere, nearby = (parameters.get(kind) or {} for kind in (GLOBAL, LOCAL))
    for part in (everywhere, nearby, config.get("rope_scaling") or {}):
        kind = part.get("rope_type", part.get("type", "default"))
        if kind != "default":
            raise UsageError(
                f"{file} has rotary positions of type {kind!r}; vidvec knows 'default', which "
                "stretches nothing"
            )
    global_theta = everywhere.get("rope_theta", config.get("global_rope_theta", _GLOBAL_THETA))
    local_theta = nearby.get("rope_theta", config.get("local_rope_theta", _LOCAL_THETA))
    # transformers 4 wrote null for local layers that turn like the global ones.
    return global_theta, global_theta if local_theta is None else local_theta
