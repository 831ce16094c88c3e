/* SPDX-License-Identifier: MIT */
/* Names that others make and remove meanwhile. */
#ifndef NARU_BASE_RACES_H
#define NARU_BASE_RACES_H

/* Between "it is not there" and "it is there already", or finding what a dead one left and taking its place,
 * others may do the same. So often it is tried again; more is no race any more, but somebody's loop. */
enum { RACES_MAX = 1000 };

#endif
