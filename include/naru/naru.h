/* SPDX-License-Identifier: MIT */
/* The whole public API of libnaru. Each module's header also stands alone. */
#ifndef NARU_NARU_H
#define NARU_NARU_H

#include "naru/channel.h"
#include "naru/error.h"
#include "naru/loop.h"
#include "naru/mechanism.h"
#include "naru/signal.h"
#include "naru/segment.h"
#include "naru/time.h"

#endif
