/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "preload/settings.h"

#include "preload/library.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Removes this library from LD_PRELOAD, whose entries are parted by colons or blanks. */
static void leave_ld_preload(void)
{
    char self[PATH_MAX], kept[PATH_MAX] = "";
    const char *list = getenv("LD_PRELOAD");
    if (!list || strlen(list) >= sizeof kept ||
        !cprof__library_path("libcprof_preload.so", self, sizeof self))
        return;
    for (size_t length; list += strspn(list, ": "), (length = strcspn(list, ": ")) != 0; list += length) {
        if (length == strlen(self) && memcmp(list, self, length) == 0)
            continue;
        if (*kept)
            strcat(kept, ":");
        strncat(kept, list, length);
    }
    if (*kept)
        setenv("LD_PRELOAD", kept, 1);
    else
        unsetenv("LD_PRELOAD");
}

static void leave_children_alone(void)
{
    static const char *const names[] = {"CPROF_OUTPUT", "CPROF_HZ",     "CPROF_MODE",  "CPROF_ENGINE",
                                        "CPROF_ROOT",   "CPROF_STDERR", "CPROF_FOLLOW"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    leave_ld_preload();
}

/* Writes the pattern PATH to OUT, made absolute: a "%" in the current folder's name is no mark. */
static const char *absolute(const char *path, char *out)
{
    char folder[PATH_MAX];
    size_t length = 0;
    if (*path != '/') {
        if (!getcwd(folder, sizeof folder))
            return "CPROF_OUTPUT: the current folder is not known";
        for (const char *p = folder; *p && length < PATH_MAX - 2; p++) {
            out[length++] = *p;
            if (*p == '%')
                out[length++] = '%';
        }
        out[length++] = '/';
    }
    if (length + strlen(path) >= PATH_MAX)
        return "CPROF_OUTPUT: too long";
    strcpy(out + length, path);
    return NULL;
}

/* These point into the environment, which may be changed: copies are kept, for ever. */
static const char *keep(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? strdup(value) : NULL;
}

static bool read_number(const char *name, long *number)
{
    const char *text = getenv(name);
    char *end;
    if (!text)
        return true;
    *number = strtol(text, &end, 10);
    return *text && !*end && *number > 0 && *number <= INT_MAX;
}

/* The stderr of the first process: this one's where it is the first, and no image before it has said another. */
static void read_stderr(cprof__settings *settings)
{
    unsigned long long device, inode;
    struct stat status;
    const char *told = getenv("CPROF_ROOT") ? getenv("CPROF_STDERR") : NULL;
    settings->has_stderr = false;
    if (told && sscanf(told, "%llu:%llu", &device, &inode) == 2) {
        settings->has_stderr = true;
        settings->stderr_device = (dev_t)device;
        settings->stderr_inode = (ino_t)inode;
    } else if (!told && fstat(STDERR_FILENO, &status) == 0) {
        settings->has_stderr = true;
        settings->stderr_device = status.st_dev;
        settings->stderr_inode = status.st_ino;
    }
}

static void tell_children(const cprof__settings *settings)
{
    char text[64];
    snprintf(text, sizeof text, "%d", (int)settings->root);
    setenv("CPROF_ROOT", text, 1);
    setenv("CPROF_OUTPUT", settings->output, 1);
    snprintf(text, sizeof text, "%llu:%llu", (unsigned long long)settings->stderr_device,
             (unsigned long long)settings->stderr_inode);
    setenv("CPROF_STDERR", settings->has_stderr ? text : "none", 1);
}

const char *cprof__settings_read(cprof__settings *settings)
{
    const char *output = getenv("CPROF_OUTPUT"), *follow = getenv("CPROF_FOLLOW");
    settings->cpu = (cprof_cpu_options)CPROF_CPU_OPTIONS_INIT;
    settings->output[0] = 0;
    settings->root = getpid();
    if (!output || !*output)
        return NULL;
    snprintf(settings->name, sizeof settings->name, "%s", program_invocation_short_name);
    read_stderr(settings);
    long hz = settings->cpu.hz, root = settings->root;
    if (!read_number("CPROF_ROOT", &root))
        return "CPROF_ROOT: no process";
    settings->root = (pid_t)root;
    if (!read_number("CPROF_HZ", &hz))
        return "CPROF_HZ: no whole number";
    settings->cpu.hz = (int)hz;
    const char *wrong = absolute(output, settings->output);
    if (wrong)
        return wrong;
    settings->cpu.mode = keep("CPROF_MODE");
    settings->cpu.engine = keep("CPROF_ENGINE");
    if (follow && strcmp(follow, "0") == 0)
        leave_children_alone();
    else
        tell_children(settings);
    return NULL;
}

/* Appends TEXT of LENGTH bytes at *AT; once something does not fit, *AT stays past the end. */
static void append(char *path, size_t *at, const char *text, size_t length)
{
    if (*at + length < PATH_MAX)
        memcpy(path + *at, text, length);
    *at += length;
}

bool cprof__settings_path(const cprof__settings *settings, int part, char *path)
{
    char number[24];
    size_t at = 0;
    bool numbered = false;
    snprintf(number, sizeof number, "%d", (int)getpid());
    for (const char *p = settings->output; *p; p++) {
        if (p[0] == '%' && p[1] == 'p') {
            append(path, &at, number, strlen(number));
            numbered = true;
            p++;
        } else {
            append(path, &at, p, 1);
            p += p[0] == '%' && p[1] == '%';
        }
    }
    if (!numbered && getpid() != settings->root) {
        append(path, &at, ".", 1);
        append(path, &at, number, strlen(number));
    }
    if (part) {
        snprintf(number, sizeof number, ".exec%d", part);
        append(path, &at, number, strlen(number));
    }
    if (at >= PATH_MAX)
        return false;
    path[at] = 0;
    return true;
}

bool cprof__settings_numbered(const cprof__settings *settings)
{
    for (const char *p = strchr(settings->output, '%'); p && p[1]; p = strchr(p + 2, '%'))
        if (p[1] == 'p')
            return true;
    return false;
}
