"""All vCPU processes of a machine: fork, stop, resume, reset, end, and who hears when one dies.

Parallel execution has a process per hart, deterministic execution one for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic

from mpemu.channel import ChannelSegment, Switchboard, VCpuPort
from mpemu.loop import MainLoop
from mpemu.memory import MachineMemory
from mpemu.messages import Failed, Message, Parked, Quit, Reply, Reset, Resume
from mpemu.vcpu.deterministic import DEFAULT_QUANTUM, DeterministicVCpu
from mpemu.vcpu.handle import VCpuHandle
from mpemu.vcpu.process import fork_vcpu
from mpemu.vcpu.protocol import EngineFactory
from mpemu.vcpu.sampler import start_sampling
from mpemu.vcpu.vcpu import ParallelVCpu, VCpu

PATIENCE_S = 2.0
"""How long processes get to end by themselves before they are killed."""


class VCpuPool:
    """Made before anything else of the machine runs: :meth:`start` forks, :meth:`attach` connects to the loop."""

    def __init__(
        self,
        memory: MachineMemory,
        engines: EngineFactory,
        deterministic: bool = False,
        seed: int = 0,
        quantum: int = DEFAULT_QUANTUM,
    ) -> None:
        self.memory, self._engines = memory, engines
        self._deterministic, self._seed, self._quantum = deterministic, seed, quantum
        harts = list(range(memory.harts))
        self.harts_of = [harts] if deterministic else [[hart] for hart in harts]
        self._channels = ChannelSegment(memory, self.harts_of)
        self.handles: list[VCpuHandle] = []

    def start(self, descriptors: Iterable[int] = ()) -> None:
        """Fork the processes. They keep the harts' eventfds, their channel's and ``descriptors``."""
        shared = {*descriptors, *self.memory.wake_fds}
        for index, harts in enumerate(self.harts_of):
            name = "mpemu-harts" if self._deterministic else f"mpemu-hart{index}"
            keep = shared | set(self._channels.descriptors_of(index))
            pid = fork_vcpu(name, keep, lambda index=index: self._build(index))  # type: ignore[misc]
            self.handles.append(VCpuHandle(index, harts, pid))

    def _build(self, index: int) -> VCpu:
        """In the child."""
        harts = self.harts_of[index]
        engines = [self._engines(self.memory, hart) for hart in harts]
        if period := self.memory.hart(harts[0]).sample_period:
            start_sampling(self.memory.hart(harts[0]).sampler, period)
        port = VCpuPort(self._channels, index)
        if self._deterministic:
            return DeterministicVCpu(self.memory, port, engines, harts, self._seed, self._quantum)
        return ParallelVCpu(self.memory, port, engines, harts)

    def attach(
        self,
        loop: MainLoop,
        answer: Callable[[Message], Reply],
        parked: Callable[[], None],
        failed: Callable[[int, str], None],
    ) -> None:
        """Serve the processes from ``loop``.

        ``answer`` gives the reply of a request; ``parked()`` is called whenever all are parked after some were not;
        ``failed(hart, why)`` when one gave up or died.
        """
        self._loop, self._answer_request, self._parked, self._failed = loop, answer, parked, failed
        self._board = Switchboard(self._channels, self._answer)
        loop.add_reader(self._board.doorbell.fileno(), self._board.serve, "messages of vCPUs")
        for handle in self.handles:
            loop.add_reader(handle.fileno(), lambda handle=handle: self._died(handle), "end of a vCPU")  # type: ignore[misc]

    def _answer(self, index: int, message: Message) -> Reply | None:
        match message:
            case Parked():
                self.handles[index].owed -= 1
                if self.all_parked:
                    self._parked()
                return None
            case Failed():
                self._failed(message.hart, message.text)
                return None
            case _:
                return self._answer_request(message)

    def _died(self, handle: VCpuHandle) -> None:
        self._loop.remove_reader(handle.fileno())
        handle.reap()
        self._board.serve()  # it may have said why
        self._failed(handle.harts[0], f"its process {handle.pid} {handle.fate}")

    @property
    def all_parked(self) -> bool:
        return all(handle.parked for handle in self.handles)

    def stop(self) -> None:
        """Ask all to park; ``parked`` will be called."""
        for handle in self.handles:
            self._board.raise_stop(handle.index)

    def reset(self, hart: int, pc: int, a0: int, a1: int, a2: int = 0) -> None:
        """Reset a hart; all are parked, and will be again when that is done."""
        for handle in self.handles:
            if hart in handle.harts:
                handle.owed += 1
                self._board.command(handle.index, Reset(hart, pc, a0, a1, a2))

    def resume(self, deadline: int) -> None:
        """Let all parked processes run. ``deadline``: see messages.Resume."""
        for handle in self.handles:
            handle.owed += 1
            self._board.lower_stop(handle.index)
            self._board.command(handle.index, Resume(deadline))

    def end(self) -> None:
        """End all processes: those that are parked by command, others by SIGKILL; returns when none is left."""
        for handle in self.handles:
            if not handle.alive:
                continue
            if handle.parked:
                self._board.command(handle.index, Quit())
            else:
                handle.kill()
        limit = monotonic() + PATIENCE_S
        for handle in self.handles:
            if not handle.reap(max(0, int((limit - monotonic()) * 1000))):
                handle.kill()
                handle.reap()

    def close(self) -> None:
        """End the processes if they haven't been, and give everything back."""
        if self.handles:
            self.end()
        for handle in self.handles:
            handle.close()
        self.handles.clear()
        self._channels.close()
