"""Masks: their rates, and what they depend on and what not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tests.tiny import CLS, PAD, SEP, SHAPE, made_batch, put_together, taken_apart, tiny_config
from vidvec.model.layout import fill, flat_layout
from vidvec.records import Batch
from vidvec.train.masking import Masked, hash_uniform, mask_batch

MASK, UNK = 4, 1
SPECIAL = {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK}
VOCABULARY = SHAPE["vocab_size"]


def draw(batch: Batch, order: str = "cls_first", **changes) -> Masked:
    settings = {"seed": 7, "step": 3, "mlm_rate": 0.15, "mfm_rate": 0.15, **changes}
    layout = flat_layout(batch, order)
    return mask_batch(batch, layout, special_ids=SPECIAL, vocab_size=VOCABULARY, **settings)


def many(videos: int, counts: tuple[int, int] = (5, 4)) -> Batch:
    return made_batch([counts] * videos, rows=torch.arange(videos))


def near(found: int, expected: float, of: int) -> bool:
    """Whether a count is within four standard deviations of a binomial's mean."""
    return abs(found - of * expected) < 4 * (of * expected * (1 - expected)) ** 0.5


@pytest.mark.parametrize("rate", [0.15, 0.25, 1.0])
def test_rates(rate):
    batch = many(4000)
    masked = draw(batch, mlm_rate=rate, mfm_rate=rate)
    words = ~torch.isin(batch.token_ids, torch.tensor(list(SPECIAL.values())))
    assert int(words.sum()) == 16_000
    chosen = len(masked.token_targets)
    assert chosen == 16_000 if rate == 1.0 else near(chosen, rate, 16_000)
    assert near(len(masked.frame_targets), 0.9 * rate, 20_000)

    before = batch.token_ids[masked.token_targets]
    after = masked.token_ids[masked.token_targets]
    assert near(int((after == MASK).sum()), 0.8 + 0.1 / VOCABULARY, chosen)
    # A random token is now and then the token itself.
    assert near(int((after == before).sum()), 0.1 + 0.1 / VOCABULARY, chosen)


def test_random_tokens_come_from_the_whole_vocabulary():
    batch = many(12_000)
    masked = draw(batch, mlm_rate=1.0)
    changed = (masked.token_ids != batch.token_ids) & (masked.token_ids != MASK)
    found = torch.bincount(masked.token_ids[changed], minlength=VOCABULARY)
    assert len(found) == VOCABULARY
    # Tokens 5 and up stand in the batch, and are there seen less often: a word may stay as it is.
    for some in (torch.tensor([0, 1, 2, 3]), torch.arange(5, VOCABULARY)):
        assert stats.chisquare(found[some]).pvalue > 1e-4


def test_rate_zero_masks_nothing():
    batch = many(200)
    masked = draw(batch, mlm_rate=0.0, mfm_rate=0.0)
    assert len(masked.token_targets) == len(masked.frame_targets) == 0
    assert torch.equal(masked.token_ids, batch.token_ids)
    assert torch.equal(masked.frames, batch.frames)


def test_special_tokens_are_never_masked():
    batch = many(50)
    batch.token_ids = torch.tensor(list(SPECIAL.values())).repeat(len(batch.token_ids))[
        : len(batch.token_ids)
    ]
    masked = draw(batch, mlm_rate=1.0)
    assert len(masked.token_targets) == 0
    assert torch.equal(masked.token_ids, batch.token_ids)


def test_what_is_not_chosen_stays_and_masked_frames_are_zero():
    batch = many(300)
    batch.frames = batch.frames.half()
    masked = draw(batch)
    rest = torch.ones(len(batch.token_ids), dtype=torch.bool)
    rest[masked.token_targets] = False
    assert torch.equal(masked.token_ids[rest], batch.token_ids[rest])
    shown = torch.ones(len(batch.frames), dtype=torch.bool)
    shown[masked.frame_targets] = False
    assert torch.equal(masked.frames[shown], batch.frames[shown])
    assert not masked.frames[~shown].any()
    assert batch.frames[~shown].any(1).all()
    assert masked.frames.dtype == torch.float16


