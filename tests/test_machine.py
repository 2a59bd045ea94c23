"""A machine's life: start, MMIO, pause, reboot, every way to end; processes killed at any moment. Fake engines."""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from mpemu.errors import InternalError, Interrupted, RunTimeout, Terminated, VCpuCrashed
from mpemu.memory import RAM_BASE
from mpemu.runstate import RunState
from mpemu.vcpu.exits import ExitReason
from tests.processes import fork, running, succeeded, wait_until
from tests.vcpu.fake_engine import Action, Exit, FakeEngine, Load, Spin, Store, Wait, Work, busy, forever
from tests.vcpu.machines import COUNTER, POWER, REBOOT, build

Steps = Generator[Action, Any, None]
BOTH = pytest.mark.parametrize("deterministic", [False, True], ids=["parallel", "deterministic"])


def later(machine: Any, ms: float, callback: Any) -> None:
    machine.loop.realtime.timer(callback, "test").arm(time.monotonic_ns() + int(ms * 1e6))


def power_off(code: int) -> Any:
    def program(engine: FakeEngine) -> Steps:
        if engine.index == 0:
            yield Work(1000)
            yield Store(POWER, code)
        yield from busy(engine)

    return program


@BOTH
@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 3), (0x300, 1)])
def test_guest_ends_it_with_its_code(deterministic: bool, code: int, expected: int) -> None:
    machine, _ = build(power_off(code), deterministic=deterministic)
    with machine:
        assert machine.run(timeout_s=30) == expected
        assert machine.states.now is RunState.SHUTDOWN
        statistics = machine.statistics()
        assert statistics.harts[0].instructions > 1000 and statistics.harts[0].exits["MMIO"] == 1
        assert deterministic or statistics.harts[1].exits["STOP"] == 1
        pids = [h.pid for h in machine._pool.handles]
    assert not any(running(pid) for pid in pids)


@BOTH
def test_registers_at_the_start(deterministic: bool) -> None:
    def program(engine: FakeEngine) -> Steps:
        hart = engine.hart
        assert (hart.pc, hart.x[10], hart.x[11], hart.x[12]) == (RAM_BASE, engine.index, 0x1111, 0x2222)
        if engine.index == 0:
            yield Store(POWER, 0)
        yield from busy(engine)

    machine, _ = build(program, harts=2, deterministic=deterministic)
    with machine:
        assert machine.run(timeout_s=30) == 0


@BOTH
def test_loads_and_bus_errors(deterministic: bool) -> None:
    def program(engine: FakeEngine) -> Steps:
        values = []
        for _ in range(100):
            values.append((yield Load(COUNTER)))
        assert values == list(range(1, 101))
        assert (yield Load(0x30_0000)) is None
        yield Store(0x30_0000, 1)
        yield Store(POWER, 7)
        yield from forever(engine)

    machine, _ = build(program, harts=1, deterministic=deterministic)
    with machine:
        assert machine.run(timeout_s=30) == 7


@BOTH
def test_reboot_starts_from_scratch(deterministic: bool) -> None:
    """The guest counts its boots outside of RAM, which must be new each time."""

    def program(engine: FakeEngine) -> Steps:
        if engine.index:
            yield from busy(engine)
        assert engine.memory.read(RAM_BASE, 8) == b"kernel\0\0"
        engine.memory.write(RAM_BASE, b"garbage!")
        boots = yield Load(COUNTER)
        yield Store(REBOOT if boots < 5 else POWER, boots)
        yield from busy(engine)

    machine, bus = build(
        program, harts=3, deterministic=deterministic, load=lambda memory: memory.write(RAM_BASE, b"kernel")
    )
    with machine:
        assert machine.run(timeout_s=30) == 5
        assert bus.resets == 5
        assert machine.statistics().harts[0].instructions == 5 * 2  # of all boots


