/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and waking over one ring: src/shm/wakeup.h, and what src/channel/shm/wait.c and src/channel/ready.c make of
 * it. Side 0 sends, side 1 receives; each is the sleeper of one bell and the waker of the other. What is checked,
 * for every interleaving, and whoever is killed at any step:
 *
 *   - when nothing can go on any more, nobody sleeps who has something to do: no record, no room, no end and no
 *     death of the other side goes unnoticed (Monitor);
 *   - who is told that there is nothing more has received all that was committed;
 *   - nobody waits by looking again and again (with -DNP: no cycle without a sleep or a message).
 *
 * A store stays in a buffer of its processor until any later moment (Cpu), so that a load overtakes it, as it does
 * on every processor; membarrier(2) is the sleeper emptying the other side's buffer. The other reorderings, which
 * some processors have, are checked by relacy/.
 *
 * Broken on purpose, each of which spin must find: -DNO_BARRIER -DLOOK_BEFORE_TICKET -DTAKE_KEEPS_TICKET
 * -DREFUSED_UNARMED -DEND_AFTER_BELL -DLOOK_BEFORE_END -DHEAR_KEEPS_TICKET -DHANG_UP_IS_A_BYTE, and for the third
 * property -DSLEEPS_WHILE_ALL_GOES_ON.
 * -DFENCES=n: who has rung fences at its next n publications, and says so, and its sleeper leaves membarrier(2) out;
 * -DSAYS_ONLY (and does not) and -DENDS_AT_ONCE (takes its word back without a fence) break that.
 *
 * Where membarrier(2) is refused (sides as bits: 1 sends, 2 receives, 3 is both): -DUNREGISTERED: that side could not
 * register, so it fences, and the other side's call says that all is well and does not reach it; -DNO_FENCE breaks that.
 * -DMAY_FAIL: that side's call may fail, any time, and then it is unsure: it sleeps in slices, or settles before the
 * last look of a loop; -DSLEEPS_ON, -DNO_SETTLE and -DSETTLES_FIRST break that.
 */
#ifndef UNITS
#define UNITS 3 /* what is sent in all, in the units in which the receiver takes */
#endif
#ifndef SIZE
#define SIZE  1 /* units in a message */
#endif
#ifndef ROOM
#define ROOM  SIZE /* units in the ring */
#endif

#ifndef UNREGISTERED
#define UNREGISTERED 0
#endif
#ifndef MAY_FAIL
#define MAY_FAIL 0
#endif
#define IS_UNREGISTERED(side) ((UNREGISTERED >> (side)) & 1)

/* What a store is of. */
#define POSITION 0 /* side 0: what is committed; side 1: what is taken */
#define TICKET   1
#define END      2
#define FENCING  3

#define GOES_ON  0
#define FINISHED 1
#define CLOSED   2

byte position[2], ticket[2], end_word[2], fencing[2]; /* memory */
chan buffer[2] = [4] of { byte, byte };         /* stores on their way there */
chan bell[2] = [2] of { bit };                  /* the socket in which a side sleeps */
bool edge[2];                                   /* an epoll that shows each byte, and the end, once has it to show */
bool hung_up[2];                                /* a side's descriptors are closed */
bool killed[2];
#ifndef SURPRISES
#define SURPRISES 1
#endif
byte surprises = SURPRISES;                     /* signals, timeouts and calls that nothing asked for */
byte seen[2];                                   /* the ticket that a side has seen last: a waker's own */
byte fences[2];                                 /* publications yet at which it fences: likewise */

/* What only the checks look at. */
bool asleep[2];
byte done[2];                                   /* position, in program order */

inline reach_memory(side)
{
    if
    :: buffer[side]?POSITION, value -> position[side] = value
    :: buffer[side]?TICKET, value -> ticket[side] = value
    :: buffer[side]?END, value -> end_word[side] = value
    :: buffer[side]?FENCING, value -> fencing[side] = value
    fi
}

inline flush(side)
{
    atomic {
        do
        :: nempty(buffer[side]) -> reach_memory(side)
        :: empty(buffer[side]) -> break
        od;
        value = 0
    }
}

proctype Cpu(byte side)
{
    byte value;

end:
    do
    :: atomic { nempty(buffer[side]) -> reach_memory(side); value = 0 }
    od
}

/* W2 and W3; a send(2) comes after what was stored before it. */
inline published()
{
#if UNREGISTERED && !defined(NO_FENCE)
    if
    :: IS_UNREGISTERED(me) -> flush(me)
    :: else
    fi;
#endif
#if defined(FENCES) && !defined(SAYS_ONLY)
    if
    :: fences[me] > 0 -> flush(me)
    :: else
    fi;
#endif
    atomic {
        ring = ticket[other] != seen[me] && ticket[other] != 0;
        seen[me] = ticket[other]
    };
#ifdef FENCES
    if
    :: atomic { ring && fences[me] == 0 -> buffer[me]!FENCING, 1; fences[me] = FENCES }
    :: atomic { ring && fences[me] > 0 -> fences[me] = FENCES }
    :: atomic { !ring && fences[me] == 1 -> buffer[me]!FENCING, 0; fences[me] = 0 };
#ifndef ENDS_AT_ONCE
        flush(me)
#endif
    :: atomic { !ring && fences[me] > 1 -> fences[me]-- }
    :: !ring && fences[me] == 0
    fi;
#endif
    if
    :: atomic {
        ring ->
        ring = false;
        flush(me);
        if
        :: nfull(bell[other]) -> bell[other]!1; edge[other] = true
        :: full(bell[other])
        fi
    }
    :: !ring
    fi
}

