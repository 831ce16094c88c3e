/* SPDX-License-Identifier: MIT */
/*
 * Two rings at once: a channel, as src/channel/shm/ makes it of two links' rings, page and sockets. Side 0 asks, side
 * 1 answers each question; each receives from the other's ring and sends in its own, and may have to sleep for either,
 * by a ticket and a socket of their own for each. Programs of three kinds, each on both sides:
 *
 *   - one thread that sleeps in its calls (the default); side 0 asks up to WINDOW questions ahead, and then waits for
 *     an answer;
 *   - -DTHREADS: a thread that sends and one that receives;
 *   - -DLOOP: one thread and an event loop, which sleeps in both sockets at once.
 *
 * Either side finishes, closes or (-DKILL) is killed at any step. What is checked, for every interleaving:
 *
 *   - when nothing can go on any more, nobody sleeps who has something to do;
 *   - unless a side left, all that was asked was answered: nothing is lost, nobody waits for who waits for him;
 *   - who is told that there is nothing more has received all that was committed, and who is told that nobody receives
 *     any more, is not told so while the other side goes on receiving.
 *
 * Broken on purpose: what bells.pml names, -DHEAR_KEEPS_TICKET, -DONE_SOCKET (both sleepers of a side in one), -DONE_TICKET,
 * -DLOOK_BEFORE_END, -DFINISHED_IS_CLOSED, -DENDS_FOR_THE_RECEIVER (the end rings no sender; its sockets stay open in a
 * child), and -DWINDOW=4: a program that asks more than both rings hold and does not receive meanwhile.
 */
#ifndef ASKED
#define ASKED  3
#endif
#ifndef WINDOW
#define WINDOW 3
#endif
#ifndef KILL
#define KILL   0 /* 1: side 0 may be killed; 2: side 1; 3: either */
#endif
#define ROOM   1 /* messages in a ring */

#define RECEIVER 0
#define SENDER   1

/* The words of a side's page. A sleeper's number is of its side and what it waits for. */
#define SENT(side)   (side)
#define TAKEN(side)  (2 + (side))
#define END(side)    (4 + (side))
#ifdef ONE_TICKET
#define TICKET(s)    (6 + ((s) & 2))
#else
#define TICKET(s)    (6 + (s))
#endif
#ifdef ONE_SOCKET
#define SOCKET(s)    ((s) & 2)
#endif
#define WORDS        10
#define SLEEPERS     4
#define SLEEPER(side, what) (2 * (side) + (what))

#ifdef THREADS
#define CPUS           4
#define cpu            (2 * me + role)
#define FLUSH_OTHERS   flush(2 * (1 - me)); flush(2 * (1 - me) + 1)
#else
#define CPUS           2
#define cpu            me
#define FLUSH_OTHERS   flush(1 - me)
#endif
#define DEPTH 3

#define GOES_ON  0
#define FINISHED 1
#define CLOSED   2

#ifdef LOOP
#define REPORT(s)    edge[SOCKET(s)] = true
bool edge[SLEEPERS]; /* an epoll that shows each byte, and the end, once has it to show */
#endif

#include "bells.pml"

#ifdef THREADS
byte sent[2] = 1;     /* a side's own; both rings are full when it begins */
#else
byte sent[2];
#endif
byte got[2];
bool gone[2];         /* link.gone: found by either of its threads */
bool said[2];         /* FINISHED or CLOSED */
bool left[2];         /* closed or killed: its descriptors are about to be closed */
bool killed[2];
byte ended_threads[2];
bool stopped[2];      /* alive, and does nothing more */

#define IS_THERE(side)  (word[SENT(1 - side)] != got[side])
#define HAS_ROOM(side)  (sent[side] - word[TAKEN(1 - side)] < ROOM)
#ifdef FINISHED_IS_CLOSED
#define RECEIVER_LEFT(side) (gone[side] || word[END(1 - side)] != GOES_ON)
#else
#define RECEIVER_LEFT(side) (gone[side] || word[END(1 - side)] == CLOSED)
#endif
#define SENDER_LEFT(side)   (gone[side] || word[END(1 - side)] != GOES_ON)

/* is_worth_it() */
#define IS_WORTH_IT(side, what) \
    (what == SENDER -> HAS_ROOM(side) || RECEIVER_LEFT(side) : IS_THERE(side) || SENDER_LEFT(side))

inline send_now()
{
    atomic { sent[me]++; STORE(SENT(me), sent[me]) };
    published(SLEEPER(1 - me, RECEIVER))
}

inline receive_now()
{
    atomic { got[me]++; STORE(TAKEN(me), got[me]) };
    published(SLEEPER(1 - me, SENDER))
}

/* shm_link_end() */
inline say_end(how)
{
    atomic { said[me] = true; STORE(END(me), how) };
    published(SLEEPER(1 - me, RECEIVER));
#ifndef ENDS_FOR_THE_RECEIVER
    if
    :: how == CLOSED -> published(SLEEPER(1 - me, SENDER))
    :: else
    fi
#endif
}

inline check_receiver_left()
{
    assert(gone[me] || word[END(1 - me)] == CLOSED)
}