@BOTH
def test_pause_returns_with_all_harts_parked(deterministic: bool) -> None:
    machine, _ = build(busy, harts=3, deterministic=deterministic)
    rounds = 0

    def paused() -> None:
        nonlocal rounds
        rounds += 1
        assert machine.states.now is RunState.PAUSED
        before = [machine.memory.hart(h).instret for h in range(3)], machine.loop.virtual.now()
        time.sleep(0.005)
        assert ([machine.memory.hart(h).instret for h in range(3)], machine.loop.virtual.now()) == before
        if rounds == 20:
            machine.request_shutdown(9)
        else:
            machine.resume()
            later(machine, 2, lambda: machine.pause(paused))

    machine.pause(paused)
    with machine:
        assert machine.run(timeout_s=60) == 9


def test_waiting_harts_wake_up_to_park() -> None:
    machine, _ = build(forever, harts=4)
    with machine:
        later(machine, 300, lambda: machine.request_shutdown(0))
        assert machine.run(timeout_s=30) == 0
        assert all(hart.exits["STOP"] == 1 for hart in machine.statistics().harts)


def test_idle_machine_uses_no_cpu() -> None:
    machine, _ = build(forever, harts=4)

    def cpu() -> float:
        total = 0.0
        for pid in [os.getpid(), *(h.pid for h in machine._pool.handles)]:
            with open(f"/proc/{pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    used: list[float] = []
    with machine:
        later(machine, 100, lambda: used.append(cpu()))
        later(machine, 600, lambda: (used.append(cpu()), machine.request_shutdown()))
        machine.run(timeout_s=30)
    assert used[1] - used[0] <= 0.03


@BOTH
def test_timeout(deterministic: bool) -> None:
    machine, _ = build(busy, deterministic=deterministic)
    with machine, pytest.raises(RunTimeout, match=r"not ended within 0\.1 s"):
        machine.run(timeout_s=0.1)
    assert machine.states.now is RunState.SHUTDOWN


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)]
)
def test_signals_end_it_cleanly(number: int, error: type[Exception]) -> None:
    closed: list[str] = []
    machine, _ = build(busy)
    with machine:
        machine.closing.callback(closed.append, "terminal")
        machine.states.listeners.append(
            lambda old, new: (
                later(machine, 50, lambda: os.kill(os.getpid(), number)) if new is RunState.RUNNING else None
            )
        )
        with pytest.raises(error):
            machine.run(timeout_s=30, signals=True)
        assert machine.statistics().instructions > 0
    assert closed == ["terminal"]


def test_group_signals_do_not_hit_vcpus() -> None:
    machine, _ = build(busy)
    with machine:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for handle in machine._pool.handles:
                os.kill(handle.pid, number)
        later(machine, 50, lambda: machine.request_shutdown(4))
        assert machine.run(timeout_s=30) == 4


@BOTH
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_vcpu_is_reported(deterministic: bool, number: signal.Signals) -> None:
    def program(engine: FakeEngine) -> Steps:
        if engine.index == 1:
            engine.memory.write(RAM_BASE, bytes.fromhex("13054500 1305f5ff 6f000000"))  # addi, addi, j .
            engine.hart.pc = RAM_BASE + 8
            engine.hart.x[10] = 0xABCD
        yield from busy(engine)

    machine, _ = build(program, deterministic=deterministic)
    victim = machine._pool.handles[-1]
    with machine:

        def kill_it_at_work() -> None:
            if machine.memory.hart(1).x[10] == 0xABCD:
                os.kill(victim.pid, number)
            else:
                later(machine, 5, kill_it_at_work)

        later(machine, 50, kill_it_at_work)
        with pytest.raises(VCpuCrashed) as caught:
            machine.run(timeout_s=30)
        others = [h.pid for h in machine._pool.handles]
    assert f"its process {victim.pid} was killed by {number.name}" in str(caught.value)
    assert machine.states.now is RunState.CRASHED
    assert not any(running(pid) for pid in others)
    if not deterministic:
        assert "hart 1" in str(caught.value)
        assert "=> 0x80000008: j" in caught.value.report
        assert "000000000000abcd" in caught.value.report


