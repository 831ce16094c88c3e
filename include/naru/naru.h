/* SPDX-License-Identifier: MIT */
/* The whole public API of libnaru. Each module's header also stands alone. */
#ifndef NARU_NARU_H
#define NARU_NARU_H

#include "naru/barrier.h"
#include "naru/channel.h"
#include "naru/error.h"
#include "naru/event.h"
#include "naru/file.h"
#include "naru/gather.h"
#include "naru/loop.h"
#include "naru/mechanism.h"
#include "naru/mutex.h"
#include "naru/rwlock.h"
#include "naru/segment.h"
#include "naru/semaphore.h"
#include "naru/shm.h"
#include "naru/signal.h"
#include "naru/sync.h"
#include "naru/time.h"
#include "naru/wait.h"

#endif