def masks_by_video(
    batch: Batch, masked: Masked
) -> dict[int, tuple[list[int], list[int], list[bool]]]:
    """For each row: the token ids read, whether each was chosen, and whether each frame was."""
    chosen = torch.zeros(len(batch.token_ids), dtype=torch.bool)
    chosen[masked.token_targets] = True
    hidden = torch.zeros(len(batch.frames), dtype=torch.bool)
    hidden[masked.frame_targets] = True
    tokens = batch.token_counts.tolist()
    frames = batch.frame_counts.tolist()
    parts = zip(
        batch.rows.tolist(),
        masked.token_ids.split(tokens),
        chosen.split(tokens),
        hidden.split(frames),
        strict=True,
    )
    return {row: (ids.tolist(), c.tolist(), h.tolist()) for row, ids, c, h in parts}


def with_rows(parts: list[tuple[Tensor, Tensor]], rows: list[int]) -> Batch:
    return replace(put_together(parts), rows=torch.tensor(rows))


@given(
    counts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=6),
    shuffle=st.randoms(use_true_random=False),
    order=st.sampled_from(["cls_first", "frames_first"]),
    step=st.integers(-1, 10**9),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=60, deadline=None)
def test_masks_do_not_depend_on_the_batch(counts, shuffle, order, step, seed):
    rows = shuffle.sample(range(10**6), len(counts))
    batch = made_batch(counts, order=order, rows=torch.tensor(rows))
    settings = {"order": order, "step": step, "seed": seed, "mlm_rate": 0.5, "mfm_rate": 0.5}
    together = masks_by_video(batch, draw(batch, **settings))

    parts = taken_apart(batch)
    places = shuffle.sample(range(len(parts)), shuffle.randint(1, len(parts)))
    some = with_rows([parts[place] for place in places], [rows[place] for place in places])
    for row, found in masks_by_video(some, draw(some, **settings)).items():
        assert found == together[row]

    padded = fill(batch, tiny_config(order=order), PAD)
    for row, (ids, chosen, hidden) in masks_by_video(padded, draw(padded, **settings)).items():
        place = rows.index(row)
        tokens, frames = int(batch.token_counts[place]), int(batch.frame_counts[place])
        assert (ids[:tokens], chosen[:tokens], hidden[:frames]) == together[row]
        assert set(ids[tokens:]) <= {PAD}
        assert not any(chosen[tokens:] + hidden[frames:])


def test_masks_do_not_depend_on_what_is_masked():
    batch = many(100)
    other = replace(batch, token_ids=batch.token_ids.where(batch.token_ids < 5, 19))
    assert torch.equal(draw(batch).token_targets, draw(other).token_targets)
    without = draw(batch, mlm_rate=0.0)
    assert torch.equal(draw(batch).frame_targets, without.frame_targets)


def test_padding_is_never_masked():
    padded = fill(many(300, (1, 1)), tiny_config(), PAD)
    masked = draw(padded, mlm_rate=1.0, mfm_rate=1.0)
    assert padded.frame_mask[masked.frame_targets].all()
    assert padded.token_mask[masked.token_targets].all()
    # A pad that is no special token of the tokenizer is none the less padding.
    strange = fill(many(300, (1, 1)), tiny_config(), 17)
    assert strange.token_mask[draw(strange, mlm_rate=1.0).token_targets].all()


def test_another_seed_step_or_video_gives_other_masks():
    batch = many(100)
    first = draw(batch)
    assert torch.equal(first.token_targets, draw(batch).token_targets)
    shifted = replace(batch, rows=batch.rows + 1)
    for other in (draw(batch, seed=8), draw(batch, step=4), draw(shifted)):
        assert not torch.equal(first.token_targets, other.token_targets)
        assert not torch.equal(first.frame_targets, other.frame_targets)


