"""Samples say where a hart is, in every tier."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from mpemu.layout import TIERS
from mpemu.vcpu.sampler import RUNNING, start_sampling
from mpemu.vcpu.sampling import Place, Sampling
from tests.codegen.lab import A0, asm
from tests.codegen.native_hart import RAM
from tests.codegen.translated import TranslatedLab

CODE = RAM + 0x2_0000
LOOP = asm("addi", rd=A0, rs1=A0, imm=1) + asm("xori", rd=A0, rs1=A0, imm=3) + asm("jal", rd=0, imm=-8)
PLACES = set(range(CODE, CODE + 12, 4))


@pytest.fixture
def lab() -> Iterator[TranslatedLab]:
    made = TranslatedLab()
    made.memory.write(CODE, LOOP)
    yield made
    RUNNING.value = 0
    made.close()


def sampled(lab: TranslatedLab, quantum: int) -> Sampling:
    """The loop runs so long, sampled by SIGPROF of this process."""
    sampling = Sampling(lab.memory, lab.blob)
    before = signal.signal(signal.SIGPROF, signal.SIG_IGN)
    hart = lab.hart()
    stop = start_sampling(hart.sampler, hart.sample_period)
    try:
        hart.pc = CODE
        lab.resume(quantum=quantum)
    finally:
        stop()
        signal.signal(signal.SIGPROF, before)
    sampling.drain()
    return sampling


def tiers(lab: TranslatedLab) -> dict[str, int]:
    return dict(zip(TIERS, lab.hart().tier_samples, strict=True))


def test_interpreted_code(lab: TranslatedLab) -> None:
    sampling = sampled(lab, 60_000_000)
    assert tiers(lab)["interpreter"] > 0 and tiers(lab)["regions"] == 0
    inside = {place.pc for place in sampling.places if place.host is not None}
    assert inside and inside <= PLACES


def test_a_region_says_where_it_was_entered(lab: TranslatedLab) -> None:
    assert lab.translate(CODE) == 1
    sampling = sampled(lab, 300_000_000)
    assert tiers(lab)["regions"] > 0
    inside = [p for p in sampling.places if p.host is not None and p.host >= lab.blob.regions_start]
    assert inside and {place.pc for place in inside} == {CODE}
    assert all(isinstance(place, Place) and place.priv == 3 for place in inside)


def test_samples_are_counted_where_nobody_keeps_them(lab: TranslatedLab) -> None:
    hart = lab.hart()
    before = sum(hart.tier_samples)
    sampled(lab, 60_000_000).close()
    assert sum(hart.tier_samples) > before