/* sleep_until_rung() */
inline sleep_until_rung(what)
{
#ifdef LOOK_BEFORE_TICKET
    worth = IS_WORTH_IT(me, what);
    arm(SLEEPER(me, what));
#else
    arm(SLEEPER(me, what));
    worth = IS_WORTH_IT(me, what);
#endif
    if
    :: !worth -> sleep_on_bell(SLEEPER(me, what), gone[me])
    :: atomic { else -> worth = false }
    fi;
    disarm(SLEEPER(me, what))
}

/* naru_send() and naru_recv(), without a limit. */
inline send_one()
{
    do
    :: atomic { RECEIVER_LEFT(me) -> check_receiver_left(); told = true; break }
    :: else ->
        if
        :: HAS_ROOM(me) -> send_now(); break
        :: else -> sleep_until_rung(SENDER)
        fi
    od
}

inline look_for_one()
{
#ifdef LOOK_BEFORE_END
    worth = IS_THERE(me);
    ended = SENDER_LEFT(me)
#else
    ended = SENDER_LEFT(me);
    worth = IS_THERE(me)
#endif
}

inline receive_one()
{
    do
    :: true ->
        look_for_one();
        if
        :: atomic { worth -> worth = false; ended = false }; receive_now(); break
        :: atomic { !worth && ended -> ended = false; assert(got[me] == sent[1 - me]); told = true; break }
        :: !worth && !ended -> sleep_until_rung(RECEIVER)
        fi
    od
}

/* What nobody will ask for again. */
inline forget()
{
    worth = false;
    told = false;
    ring = false;
    armed[SLEEPER(me, RECEIVER)] = false;
    armed[SLEEPER(me, SENDER)] = false;
    asleep[SLEEPER(me, RECEIVER)] = false;
    asleep[SLEEPER(me, SENDER)] = false;
    seen[SLEEPER(1 - me, RECEIVER)] = 0;
    seen[SLEEPER(1 - me, SENDER)] = 0;
    gone[me] = false
}

/* A side's descriptors are closed: one after the other. Of one that has said so, a child may keep them. */
inline leave()
{
    if
    :: hang_up(SLEEPER(1 - me, RECEIVER)); hang_up(SLEEPER(1 - me, SENDER))
#ifndef THREADS /* where it is one more of many states */
    :: hang_up(SLEEPER(1 - me, SENDER)); hang_up(SLEEPER(1 - me, RECEIVER))
#endif
    :: !killed[me]
    fi
}

#ifdef THREADS
#define WANTS_TO_SEND (!said[me] && sent[me] < ASKED)
#define IS_DONE (sent[me] == ASKED)
#else
#define WANTS_TO_SEND (me == 0 -> !said[0] && sent[0] < ASKED && sent[0] - got[0] < WINDOW : sent[1] < got[1])
#endif

#ifdef LOOP
/* hear(): a byte that was shown may stay. */
inline hear(s)
{
    if
    :: atomic {
        edge[SOCKET(s)] && rung[SOCKET(s)] && !hung_up[SOCKET(s)] ->
        edge[SOCKET(s)] = false;
        if
        :: rung[SOCKET(s)] = false
        :: true
        fi
    };
#ifndef HEAR_KEEPS_TICKET
        disarm(s)
#endif
    :: atomic { edge[SOCKET(s)] && hung_up[SOCKET(s)] -> rung[SOCKET(s)] = false; gone[me] = true }
    :: atomic { !edge[SOCKET(s)] || (!rung[SOCKET(s)] && !hung_up[SOCKET(s)]) }
    fi
}

/* channel_update_ready(): shm_holds() or shm_has_room(). */
inline find_out(what, ready)
{
    ready = IS_WORTH_IT(me, what);
    if
    :: !ready ->
        if
        :: what == SENDER -> take(SLEEPER(me, SENDER), gone[me])
        :: else -> hear(SLEEPER(me, RECEIVER))
        fi;
        if
        :: !gone[me] && !armed[SLEEPER(me, what)] -> arm(SLEEPER(me, what))
        :: else
        fi;
        ready = IS_WORTH_IT(me, what)
    :: else
    fi
}

/* naru_send() with NARU_NOWAIT */
inline try_to_send()
{
    if
    :: atomic { RECEIVER_LEFT(me) -> check_receiver_left(); told = true }
    :: atomic { !RECEIVER_LEFT(me) && HAS_ROOM(me) -> refused = false; room = false }; send_now()
    :: atomic { !RECEIVER_LEFT(me) && !HAS_ROOM(me) -> refused = true };
        take(SLEEPER(me, SENDER), gone[me]);
        find_out(SENDER, room)
    fi
}

/* naru_recv() likewise */
inline try_to_receive()
{
    look_for_one();
    if
    :: atomic { worth -> worth = false; ended = false }; receive_now(); find_out(RECEIVER, there)
    :: atomic { !worth && ended -> ended = false; assert(got[me] == sent[1 - me]); told = true }
    :: !worth && !ended ->
        hear(SLEEPER(me, RECEIVER));
        find_out(RECEIVER, there)
    fi
}