def test_kill_at_random_moments_leaves_nothing() -> None:
    """Also while starting, parking and rebooting."""
    rng = random.Random(5)

    def program(engine: FakeEngine) -> Steps:
        for n in range(1_000_000):
            yield Load(COUNTER)
            if n % 50 == 49 and engine.index == 0:
                yield Store(REBOOT, 0)
            yield Work(10)

    gc.collect()
    shm, fds = set(os.listdir("/dev/shm")), len(os.listdir("/proc/self/fd"))
    for _ in range(25):
        machine, _ = build(program, harts=3)
        pids = [h.pid for h in machine._pool.handles]
        with machine:
            later(machine, rng.random() * 20, partial(os.kill, rng.choice(pids), signal.SIGKILL))
            with pytest.raises(VCpuCrashed, match="SIGKILL"):
                machine.run(timeout_s=30)
        machine.memory.close()
        assert not any(running(pid) for pid in pids)
    assert set(os.listdir("/dev/shm")) <= shm
    del machine
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= fds + 3  # the last traceback may still hold one


def test_exception_in_a_vcpu_is_reported() -> None:
    def program(engine: FakeEngine) -> Steps:
        yield Work(5)
        raise ZeroDivisionError("in the run loop")

    machine, _ = build(program, harts=1)
    with machine, pytest.raises(VCpuCrashed) as caught:
        machine.run(timeout_s=30)
    assert "ZeroDivisionError: in the run loop" in caught.value.report


def test_internal_exit_is_reported() -> None:
    def program(engine: FakeEngine) -> Steps:
        yield Exit(ExitReason.INTERNAL)

    machine, _ = build(program, harts=1)
    with machine, pytest.raises(VCpuCrashed, match="exit INTERNAL: the native loop met something"):
        machine.run(timeout_s=30)


def test_bug_in_a_device_is_named() -> None:
    def program(engine: FakeEngine) -> Steps:
        yield Load(COUNTER + 4)

    machine, _ = build(program, harts=1)
    with (
        machine,
        pytest.raises(InternalError, match=r"at 0x200004 failed on a load of 4 bytes by hart 0: RuntimeError"),
    ):
        machine.run(timeout_s=30)


def test_hart_that_will_not_park_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpemu.machine.STOP_PATIENCE_NS", 200_000_000)

    def program(engine: FakeEngine) -> Steps:
        if engine.index == 1:
            time.sleep(100)
        yield from busy(engine)

    machine, _ = build(program)
    with machine:
        later(machine, 300, machine.request_shutdown)
        with pytest.raises(VCpuCrashed, match="hart 1: did not park"):
            machine.run(timeout_s=30)


def test_vcpus_die_with_the_coordinator() -> None:
    read, write = os.pipe()

    def coordinator() -> None:
        machine, _ = build(busy, harts=3)
        os.write(write, b"".join(h.pid.to_bytes(4, "little") for h in machine._pool.handles))
        machine.run()

    pid = fork(coordinator)
    pids = [int.from_bytes(os.read(read, 4), "little") for _ in range(3)]
    assert all(running(p) for p in pids)
    time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert wait_until(lambda: not any(running(p) for p in pids))
    os.close(read)
    os.close(write)


def test_vcpus_hold_no_foreign_descriptors() -> None:
    read, write = os.pipe()
    machine, _ = build(forever)
    with machine:
        later(machine, 50, machine.request_shutdown)
        for handle in machine._pool.handles:
            assert wait_until(lambda h=handle: not (descriptors(h.pid) & {f"pipe:[{os.fstat(read).st_ino}]"}))
            assert wait_until(lambda h=handle: os.readlink(f"/proc/{h.pid}/fd/0") == os.devnull)
        machine.run(timeout_s=30)
    os.close(read)
    os.close(write)


