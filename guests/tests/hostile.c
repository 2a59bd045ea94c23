/* Wild accesses from hot loops: addresses around RAM's ends, at every power of two, non-canonical ones, ones that look
 * like an emulator's own, random ones; huge strides that begin well; jumps to all of these. In M-mode, S-mode without
 * paging, and Sv39, on all harts at once. Each must trap as the manual says: cause, epc, tval, registers as before.
 *
 * Every loop first runs with legal addresses for `warm` milliseconds (boot argument), so that a translator has made the
 * most of it when the wild ones come.
 */
#include "paging.h"
#include "sync.h"
#include "test.h"

#define WINDOW (-(256ul << 30)) /* in Sv39: one page, nothing mapped on either side */
#define PMP_END (1ul << 57)     /* where open_to_lower_modes() ends */
#define END 0x5afe5afe5afe5afeul /* of a table of addresses */
#define TABLE_SIZE 800

enum flags { STORE = 1, ATOMIC = 2 };
enum way { MACHINE, SUPERVISOR, PAGED, WAYS };

struct kind {
    const char *name;
    uint64_t (*loop)(uint64_t table);
    const uint32_t *access; /* the instruction under test */
    unsigned size, flags;
};

/* Over a table of addresses: t0 is the address, t1 what is loaded or stored, t3 counts. */
#define LOOP(name, instruction) \
    uint64_t loop_##name(uint64_t table); \
    extern const uint32_t access_##name[]; \
    __attribute__((naked, noinline)) uint64_t loop_##name(uint64_t table) \
    { \
        asm volatile(".option push; .option norvc\n" \
                     "   mv t5, ra\n   li t2, 0x5afe5afe5afe5afe\n   li t3, 0\n" \
                     "1: ld t0, 0(a0)\n   addi a0, a0, 8\n   beq t0, t2, 2f\n" \
                     "   xor t1, t0, t2\n   addi t3, t3, 1\n" \
                     ".globl access_" #name "\naccess_" #name ":\n" instruction "\n" \
                     "   j 1b\n" \
                     "2: mv a0, t3\n   mv ra, t5\n   ret\n   .option pop"); \
    }

LOOP(lb, "lb t1, 0(t0)")
LOOP(lhu, "lhu t1, 0(t0)")
LOOP(lw, "lw t1, 0(t0)")
LOOP(ld, "ld t1, 0(t0)")
LOOP(sb, "sb t1, 0(t0)")
LOOP(sh, "sh t1, 0(t0)")
LOOP(sw, "sw t1, 0(t0)")
LOOP(sd, "sd t1, 0(t0)")
LOOP(fld, "fld ft0, 0(t0)")
LOOP(flw, "flw ft0, 0(t0)")
LOOP(fsd, "fsd ft0, 0(t0)")
LOOP(amo, "amoadd.d t1, t1, (t0)")
LOOP(swap, "amoswap.w t1, t1, (t0)")
LOOP(lr, "lr.d t1, (t0)")
LOOP(sc, "sc.d t1, t1, (t0)")
#define KIND(name, size, flags) {#name, loop_##name, access_##name, size, flags}

static const struct kind kinds[] = {
    KIND(lb, 1, 0), KIND(lhu, 2, 0), KIND(lw, 4, 0), KIND(ld, 8, 0), KIND(fld, 8, 0), KIND(flw, 4, 0),
    KIND(sb, 1, STORE), KIND(sh, 2, STORE), KIND(sw, 4, STORE), KIND(sd, 8, STORE), KIND(fsd, 8, STORE),
    KIND(amo, 8, STORE | ATOMIC), KIND(swap, 4, STORE | ATOMIC), KIND(lr, 8, ATOMIC), KIND(sc, 8, STORE | ATOMIC),
};

static uint64_t ram_end, warm, *root; /* warm: milliseconds */
static uint64_t frame[PAGE_SIZE / 8] __attribute__((aligned(PAGE_SIZE)));

/* A hart's own. */
static struct state {
    const struct kind *kind;
    enum way way;
    unsigned traps;
    uint64_t table[TABLE_SIZE + 1], legal[257];
    uint64_t buffer[64], guard[64];
} states[MAX_HARTS] __attribute__((aligned(64)));