#define IS_FRESH(number) \
    (seen[other] != number && ticket[me] != number && !(buffer[me]??[TICKET, number]))

/* It may fail, and says so; it reaches whoever has registered, and says nothing if nobody has. */
inline call_membarrier()
{
    atomic {
        if
#if MAY_FAIL
        :: (MAY_FAIL >> me) & 1 -> unsure = true
#endif
#if UNREGISTERED
        :: IS_UNREGISTERED(other) -> unsure = false
#endif
        :: !IS_UNREGISTERED(other) -> unsure = false; flush(other)
        fi
    }
}

/* S1 and S2. Tickets are as good as never used again: it takes 2^32 of them. So any number will do that nobody
 * remembers, and the smallest makes the fewest states. */
inline arm()
{
    atomic {
        if
        :: IS_FRESH(1) -> buffer[me]!TICKET, 1
        :: else ->
            if
            :: IS_FRESH(2) -> buffer[me]!TICKET, 2
            :: else ->
                if
                :: IS_FRESH(3) -> buffer[me]!TICKET, 3
                :: else -> assert(IS_FRESH(4)); buffer[me]!TICKET, 4
                fi
            fi
        fi;
        armed = true
    };
#ifdef FENCES
    flush(me);
    if
    :: fencing[other] -> unsure = false
    :: else -> call_membarrier()
    fi
#else
    atomic {
        flush(me);
#ifndef NO_BARRIER
        call_membarrier()
#endif
    }
#endif
}

/* sleeper_settle(): what the other side stored before the ticket was in memory has left its buffer by then. */
inline settle()
{
#ifndef NO_SETTLE
    atomic {
        if
        :: unsure -> unsure = false; flush(other)
        :: else
        fi
    }
#else
    unsure = false
#endif
}

inline disarm()
{
    atomic { armed = false; unsure = false; buffer[me]!TICKET, 0 }
}

inline drain()
{
    do
    :: nempty(bell[me]) -> bell[me]?_
    :: empty(bell[me]) -> break
    od;
    edge[me] = hung_up[other]
}

/* shm_is_alone(): sleeper_take(). A call that waits without a limit leaves it to the socket in which it sleeps. */
inline take()
{
    if
    :: atomic { nempty(bell[me]) -> drain() };
#ifndef TAKE_KEEPS_TICKET
        disarm()
#endif
    :: atomic { empty(bell[me]) -> gone = hung_up[other] }
    fi
}

/* hear(), of a receiver in a loop: a byte may stay when it has been shown; before the socket is full all are read. */
inline hear()
{
    if
    :: atomic {
        edge[me] && nempty(bell[me]) && !hung_up[other] ->
        if
        :: nfull(bell[me]) -> edge[me] = false
        :: drain()
        fi
    };
#ifndef HEAR_KEEPS_TICKET
        disarm()
#endif
#ifdef HANG_UP_IS_A_BYTE
    :: atomic { edge[me] && hung_up[other] -> edge[me] = false };
        disarm()
#else
    :: atomic { edge[me] && hung_up[other] -> drain(); gone = true }
#endif
    :: atomic { !edge[me] || (empty(bell[me]) && !hung_up[other]) }
    fi
}

/* is_worth_it() */
inline look()
{
    worth = (me == 0 -> own + SIZE - position[1] <= ROOM : position[0] != own);
    worth = worth || gone || (me == 0 -> end_word[1] == CLOSED : end_word[0] != GOES_ON)
}

/* A slice ends often; one after which there is nothing is like a signal. */
#define A_SLICE_FINDS \
    (me == 0 -> own + SIZE - position[1] <= ROOM || end_word[1] == CLOSED : \
                position[0] != own || end_word[0] != GOES_ON)

/* Until the socket is readable, or (a signal, a timeout) for nothing. */
inline sleep_on_bell()
{
    atomic { asleep[me] = true };
end_asleep:
progress_asleep:
    if
    :: atomic { nempty(bell[me]) || hung_up[other] -> asleep[me] = false }
    :: atomic { surprises > 0 -> surprises--; asleep[me] = false }
#if MAY_FAIL && !defined(SLEEPS_ON)
    :: atomic { unsure && A_SLICE_FINDS -> asleep[me] = false }
#endif
    fi
}

/* sleep_until_rung() and shm_wait() */
inline wait_in_call()
{
#ifdef LOOK_BEFORE_TICKET
    look();
    arm();
#else
    arm();
    look();
#endif
#ifdef SLEEPS_WHILE_ALL_GOES_ON
    worth = worth || end_word[other] != GOES_ON;
#endif
    if
    :: !worth ->
        sleep_on_bell();
        if
        :: atomic { nempty(bell[me]) -> drain() }
        :: atomic { empty(bell[me]) -> gone = hung_up[other] }
        fi
    :: atomic { else -> worth = false }
    fi;
    disarm()
}