def descriptors(pid: int) -> set[str]:
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it closes them just now
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def run_deterministic(seed: int) -> tuple[list[int], str, list[tuple[int, int]]]:
    """Harts that race for RAM and a device, with waits in between."""

    def program(engine: FakeEngine) -> Steps:
        hart, memory = engine.hart, engine.memory
        for n in range(300):
            yield Work(37 + engine.index)
            value = yield Load(COUNTER)
            address = RAM_BASE + 8 * (value % 1000)
            memory.write(address, bytes([engine.index + 1, n & 0xFF]) + memory.read(address, 6))
            if n % 16 == engine.index:
                hart.deadline = memory.machine.clock_value + 50
                yield Wait()
                hart.deadline = (1 << 64) - 1
        yield Store(COUNTER, engine.index)
        if engine.index == 2:
            yield Store(POWER, 0)

    machine, bus = build(program, harts=3, deterministic=True, seed=seed)
    with machine:
        machine.run(timeout_s=60)
        counts = [hart.instructions for hart in machine.statistics().harts]
        return counts, machine.ram_hash(), bus.log


def test_same_seed_same_everything() -> None:
    first = run_deterministic(1)
    assert run_deterministic(1) == first
    assert run_deterministic(2)[1] != first[1]


def test_clock_jumps_while_all_harts_wait() -> None:
    """An hour of sleep takes no time, and device timers fire at exactly their virtual time."""
    hour = 3600 * 10_000_000

    def program(engine: FakeEngine) -> Steps:
        engine.hart.deadline = hour
        yield Wait()
        assert engine.memory.machine.clock_value >= hour
        yield Store(POWER, 5)

    machine, _ = build(program, harts=1, deterministic=True)
    fired: list[int] = []
    clock = machine.loop.virtual
    clock.timer(lambda: fired.append(clock.now())).arm(1_234_567_890)
    with machine:
        began = time.monotonic()
        assert machine.run(timeout_s=30) == 5
        assert time.monotonic() - began < 10
    assert fired == [1_234_567_890]


def test_spinning_turns_and_device_accesses_take_time() -> None:
    """A guest that polls the clock with PAUSE, or a device, gets there without millions of turns."""

    def program(engine: FakeEngine) -> Steps:
        turns, start = 0, engine.memory.machine.clock_value
        while engine.memory.machine.clock_value - start < 1000:  # 100 us
            turns += 1
            yield Spin()
        assert turns <= 110
        start = engine.memory.machine.clock_value
        for _ in range(100):
            yield Load(COUNTER)
        yield Spin()
        assert engine.memory.machine.clock_value - start >= 1000
        yield Store(POWER, 0)

    machine, _ = build(program, harts=1, deterministic=True, quantum=20_000)
    with machine:
        assert machine.run(timeout_s=30) == 0


def test_waiting_deterministic_machine_wakes_for_a_line() -> None:
    """All harts wait and no deadline: an interrupt from outside (console input) goes on."""

    def program(engine: FakeEngine) -> Steps:
        engine.hart.mie = 1 << 11
        yield Wait()
        yield Store(POWER, 6)

    machine, _ = build(program, harts=2, deterministic=True)

    def interrupt() -> None:
        machine.memory.hart(1).lines[2] = 1  # meip
        os.eventfd_write(machine.memory.wake_fds[1], 1)

    with machine:
        later(machine, 50, interrupt)
        assert machine.run(timeout_s=30) == 6


def test_two_machines_at_once_do_not_meet() -> None:
    def one(code: int) -> None:
        machine, _ = build(power_off(code))
        with machine:
            assert machine.run(timeout_s=30) == code

    pids = [fork(lambda code=code: one(code)) for code in (11, 22)]  # type: ignore[misc]
    assert all(succeeded(pid) for pid in pids)