static struct state *mine(void) { return &states[this_hart()->id]; }

/* -- what the architecture says */
static bool is_ram(uint64_t physical) { return physical >= RAM && physical < ram_end; }

static bool is_mapped(enum way way, uint64_t address)
{
    return way != PAGED || address < 4 * GIGAPAGE || address >> 12 == WINDOW >> 12;
}

static bool is_backed(enum way way, uint64_t address)
{
    return is_ram(way == PAGED && address >> 12 == WINDOW >> 12 ? (uint64_t)frame : address);
}

/* The cause of the trap that an access makes, NO_TRAP if none; and its tval. */
static uint64_t verdict(const struct kind *kind, enum way way, uint64_t address, uint64_t *tval)
{
    bool store = kind->flags & STORE;
    uint64_t last = address + kind->size - 1, second = last & -PAGE_SIZE;
    *tval = address;
    if (kind->flags & ATOMIC && address % kind->size)
        return store ? CAUSE_STORE_MISALIGNED : CAUSE_LOAD_MISALIGNED;
    if (!is_mapped(way, address) || !is_mapped(way, last)) {
        if (is_mapped(way, address))
            *tval = second;
        return store ? CAUSE_STORE_PAGE : CAUSE_LOAD_PAGE;
    }
    if (way != MACHINE && address < PMP_END && last >= PMP_END) /* the second page's fault comes before the bus error */
        *tval = second;
    if (!is_backed(way, address) || !is_backed(way, last)) {
        if (is_backed(way, address))
            *tval = second;
        return store ? CAUSE_STORE_ACCESS : CAUSE_LOAD_ACCESS;
    }
    return NO_TRAP;
}

static void note_access(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    struct state *state = &states[hart->id];
    uint64_t address = frame->x[5], want_tval, want = verdict(state->kind, state->way, address, &want_tval);
    state->traps++;
    if (cause != want || tval != want_tval || frame->pc != (uint64_t)state->kind->access) {
        print("%s, way %u, address %lx: cause %lu, tval %lx, pc %lx\n", state->kind->name, state->way, address, cause,
              tval, frame->pc);
        EXPECT_EQ(cause, want);
        EXPECT_EQ(tval, want_tval);
        EXPECT_EQ(frame->pc, (uint64_t)state->kind->access);
    }
    if (frame->x[6] != (address ^ END) || frame->x[7] != END) { /* t1 and t2 */
        EXPECT_EQ(frame->x[6], address ^ END);
        EXPECT_EQ(frame->x[7], END);
    }
    frame->pc += 4;
}

/* -- addresses */
static unsigned add(uint64_t *table, unsigned count, uint64_t address)
{
    /* devices are below RAM and would answer; stores to the start of RAM would hit this program */
    if (address >= 0x1000 - 8 && address < RAM - 16)
        return count;
    if (address - (RAM - 8) >= 8 && is_ram(address) && address < ram_end - PAGE_SIZE)
        return count;
    if (address == END || count == TABLE_SIZE)
        return count;
    table[count] = address;
    return count + 1;
}