inline arm_for_loop()
{
#ifdef SETTLES_FIRST
    atomic {
        if
        :: (MAY_FAIL >> me) & 1 -> flush(other)
        :: else
        fi
    };
    arm();
    unsure = false
#elif MAY_FAIL
    arm();
    settle()
#else
    arm()
#endif
}

/* channel_update_ready(), with shm_holds() or shm_has_room(); then the event loop sleeps, without taking. */
inline wait_in_loop()
{
    look();
    if
    :: !worth ->
        if
        :: me == 0 -> take()
        :: me == 1 -> hear()
        fi;
#ifdef REFUSED_UNARMED
        if
        :: !gone && !armed && me == 1 -> arm()
        :: else
        fi;
#else
        if
        :: !gone && !armed -> arm_for_loop()
        :: else
        fi;
#endif
        look();
        if
        :: !worth -> wait_for_readable()
        :: atomic { else -> worth = false }
        fi
    :: atomic { else -> worth = false }
    fi
}

inline wait_for_readable()
{
    atomic { asleep[me] = true };
end_polls:
progress_polls:
    if
    :: atomic { me == 0 && (nempty(bell[me]) || hung_up[other]) -> asleep[me] = false }
    :: atomic { me == 1 && edge[me] && (nempty(bell[me]) || hung_up[other]) -> asleep[me] = false }
    :: atomic { surprises > 0 -> surprises--; asleep[me] = false }
    fi
}

inline publish(units)
{
    atomic { nfull(buffer[me]) -> own = own + units; done[me] = own; buffer[me]!POSITION, own };
progress_publishes:
    published()
}

/* shm_link_end() */
inline say_end(how)
{
#ifdef END_AFTER_BELL
    published();
    buffer[me]!END, how;
#else
    buffer[me]!END, how;
    published();
#endif
}

/* Waits as its program does. */
inline wait()
{
    if
    :: in_loop && (refused || me == 1) ->
        wait_in_loop()
    :: atomic { !in_loop || surprises > 0 -> surprises = surprises - in_loop };
        wait_in_call()
    fi
}

proctype Sender()
{
    byte own, value;
    bool armed, unsure, gone, worth, ring, in_loop, refused;
    byte me = 0, other = 1;

    {
        if
        :: in_loop = true
        :: true
        fi;
        do
        :: own + SIZE <= UNITS && !gone && end_word[1] != CLOSED ->
            refused = false;
            do
            :: own + SIZE - position[1] <= ROOM -> publish(SIZE); break
            :: else ->
                if
                :: take()
                :: !in_loop
                fi;
                refused = true;
                if
                :: gone || end_word[1] == CLOSED -> break
                :: else -> wait()
                fi
            od
        :: goto stays                                   /* alive, and does nothing more */
        :: say_end(FINISHED); goto stays
        :: say_end(CLOSED); break
        od
    } unless { killed[0] };
    asleep[0] = false;
    flush(0);
    atomic { hung_up[0] = true; edge[1] = true };
stays:
    skip
}

proctype Receiver()
{
    byte own, value;
    bool armed, unsure, gone, worth, ring, in_loop, refused, ended;
    byte me = 1, other = 0;

    {
        if
        :: in_loop = true
        :: true
        fi;
        do
        :: true ->
#ifdef LOOK_BEFORE_END
            worth = position[0] != own;
            ended = gone || end_word[0] != GOES_ON;
#else
            ended = gone || end_word[0] != GOES_ON;
            worth = position[0] != own;
#endif
            if
            :: atomic { worth -> worth = false; ended = false }; publish(1)
            :: !worth && ended -> assert(own == done[0]); break
            :: !worth && !ended ->
                if
                :: in_loop -> hear()
                :: !in_loop -> take()
                :: !in_loop
                fi;
                if
                :: !gone -> wait()
                :: else
                fi
            fi
        :: goto stays
#ifdef HALF_CLOSE
        :: end_word[1] == GOES_ON -> say_end(FINISHED); flush(1)
#endif
        :: say_end(CLOSED); break
        od
    } unless { killed[1] };
    asleep[1] = false;
    flush(1);
    hung_up[1] = true;
stays:
    skip
}

proctype Killer()
{
    if
#ifdef KILL
    :: killed[0] = true
    :: killed[1] = true
#endif
    :: true
    fi
}

/* When nothing moves any more. */
proctype Monitor()
{
end:
    timeout;
    assert(!(asleep[1] && (position[0] != done[1] || end_word[0] != GOES_ON || hung_up[0])));
    assert(!(asleep[0] && (done[0] + SIZE - position[1] <= ROOM || end_word[1] == CLOSED || hung_up[1])));
    assert(!(asleep[0] && asleep[1]))
}

init {
    atomic {
        run Cpu(0);
        run Cpu(1);
        run Sender();
        run Receiver();
        run Killer();
        run Monitor()
    }
}
