/* SPDX-License-Identifier: MIT */
/*
 * Places where a tracer can look into a running program (USDT): perf, bpftrace, SystemTap and gdb find them
 * by notes in the binary (docs/tracing.md). Each is one nop until somebody puts a breakpoint there. The
 * arguments are described to the tracer, not computed: they must be what is in a register, or in memory at a
 * register, at that place anyway. All places of one name have the same arguments, and no constants among
 * them: perf makes one event of them only then.
 *
 * Where the build found no <sys/sdt.h>, or was told -DNARU_USDT=OFF, there is nothing.
 */
#ifndef NARU_BASE_PROBE_H
#define NARU_BASE_PROBE_H

#ifdef NARU_USDT
#ifdef __clang__ /* given a choice it stores each argument to the stack first; without it, it loads the URL  \
                  */
#define STAP_SDT_ARG_CONSTRAINT nr
#endif
#include <sys/sdt.h>

#define PROBE1(name, a)          DTRACE_PROBE1(naru, name, a)
#define PROBE3(name, a, b, c)    DTRACE_PROBE3(naru, name, a, b, c)
#define PROBE4(name, a, b, c, d) DTRACE_PROBE4(naru, name, a, b, c, d)
#else
#define PROBE1(name, a)          ((void)(a))
#define PROBE3(name, a, b, c)    ((void)(a), (void)(b), (void)(c))
#define PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

#endif
