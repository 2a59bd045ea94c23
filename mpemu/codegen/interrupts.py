"""Native routines of time, interrupts and waiting: what the vCPU looks at between instructions.

A hart looks at its `lines` at every back edge (one load and mask) and at clock and quantum at the end of a slice of
SLICE instructions, so a timer is seen within some ten microseconds of running. Asleep in WFI it waits on its eventfd
with the next deadline as timeout. Nobody loses a wake-up: the sleeper announces itself, fences, looks at its lines once
more and then blocks; the waker sets the line, fences, and writes the eventfd if the other announced itself.
"""

from __future__ import annotations

from mpemu.addresses import NS_PER_TICK
from mpemu.codegen.lrsc import end_tight_sequence
from mpemu.codegen.marking import KICK_EPOCH
from mpemu.codegen.records import SPIN_YIELD
from mpemu.codegen.routines import ALL_ONES, Native, native
from mpemu.isa.privileged import MPP_SHIFT, MPRV, MXR, STCE, SUM
from mpemu.isa.value import Value
from mpemu.layout import BUCKETS, HART, LINES, REGIME, REGION_VISIT, TRANSLATOR
from mpemu.vcpu.exits import ExitReason

SLICE = 8192
WFI_SPINS = 300
MIP_BIT = {"msip": 3, "mtip": 7, "meip": 11, "ssip": 1, "stip": 5, "seip": 9}
_MONOTONIC = 1
_POLLIN = 1
KICK_TIMER = 4
"""Bit of the `kick` line: another hart wrote this one's mtimecmp."""


@native
def host_ns(h: Native) -> None:
    """CLOCK_MONOTONIC in nanoseconds."""
    spec = h.b.alloca("[2 x i64]")
    h.host("clock_gettime", "i32, ptr", str(_MONOTONIC), spec)
    h.ret(h.get(spec) * 1_000_000_000 + h.get(h.b.pointer(spec, 8)))


@native
def mtime(h: Native) -> None:
    """The machine's time in ticks."""
    with h.when(h.m.clock_mode == 0, likely=True):
        h.ret((h.call("host_ns") - h.m.clock_epoch).udiv(NS_PER_TICK))
    h.ret(h.m.clock_value)


@native
def irq_lines(h: Native) -> None:
    """The lines as mip bits. Whoever sees a line raised sees what was written before that."""
    lines = h.get(h.hart("lines"), order="acquire")
    bits = Value(0, 64)
    for name, bit in MIP_BIT.items():
        bits = bits | (((lines >> (8 * LINES.index(name))) & 1) << bit)
    h.ret(bits)


def set_line(h: Native, name: str, value: Value | int, base: Value | None = None) -> None:
    h.put(h.hart("lines", LINES.index(name), base=base), value, 8, "monotonic")


@native
def update_timers(h: Native) -> None:
    """Set MTIP and STIP from the clock, and the deadline at which one of them rises next."""
    now = h.call("mtime")
    deadline = h.local(ALL_ONES)
    mtimecmp = h.get(h.hart("mtimecmp"), order="monotonic")
    expired = now.geu(mtimecmp)
    set_line(h, "mtip", expired.zext(8))
    with h.when(~expired):
        deadline.set(mtimecmp)
    with h.when((h.s.menvcfg & STCE) != 0):
        supervisor_expired = now.geu(h.s.stimecmp)
        set_line(h, "stip", supervisor_expired.zext(8))
        with h.when(~supervisor_expired & h.s.stimecmp.ltu(deadline.get())):
            deadline.set(h.s.stimecmp)
    with h.otherwise():
        set_line(h, "stip", 0)
    h.s.deadline = deadline.get()


def tally(h: Native, histogram: str, value: Value) -> None:
    """Count ``value`` in a histogram of HART."""
    bucket = 64 - value.clz()
    h.count(histogram, bucket.ltu(BUCKETS).mux(bucket, BUCKETS - 1))


@native
def look_at_clock(h: Native) -> None:
    """Raise the lines of timers that are due."""
    now, deadline = h.call("mtime"), h.s.deadline
    with h.when(now.geu(deadline)):
        with h.when(deadline != 0):  # 0: not known yet
            tally(h, "timer_lateness", now - deadline)
        h.call("update_timers")


