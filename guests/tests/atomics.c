/* Every AMO on words that all harts share, next to accesses of other sizes to the same bytes. */
#include "sync.h"
#include "test.h"

static uint64_t rounds;

#define AMO(name, memory, operand) ({ \
    __typeof__(memory) old_; \
    asm volatile(name " %0, %2, %1" : "=r"(old_), "+A"(memory) : "r"(operand) : "memory"); \
    old_; })

/* One hart: the result and the old value of each. */
static void single(void)
{
    int64_t d = -5;
    EXPECT_EQ(AMO("amoswap.d", d, 7l), -5);
    EXPECT_EQ(AMO("amoadd.d", d, -10l), 7);
    EXPECT_EQ(AMO("amoxor.d", d, 0xffl), -3);
    EXPECT_EQ(AMO("amoand.d", d, 0xf0l), -3 ^ 0xff);
    EXPECT_EQ(AMO("amoor.d", d, 1l), (-3 ^ 0xff) & 0xf0);
    d = -1;
    EXPECT_EQ(AMO("amomin.d", d, 1l), -1);
    EXPECT_EQ(AMO("amomax.d", d, 1l), -1);
    EXPECT_EQ(AMO("amominu.d", d, -1l), 1);
    EXPECT_EQ(AMO("amomaxu.d", d, -1l), 1);
    EXPECT_EQ(d, -1);
    int32_t w[2] = {(int32_t)0x80000000, 0x55}; /* words: the upper neighbour stays, the old value has its sign */
    EXPECT_EQ((int64_t)AMO("amoadd.w", w[0], -1l), (int32_t)0x80000000);
    EXPECT_EQ(w[0], 0x7fffffff);
    EXPECT_EQ((int64_t)AMO("amominu.w", w[0], 0xffffffff80000000l), 0x7fffffff);
    EXPECT_EQ((int64_t)AMO("amomax.w", w[0], 0x80000000l), 0x7fffffff);
    EXPECT_EQ(w[0], 0x7fffffff);
    EXPECT_EQ(w[1], 0x55);
}

static struct {
    uint64_t added CACHE_ALIGNED;
    uint64_t toggled, or_ed, and_ed, largest;
    int64_t smallest;
    uint64_t token_sum, token CACHE_ALIGNED;
    union {
        uint64_t whole;
        uint32_t half[2];
        uint8_t byte[8];
    } mixed CACHE_ALIGNED;
    uint64_t torn;
} shared;

static void work(unsigned hart)
{
    uint64_t mine = 0;
    for (uint64_t i = 1; i <= rounds; i++) {
        AMO("amoadd.d", shared.added, i);
        AMO("amoxor.d", shared.toggled, i << hart);
        AMO("amoor.d", shared.or_ed, 1ul << ((i + hart) & 63));
        AMO("amoand.d", shared.and_ed, ~(1ul << ((i + hart) & 63)));
        AMO("amomaxu.d", shared.largest, i * harts + hart);
        AMO("amomin.d", shared.smallest, -(int64_t)(i * harts + hart));
        mine += AMO("amoswap.d", shared.token, i * harts + hart); /* each value comes out once */
        /* mixed sizes: even harts add to the low word, odd ones to the high word, one adds to the whole */
        AMO("amoadd.w", shared.mixed.half[hart & 1], 1l);
        uint64_t whole = load_relaxed(&shared.mixed.whole);
        uint32_t low = load_relaxed(&shared.mixed.half[0]), high = load_relaxed(&shared.mixed.half[1]);
        if ((uint32_t)whole > low || whole >> 32 > high) /* counters only grow: later looks see no less */
            fetch_add(&shared.torn, 1);
    }
    fetch_add(&shared.token_sum, mine);
}

static uint64_t stream CACHE_ALIGNED;

/* Plain 64-bit stores and loads are single copies: a value's halves always match. */
static void tearing(unsigned hart)
{
    for (uint64_t i = 0; i < rounds; i++) {
        if (hart & 1) {
            uint64_t value = load_relaxed(&stream);
            if ((uint32_t)value != value >> 32)
                fetch_add(&shared.torn, 1);
        } else {
            uint64_t half = i * harts + hart;
            store_relaxed(&stream, half << 32 | (uint32_t)half);
        }
    }
}

/* Byte stores of several harts to neighbouring bytes don't disturb each other; nor does an AMO on the same word's other
 * bytes (it adds zero). */
static void neighbours(unsigned hart)
{
    static uint8_t bytes[MAX_HARTS] CACHE_ALIGNED;
    uint32_t *word = (uint32_t *)&bytes[hart & ~3u];
    for (uint64_t i = 0; i < rounds; i++) {
        store_relaxed(&bytes[hart], (uint8_t)i);
        AMO("amoadd.w", *word, 0l);
        if (load_relaxed(&bytes[hart]) != (uint8_t)i)
            fetch_add(&shared.torn, 1);
    }
}

int main(void)
{
    uint64_t toggled = 0, tokens = 0;
    rounds = argument("rounds", 5000);
    single();
    shared.and_ed = UINT64_MAX;
    parallel(work, harts);
    for (unsigned hart = 0; hart < harts; hart++)
        for (uint64_t i = 1; i <= rounds; i++)
            toggled ^= i << hart, tokens += i * harts + hart;
    EXPECT_EQ(shared.added, harts * (rounds * (rounds + 1) / 2));
    EXPECT_EQ(shared.toggled, toggled);
    EXPECT_EQ(shared.or_ed, UINT64_MAX);
    EXPECT_EQ(shared.and_ed, 0);
    EXPECT_EQ(shared.largest, rounds * harts + harts - 1);
    EXPECT_EQ(shared.smallest, -(int64_t)(rounds * harts + harts - 1));
    EXPECT_EQ(shared.token_sum + shared.token, tokens);
    EXPECT_EQ(shared.mixed.half[0], (harts + 1) / 2 * rounds);
    EXPECT_EQ(shared.mixed.half[1], harts / 2 * rounds);
    parallel(tearing, harts);
    parallel(neighbours, harts);
    EXPECT_EQ(shared.torn, 0);
    return test_result();
}
