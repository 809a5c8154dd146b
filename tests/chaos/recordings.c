/* SPDX-License-Identifier: MIT
 *
 * What the program does to cprof itself meanwhile: recordings that come and go at other rates, some never stopped by
 * hand, some that cannot be; entries of custom profiles.
 */
#define _GNU_SOURCE
#include "chaos.h"

#include "cprof.h"

#include <stdio.h>
#include <unistd.h>

void chaos_recordings(worker *self)
{
    static const int rates[] = {1, 19, 100, 999, 1000, 4000};
    cprof_cpu_options options = CPROF_CPU_OPTIONS_INIT;
    cprof_recording *recording = NULL;
    cprof_snapshot *data = NULL;
    options.hz = rates[chaos_random(self, 6)];
    options.mode = chaos_random(self, 4) == 0 ? "wall" : "cpu";
    int code = cprof_start_cpu_profile(&options, &recording);
    if (code != 0)
        chaos_fail("recording: %s", cprof_last_error());
    usleep(1000 + chaos_random(self, 200000));
    options.hz = 4001; /* misuse, while another runs */
    cprof_recording *none = NULL;
    if (cprof_start_cpu_profile(&options, &none) != CPROF_EINVAL || none)
        chaos_fail("a rate of 4001 Hz was accepted");
    if (chaos_random(self, 4) != 0) {
        code = cprof_recording_stop(recording, &data);
        if (code != 0 || !data)
            chaos_fail("recording: stop: %s", cprof_last_error());
        cprof_snapshot_free(data);
        if (cprof_recording_stop(recording, &data) != 0)
            chaos_fail("recording: second stop: %s", cprof_last_error());
        cprof_snapshot_free(data);
    }
    cprof_recording_free(recording);
}

void chaos_profiles(worker *self)
{
    static char keys[4096];
    cprof_profile *profile = cprof_lookup("chaos.keys");
    if (!profile && cprof_profile_new("chaos.keys", NULL, &profile) != 0)
        chaos_fail("profile: %s", cprof_last_error());
    for (int i = 0; i < 2000; i++) {
        char *key = &keys[chaos_random(self, sizeof keys)];
        if (chaos_random(self, 2) == 0)
            (void)cprof_profile_remove(profile, key);
        else
            (void)cprof_profile_add(profile, key, 1); /* it may be there */
    }
    if (chaos_random(self, 16) == 0) {
        char path[4096];
        snprintf(path, sizeof path, "%s/keys.pb.gz", chaos_folder);
        if (cprof_profile_write(profile, path, NULL) != 0)
            chaos_fail("profile: write: %s", cprof_last_error());
    }
}