static unsigned wild_addresses(uint64_t *table)
{
    static const uint64_t near[] = {0, 1, 2, 4, 7, 8, 0x123, -1ul, -2ul, -3ul, -4ul, -7ul, -8ul, -16ul, -4096ul};
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof near / sizeof *near; i++) {
        n = add(table, n, near[i]);
        n = add(table, n, RAM + near[i]);
        n = add(table, n, ram_end + near[i]);
        n = add(table, n, WINDOW + near[i]);
        n = add(table, n, WINDOW + PAGE_SIZE + near[i]);
    }
    for (unsigned bit = 12; bit < 64; bit++) {
        n = add(table, n, 1ul << bit);
        n = add(table, n, (1ul << bit) - 1);
        n = add(table, n, (1ul << bit) - 8);
        n = add(table, n, -(1ul << bit));
        n = add(table, n, RAM + (1ul << bit));
        n = add(table, n, RAM - (1ul << bit) + 0x128);
    }
    /* where programs, their heaps, libraries and stacks lie on 64-bit hosts; the same less RAM, as offsets */
    static const uint64_t hosts[] = {0x400000, 0x555555554000, 0x55d0c0ffe000, 0x560000000000, 0x7f0000000000,
                                     0x7f5ea1234000, 0x7fff00000000, 0x7ffff7fff000, 0x7ffffffff000, 0x200000000000,
                                     0x100000000000, 0xffffffffff600000, 0xffff800000000000, 0xaaaaaaaaa000};
    for (unsigned i = 0; i < sizeof hosts / sizeof *hosts; i++)
        for (unsigned k = 0; k < 4; k++) {
            uint64_t host = hosts[i] + k * 0x10203040;
            n = add(table, n, host);
            n = add(table, n, -host);
            n = add(table, n, host - RAM);
            n = add(table, n, RAM - host);
        }
    for (unsigned i = 0; i < 64; i++)
        n = add(table, n, hart_random() >> hart_random() % 33);
    table[n] = END;
    return n;
}

/* -- loops */
static uint64_t in_way(enum way way, uint64_t (*function)(uint64_t), uint64_t argument)
{
    return way == MACHINE ? function(argument) : call_in_mode(S_MODE, function, argument, 0);
}

static void run_table(const struct kind *kind, enum way way)
{
    struct state *state = mine();
    state->kind = kind, state->way = way;
    for (uint64_t end = mtime() + warm * (MTIME_HZ / 1000); mtime() < end;) {
        state->traps = 0;
        in_way(way, kind->loop, (uint64_t)state->legal);
        EXPECT_EQ(state->traps, 0);
    }
    unsigned count = wild_addresses(state->table), want = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t tval;
        want += verdict(kind, way, state->table[i], &tval) != NO_TRAP;
    }
    for (unsigned round = 0; round < 2; round++) {
        state->traps = 0;
        EXPECT_EQ(in_way(way, kind->loop, (uint64_t)state->table), count);
        EXPECT_EQ(state->traps, want);
    }
}

/* A stride: t0 from `start` in steps, load and store of what is there; ends after `turns`, or at its first trap. */
struct stride {
    uint64_t start, step, turns;
};

extern const uint32_t access_stride[], end_of_stride[];
__attribute__((naked, noinline)) static uint64_t loop_stride(uint64_t stride)
{
    asm volatile(".option push; .option norvc\n"
                 "   ld t0, 0(a0)\n   ld t4, 8(a0)\n   ld t3, 16(a0)\n"
                 ".globl access_stride\naccess_stride:\n"
                 "1: ld t1, 0(t0)\n   sd t1, 0(t0)\n   add t0, t0, t4\n   addi t3, t3, -1\n   bnez t3, 1b\n"
                 ".globl end_of_stride\nend_of_stride:\n"
                 "   mv a0, t0\n   ret\n   .option pop");
}

static void note_stride(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    struct state *state = &states[hart->id];
    uint64_t want_tval, want = verdict(state->kind, state->way, frame->x[5], &want_tval);
    state->traps++;
    EXPECT_EQ(cause, want);
    EXPECT_EQ(tval, want_tval);
    EXPECT_EQ(frame->pc, (uint64_t)access_stride);
    frame->pc = (uint64_t)end_of_stride;
}

static void run_stride(enum way way, uint64_t start, uint64_t step)
{
    struct state *state = mine();
    uint64_t expected = start, tval;
    struct stride stride = {start, step, 0};
    for (; verdict(state->kind, way, expected, &tval) == NO_TRAP; expected += step)
        stride.turns++;
    if (expected >= 0x1000 - 8 && expected < RAM - 16)
        return; /* where devices are */
    state->traps = 0;
    for (uint64_t end = mtime() + warm * (MTIME_HZ / 1000); mtime() < end;)
        in_way(way, loop_stride, (uint64_t)&stride);
    EXPECT_EQ(state->traps, 0);
    stride.turns += 1000000;
    for (unsigned round = 1; round < 4; round++) {
        EXPECT_EQ(in_way(way, loop_stride, (uint64_t)&stride), expected);
        EXPECT_EQ(state->traps, round);
    }
}