@native
def finish_slice(h: Native) -> None:
    """Statistics. The end of a slice is as good as any moment at which an interrupt line may rise."""
    tally(h, "poll_distance", h.s.instret - h.s.slice_end)
    work = h.s.region_work
    h.s.region_visits = h.s.region_visits + work.udiv(REGION_VISIT)
    h.s.region_instructions = h.s.region_instructions + (work & (REGION_VISIT - 1))
    h.s.region_work = 0


@native
def update_context(h: Native) -> None:
    """Choose the translation regime and the lines that may interrupt, after anything they depend on has changed."""
    priv, mstatus = h.s.priv, h.s.mstatus
    mpp = (mstatus >> MPP_SHIFT) & 3
    mxr = ((mstatus & MXR) != 0).zext(64)
    index = h.local(0)
    with h.when(priv == 3), h.when(((mstatus & MPRV) != 0) & (mpp != 3)):
        index.set(7)
    with h.otherwise():
        supervisor = Value(1, 64) + ((mstatus & SUM) != 0).zext(64) + (mxr << 1)
        index.set((priv == 1).mux(supervisor, mxr + 5))
    regime = h.b.from_pointer(h.hart("regimes")) + index.get() * REGIME.size
    with h.when((index.get() == 7) & (h.get(h.at(regime, REGIME.offset["used"])) != 0)):
        h.call("flush_regime", regime)  # MPRV: one regime for all that MPP, SUM and MXR may say
    h.s.regime = regime
    enabled = h.call("enabled_interrupts")
    mask = Value((0xFF << (8 * LINES.index("kick"))) | (0xFF << (8 * LINES.index("stop"))), 64)
    for name, bit in MIP_BIT.items():
        mask = mask | (((enabled >> bit) & 1) * (0xFF << (8 * LINES.index(name))))
    h.s.line_mask = mask


@native
def take_due_interrupt(h: Native) -> None:
    """Enter the handler of the highest interrupt that is pending and enabled, if any; pc is exact."""
    h.call("update_context")
    cause = h.call("pending_interrupt")
    with h.when(cause != 0):
        _trap(h, cause, 0)
        h.count("interrupts")


def _trap(h: Native, cause: Value, tval: Value | int) -> None:
    """Enter the handler, from pc."""
    end_tight_sequence(h)
    h.call("take_trap", cause, tval, h.s.pc)
    h.call("update_context")


@native
def raise_exception(h: Native) -> None:
    """Take the exception in exc_cause and exc_tval at pc.

    An instruction that traps does not retire, but it costs one of slice and quantum: a guest whose trap handler traps
    must not keep the world out.
    """
    h.s.slice_end = h.s.slice_end - 1
    with h.when(h.s.quantum_end != ALL_ONES):
        h.s.quantum_end = h.s.quantum_end - 1
    h.s.mmio_latch = 0  # of an instruction that has been overtaken by a fault of its fetch
    _trap(h, h.s.exc_cause, h.s.exc_tval)
    h.count("traps")


@native
def service(h: Native) -> None:
    """Between two instructions, pc and instret exact: requests of other processes, clock, quantum, interrupts."""
    kick = h.get(h.hart("lines", LINES.index("kick")), 8, "acquire")
    with h.when((kick & KICK_EPOCH) != 0):
        h.call("acknowledge_epoch")
    with h.when((kick & KICK_TIMER) != 0):
        h.rmw("and", h.hart("lines", LINES.index("kick")), ~KICK_TIMER & 0xFF, 8)
        h.call("update_timers")
    with h.when(h.get(h.hart("lines", LINES.index("stop")), 8, "acquire") != 0):
        h.leave(ExitReason.STOP)
    with h.when((kick & 1) != 0):
        h.leave(ExitReason.KICK)
    with h.when(h.s.instret.geu(h.s.slice_end)):
        with h.when(h.s.instret.geu(h.s.quantum_end)):
            h.leave(ExitReason.QUANTUM)
        h.call("finish_slice")
        h.call("look_at_clock")
        with (
            h.when(h.s.translator != 0),
            h.when(h.get(h.at(h.s.translator, TRANSLATOR.offset["published"]), order="monotonic") != h.s.regions_seen),
        ):
            h.call("use_new_regions")
        end = h.s.instret + SLICE
        h.s.slice_end = end.ltu(h.s.quantum_end).mux(end, h.s.quantum_end)
    # A latched MMIO reply belongs to the instruction at pc: a handler's first slow access must not consume it instead.
    with h.when(h.s.mmio_latch == 0):
        h.call("take_due_interrupt")


