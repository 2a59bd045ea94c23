/* The instruction set from C: CSRs, fences, single instructions. Bit names are those of the privileged manual. */
#ifndef RISCV_H
#define RISCV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define csr_read(csr) ({ uint64_t v_; asm volatile("csrr %0, " #csr : "=r"(v_) : : "memory"); v_; })
#define csr_write(csr, value) ({ asm volatile("csrw " #csr ", %0" : : "rK"((uint64_t)(value)) : "memory"); })
#define csr_swap(csr, value) \
    ({ uint64_t v_; asm volatile("csrrw %0, " #csr ", %1" : "=r"(v_) : "rK"((uint64_t)(value)) : "memory"); v_; })
#define csr_set(csr, bits) \
    ({ uint64_t v_; asm volatile("csrrs %0, " #csr ", %1" : "=r"(v_) : "rK"((uint64_t)(bits)) : "memory"); v_; })
#define csr_clear(csr, bits) \
    ({ uint64_t v_; asm volatile("csrrc %0, " #csr ", %1" : "=r"(v_) : "rK"((uint64_t)(bits)) : "memory"); v_; })

#define fence(pred, succ) asm volatile("fence " #pred ", " #succ : : : "memory")
#define full_fence() fence(iorw, iorw)

static inline void fence_i(void) { asm volatile("fence.i" : : : "memory"); }
static inline void wfi(void) { asm volatile("wfi" : : : "memory"); }
/* Zihintpause, or what a host has in its place: sync.h is also built for that, to be measured beside the guest. */
static inline void cpu_pause(void)
{
#if defined __riscv
    asm volatile(".insn i 0x0f, 0, x0, x0, 0x010" : : : "memory");
#elif defined __x86_64__
    asm volatile("pause" : : : "memory");
#else
    asm volatile("yield" : : : "memory");
#endif
}
static inline void sfence_vma(void) { asm volatile("sfence.vma" : : : "memory"); }
static inline void sfence_vma_page(uint64_t address)
{
    asm volatile("sfence.vma %0, zero" : : "r"(address) : "memory");
}

enum privilege { U_MODE = 0, S_MODE = 1, M_MODE = 3 };

#define MSTATUS_SIE (1ul << 1)
#define MSTATUS_MIE (1ul << 3)
#define MSTATUS_SPIE (1ul << 5)
#define MSTATUS_MPIE (1ul << 7)
#define MSTATUS_SPP (1ul << 8)
#define MSTATUS_MPP_SHIFT 11
#define MSTATUS_MPP (3ul << MSTATUS_MPP_SHIFT)
#define MSTATUS_FS (3ul << 13)
#define MSTATUS_MPRV (1ul << 17)
#define MSTATUS_SUM (1ul << 18)
#define MSTATUS_MXR (1ul << 19)
#define MSTATUS_TVM (1ul << 20)
#define MSTATUS_TW (1ul << 21)
#define MSTATUS_TSR (1ul << 22)

/* Interrupt numbers; their bits in mip and mie are 1 << number. */
enum interrupt { IRQ_SSI = 1, IRQ_MSI = 3, IRQ_STI = 5, IRQ_MTI = 7, IRQ_SEI = 9, IRQ_MEI = 11 };
#define IRQ_BIT(irq) (1ul << (irq))
#define CAUSE_INTERRUPT (1ul << 63)

enum cause {
    CAUSE_FETCH_MISALIGNED = 0,
    CAUSE_FETCH_ACCESS = 1,
    CAUSE_ILLEGAL = 2,
    CAUSE_BREAKPOINT = 3,
    CAUSE_LOAD_MISALIGNED = 4,
    CAUSE_LOAD_ACCESS = 5,
    CAUSE_STORE_MISALIGNED = 6,
    CAUSE_STORE_ACCESS = 7,
    CAUSE_ECALL_U = 8,
    CAUSE_ECALL_S = 9,
    CAUSE_ECALL_M = 11,
    CAUSE_FETCH_PAGE = 12,
    CAUSE_LOAD_PAGE = 13,
    CAUSE_STORE_PAGE = 15,
};

#endif
