/* Runs the programs in `blob`, one line each: number, how it ended, a hash of all registers and of the scratch page.
 *
 * Boot arguments: mode=3 (M-mode) or 1 (S-mode under Sv39); dump=N: all registers of program N as well.
 */
#include "random.h"

#include "console.h"
#include "hart.h"
#include "paging.h"

uint8_t blob[BLOB_SIZE] __attribute__((aligned(4096), section(".data")));
uint64_t scratch[SCRATCH_WORDS] __attribute__((aligned(4096)));

static struct state result;
static uint64_t ended, ended_at;

static void finish(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    (void)tval;
    save_fp(result.f);
    result.fcsr = csr_read(fcsr);
    for (unsigned i = 0; i < 32; i++)
        result.x[i] = i ? frame->x[i] : 0;
    ended = cause;
    ended_at = frame->pc;
    return_to_caller(hart);
}

/* FNV-1a over 64-bit words. */
static uint64_t hash_words(uint64_t hash, const uint64_t *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        hash = (hash ^ words[i]) * 0x100000001b3;
    return hash;
}

/* Set up by hand, not by call_in_mode(): mret goes from start_program() to the program, not to start_program(). */
static uint64_t launch(uint64_t program)
{
    csr_write(mepc, (uint64_t)((struct program *)program)->code);
    csr_clear(mstatus, MSTATUS_MPP);
    csr_set(mstatus, argument("mode", M_MODE) << MSTATUS_MPP_SHIFT);
    return start_program(program);
}

int main(void)
{
    uint64_t count = *(uint64_t *)blob, dump = argument("dump", UINT64_MAX);
    open_to_lower_modes();
    this_hart()->m_handler = finish;
    if (argument("mode", M_MODE) == S_MODE) {
        uint64_t *root = page_table();
        page_map_identity(root, SV39);
        csr_write(satp, satp_for(root, SV39, 0));
        sfence_vma();
    }
    for (uint64_t i = 0; i < count; i++) {
        struct program *program = (struct program *)(blob + ((uint64_t *)blob)[1 + i]);
        for (unsigned k = 0; k < SCRATCH_WORDS; k++)
            scratch[k] = (i * SCRATCH_WORDS + k + 1) * 0x9e3779b97f4a7c15;
        call_in_mode(M_MODE, launch, (uint64_t)program, 0);
        uint64_t hash = hash_words(0xcbf29ce484222325, (uint64_t *)&result, sizeof result / 8);
        hash = hash_words(hash, scratch, SCRATCH_WORDS);
        print("%lu: cause %lu at %lx, %lx\n", i, ended, ended_at, hash);
        if (i == dump) {
            for (unsigned k = 0; k < 32; k++)
                print("  x%u %lx f%u %lx\n", k, result.x[k], k, result.f[k]);
            print("  fcsr %lx\n", result.fcsr);
            for (unsigned k = 0; k < SCRATCH_WORDS; k++)
                print("  scratch+%x %lx\n", 8 * k, scratch[k]);
        }
    }
    return 0;
}
