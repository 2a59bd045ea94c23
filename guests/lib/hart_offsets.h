/* Offsets into `struct hart` (hart.h) that assembly uses; hart.c asserts that they are right. */
#ifndef HART_OFFSETS_H
#define HART_OFFSETS_H

#define HART_M_FRAME 0
#define HART_S_FRAME 264
#define FRAME_PC 256
#define HART_M_STACK 528
#define HART_S_STACK 536
#define HART_MODE_SP 544

#define MAX_HARTS 64
#define STACK_SIZE 16384
#define TRAP_STACK_SIZE 4096
#define HART_SIZE_SHIFT 10

#endif
