/* SPDX-License-Identifier: MIT */
/*
 * How the two sides of a run tell each other how far they are, apart from what is measured: a pipe a side,
 * with a byte in it for each thing done. A side that has ended is seen, so nobody waits for it.
 */
#ifndef BENCH_MEETING_H
#define BENCH_MEETING_H

#include "bench/duo.h"

struct meeting {
    int told[2][2]; /* [side]: that side writes to [1] */
};

/* In the supervisor, before the fork. 0, or -errno after duo_fail() with nothing left open. */
int meeting_open(struct meeting *m);

/* Closes what is still open of it. */
void meeting_close(struct meeting *m);

/* In a child, first of all: lets go of the other side's writing end, so that its end is seen. */
void meeting_attend(struct meeting *m, enum duo_side side);

/* In a child. 0, or -errno after duo_fail(). await: until the other side has told once more. */
int meeting_tell(struct meeting *m, enum duo_side side);
int meeting_await(struct meeting *m, enum duo_side side);

/* Tells, then awaits: from here on both have come this far. */
int meeting_both(struct meeting *m, enum duo_side side);

#endif
