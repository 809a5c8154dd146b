/* SPDX-License-Identifier: MIT
 *
 * Functions that are taken over in the slots of others, also of an object that is being loaded.
 */
#define _GNU_SOURCE
#include "test.h"

#include "sampler/hooks.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE_BYTES UINT64_C(4096)

typedef int create_fn(pthread_t *thread, void *(*start)(void *), void *argument);

static int ours(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    (void)thread;
    (void)attributes;
    (void)start;
    (void)argument;
    return 12345;
}

static void *begin(void *argument)
{
    return argument;
}

static const cprof__hook hooks[] = {{"pthread_create", (void (*)(void))ours}, {NULL, NULL}};

/* The pages that the loader makes read-only after it has written to them. */
typedef struct pages {
    const char *name;
    uint64_t start, end;
} pages;

static int find_pages(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    pages *p = context;
    if (!info->dlpi_name || !strstr(info->dlpi_name, p->name))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_RELRO) {
            uint64_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            p->start = start & ~(PAGE_BYTES - 1);
            p->end = (start + info->dlpi_phdr[i].p_memsz) & ~(PAGE_BYTES - 1);
        }
    return 1;
}

static bool is_writable(uint64_t address)
{
    uint64_t word = *(const uint64_t *)(uintptr_t)address;
    struct iovec here = {&word, sizeof word}, there = {(void *)(uintptr_t)address, sizeof word};
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == (ssize_t)sizeof word;
}

static void protect(const pages *p, int how)
{
    assert_int_equal(mprotect((void *)(uintptr_t)p->start, p->end - p->start, how), 0);
}

/* Whoever makes pages read-only in the middle of their relocation kills the loader. */
static void test_pages_that_are_being_relocated(void **state)
{
    (void)state;
    void *library = dlopen(HOOKED, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    create_fn *create = (create_fn *)(uintptr_t)dlsym(library, "hooked_create");
    pages p = {"/hooked.so", 0, 0};
    assert_int_equal(dl_iterate_phdr(find_pages, &p), 1);
    assert_true(p.end > p.start);

    protect(&p, PROT_READ | PROT_WRITE);
    cprof__hooks_apply(hooks);
    assert_true(is_writable(p.start));
    protect(&p, PROT_READ);
    cprof__hooks_apply(hooks);
    assert_int_equal(create(NULL, NULL, NULL), 12345);
    assert_false(is_writable(p.start));
    cprof__hooks_undo(hooks);
    assert_false(is_writable(p.start));
    pthread_t thread;
    assert_int_equal(create(&thread, begin, NULL), 0);
    pthread_join(thread, NULL);
    dlclose(library);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages_that_are_being_relocated)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
