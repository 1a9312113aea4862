"""The random numbers of many videos at once: numpy's own Philox generator, as vectors over its keys.

A generator of numpy's for each video costs 12.7 us of CPU before its first number. Salmon, Moraes, Dror, Shaw,
"Parallel random numbers: as easy as 1, 2, 3" (SC 2011) defines Philox4x64-10.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 10
NUMBERS_PER_BLOCK = 4
KEYS_AT_ONCE = 8192  # 0.28 us of CPU for 12 numbers of a key; fewer keys pay more for each call of numpy
MULTIPLIERS = np.array([0xD2E7470EE14C6C93, 0xCA5A826395121157], np.uint64)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # added to the two words of a key after each round
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def uniforms(keys: np.ndarray, count: int) -> np.ndarray:
    """The first numbers in [0, 1) of each key's generator, float64 [B, count].

    Row b equals ``np.random.Generator(np.random.Philox(key=int(keys[b]))).random(count)`` bit for bit.

    Args:
        keys: uint64 [B]. The upper 64 bits of the generator's key are 0.
    """
    keys = np.ascontiguousarray(keys, np.uint64)
    found = np.empty((len(keys), count), np.float64)
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        for block in range(-(-count // NUMBERS_PER_BLOCK)):
            place = block * NUMBERS_PER_BLOCK
            numbers = found[start : start + len(some), place : place + NUMBERS_PER_BLOCK]
            # numpy raises the counter before each block, so the first one is 1
            for column, word in enumerate(_block(some, block + 1)[: numbers.shape[1]]):
                np.multiply(word >> np.uint64(11), 2.0**-53, out=numbers[:, column])
    return found


def _block(keys: np.ndarray, counter: int) -> list[np.ndarray]:
    """The four words that each key makes of the counter [counter, 0, 0, 0], uint64 [B] each."""
    a, b, c, d = (np.full(len(keys), word, np.uint64) for word in (counter, 0, 0, 0))
    low, high = keys.copy(), 0
    for _ in range(ROUNDS):
        (high_a, low_a), (high_c, low_c) = (_product(m, w) for m, w in zip(MULTIPLIERS, (a, c), strict=True))
        high_c ^= b
        high_c ^= low
        high_a ^= d
        high_a ^= np.uint64(high)
        a, b, c, d = high_c, low_c, high_a, low_a
        low += np.uint64(WEYL[0])
        high = (high + WEYL[1]) % 2**64
    return [a, b, c, d]


def _product(multiplier: np.uint64, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The upper and the lower 64 bits of a product of 64-bit numbers: numpy has only the lower ones."""
    m_high, m_low = multiplier >> HALF, multiplier & LOW
    w_high, w_low = words >> HALF, words & LOW
    middle = w_low * m_low
    middle >>= HALF
    w_low *= m_high
    middle += w_low
    cross = w_high * m_low
    middle += cross & LOW  # at most 2**64 - 1
    middle >>= HALF
    cross >>= HALF
    w_high *= m_high
    w_high += cross
    w_high += middle
    return w_high, words * multiplier
