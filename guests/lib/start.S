# Entry of every hart (a0 = hart id, a1 = device tree), trap vectors, and the way down to S- and U-mode and back.
# tp points to the hart's `struct hart` (hart.h) all the time; mscratch and sscratch hold it for the trap vectors.

#include "hart_offsets.h"

#define MSTATUS_FS_INITIAL (1 << 13)
#define MIE_MSIE (1 << 3)

.section .text.start, "ax"
.globl _start
_start:
    csrw    mie, zero
    li      t0, MSTATUS_FS_INITIAL
    csrw    mstatus, t0                 # FP on, interrupts off
    fscsr   zero
    li      t0, MAX_HARTS
    bgeu    a0, t0, park
    la      tp, hart_table
    slli    t0, a0, HART_SIZE_SHIFT
    add     tp, tp, t0
    la      sp, hart_stacks
    addi    t0, a0, 1
    li      t1, STACK_SIZE
    mul     t0, t0, t1
    add     sp, sp, t0
    la      t0, trap_from_m
    csrw    mtvec, t0
    csrw    mscratch, tp
    bnez    a0, secondary

    la      t0, _bss_start              # hart 0 clears .bss: nobody else may touch it before `boot_ready`
    la      t1, _bss_end
1:  sd      zero, 0(t0)
    addi    t0, t0, 8
    bltu    t0, t1, 1b
    tail    boot

secondary:                              # sleep until hart 0 has set things up and sends an IPI
    li      t0, MIE_MSIE
    csrw    mie, t0
    la      t1, boot_ready
1:  lw      t0, 0(t1)
    bnez    t0, 2f
    wfi
    j       1b
2:  fence   rw, rw
    tail    hart_main

park:
    wfi
    j       park

.macro each_register op, frame          # every integer register but x0 and tp
    \op     x1, \frame + 8 * 1(tp)
    \op     x2, \frame + 8 * 2(tp)
    \op     x3, \frame + 8 * 3(tp)
    .irp    n, 5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    \op     x\n, \frame + 8 * \n(tp)
    .endr
.endm

# A trap vector: saves x1..x31 and the pc in the frame at `frame` of the hart, calls `handler(hart)` on the stack whose
# top is at `stack` of the hart, and restores everything from the frame.
.macro trap_vector name, scratch, epc, ret, frame, stack, handler
.balign 4
.globl \name
\name:
    csrrw   tp, \scratch, tp            # tp = hart, scratch = interrupted tp
    each_register sd, \frame
    csrr    t0, \scratch
    sd      t0, \frame + 8 * 4(tp)
    csrw    \scratch, tp
    csrr    t0, \epc
    sd      t0, \frame + FRAME_PC(tp)
    ld      sp, \stack(tp)
    mv      a0, tp
    call    \handler
    ld      t0, \frame + FRAME_PC(tp)
    csrw    \epc, t0
    each_register ld, \frame
    ld      tp, \frame + 8 * 4(tp)
    \ret
.endm

.text
trap_vector trap_from_m, mscratch, mepc, mret, HART_M_FRAME, HART_M_STACK, trap_m
trap_vector trap_from_s, sscratch, sepc, sret, HART_S_FRAME, HART_S_STACK, trap_s

# uint64_t enter_mode(uint64_t pc, uint64_t argument, uint64_t stack_offset)
# mret to pc(argument) in the mode that mstatus.MPP names, on this stack + stack_offset; when it returns, `mode_return`
# executes an ecall and trap_m() comes back through `mode_resume`. The result is that of the function.
.globl enter_mode
enter_mode:
    addi    sp, sp, -112
    .set    slot, 0
    .irp    r, ra,s0,s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11
    sd      \r, slot(sp)
    .set    slot, slot + 8
    .endr
    sd      sp, HART_MODE_SP(tp)
    csrw    mepc, a0
    mv      a0, a1
    add     sp, sp, a2
    la      ra, mode_return
    add     ra, ra, a2
    li      a7, 0                       # not MODE_RETURN, should the function execute an ecall
    mret

.globl mode_resume
mode_resume:                            # sp was restored by trap_m()
    .set    slot, 0
    .irp    r, ra,s0,s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11
    ld      \r, slot(sp)
    .set    slot, slot + 8
    .endr
    addi    sp, sp, 112
    ret

.globl mode_return
mode_return:
    li      a7, -1                      # MODE_RETURN
    ecall
    j       mode_return

.section .bss
.balign 64
.globl hart_stacks
hart_stacks:
    .skip   MAX_HARTS * STACK_SIZE
