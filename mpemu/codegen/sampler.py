"""Where a hart is, from time to time: the handler of the signal that mpemu/vcpu/sampler.py asks the kernel for.

The signal comes at any instruction of the process. Its handler touches statistics only, so the guest can't notice it.
What it finds in a region is the place where that was entered, as a region's registers are LLVM's business; the host's
pc says more to whoever knows the region. Interpreted code is found by %rp (handlers.py), which is in its register
nearly always; in routines, and outside of generated code, by HART.pc.
"""

from __future__ import annotations

from mpemu.codegen.ir import Builder, Module
from mpemu.codegen.pool import is_decoded
from mpemu.codegen.routines import Native
from mpemu.isa.hart import Isa
from mpemu.isa.value import Value
from mpemu.layout import ELSEWHERE, REGIONS_SIZE, SAMPLE, SAMPLES, TIERS

SIGNAL_VALUE = 24
"""Offset of si_value in siginfo_t (Linux, 64 bit)."""


def compile_sampler(module: Module, isa: Isa) -> None:
    """``void @on_sample(int, siginfo_t *, ucontext_t *)``. The signal's value points to the address of the HART that
    runs, 0 if none does."""
    b = Builder(module, "dso_local void @on_sample(i32 %signal, ptr %info, ptr %context)", "nounwind")
    h = Native(b, isa, "on_sample")
    running = b.load(b.to_pointer(b.load(b.pointer("%info", SIGNAL_VALUE))))
    with h.when(running == 0):
        b.terminate("ret void")
    b.line(f"%st = inttoptr i64 {running.raw} to ptr")
    host = b.load(b.pointer("%context", module.host.CONTEXT_PC)) - h.s.handlers
    record = b.load(b.pointer("%context", module.host.CONTEXT_RP))
    in_region = host.geu(h.s.regions_start) & host.ltu(h.s.regions_start + REGIONS_SIZE)
    interpreted = host.ltu(h.s.regions_start)
    tier = in_region.mux(Value(0, 64), interpreted.mux(Value(1, 64), 2))
    h.count("tier_samples", tier)
    with h.when(h.s.samples != 0):
        place = in_region.mux(h.s.rp, record)
        known = is_decoded(h, place) & (in_region | interpreted)
        pc = known.mux((place - h.s.delta).sra(3), h.s.pc)
        sample = h.at(h.s.samples, (h.s.samples_taken & (SAMPLES - 1)) * SAMPLE.size)
        found = {"host": tier.ltu(2).mux(host, ELSEWHERE), "pc": pc, "satp": h.s.satp, "priv": h.s.priv}
        for name, value in found.items():
            h.put(b.pointer(sample, SAMPLE.offset[name]), value)
        h.put(h.hart("samples_taken"), h.s.samples_taken + 1, order="release")
    b.terminate("ret void")
    module.define(b)


assert len(TIERS) == 3
