/* Locks, barriers and atomics between harts. All waiting loops execute PAUSE. */
#ifndef SYNC_H
#define SYNC_H

#include <stdint.h>

#include "riscv.h"

#define CACHE_ALIGNED __attribute__((aligned(64)))

#define load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define fetch_add(p, v) __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL)

/* Test and test-and-set with amoswap: no order among the waiters. */
struct spin_lock {
    uint32_t held;
};

static inline void spin_lock(struct spin_lock *lock)
{
    while (__atomic_exchange_n(&lock->held, 1, __ATOMIC_ACQUIRE))
        while (load_relaxed(&lock->held))
            cpu_pause();
}

static inline void spin_unlock(struct spin_lock *lock) { store_release(&lock->held, 0); }

/* First come, first served. */
struct ticket_lock {
    uint32_t next, serving;
};

static inline void ticket_lock(struct ticket_lock *lock)
{
    uint32_t ticket = __atomic_fetch_add(&lock->next, 1, __ATOMIC_RELAXED);
    while (load_acquire(&lock->serving) != ticket)
        cpu_pause();
}

static inline void ticket_unlock(struct ticket_lock *lock) { store_release(&lock->serving, lock->serving + 1); }

/* Sense-reversing barrier for `count` harts; usable again at once. All zero is its initial state. */
struct barrier {
    uint32_t arrived, sense;
};

static inline void barrier_wait(struct barrier *barrier, unsigned count)
{
    uint32_t sense = load_relaxed(&barrier->sense);
    if (fetch_add(&barrier->arrived, 1) == count - 1) {
        store_relaxed(&barrier->arrived, 0);
        store_release(&barrier->sense, !sense);
    } else {
        while (load_acquire(&barrier->sense) == sense)
            cpu_pause();
    }
}

/* *p += n by LR/SC, whatever the compiler makes of __atomic. */
static inline uint64_t lrsc_add(uint64_t *p, uint64_t n)
{
    uint64_t old, new, failed;
    asm volatile("1: lr.d.aq %0, (%3)\n"
                 "   add %1, %0, %4\n"
                 "   sc.d.rl %2, %1, (%3)\n"
                 "   bnez %2, 1b"
                 : "=&r"(old), "=&r"(new), "=&r"(failed) : "r"(p), "r"(n) : "memory");
    return old;
}

#endif
