"""SiFive test finisher: a guest ends or restarts the machine by one store (as on QEMU's virt).

Register 0: the low half says what (0x5555 pass, 0x3333 fail, 0x7777 reset), the high half is the fail code. It is also
the syscon that the device tree's poweroff and reboot nodes point to.
"""

from __future__ import annotations

from mpemu.addresses import TEST_FINISHER
from mpemu.devices.device import DeviceContext, MmioDevice, MmioProperties
from mpemu.devicetree import SYSCON_LABEL, Node

FAIL = 0x3333
PASS = 0x5555
RESET = 0x7777


class TestFinisherProperties(MmioProperties):
    """``sifive-test``: poweroff and reboot."""

    __test__ = False

    address: int = TEST_FINISHER


class TestFinisher(MmioDevice):
    """Reads give 0; unknown commands are ignored."""

    __test__ = False
    type_name = "sifive-test"
    Properties = TestFinisherProperties
    sizes = frozenset({2, 4})

    def __init__(self, context: DeviceContext, properties: TestFinisherProperties) -> None:
        super().__init__(context, properties)

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset:
            return
        command, code = value & 0xFFFF, value >> 16
        if command == PASS:
            self.context.request_shutdown(0)
        elif command == FAIL:
            self.context.request_shutdown(code)
        elif command == RESET:
            self.context.request_reboot()

    def fdt_nodes(self) -> list[Node]:
        return [self.node("test", ["sifive,test1", "sifive,test0", "syscon"], SYSCON_LABEL)]
