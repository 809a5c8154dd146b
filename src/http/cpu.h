/* SPDX-License-Identifier: MIT
 *
 * /debug/pprof/profile: a CPU profile of the seconds to come. Its answer is begun, which starts a recording,
 * and ended by whoever waited for the seconds; no sockets and no clocks here.
 * Source: https://pkg.go.dev/net/http/pprof#Profile. Signals: unsafe.
 */
#ifndef CPROF_HTTP_CPU_H
#define CPROF_HTTP_CPU_H

#include "http/routes.h"
#include "http/target.h"

#define CPROF__HTTP_RECORDING_SECONDS_MAX 3600

/* Answers REQUEST, whose target is TARGET: with an error, or, for a HEAD, without a recording, or with one
 * that runs and is to be ended after RESPONSE->recording_ms. Threads: any. */
void cprof__cpu_begin(cprof__response *response, const cprof__request *request, const cprof__target *target);

/* Ends the recording of RESPONSE and makes the body of it, or an error. Takes as long as finding the names of
 * what was seen takes: seconds, the first time. Threads: any. */
void cprof__cpu_end(cprof__response *response);

#endif