static void run_strides(enum way way)
{
    static const uint64_t steps[] = {1, 8, 24, 4088, 4096, 1 << 16, 1 << 24, 1ul << 32, 1ul << 40, 1ul << 47, 1ul << 62,
                                     1ul << 63, 0x7f5ea1234000, -(1ul << 33), -(1ul << 40), -(1ul << 47)};
    mine()->way = way;
    mine()->kind = &kinds[3];
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++)
        run_stride(way, ram_end - 8 - (steps[i] <= 4096 ? 200 * steps[i] : 0), steps[i]);
}

/* -- jumps */
LOOP(call, "jalr ra, 0(t0)")

static bool is_executable(enum way way, uint64_t address)
{
    return way != PAGED || (address >= 2 * GIGAPAGE && address < 4 * GIGAPAGE);
}

static void note_fetch(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    struct state *state = &states[hart->id];
    uint64_t target = frame->x[5] & -2ul, back = (uint64_t)access_call + 4;
    uint64_t want = is_executable(state->way, target) ? CAUSE_FETCH_ACCESS : CAUSE_FETCH_PAGE;
    state->traps++;
    if (cause != want || tval != target || frame->pc != target || frame->x[1] != back) {
        print("jump to %lx, way %u: cause %lu, tval %lx, pc %lx\n", target, state->way, cause, tval, frame->pc);
        EXPECT_EQ(cause, want);
        EXPECT_EQ(tval, target);
        EXPECT_EQ(frame->pc, target);
        EXPECT_EQ(frame->x[1], back);
    }
    frame->pc = frame->x[1];
}

__attribute__((naked, aligned(8))) static void nothing(void) { asm volatile("ret"); }

static void run_jumps(enum way way)
{
    struct state *state = mine();
    uint64_t table[TABLE_SIZE + 1], count = wild_addresses(table), kept = 0;
    state->way = way;
    for (unsigned i = 0; i < 256; i++)
        state->legal[i] = (uint64_t)nothing | (i & 1);
    for (unsigned i = 0; i < count; i++)
        if (!is_backed(way, table[i] & -2ul))
            state->table[kept++] = table[i];
    state->table[kept] = END;
    for (uint64_t end = mtime() + warm * (MTIME_HZ / 1000); mtime() < end;)
        in_way(way, loop_call, (uint64_t)state->legal);
    for (unsigned round = 0; round < 2; round++) {
        state->traps = 0;
        EXPECT_EQ(in_way(way, loop_call, (uint64_t)state->table), kept);
        EXPECT_EQ(state->traps, kept);
    }
}

static void work(unsigned id)
{
    struct state *state = &states[id];
    struct hart *hart = this_hart();
    open_to_lower_modes();
    csr_set(mstatus, MSTATUS_FS);
    for (unsigned i = 0; i < 64; i++)
        state->guard[i] = i * END;
    for (enum way way = MACHINE; way < WAYS; way++) {
        if (way == PAGED) {
            csr_write(satp, satp_for(root, SV39, 0));
            sfence_vma();
        }
        for (unsigned i = 0; i < 256; i++)
            state->legal[i] = (uint64_t)&state->buffer[i % 64];
        state->legal[256] = END;
        hart->m_handler = note_access;
        for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
            run_table(&kinds[k], way);
        hart->m_handler = note_stride;
        run_strides(way);
        hart->m_handler = note_fetch;
        run_jumps(way);
        for (unsigned i = 0; i < 64; i++)
            EXPECT_EQ(state->guard[i], i * END);
    }
    csr_write(satp, 0);
    sfence_vma();
    hart->m_handler = NULL;
}

int main(void)
{
    warm = argument("warm", 10);
    for (ram_end = RAM + MEGAPAGE; attempt(M_MODE, load8, ram_end) == NO_TRAP;)
        ram_end += MEGAPAGE;
    print("RAM ends at %lx\n", ram_end);
    root = page_table();
    page_map_identity(root, SV39);
    page_map(root, SV39, WINDOW, (uint64_t)frame, 0, PTE_RW);
    parallel(work, harts);
    return test_result();
}
