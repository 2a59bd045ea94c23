/* The SMP guest: what smp.c runs, one line of the report each. */
#ifndef SMP_H
#define SMP_H

#include "console.h"
#include "hart.h"
#include "paging.h"
#include "sync.h"

/* How long everything takes: 0 a quick look, 1 a demonstration of a few seconds, 2 a long run. */
extern unsigned scale;

/* locks.c: true if what was counted adds up. */
bool test_spin_lock(void);
bool test_ticket_lock(void);
bool test_barrier(void);
bool test_amo(void);
bool test_lrsc(void);
bool test_messages(void);

/* interrupts.c */
bool test_ipi_ring(void);
bool test_timers(void);
bool test_code_change(void);

/* supervisor.c: in S-mode under Sv39 */
bool test_shootdown(void);
bool test_primes(void);

/* picture.c */
bool test_mandelbrot(void);

#endif
