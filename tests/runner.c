/* SPDX-License-Identifier: MIT */
/* The test runner's main(): which tests, in which order, and what is told about them (TAP 13). */
#include "runner-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct test *first_test, **last_test = &first_test;

/* AddressSanitizer asks for options by this name (sanitizer/asan_interface.h). Every five seconds its free()
 * gives memory back by madvise(2): a system call that depends on the time, in programs whose tests count
 * them. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_release_to_os_interval_ms=-1";
}

void test_register(struct test *test)
{
    *last_test = test;
    last_test = &test->next;
}

struct verdict *verdict_new(void)
{
    void *memory =
        mmap(NULL, sizeof(struct verdict), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void verdict_reset(struct verdict *verdict)
{
    atomic_store(&verdict->outcome, OUTCOME_PASSED);
    atomic_flag_clear(&verdict->writing);
    verdict->used = 0;
    verdict->text[0] = '\0';
}

void verdict_add(struct verdict *verdict, enum outcome outcome, const char *format, ...)
{
    /* A process that was killed while it wrote must not hold up the others: give up waiting after a while. */
    for (int i = 0; i < 100000 && atomic_flag_test_and_set(&verdict->writing); i++)
        usleep(10);
    if (atomic_load(&verdict->outcome) != OUTCOME_FAILED)
        atomic_store(&verdict->outcome, (int)outcome);
    size_t room = sizeof(verdict->text) - verdict->used;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(verdict->text + verdict->used, room, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length + 1 < room) {
        verdict->used += (size_t)length;
        verdict->text[verdict->used++] = '\n';
        verdict->text[verdict->used] = '\0';
    }
    atomic_flag_clear(&verdict->writing);
}

static bool is_wanted(const char *name, char *const *parts)
{
    if (!*parts)
        return true;
    for (; *parts; parts++)
        if (strstr(name, *parts))
            return true;
    return false;
}

/* Appends the case if it is wanted. The list is the caller's for good: the process ends with its use. */
static void add_case(struct test_case **cases, size_t *count, const struct test *test, size_t index,
                     const char *parameter, char *const *parts)
{
    char *name;
    int length =
        parameter ? asprintf(&name, "%s [%s]", test->name, parameter) : asprintf(&name, "%s", test->name);
    if (length < 0)
        abort();
    if (!is_wanted(name, parts)) {
        free(name);
        return;
    }
    struct test_case *grown = realloc(*cases, (*count + 1) * sizeof(**cases));
    if (!grown)
        abort();
    grown[(*count)++] = (struct test_case){test, index, name};
    *cases = grown;
}

static struct test_case *collect_cases(char *const *parts, size_t *ret_count)
{
    struct test_case *cases = NULL;
    *ret_count = 0;
    for (const struct test *test = first_test; test; test = test->next) {
        const char *parameter;
        if (test->run)
            add_case(&cases, ret_count, test, 0, NULL, parts);
        else
            for (size_t i = 0; (parameter = test->parameter(i)); i++)
                add_case(&cases, ret_count, test, i, parameter, parts);
    }
    return cases;
}

/* Each line of text as a TAP diagnostic. */
static void print_lines(const char *prefix, const char *text)
{
    while (*text) {
        size_t length = strcspn(text, "\n");
        printf("#   %s%.*s\n", prefix, (int)length, text);
        text += length + (text[length] == '\n');
    }
}

static void print_output(int output_fd)
{
    static char text[65536];
    ssize_t length = pread(output_fd, text, sizeof(text) - 1, 0);
    if (length <= 0)
        return;
    for (ssize_t i = 0; i < length; i++)
        if (text[i] == '\0')
            text[i] = '?';
    text[length] = '\0';
    print_lines("| ", text);
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

static enum outcome run_case(const struct test_case *test_case, size_t number, struct verdict *verdict)
{
    int output_fd = memfd_create("output", MFD_CLOEXEC);
    if (output_fd < 0 || fcntl(output_fd, F_SETFL, O_APPEND) < 0)
        abort();
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    verdict_reset(verdict);
    fflush(NULL);
    warden_run(test_case, verdict, output_fd);
    enum outcome outcome = (enum outcome)atomic_load(&verdict->outcome);
    double seconds = seconds_since(&start);
    if (outcome == OUTCOME_SKIPPED) {
        printf("ok %zu - %s # SKIP %.*s\n", number, test_case->name, (int)strcspn(verdict->text, "\n"),
               verdict->text);
    } else {
        printf("%s %zu - %s\n", outcome == OUTCOME_PASSED ? "ok" : "not ok", number, test_case->name);
        if (seconds > 1)
            printf("#   took %.1f s\n", seconds);
    }
    if (outcome != OUTCOME_SKIPPED)
        print_lines("", verdict->text);
    if (outcome == OUTCOME_FAILED) {
        print_output(output_fd);
        printf("#   NARU_TEST_SEED=%llu\n", (unsigned long long)test_context.seed);
    }
    fflush(stdout);
    close(output_fd);
    return outcome;
}

static uint64_t choose_seed(void)
{
    const char *text = getenv("NARU_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return text ? strtoull(text, NULL, 0) : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The runner's own descriptors stand where few have them (runner-warden.c), above a usual limit of some
 * systems. */
static void raise_descriptor_limit(void)
{
    enum { ENOUGH = 1024 };
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= ENOUGH)
        return;
    limit.rlim_cur = limit.rlim_max < ENOUGH ? limit.rlim_max : ENOUGH;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* no more than is allowed is asked for */
}

int main(int argc, char **argv)
{
    bool list = argc > 1 && strcmp(argv[1], "--list") == 0;
    if (argc > 1 && argv[1][0] == '-' && !list) {
        fprintf(stderr, "usage: %s [--list] [PART-OF-A-TEST-NAME...]\n", argv[0]);
        return 2;
    }
    size_t count, outcomes[3] = {0};
    struct test_case *cases = collect_cases(argv + (list ? 2 : 1), &count);
    struct verdict *verdict = verdict_new();
    if (!verdict)
        return 1;
    test_context.seed = choose_seed();
    raise_descriptor_limit();
    (void)umask(022); /* whatever the caller's: other users' processes pass through what tests make */
    if (!list)
        printf("TAP version 13\n1..%zu\n", count);
    for (size_t i = 0; i < count; i++) {
        if (list)
            printf("%s\n", cases[i].name);
        else
            outcomes[run_case(&cases[i], i + 1, verdict)]++;
        free(cases[i].name);
    }
    free(cases);
    if (list)
        return 0;
    printf("%zu passed, %zu failed, %zu skipped\n", outcomes[OUTCOME_PASSED], outcomes[OUTCOME_FAILED],
           outcomes[OUTCOME_SKIPPED]);
    return outcomes[OUTCOME_FAILED] > 0 ? 1 : 0;
}
