/* SPDX-License-Identifier: MIT */
/*
 * Fan-in, src/channel/gather.c and gather-peers.c: two senders, each with a channel of its own, and one receiver, which
 * looks at those that are active in turn and sleeps in an epoll that reports edges of the others. Each sender stops,
 * closes or (-DKILL) is killed at any step. What is checked:
 *
 *   - when nothing can go on any more, the receiver does not sleep while anybody has a message or has left;
 *   - who is told to have left was received from to the end.
 *
 * Broken on purpose: what bells.pml names, and -DRESTS_UNARMED, -DRESTS_WITHOUT_A_LOOK, -DONE_EVENT_OF_ALL (the rest of
 * what epoll_wait(2) gave is dropped).
 */
#ifndef MESSAGES
#define MESSAGES 2 /* of each */
#endif
#define PEERS    2
#define RECEIVER PEERS

#define SENT(peer)   (peer)
#define END(peer)    (PEERS + (peer))
#define TICKET(peer) (2 * PEERS + (peer))
#define WORDS        (3 * PEERS)
#define SLEEPERS     PEERS /* one a channel */
#define CPUS         (PEERS + 1)
#define DEPTH        3
#define cpu          me
#define FLUSH_OTHERS flush(0); flush(1)
#define REPORT(peer) edge[peer] = true

bool edge[2]; /* the epoll has it to report, if there is something to be read by then */

#include "bells.pml"

#define GOES_ON 0
#define CLOSED  2

byte sent[PEERS], got[PEERS];
bool gone[PEERS], left[PEERS], killed[PEERS], told[PEERS];
bool in_turn[PEERS], waits;

#define IS_REPORTED(peer) (edge[peer] && (rung[peer] || hung_up[peer]))
#define IS_THERE(peer)    (word[SENT(peer)] != got[peer])
#define LEFT(peer)        (gone[peer] || word[END(peer)] != GOES_ON)
#define IS_WORTH_IT(peer) (IS_THERE(peer) || LEFT(peer))

proctype Sender(byte me)
{
    byte index, value;
    bool ring;

    {
        do
        :: atomic { sent[me] < MESSAGES -> sent[me]++; STORE(SENT(me), sent[me]) }; published(me)
        :: goto stays
        :: STORE(END(me), CLOSED); published(me); break
        od
    } unless { killed[me] };
    atomic { flush(me); ring = false; seen[me] = 0; left[me] = true };
    if
    :: hang_up(me)
    :: !killed[me] /* a child has the sockets, too */
    fi;
stays:
    skip
}

/* lay_down(): shm_holds(), then gather_peer_rest(). */
inline lay_down(peer)
{
    worth = IS_WORTH_IT(peer);
    if
    :: !worth ->
        take(peer, gone[peer]);
#ifndef RESTS_UNARMED
        if
        :: !gone[peer] && !armed[peer] -> arm(peer)
        :: else
        fi;
#endif
#ifndef RESTS_WITHOUT_A_LOOK
        worth = IS_WORTH_IT(peer);
#endif
        atomic { in_turn[peer] = worth; worth = false }
    :: atomic { else -> worth = false }
    fi
}

/* turn(), of one that is active */
inline turn(peer)
{
    ended = LEFT(peer);
    worth = IS_THERE(peer);
    if
    :: atomic { worth -> worth = false; ended = false; got[peer]++ }
    :: atomic {
        !worth && ended ->
        ended = false;
        assert(got[peer] == sent[peer]);
        told[peer] = true;
        in_turn[peer] = false
    }
    :: !worth && !ended ->
        take(peer, gone[peer]);
        lay_down(peer)
    fi
}

#ifdef ONE_EVENT_OF_ALL
#define IS_TAKEN !worth
#else
#define IS_TAKEN true
#endif

/* take_events() */
inline take_events()
{
    atomic {
        for (peer : 0 .. PEERS - 1) {
            if
            :: edge[peer] ->
                edge[peer] = false;
                if
                :: (rung[peer] || hung_up[peer]) && !told[peer] && IS_TAKEN -> in_turn[peer] = true; worth = true
                :: else
                fi
            :: else
            fi
        }
        peer = 0;
        worth = false
    }
}

proctype Receiver()
{
    byte index, value, peer;
    bool worth, ended;
    byte me = RECEIVER;

    do
    :: in_turn[0] -> turn(0)
    :: in_turn[1] -> turn(1)
    :: (in_turn[0] || in_turn[1]) && (IS_REPORTED(0) || IS_REPORTED(1)) -> take_events() /* gather_ask_sometimes() */
    :: atomic { !in_turn[0] && !in_turn[1] && !(told[0] && told[1]) -> waits = true };
end_waits:
        atomic { IS_REPORTED(0) || IS_REPORTED(1) -> waits = false };
        take_events()
    :: told[0] && told[1] -> break
    od
}

proctype Killer()
{
    if
#ifdef KILL
    :: atomic { !left[0] -> killed[0] = true }
#endif
    :: true
    fi
}

#define IS_FORGOTTEN(peer) (!told[peer] && (IS_THERE(peer) || word[END(peer)] != GOES_ON || left[peer]))

/* When nothing moves any more. */
proctype Monitor()
{
end:
    timeout;
    assert(!(waits && (IS_FORGOTTEN(0) || IS_FORGOTTEN(1))))
}

init {
    atomic {
        byte i;

        in_turn[0] = true;
        in_turn[1] = true;
        run_cpus();
        for (i : 0 .. PEERS - 1) { run Sender(i) }
        run Receiver();
        run Killer();
        run Monitor()
    }
}
