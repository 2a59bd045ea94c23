# start_program(state): every register from the state, then mret to mepc (random.h has the layout).
.globl start_program
start_program:
    ld      t0, 512(a0)
    fscsr   t0
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    fld     f\n, 256 + 8 * \n(a0)
    .endr
    .irp    n, 1,2,3,4,5,6,7,8,9,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    ld      x\n, 8 * \n(a0)
    .endr
    ld      a0, 80(a0)
    mret

# save_fp(f): f0..f31
.globl save_fp
save_fp:
    .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    fsd     f\n, 8 * \n(a0)
    .endr
    ret
