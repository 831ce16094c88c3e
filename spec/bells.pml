/* SPDX-License-Identifier: MIT */
/*
 * What the models of more than one ring share (channel.pml, lanes.pml, gather.pml): words of memory whose stores wait in
 * a buffer, tickets and sockets, as src/shm/wakeup.h has them. wakeup.pml has one ring in more detail: fences, refused
 * calls, how often a look may be in vain.
 *
 * Who includes this says how many CPUS there are (threads, each with a buffer of stores), SLEEPERS and WORDS, which
 * CPUs a sleeper's membarrier(2) reaches (FLUSH_OTHERS), and where the ticket of a sleeper is (TICKET(s)).
 *
 * Broken on purpose, in each: -DNO_BARRIER, -DLOOK_BEFORE_TICKET, -DTAKE_KEEPS_TICKET.
 */
#ifndef SURPRISES
#define SURPRISES 0
#endif

#ifndef SOCKET
#define SOCKET(s) (s) /* in which a sleeper sleeps */
#endif
#ifndef REPORT
#define REPORT(s) skip /* to an epoll */
#endif

byte word[WORDS];
#ifdef IN_ORDER
#define STORE(at, what) word[at] = what
#define IS_ON_ITS_WAY(at, what) false
#else
chan buffer[CPUS] = [DEPTH] of { byte, byte }; /* stores on their way to memory: which word, what */
#define STORE(at, what) buffer[cpu]!at, what
#define IS_ON_ITS_WAY(at, what) buffer[cpu]??[eval(at), what]
#endif
bool rung[SLEEPERS];                           /* a socket: there is something in it */
bool hung_up[SLEEPERS];                        /* its other end is closed */
bool armed[SLEEPERS];                          /* its own ticket, as it left it last */
bool asleep[SLEEPERS];
byte seen[SLEEPERS];                           /* its waker's: the ticket seen last */
byte surprises = SURPRISES;                    /* signals and timeouts */

#ifdef IN_ORDER
#define flush(which) skip
#define run_cpus()   skip
#else
inline flush(which)
{
    do
    :: nempty(buffer[which]) -> buffer[which]?index, value; word[index] = value
    :: empty(buffer[which]) -> break
    od;
    index = 0;
    value = 0
}

proctype Cpu(byte me)
{
    byte index, value;

end:
    do
    :: atomic { nempty(buffer[me]) -> buffer[me]?index, value; word[index] = value; index = 0; value = 0 }
    od
}

inline run_cpus()
{
    for (i : 0 .. CPUS - 1) { run Cpu(i) }
}
#endif

/* W3; W2 is the sleeper's doing. A send(2) comes after what was stored before it. */
inline published(s)
{
    atomic { ring = word[TICKET(s)] != seen[s] && word[TICKET(s)] != 0; seen[s] = word[TICKET(s)] };
    if
    :: atomic { ring -> ring = false; flush(cpu); rung[SOCKET(s)] = true; REPORT(s) }
    :: !ring
    fi
}

#define IS_FRESH(s, number) \
    (seen[s] != number && word[TICKET(s)] != number && !(IS_ON_ITS_WAY(TICKET(s), number)))

/* S1 and S2; as in wakeup.pml, the smallest number that nobody remembers stands for the next one. */
inline arm(s)
{
    atomic {
        if
        :: IS_FRESH(s, 1) -> STORE(TICKET(s), 1)
        :: else ->
            if
            :: IS_FRESH(s, 2) -> STORE(TICKET(s), 2)
            :: else -> assert(IS_FRESH(s, 3)); STORE(TICKET(s), 3)
            fi
        fi;
        armed[s] = true
    };
    atomic {
        flush(cpu);
#ifndef NO_BARRIER
        FLUSH_OTHERS
#endif
    }
}

/* S5 */
inline disarm(s)
{
    atomic { armed[s] = false; STORE(TICKET(s), 0) }
}

/* sleeper_take(): what rang, or that nobody is there any more. */
inline take(s, is_gone)
{
    if
    :: atomic { rung[SOCKET(s)] -> rung[SOCKET(s)] = false };
#ifndef TAKE_KEEPS_TICKET
        disarm(s)
#endif
    :: atomic { !rung[SOCKET(s)] -> is_gone = is_gone || hung_up[SOCKET(s)] }
    fi
}

inline hang_up(s)
{
    atomic { hung_up[SOCKET(s)] = true; REPORT(s) }
}

/* In read(2). */
inline sleep_on_bell(s, is_gone)
{
    atomic { asleep[s] = true };
end_asleep:
    if
    :: atomic { rung[SOCKET(s)] -> asleep[s] = false; rung[SOCKET(s)] = false }
    :: atomic { !rung[SOCKET(s)] && hung_up[SOCKET(s)] -> asleep[s] = false; is_gone = true }
    :: atomic { surprises > 0 -> surprises--; asleep[s] = false }
    fi
}