def test_a_batch_without_frames():
    masked = draw(made_batch([(0, 3), (0, 4)], rows=torch.arange(2)), mlm_rate=1.0)
    assert len(masked.token_targets) == 7
    assert masked.frames.shape == (0, SHAPE["frame_size"])


def test_rows_are_asked_for():
    with pytest.raises(ValueError, match="rows"):
        draw(made_batch([(1, 1)]))


def grid(rows: int, positions: int) -> tuple[Tensor, Tensor]:
    pairs = torch.cartesian_prod(torch.arange(rows), torch.arange(positions))
    return pairs[:, 0].contiguous(), pairs[:, 1].contiguous()


@pytest.mark.parametrize("fixed", [(0, 0, 0), (2021, 0, 3), (2**62, -1, 1), (1, 10**12, 2)])
def test_draws_are_uniform(fixed):
    values = hash_uniform(*fixed, *grid(1000, 36))
    assert values.dtype == torch.float64
    assert 0 <= values.min() <= values.max() < 1
    assert len(values.unique()) == len(values)
    assert stats.chisquare(torch.histc(values, 100, 0, 1)).pvalue > 1e-4
    assert stats.kstest(values.numpy(), "uniform").pvalue > 1e-4
    # Within one video, along its positions, and at one position, along the videos.
    for line in (values[:36], values[::36]):
        assert stats.kstest(line.numpy(), "uniform").pvalue > 1e-4


def independent(first: Tensor, second: Tensor) -> bool:
    """Chi-square of independence on a 10 × 10 table of two draws."""
    cells = (first * 10).long() * 10 + (second * 10).long()
    table = torch.bincount(cells, minlength=100).view(10, 10)
    return stats.chi2_contingency(table).pvalue > 1e-4


def test_streams_steps_seeds_and_neighbours_are_independent():
    places = grid(1000, 36)
    rows, positions = places
    base = hash_uniform(5, 6, 0, *places)
    others = {
        "stream": hash_uniform(5, 6, 1, *places),
        "step": hash_uniform(5, 7, 0, *places),
        "seed": hash_uniform(6, 6, 0, *places),
        "seed and step swapped": hash_uniform(6, 5, 0, *places),
        "next row": hash_uniform(5, 6, 0, rows + 1, positions),
        "next position": hash_uniform(5, 6, 0, rows, positions + 1),
    }
    for name, other in others.items():
        assert independent(base, other), name
        assert not (base == other).any(), name


def test_rows_and_positions_are_not_interchangeable():
    rows, positions = grid(200, 200)
    off = rows != positions
    first = hash_uniform(1, 2, 3, rows[off], positions[off])
    swapped = hash_uniform(1, 2, 3, positions[off], rows[off])
    assert not (first == swapped).any()
    above = rows[off] < positions[off]
    assert independent(first[above], swapped[above])


def test_frames_are_masked_whatever_the_words_at_their_positions_are():
    batch = many(8000, (7, 4))
    masked = draw(batch, mlm_rate=0.3, mfm_rate=0.3)
    chosen = torch.zeros(len(batch.token_ids))
    chosen[masked.token_targets] = 1
    hidden = torch.zeros(len(batch.frames))
    hidden[masked.frame_targets] = 1
    # Words stand at positions 2 … 5 of the tokens; frames have the same numbers.
    words, frames = chosen.view(8000, 7)[:, 2:6], hidden.view(8000, 7)[:, 2:6]
    table = torch.bincount((words * 2 + frames).long().ravel(), minlength=4).view(2, 2)
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_a_draw_written_out_with_python_integers():
    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        return z ^ (z >> 31)

    golden = 0x9E3779B97F4A7C15
    for seed, step, stream, row, position in [(0, 0, 0, 0, 0), (2021, -1, 3, 999_999, 35)]:
        key = seed
        for part in (step, stream, row, position):
            key = mix((key + golden) % 2**64) ^ ((part + golden) % 2**64)
        expected = (mix((key + golden) % 2**64) >> 11) / 2**53
        found = hash_uniform(seed, step, stream, torch.tensor([row]), torch.tensor([position]))
        assert found.item() == expected
