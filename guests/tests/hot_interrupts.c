/* Timer interrupts and IPIs reach a hart that runs an endless hot loop, whatever its shape, and soon; they find it with
 * registers that belong together. In M-mode and in S-mode, on all harts at once.
 *
 * Boot argument rounds: interrupts per shape.
 */
#include "sync.h"
#include "test.h"

#define TICKS_PER_MS (MTIME_HZ / 1000)

/* Every loop counts in t0 and, one instruction later, in t1; `end_NAME` is where the interrupt sends it. t2 holds sp,
 * t5 INSIDE from when that is so. */
#define INSIDE 0x10c4
#define LOOP(name, body, more) \
    extern const uint32_t end_##name[]; \
    __attribute__((naked, noinline)) static uint64_t loop_##name(uint64_t unused) \
    { \
        asm volatile(".option push; .option norvc\n" \
                     "   addi sp, sp, -16\n   sd ra, 0(sp)\n   mv t2, sp\n   li t0, 0\n   li t1, 0\n   li t5, 0x10c4\n" \
                     "1:\n" body "\n   j 1b\n" \
                     ".globl end_" #name "\nend_" #name ":\n" \
                     "   mv sp, t2\n   li t5, 0\n   ld ra, 0(sp)\n   addi sp, sp, 16\n   mv a0, t0\n   ret\n" more "\n .option pop"); \
    }
#define COUNT "   addi t0, t0, 1\n   addi t1, t1, 1\n"

LOOP(tight, COUNT, "")
LOOP(memory, COUNT "   sd t0, -64(sp)\n   ld t3, -64(sp)\n", "")
LOOP(call, "   jal ra, 5f\n", "5:\n" COUNT "   ret\n")
LOOP(register, "   lla t3, 5f\n   jalr ra, 0(t3)\n", "5:\n" COUNT "   ret\n")
LOOP(back, "   lla t3, 1b\n" COUNT "   jr t3\n", "")
LOOP(recursion, "   li t4, 30\n   jal ra, 5f\n",
     "5: addi sp, sp, -16\n   sd ra, 0(sp)\n" COUNT "   beqz t4, 6f\n   addi t4, t4, -1\n   jal ra, 5b\n"
     "6: ld ra, 0(sp)\n   addi sp, sp, 16\n   ret\n")
LOOP(nested, "   li t4, 1000\n2:\n" COUNT "   addi t4, t4, -1\n   bnez t4, 2b\n", "")
LOOP(floating, COUNT "   fadd.d ft0, ft0, ft1\n   fmul.d ft2, ft0, ft1\n", "")
LOOP(csr, COUNT "   csrr t3, instret\n", "")
LOOP(atomic, COUNT "   addi t3, sp, -64\n   amoadd.d t4, t0, (t3)\n", "")

static const struct shape {
    const char *name;
    uint64_t (*run)(uint64_t);
    const uint32_t *end;
} shapes[] = {
#define SHAPE(name) {#name, loop_##name, end_##name}
    SHAPE(tight), SHAPE(memory), SHAPE(call), SHAPE(register), SHAPE(back),
    SHAPE(recursion), SHAPE(nested), SHAPE(floating), SHAPE(csr), SHAPE(atomic),
};
enum { SHAPES = sizeof shapes / sizeof *shapes, MAX_ROUNDS = 200 };

static struct state {
    const struct shape *shape;
    uint64_t due, latency, taken;
    uint64_t latencies[MAX_ROUNDS];
} states[MAX_HARTS] __attribute__((aligned(64)));
static uint64_t rounds;

