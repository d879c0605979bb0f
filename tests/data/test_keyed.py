from __future__ import annotations

import hashlib

import numpy as np
from scipy import stats

from holdfast.data.keyed import _mix, example_keys, permutation, repeat_keys, uniforms

KEYS = example_keys(f"train/cat/{number}.jpg" for number in range(1000))


def splitmix64(state):
    """The published generator in Python's whole numbers."""
    mask = 2**64 - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        word = state
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & mask
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & mask
        yield word ^ (word >> 31)


def test_mix_is_the_finaliser_of_splitmix64():
    # First words from seed 0, as printed by the reference implementation (prng.di.unimi.it/splitmix64.c).
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert _mix(states).tolist() == known


def test_uniforms_are_splitmix64_seeded_by_stream_seed_epoch_and_example():
    def first(state):
        return next(splitmix64(state))

    stream = int.from_bytes(hashlib.sha256(b"noise").digest()[:8], "little")
    example = int.from_bytes(hashlib.sha256(b"a/b.png").digest()[:8], "little")
    state = first(first(stream ^ 7) ^ 3)
    # `first` adds the increment before it mixes; the example's own key is mixed in without it.
    seed = first((state ^ example) - 0x9E3779B97F4A7C15)
    words = splitmix64(seed)
    expected = [(next(words) >> 11) / 2**53 for _ in range(5)]
    assert uniforms("noise", 7, 3, example_keys(["a/b.png"]), 5).tolist() == [expected]


def test_a_draw_depends_on_nothing_but_its_own_key():
    whole = uniforms("a", 1, 2, KEYS, 6)
    assert np.array_equal(uniforms("a", 1, 2, KEYS[[5, 900, 17]], 6), whole[[5, 900, 17]])
    assert np.array_equal(uniforms("a", 1, 2, KEYS, 2), whole[:, :2])


def test_streams_seeds_epochs_and_examples_draw_differently():
    columns = [uniforms(*key, KEYS, 2) for key in [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0), ("a", 1, 1)]]
    draws = np.concatenate(columns, axis=1)
    correlation = np.corrcoef(draws.T) - np.eye(draws.shape[1])
    assert np.abs(correlation).max() < 0.15  # 1000 rows: five standard errors
    assert len(np.unique(draws)) == draws.size


def test_draws_are_uniform_on_the_unit_interval():
    draws = uniforms("a", 0, 0, KEYS, 20).ravel()
    assert draws.min() >= 0
    assert draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 1e-3


def test_permutation_has_every_position_once_and_all_places_are_equally_likely():
    orders = np.array([permutation("order", 0, epoch, KEYS[:10]) for epoch in range(2000)])
    assert (np.sort(orders, axis=1) == np.arange(10)).all()
    counts = np.stack([np.bincount(orders[:, place], minlength=10) for place in range(10)])
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_large_seeds_are_taken_modulo_64_bits():
    assert np.array_equal(uniforms("a", 2**64 + 3, 0, KEYS[:4], 2), uniforms("a", 3, 0, KEYS[:4], 2))


def test_the_key_of_an_id_does_not_depend_on_other_ids():
    assert example_keys(["b", "ä/猫.png"])[1] == example_keys(["ä/猫.png"])[0]


def test_keys_of_repeats_are_new_and_those_of_first_times_unchanged():
    assert np.array_equal(repeat_keys(KEYS, np.zeros(1000, dtype=np.int64)), KEYS)
    again = [repeat_keys(KEYS, np.full(1000, repeat)) for repeat in range(4)]
    assert len(np.unique(np.concatenate(again))) == 4000
    mixed = repeat_keys(KEYS, np.arange(1000) % 4)
    assert np.array_equal(mixed, np.choose(np.arange(1000) % 4, again))
