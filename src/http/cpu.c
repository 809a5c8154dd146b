/* SPDX-License-Identifier: MIT
 *
 * See cpu.h. Go's handler, with these differences: hz, mode and engine choose as they do in
 * cprof_start_cpu_profile, what they cannot mean is refused (400), the seconds are bounded, and a HEAD
 * records nothing.
 */
#include "http/cpu.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

#define SECONDS_DEFAULT 30
#define ERROR_TEXT_MAX 640

#define TEXT_OF(NUMBER) #NUMBER
#define TEXT(NUMBER) TEXT_OF(NUMBER)

enum { SECONDS, HZ, MODE, ENGINE, PARAMETERS };

static void refuse_to_start(cprof__response *response, int code)
{
    char text[ERROR_TEXT_MAX];
    const char *why = cprof_last_error();
    snprintf(text, sizeof text, "Could not enable CPU profiling: %s", why[0] ? why : cprof_strerror(code));
    int status = code == CPROF_EINVAL   ? 400
                 : code == CPROF_EEXIST ? 409
                                        : 500; /* another engine runs: not for ever */
    cprof__response_error(response, status, text);
}

static void start(cprof__response *response, const cprof_cpu_options *options, long long seconds)
{
    cprof_recording *recording;
    int code = cprof_start_cpu_profile(options, &recording);
    if (code) {
        refuse_to_start(response, code);
        return;
    }
    cprof__response_begin(response, 200, "application/octet-stream");
    cprof__response_add_filename(response, "profile");
    response->recording = recording;
    response->recording_ms = seconds * 1000;
}

static void answer(cprof__response *response, const cprof__request *request, char *const values[PARAMETERS])
{
    /* As Go: what is no positive number of seconds is as good as none. */
    long long seconds = cprof__target_number(values[SECONDS]);
    if (seconds <= 0)
        seconds = SECONDS_DEFAULT;
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    long long hz = values[HZ][0] ? cprof__target_number(values[HZ]) : options.hz;
    if (seconds > CPROF__HTTP_RECORDING_SECONDS_MAX) {
        cprof__response_error(response, 400,
                              "seconds: more than " TEXT(CPROF__HTTP_RECORDING_SECONDS_MAX) ", the longest");
    } else if (hz < 1 || hz > CPROF_CPU_HZ_MAX) {
        cprof__response_error(response, 400, "hz: not a whole number from 1 to " TEXT(CPROF_CPU_HZ_MAX));
    } else if (strcmp(request->method, "HEAD") == 0) {
        cprof__response_begin(response, 200, "application/octet-stream");
        cprof__response_add_filename(response, "profile");
        response->body_unknown = true;
    } else if (request->no_recording) {
        cprof__response_error(response, 503, request->no_recording);
    } else {
        options.hz = (int)hz;
        options.mode = values[MODE][0] ? values[MODE] : NULL;
        options.engine = values[ENGINE][0] ? values[ENGINE] : NULL;
        start(response, &options, seconds);
    }
}

void cprof__cpu_begin(cprof__response *response, const cprof__request *request, const cprof__target *target)
{
    static const char *const names[PARAMETERS] = {"seconds", "hz", "mode", "engine"};
    char *values[PARAMETERS] = {NULL};
    int error = 0;
    for (int i = 0; i < PARAMETERS && !error; i++)
        error = cprof__target_query(target, names[i], &values[i]);
    if (error)
        cprof__response_failure(response, error);
    else
        answer(response, request, values);
    for (int i = 0; i < PARAMETERS; i++)
        cprof__free(values[i]);
}

void cprof__cpu_end(cprof__response *response)
{
    cprof_recording *recording = response->recording;
    response->recording = NULL;
    cprof_snapshot *snapshot = NULL;
    int error = cprof_recording_stop(recording, &snapshot);
    if (!error) {
        const cprof_write_options options = CPROF_WRITE_OPTIONS_INIT;
        error = cprof_snapshot_write_to(snapshot, cprof__buffer_write, &response->body, &options);
    }
    if (error && !response->body.failed)
        cprof__response_failure(response, error);
    cprof_snapshot_free(snapshot);
    cprof_recording_free(recording);
    cprof__response_settle(response);
}
