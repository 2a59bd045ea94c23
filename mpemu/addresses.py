"""The physical memory map of the `virt` board, as QEMU's hw/riscv/virt.c has it, so that the same binaries run on both.

0x0000_1000  boot ROM                   0x1000_0000  UART (irq 10)
0x0010_0000  test finisher              0x1000_1000  8 virtio-mmio slots (irq 1..8)
0x0010_1000  goldfish RTC (irq 11)      0x2000_0000  two flash banks of 32 MiB
0x0200_0000  CLINT: mswi, mtimer        0x8000_0000  RAM
0x02f0_0000  ACLINT sswi
0x0c00_0000  PLIC
"""

BOOT_ROM = 0x1000
TEST_FINISHER = 0x10_0000
RTC = 0x10_1000
CLINT, CLINT_SIZE = 0x200_0000, 0x1_0000
CLINT_MTIMECMP, CLINT_MTIME = 0x4000, 0xBFF8
SSWI, SSWI_SIZE = 0x2F0_0000, 0x4000
PLIC, PLIC_SIZE = 0xC00_0000, 0x60_0000
UART, UART_SIZE = 0x1000_0000, 0x100
VIRTIO, VIRTIO_SIZE, VIRTIO_SLOTS = 0x1000_1000, 0x1000, 8
FLASH, FLASH_BANK = 0x2000_0000, 0x200_0000
RAM = 0x8000_0000

UART_IRQ, RTC_IRQ, VIRTIO_IRQ = 10, 11, 1
TIMEBASE_HZ = 10_000_000
NS_PER_TICK = 1_000_000_000 // TIMEBASE_HZ
"""Nanoseconds per tick of mtime."""