/* poll(2) of the channel's descriptor. */
inline poll()
{
    atomic { asleep[SLEEPER(me, RECEIVER)] = true; asleep[SLEEPER(me, SENDER)] = refused };
end_polls:
    atomic {
        (edge[SOCKET(SLEEPER(me, RECEIVER))] &&
                (rung[SOCKET(SLEEPER(me, RECEIVER))] || hung_up[SOCKET(SLEEPER(me, RECEIVER))])) ||
            (refused && (rung[SOCKET(SLEEPER(me, SENDER))] || hung_up[SOCKET(SLEEPER(me, SENDER))])) ->
        asleep[SLEEPER(me, RECEIVER)] = false;
        asleep[SLEEPER(me, SENDER)] = false;
        refused = false;
        there = true
    }
}

proctype Side(byte me)
{
    byte index, value;
    bool ring, worth, ended, told, refused, room, there = true;

    {
        do
        :: !told && !refused && WANTS_TO_SEND -> try_to_send()
        :: !told && there -> try_to_receive()
        :: !told && !there && !room && (refused || !WANTS_TO_SEND) -> poll()
        :: atomic { !told && refused && room -> refused = false; room = false }
        :: atomic { me == 0 && !told && !said[0] }; say_end(FINISHED)
        :: atomic { stopped[me] = true; forget(); goto stays }
        :: say_end(CLOSED); break
        od
    } unless { killed[me] };
    atomic { flush(cpu); forget(); ended = false; refused = false; room = false; there = false; left[me] = true };
    leave();
stays:
    skip
}
#elif defined(THREADS)
proctype Sender(byte me)
{
    byte index, value, role = SENDER;
    bool ring, worth, told;

    {
        do
        :: !told && WANTS_TO_SEND -> send_one()
        :: atomic { !said[me] && !told && IS_DONE }; say_end(FINISHED)
        :: atomic { said[me] || told -> break }
        :: atomic { me == 0 -> stopped[me] = true; break }
        od
    } unless { killed[me] };
    atomic {
        flush(cpu);
        asleep[SLEEPER(me, SENDER)] = false;
        worth = false;
        told = false;
        ring = false;
        ended_threads[me]++
    }
}

proctype Receiver(byte me)
{
    byte index, value, role = RECEIVER;
    bool ring, worth, ended, told;

    {
        do
        :: !told -> receive_one()
        :: told -> break
        :: atomic { me == 0 -> stopped[me] = true; break }
        od;
    } unless { killed[me] };
    atomic { flush(cpu); asleep[SLEEPER(me, RECEIVER)] = false; worth = false; ended = false };
end_joins:
    {
        ended_threads[me] == 1;
        say_end(CLOSED)
    } unless { killed[me] };
    atomic { ended_threads[me] == 1 -> flush(cpu); forget(); left[me] = true };
    leave()
}
#else
proctype Side(byte me)
{
    byte index, value;
    bool ring, worth, ended, told;

    {
        do
        :: !told && WANTS_TO_SEND -> send_one()
        :: !told && (me == 0 -> got[0] < sent[0] : sent[1] == got[1]) -> receive_one()
        :: atomic { me == 0 && !told && !said[0] }; say_end(FINISHED)
        :: atomic { stopped[me] = true; forget(); goto stays }
        :: say_end(CLOSED); break
        od
    } unless { killed[me] };
    atomic { flush(cpu); forget(); ended = false; left[me] = true };
    leave();
stays:
    skip
}
#endif

proctype Killer()
{
    if
#if KILL & 1
    :: atomic { !left[0] && !stopped[0] -> killed[0] = true }
#endif
#if KILL & 2
    :: atomic { !left[1] && !stopped[1] -> killed[1] = true }
#endif
    :: true
    fi
}

#define SLEEPS_ON(side, what) \
    (asleep[SLEEPER(side, what)] && (left[1 - side] || IS_WORTH_IT(side, what)))
#define SLEEPS(side) (asleep[SLEEPER(side, RECEIVER)] || asleep[SLEEPER(side, SENDER)])

#define ALL_IS_ANSWERED (got[0] == sent[1] && got[1] == sent[0] && (said[0] || sent[0] == ASKED) && \
    (said[1] || sent[1] == sent[0]))

/* When nothing moves any more. */
proctype Monitor()
{
end:
    timeout;
    assert(!SLEEPS_ON(0, RECEIVER) && !SLEEPS_ON(0, SENDER));
    assert(!SLEEPS_ON(1, RECEIVER) && !SLEEPS_ON(1, SENDER));
    assert(!(SLEEPS(0) && SLEEPS(1)) || stopped[0] || stopped[1] || ALL_IS_ANSWERED)
}

init {
    atomic {
        byte i;

        word[SENT(0)] = sent[0];
        word[SENT(1)] = sent[1];
        run_cpus();
#ifdef THREADS
        for (i : 0 .. 1) { run Sender(i); run Receiver(i) }
#else
        for (i : 0 .. 1) { run Side(i) }
#endif
        i = 0;
        run Killer();
        run Monitor()
    }
}
