/* Integer kernels: the mixes that CPU benchmarks are made of, written for this project. */
#include "kernels.h"

/* -- CRC-16/CCITT, bit by bit as in a small microcontroller. */
static uint16_t crc16(const uint8_t *data, size_t size, uint16_t crc)
{
    for (size_t i = 0; i < size; i++) {
        crc ^= (uint16_t)(data[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

static void fill_random(uint8_t *memory, size_t size)
{
    uint64_t seed = 88172645463325252;
    for (size_t i = 0; i < size; i++)
        memory[i] = (uint8_t)next_random(&seed);
}

enum { CRC_BYTES = 16384 };
static void prepare_crc(uint8_t *memory) { fill_random(memory, CRC_BYTES); }
static uint64_t run_crc(uint8_t *memory) { return crc16(memory, CRC_BYTES, 0xffff); }
const struct kernel kernel_crc = {"crc", "bytes", CRC_BYTES, CRC_BYTES, prepare_crc, run_crc};

/* -- A state machine that sorts comma-separated words into integers, decimals, with exponent, and junk. */
enum state { START, SIGN, INTEGER, FRACTION, EXPONENT, EXPONENT_SIGN, EXPONENT_DIGITS, JUNK, STATES };

static uint64_t classify(const uint8_t *text, size_t size)
{
    uint32_t counts[STATES] = {0}, transitions = 0;
    enum state state = START;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = text[i];
        enum state before = state;
        if (c == ',') {
            counts[state]++;
            state = START;
            continue;
        }
        switch (state) {
        case START: state = c == '+' || c == '-' ? SIGN : c == '.' ? FRACTION : c - '0' < 10u ? INTEGER : JUNK; break;
        case SIGN: state = c == '.' ? FRACTION : c - '0' < 10u ? INTEGER : JUNK; break;
        case INTEGER: state = c == '.' ? FRACTION : c == 'e' ? EXPONENT : c - '0' < 10u ? INTEGER : JUNK; break;
        case FRACTION: state = c == 'e' ? EXPONENT : c - '0' < 10u ? FRACTION : JUNK; break;
        case EXPONENT: state = c == '+' || c == '-' ? EXPONENT_SIGN : c - '0' < 10u ? EXPONENT_DIGITS : JUNK; break;
        case EXPONENT_SIGN:
        case EXPONENT_DIGITS: state = c - '0' < 10u ? EXPONENT_DIGITS : JUNK; break;
        default: break;
        }
        transitions += state != before;
    }
    uint64_t sum = transitions;
    for (int i = 0; i < STATES; i++)
        sum = sum * 31 + counts[i];
    return sum;
}

static void make_text(uint8_t *text, size_t size)
{
    static const char *const words[] = {"5012", "-874", "+122", "35.54400", "-.123450", "+5.5e+3", "-87e-832",
                                        "T0.3e-1F", "-T.T++Tq", "0.6e-12", "1T3.4e4z", "34.0e-T^", "99999"};
    uint64_t seed = 7;
    size_t used = 0;
    while (used < size) {
        for (const char *w = words[next_random(&seed) % 13]; *w && used < size; w++)
            text[used++] = (uint8_t)*w;
        if (used < size)
            text[used++] = ',';
    }
}

enum { TEXT_BYTES = 65536 };
static void prepare_state_machine(uint8_t *memory) { make_text(memory, TEXT_BYTES); }
static uint64_t run_state_machine(uint8_t *memory) { return classify(memory, TEXT_BYTES); }
const struct kernel kernel_state_machine = {"state machine", "bytes", TEXT_BYTES, TEXT_BYTES, prepare_state_machine,
                                            run_state_machine};

/* -- CoreMark-like: a list that is searched, reversed and sorted, small matrices, the state machine, all through a CRC. */
struct item {
    struct item *next;
    int16_t key, value;
};
enum { ITEMS = 120, SIDE = 9, SHORT_TEXT = 666, MIXED_ROUNDS = 20 };
struct mixed {
    struct item items[ITEMS];
    int16_t a[SIDE][SIDE], b[SIDE][SIDE];
    int32_t c[SIDE][SIDE];
    uint8_t text[SHORT_TEXT];
};

static struct item *reverse(struct item *list)
{
    struct item *done = NULL;
    while (list) {
        struct item *next = list->next;
        list->next = done;
        done = list;
        list = next;
    }
    return done;
}

static struct item *merge_sort(struct item *list, int (*less)(const struct item *, const struct item *))
{
    if (!list || !list->next)
        return list;
    struct item *slow = list, *fast = list->next;
    while (fast && fast->next)
        slow = slow->next, fast = fast->next->next;
    struct item *right = merge_sort(slow->next, less);
    slow->next = NULL;
    struct item *left = merge_sort(list, less), *head = NULL, **tail = &head;
    while (left && right) {
        struct item **from = less(right, left) ? &right : &left;
        *tail = *from;
        tail = &(*from)->next;
        *from = *tail;
    }
    *tail = left ? left : right;
    return head;
}

static int by_key(const struct item *a, const struct item *b) { return a->key < b->key; }
static int by_value(const struct item *a, const struct item *b) { return a->value < b->value; }

static uint16_t list_work(struct mixed *m, int16_t round)
{
    struct item *list = m->items;
    uint16_t crc = 0;
    for (int i = 0; i < ITEMS; i++)
        m->items[i].next = i + 1 < ITEMS ? &m->items[i + 1] : NULL;
    for (int16_t wanted = 0; wanted < 12; wanted++) {
        struct item *found = list;
        while (found && found->value != (int16_t)(wanted * 9 + round))
            found = found->next;
        crc = (uint16_t)(crc * 31 + (found ? found->key : 1));
        list = reverse(list);
    }
    list = merge_sort(list, by_value);
    list = merge_sort(list, by_key);
    for (struct item *i = list; i; i = i->next)
        crc = crc16((const uint8_t *)&i->value, sizeof i->value, crc);
    return crc;
}

static uint16_t matrix_work(struct mixed *m, int16_t round)
{
    uint32_t sum = 0;
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            int32_t total = 0;
            for (int k = 0; k < SIDE; k++)
                total += (int16_t)(m->a[i][k] + round) * m->b[k][j];
            m->c[i][j] = total;
        }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            sum += (uint32_t)((m->c[i][j] >> 2 & 0xf) * (m->c[i][j] >> 5 & 0x7f)) + (m->c[i][j] > (int32_t)(sum % 1000) ? 10 : 1);
    return crc16((const uint8_t *)&sum, sizeof sum, 0);
}

static void prepare_coremark_like(uint8_t *memory)
{
    struct mixed *m = (struct mixed *)memory;
    uint64_t seed = 3415;
    for (int i = 0; i < ITEMS; i++)
        m->items[i].key = (int16_t)(next_random(&seed) % 1000), m->items[i].value = (int16_t)(next_random(&seed) % 100);
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            m->a[i][j] = (int16_t)next_random(&seed), m->b[i][j] = (int16_t)next_random(&seed);
    make_text(m->text, SHORT_TEXT);
}

static uint64_t run_coremark_like(uint8_t *memory)
{
    struct mixed *m = (struct mixed *)memory;
    uint64_t sum = 0;
    for (int16_t round = 0; round < MIXED_ROUNDS; round++) {
        uint16_t parts[3] = {list_work(m, round), matrix_work(m, round), (uint16_t)classify(m->text, SHORT_TEXT)};
        sum = sum * 17 + crc16((const uint8_t *)parts, sizeof parts, 0xffff);
    }
    return sum;
}
const struct kernel kernel_coremark_like = {"CoreMark-like", "rounds", MIXED_ROUNDS, sizeof(struct mixed),
                                            prepare_coremark_like, run_coremark_like};

/* -- Dhrystone-like: records, enumerations, string copies and comparisons, many small calls. */
enum color { RED, GREEN, BLUE };
struct record {
    struct record *other;
    enum color color;
    int32_t number;
    char text[31];
};
struct records {
    struct record one, two;
    int32_t array[50], table[50][50];
    char a[31], b[31];
};
enum { DHRYSTONE_ROUNDS = 2000 };

__attribute__((noinline)) static void copy_text(char *to, const char *from)
{
    while ((*to++ = *from++))
        ;
}

__attribute__((noinline)) static int compare_text(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

__attribute__((noinline)) static int add_seven(int a, int b) { return a + b + 7; }
__attribute__((noinline)) static enum color pick(enum color c, int n) { return c == GREEN ? (n > 100 ? RED : BLUE) : c; }

__attribute__((noinline)) static void update_array(struct records *r, int a, int b)
{
    int i = a + 5;
    r->array[i] = b;
    r->array[i + 1] = r->array[i];
    r->array[i + 30] = i;
    for (int k = i; k <= i + 1; k++)
        r->table[i][k] = i;
    r->table[i][i - 1]++;
    r->table[i + 20][i] = r->array[i];
}

__attribute__((noinline)) static void update_record(struct record *record, int n)
{
    *record->other = *record;
    record->number = n;
    record->other->number = record->number + 1;
    record->other->color = pick(record->color, record->number);
    record->number = add_seven(record->other->number, 10);
}

static void prepare_dhrystone_like(uint8_t *memory)
{
    struct records *r = (struct records *)memory;
    r->one.other = &r->two;
    r->one.color = GREEN;
    copy_text(r->one.text, "A STRING OF THIRTY CHARACTERS,");
    copy_text(r->a, "THE FIRST STRING OF THE KERNEL");
}

static uint64_t run_dhrystone_like(uint8_t *memory)
{
    struct records *r = (struct records *)memory;
    uint64_t sum = 0;
    for (int i = 0; i < DHRYSTONE_ROUNDS; i++) {
        int a = 2 + i % 3, b = 3, c;
        copy_text(r->b, "THE FIRST STRING OF THE KERNEL");
        c = compare_text(r->a, r->b) ? 1 : add_seven(a, b);
        update_array(r, a, c);
        update_record(&r->one, c);
        r->one.color = (enum color)(i % 3);
        b = c / a * 3 - (i & 7);
        a = 7 * (b - c) - a;
        sum += (uint64_t)(int64_t)(a + b) + (uint64_t)r->two.color + (uint64_t)r->one.number;
    }
    return sum;
}
const struct kernel kernel_dhrystone_like = {"Dhrystone-like", "rounds", DHRYSTONE_ROUNDS, sizeof(struct records),
                                             prepare_dhrystone_like, run_dhrystone_like};
