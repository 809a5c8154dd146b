/* SPDX-License-Identifier: MIT
 *
 * A C program that serves its profiles and never rests (cpu_http_test.sh): three quarters of its time go into
 * burn_much, the rest into burn_little. It prints its address.
 */
#include "cprof.h"

#include <stdint.h>
#include <stdio.h>

#define STEPS 100000u

static volatile uint32_t sink;

/* Both do the same to SINK, each in code of its own. */
#define BURN(NAME, ROUNDS)                                                                                   \
    __attribute__((noinline, noclone)) static void NAME(void)                                                \
    {                                                                                                        \
        for (uint32_t i = 0; i < (ROUNDS)*STEPS; i++)                                                        \
            sink = sink * 1664525u + 1013904223u;                                                            \
    }

BURN(burn_much, 3u)
BURN(burn_little, 1u)

int main(void)
{
    cprof_http *server;
    if (cprof_http_start(NULL, &server) != 0) {
        fprintf(stderr, "cprof: %s\n", cprof_last_error());
        return 1;
    }
    printf("http://127.0.0.1:%d\n", cprof_http_port(server));
    fflush(stdout);
    for (;;) {
        burn_much();
        burn_little();
    }
}