static void note(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    struct state *state = &states[hart->id];
    uint64_t now = mtime();
    if (cause == (CAUSE_INTERRUPT | IRQ_MTI))
        timer_off(hart->id);
    else if (cause == (CAUSE_INTERRUPT | IRQ_MSI))
        ipi_clear(hart->id);
    else
        panic("hot interrupts", cause, frame->pc, tval);
    if (frame->x[30] != INSIDE) { /* too early: once more, by the timer */
        csr_set(mie, IRQ_BIT(IRQ_MTI));
        state->due = now + TICKS_PER_MS / 4;
        timer_set(hart->id, state->due);
        return;
    }
    state->latency = now - state->due;
    state->taken++;
    EXPECT(frame->x[5] - frame->x[6] <= 1); /* t0, t1 */
    frame->pc = (uint64_t)state->shape->end;
}

static void sort(uint64_t *values, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++)
        for (uint64_t k = i; k && values[k - 1] > values[k]; k--) {
            uint64_t value = values[k];
            values[k] = values[k - 1], values[k - 1] = value;
        }
}

static uint64_t interrupts_on(uint64_t shape) /* M-mode's come in S-mode whatever MIE says */
{
    csr_set(mstatus, MSTATUS_MIE);
    uint64_t result = shapes[shape].run(0);
    csr_clear(mstatus, MSTATUS_MIE);
    return result;
}

static void work(unsigned id)
{
    struct hart *hart = this_hart();
    struct state *state = &states[id];
    open_to_lower_modes();
    csr_set(mstatus, MSTATUS_FS);
    hart->m_handler = note;
    for (unsigned s = 0; s < SHAPES; s++)
        for (int supervisor = 0; supervisor < 2; supervisor++) {
            state->shape = &shapes[s];
            state->taken = 0;
            csr_write(mie, IRQ_BIT(IRQ_MTI));
            for (uint64_t i = 0; i < rounds; i++) {
                state->due = mtime() + (i + 1) % 4 * TICKS_PER_MS;
                timer_set(id, state->due);
                supervisor ? call_in_mode(S_MODE, shapes[s].run, 0, 0) : interrupts_on(s);
                state->latencies[i] = state->latency;
                EXPECT_EQ(state->taken, i + 1);
            }
            csr_write(mie, 0);
            sort(state->latencies, rounds);
            uint64_t median = state->latencies[rounds / 2], longest = state->latencies[rounds - 1];
            if (median > 20 * TICKS_PER_MS || longest > 2000 * TICKS_PER_MS)
                print("%s: latency %lu us, at most %lu us\n", shapes[s].name, median / 10, longest / 10);
            EXPECT(median <= 20 * TICKS_PER_MS);
            EXPECT(longest <= 2000 * TICKS_PER_MS); /* the host may do other things */
            if (id == 0 && !supervisor)
                print("%s: latency %lu.%lu us\n", shapes[s].name, median / 10, median % 10);
        }
    hart->m_handler = NULL;
}

/* Harts in hot loops get IPIs from hart 0. */
static uint32_t ready[MAX_HARTS];
static void looping(unsigned id)
{
    struct hart *hart = this_hart();
    struct state *state = &states[id];
    if (id == 0) {
        for (unsigned other = 1; other < harts; other++)
            for (unsigned s = 0; s < SHAPES; s++)
                for (unsigned i = 0; i < 4; i++) {
                    while (load_acquire(&ready[other]) != s * 4 + i + 1)
                        cpu_pause();
                    uint64_t end = mtime() + i * TICKS_PER_MS;
                    while (mtime() < end)
                        cpu_pause();
                    ipi_send(other);
                }
        return;
    }
    hart->m_handler = note;
    state->taken = 0;
    for (unsigned s = 0; s < SHAPES; s++)
        for (unsigned i = 0; i < 4; i++) {
            state->shape = &shapes[s];
            csr_write(mie, IRQ_BIT(IRQ_MSI));
            store_release(&ready[id], s * 4 + i + 1);
            interrupts_on(s);
            csr_write(mie, 0);
        }
    EXPECT_EQ(state->taken, 4 * SHAPES);
    hart->m_handler = NULL;
}

int main(void)
{
    rounds = argument("rounds", 20);
    if (rounds > MAX_ROUNDS)
        rounds = MAX_ROUNDS;
    parallel(work, harts);
    parallel(looping, harts);
    return test_result();
}
