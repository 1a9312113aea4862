"""Figures that reveal a broken run, as sums over partitions and as an epoch's summary."""