@native
def spin_hint(h: Native) -> None:
    """The guest waits for another hart: after some pauses give the core to a hart that can make progress."""
    h.b.module.host.pause(h.b)
    spins = h.s.spins + 1
    h.s.spins = spins
    with h.when(spins.geu(SPIN_YIELD) & (h.m.clock_mode != 2)):
        h.call("give_way")


@native
def give_way(h: Native) -> None:
    """This hart can't go on before another one does something: let that one run.

    Where turns are by quantum (deterministic mode) the turn ends. That moves slice_end, to which a handler's count is
    relative: the caller must not go on with the one it has.
    """
    h.s.spins = 0
    h.count("yields")
    with h.when(h.m.clock_mode != 2):
        h.host("sched_yield", "")
        # Long may have passed in few instructions: a timer must not wait for the end of the slice.
        h.call("look_at_clock")
    with h.otherwise():
        h.s.quantum_end = h.s.instret
        h.s.slice_end = h.s.instret


@native
def wake(h: Native, other: Value) -> None:
    """A line of the hart at host address ``other`` has been set: wake it if it sleeps."""
    h.full_fence()
    with h.when(h.get(h.hart("asleep", base=other), order="monotonic") != 0):
        one = h.b.alloca("i64")
        h.put(one, 1)
        descriptor = h.get(h.hart("wake_fd", base=other)).lo(32)
        h.host("write", "i32, ptr, i64", str(descriptor.raw), one, "8")


@native
def wfi_pending(h: Native) -> None:
    """Nonzero: WFI has nothing to wait for (an enabled interrupt is pending, or somebody wants attention)."""
    lines = h.get(h.hart("lines"), order="seq_cst")
    h.ret((lines >> 48) | ((h.s.mip | h.call("irq_lines")) & h.s.mie))


@native
def wait_for_interrupt(h: Native) -> None:
    """WFI: sleep until a locally enabled interrupt is pending. In deterministic mode the run loop does the waiting."""
    h.call("update_timers")
    with h.when(h.call("wfi_pending") != 0):
        h.ret(0)
    with h.when(h.m.clock_mode == 2):
        h.s.pc = h.s.pc + 4  # a WFI is over when it returns; there is no short form
        h.s.instret = h.s.instret + 1
        h.leave(ExitReason.WFI)
    spins = h.local(0)
    with h.loop() as done:  # most waits between running harts are short
        with h.when(spins.get() == WFI_SPINS):
            done()
        with h.when(h.get(h.hart("lines"), order="monotonic") != 0), h.when(h.call("wfi_pending") != 0):
            h.ret(0)
        h.b.module.host.pause(h.b)
        spins.set(spins.get() + 1)
    h.call("become_idle")
    h.put(h.hart("asleep"), 1, order="seq_cst")
    h.full_fence()
    with h.loop() as done:
        h.call("update_timers")
        with h.when(h.call("wfi_pending") != 0):
            done()
        h.count("sleeps")
        h.call("sleep_until_deadline")
    h.put(h.hart("asleep"), 0, order="seq_cst")
    h.call("become_busy")


@native
def sleep_until_deadline(h: Native) -> None:
    """Block on the wake eventfd, at most until the deadline; drain it."""
    fd = h.s.wake_fd
    entry, spec = h.b.alloca("i64"), h.b.alloca("[2 x i64]")
    h.put(entry, fd | (_POLLIN << 32))
    deadline = h.s.deadline
    timeout = h.local(0)
    timeout.set(h.b.from_pointer(spec))
    with h.when((deadline == ALL_ONES) | (h.m.clock_mode != 0)):
        timeout.set(0)
    with h.otherwise():
        now = h.call("mtime")
        with h.when(now.geu(deadline)):
            h.ret(0)
        # at most an hour at once: mtimecmp may be anything
        ticks = deadline - now
        limit = 3600 * 10_000_000
        ns = ticks.ltu(limit).mux(ticks, limit) * NS_PER_TICK
        h.put(spec, ns.udiv(1_000_000_000))
        h.put(h.b.pointer(spec, 8), ns.urem(1_000_000_000))
    ready = h.host("ppoll", "ptr, i64, ptr, ptr", entry, "1", h.at(timeout.get()), "null")
    with h.when(ready.gt(0)):
        drained = h.b.alloca("i64")
        h.host("read", "i32, ptr, i64", str(fd.lo(32).raw), drained, "8")


assert HART.item["wake_fd"].kind == "u64"
