"""The coordinator's side of translation: the memory that vCPUs and the translator share, and the latter's process.

The code of regions lies directly behind the interpreter in every vCPU's address space, mapped read-execute; only the
translator maps it writable. It is a program of its own (`python -m mpemu.codegen.translator`): nobody else loads LLVM.
Killing it costs speed, nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from mpemu.isa.profiles import IsaSpec
from mpemu.layout import TRANSLATOR
from mpemu.memory import MachineMemory
from mpemu.shm import Segment
from mpemu.vcpu.blob import Blob

PATIENCE_S = 2.0


class Translation:
    """Made before the vCPUs are forked, which inherit the mappings. The process runs until :meth:`close`."""

    def __init__(self, blob: Blob, memory: MachineMemory, isa: IsaSpec, hot: int) -> None:
        self._segment = Segment("regions", TRANSLATOR.size, keep_descriptor=True)
        self._view: Any = TRANSLATOR.view(self._segment.map)
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC)
        self._view.doorbell = self.doorbell
        for i in range(memory.harts):
            hart = memory.hart(i)
            hart.translator, hart.hotness = self._segment.address, hot
        descriptors = (self._segment.descriptor, blob.regions_fd, self.doorbell)
        command = [sys.executable, "-m", "mpemu.codegen.translator", str(isa), str(blob.path), *map(str, descriptors)]
        self._process = subprocess.Popen(
            command,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def close(self) -> None:
        """End the process and give the memory back."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self.doorbell)
        del self._view
        self._segment.close()
