/* SPDX-License-Identifier: MIT */
/* The rows of the tour that are no channels: shared memory, and what synchronises. */
#ifndef CLI_TOUR_EXTRA_H
#define CLI_TOUR_EXTRA_H

#include "cli/tour-print.h"

/* Each with its texts and how it is measured; {0} ends them. */
struct tour_extra {
    struct tour_row row;
    void (*measure)(struct tour *tour, struct tour_result *ret);
};
extern const struct tour_extra tour_extras[];

void tour_segment_memfd(struct tour *tour, struct tour_result *ret);
void tour_segment_posix(struct tour *tour, struct tour_result *ret);
void tour_segment_sysv(struct tour *tour, struct tour_result *ret);
void tour_segment_file(struct tour *tour, struct tour_result *ret);
void tour_semaphore(struct tour *tour, struct tour_result *ret);
void tour_mutex(struct tour *tour, struct tour_result *ret);
void tour_event(struct tour *tour, struct tour_result *ret);
void tour_signal(struct tour *tour, struct tour_result *ret);

/* Fills *ret from the shared histogram: r is what duo_run() gave. */
void tour_judge_hand_off(struct tour *tour, int r, struct tour_result *ret);

#endif
