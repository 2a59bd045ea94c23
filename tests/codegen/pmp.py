"""Values for the CSRs of physical memory protection (privileged spec, 3.7)."""

NOTHING, READS, EVERYTHING = 0x18, 0x19, 0x1F
"""pmpcfg: the rights of a naturally aligned range."""
ALL_ADDRESSES = (1 << 54) - 1
"""pmpaddr of the range that is all there is."""
