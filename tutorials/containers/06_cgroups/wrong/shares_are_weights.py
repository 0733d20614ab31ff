"""shares_to_weight: both are numbers for the same thing.

The check says: weight: cpu.weight
"""


def shares_to_weight(shares: int) -> int:
    return min(max(shares, 1), 10000)
