/* The board: QEMU `virt`'s memory map, as far as the guest programs use it. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#define FINISHER 0x100000ul
#define CLINT 0x2000000ul
#define PLIC 0xc000000ul
#define UART 0x10000000ul
#define RAM 0x80000000ul

#define NOTHING_THERE 0x2200000ul /* an address that no device has */

#define UART_IRQ 10
#define MTIME_HZ 10000000ul

static inline uint8_t read8(uint64_t address) { return *(volatile uint8_t *)address; }
static inline uint32_t read32(uint64_t address) { return *(volatile uint32_t *)address; }
static inline uint64_t read64(uint64_t address) { return *(volatile uint64_t *)address; }
static inline void write8(uint64_t address, uint8_t value) { *(volatile uint8_t *)address = value; }
static inline void write32(uint64_t address, uint32_t value) { *(volatile uint32_t *)address = value; }
static inline void write64(uint64_t address, uint64_t value) { *(volatile uint64_t *)address = value; }

/* CLINT: machine software interrupts and timers of the harts. */
static inline void ipi_send(unsigned hart) { write32(CLINT + 4 * hart, 1); }
static inline void ipi_clear(unsigned hart) { write32(CLINT + 4 * hart, 0); }
static inline uint64_t mtime(void) { return read64(CLINT + 0xbff8); }
static inline void timer_set(unsigned hart, uint64_t when) { write64(CLINT + 0x4000 + 8 * hart, when); }
static inline void timer_off(unsigned hart) { timer_set(hart, UINT64_MAX); }

/* PLIC: context 2 * hart is the hart's M-mode, 2 * hart + 1 its S-mode. */
static inline unsigned plic_m_context(unsigned hart) { return 2 * hart; }
static inline unsigned plic_s_context(unsigned hart) { return 2 * hart + 1; }
static inline void plic_priority(unsigned source, uint32_t priority) { write32(PLIC + 4 * source, priority); }
static inline uint32_t plic_pending(unsigned source)
{
    return read32(PLIC + 0x1000 + source / 32 * 4) >> source % 32 & 1;
}
static inline void plic_enable(unsigned context, unsigned source, int on)
{
    uint64_t word = PLIC + 0x2000 + 0x80 * context + source / 32 * 4;
    uint32_t bit = 1u << source % 32;
    write32(word, on ? read32(word) | bit : read32(word) & ~bit);
}
static inline void plic_threshold(unsigned context, uint32_t threshold)
{
    write32(PLIC + 0x200000 + 0x1000 * context, threshold);
}
static inline uint32_t plic_claim(unsigned context) { return read32(PLIC + 0x200004 + 0x1000 * context); }
static inline void plic_complete(unsigned context, uint32_t source)
{
    write32(PLIC + 0x200004 + 0x1000 * context, source);
}

/* Ends the machine: exit code 0, or `code` (1..65535). */
_Noreturn void power_off(unsigned code);

#endif
