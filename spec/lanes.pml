/* SPDX-License-Identifier: MIT */
/*
 * Lanes: several rings from side 0 to side 1, one a priority, and one bell for all of them (shm_look_for_record() of
 * src/channel/shm/wait.c). The receiver takes from the highest lane that has something; the sender fills any, and
 * sleeps for room in one. Either closes or (-DKILL) is killed at any step. What is checked:
 *
 *   - when nothing can go on any more, nobody sleeps who has something to do in any lane;
 *   - who is told of the end has received all that was committed in every lane;
 *   - a record that the receiver took was not overtaken by one of a lower lane that was committed later.
 *
 * Broken on purpose: -DNO_BARRIER, -DLOOK_BEFORE_TICKET, -DKEEPS_TICKET (who was woken for another lane sleeps on by the
 * ticket that was spent), -DLOOKS_AT_ONE (the last look before a sleep is at the highest lane alone), -DRINGS_FOR_ONE
 * (the waker looks at the ticket after a commit in lane 0 alone), -DLOOK_BEFORE_END, -DFROM_THE_LOWEST.
 */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#define LANES    2
#define ROOM     1 /* messages in a ring */

#define SENDER   0
#define RECEIVER 1

#define SENT(lane)  (lane)
#define TAKEN(lane) (LANES + (lane))
#define END(side)   (2 * LANES + (side))
#define TICKET(s)   (2 * LANES + 2 + (s))
#define WORDS       (2 * LANES + 4)
#define SLEEPERS    2
#define CPUS        2
#define DEPTH       3
#define cpu         me
#define FLUSH_OTHERS flush(1 - me)

#include "bells.pml"

#define GOES_ON 0
#define CLOSED  2

byte sent[LANES], got[LANES];
byte wanted; /* the lane in which the sender sends */
bool gone[2], left[2], killed[2];

#define IS_THERE(lane) (word[SENT(lane)] != got[lane])
#define HAS_ROOM(lane) (sent[lane] - word[TAKEN(lane)] < ROOM)
#define LEFT(side)     (gone[side] || word[END(1 - side)] != GOES_ON)

inline leave()
{
    atomic {
        flush(cpu);
        ring = false;
        worth = false;
        asleep[me] = false;
        seen[1 - me] = 0;
        left[me] = true;
        hung_up[1 - me] = true
    }
}

inline say_end()
{
    STORE(END(me), CLOSED);
    published(1 - me)
}

proctype Sender()
{
    byte index, value;
    bool ring, worth;
    byte me = SENDER;

    {
        do
        :: sent[0] + sent[1] < MESSAGES ->
            if
            :: wanted = 0
            :: wanted = 1
            fi;
            do
            :: LEFT(me) -> break
            :: atomic { !LEFT(me) && HAS_ROOM(wanted) -> sent[wanted]++; STORE(SENT(wanted), sent[wanted]) };
#ifdef RINGS_FOR_ONE
                if
                :: wanted == 0 -> published(RECEIVER)
                :: else
                fi;
#else
                published(RECEIVER);
#endif
                break
            :: else ->
#ifdef KEEPS_TICKET
                if
                :: !armed[me] -> arm(me)
                :: else
                fi;
                worth = HAS_ROOM(wanted) || LEFT(me);
#elif defined(LOOK_BEFORE_TICKET)
                worth = HAS_ROOM(wanted) || LEFT(me);
                arm(me);
#else
                arm(me);
                worth = HAS_ROOM(wanted) || LEFT(me);
#endif
                if
                :: !worth -> sleep_on_bell(me, gone[me])
                :: atomic { else -> worth = false }
                fi;
#ifndef KEEPS_TICKET
                disarm(me)
#endif
            od;
#ifdef KEEPS_TICKET
            disarm(me);
#endif
            if
            :: LEFT(me) -> break
            :: else
            fi
        :: goto stays
        :: say_end(); break
        od
    } unless { killed[me] };
    leave();
stays:
    skip
}

/* shm_look_for_record(): a load for each lane. */
inline look_for_record(from)
{
#ifdef FROM_THE_LOWEST
    worth = IS_THERE(0);
    lane = 0;
    if
    :: !worth -> worth = IS_THERE(1); lane = 1
    :: else
    fi
#else
    worth = IS_THERE(1);
    lane = 1;
    if
    :: !worth && from == 0 -> worth = IS_THERE(0); lane = 0
    :: else
    fi
#endif
}

#ifdef LOOKS_AT_ONE
#define LAST_LOOK 1
#else
#define LAST_LOOK 0
#endif

proctype Receiver()
{
    byte index, value, lane;
    bool ring, worth, ended, urgent;
    byte me = RECEIVER;

    {
        do
        :: atomic { urgent = IS_THERE(1); ended = LEFT(me) };
#ifdef LOOK_BEFORE_END
            look_for_record(0);
            ended = LEFT(me);
#else
            look_for_record(0);
#endif
            if
            :: atomic {
                worth ->
                assert(lane == 1 || !urgent);
                worth = false;
                ended = false;
                urgent = false;
                got[lane]++;
                STORE(TAKEN(lane), got[lane])
            };
                published(SENDER)
            :: atomic { !worth && ended -> assert(got[0] == sent[0] && got[1] == sent[1]); break }
            :: atomic { !worth && !ended -> urgent = false; lane = 0 };
#ifdef LOOK_BEFORE_TICKET
                look_for_record(LAST_LOOK);
                arm(me);
#else
                arm(me);
                look_for_record(LAST_LOOK);
#endif
                worth = worth || LEFT(me);
                if
                :: !worth -> sleep_on_bell(me, gone[me])
                :: atomic { else -> worth = false }
                fi;
                disarm(me)
            fi
        :: goto stays
        :: say_end(); break
        od
    } unless { killed[me] };
    leave();
stays:
    skip
}

proctype Killer()
{
    if
#ifdef KILL
    :: atomic { !left[0] -> killed[0] = true }
    :: atomic { !left[1] -> killed[1] = true }
#endif
    :: true
    fi
}

/* When nothing moves any more. */
proctype Monitor()
{
end:
    timeout;
    assert(!(asleep[RECEIVER] && (IS_THERE(0) || IS_THERE(1) || word[END(SENDER)] != GOES_ON || left[SENDER])));
    assert(!(asleep[SENDER] && (HAS_ROOM(wanted) || word[END(RECEIVER)] != GOES_ON || left[RECEIVER])));
    assert(!(asleep[SENDER] && asleep[RECEIVER]))
}

init {
    atomic {
        byte i;

        run_cpus();
        run Sender();
        run Receiver();
        run Killer();
        run Monitor()
    }
}
