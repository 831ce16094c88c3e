/* SPDX-License-Identifier: MIT */
/*
 * The pool of src/shm/pool.h: chunks that are lent, sent, borrowed and given back in any order by the ring of
 * returns, with the receiver killed at any step, or (-DHOSTILE) writing what it likes. The ring that carries
 * descriptions is ring.pml's business and a channel here; who wakes a sender that finds no room, wakeup.pml's.
 * What is checked:
 *
 *   - an honest receiver reads in a chunk what was sent in it until it has given it back, and never ends in
 *     RING_BROKEN; a sender that finds no room gets some;
 *   - a chunk becomes free by the token of this use of it, once, and only while it is out: not by one that is
 *     given back twice, kept from an earlier use, or guessed for a loan that was never sent (HOSTILE);
 *   - the sender never takes more returns than chunks are out.
 *
 * A word of the ring of returns says of which time around it is (LAP): that is how the sender knows a new one.
 *
 * A chunk that came back and is kept is one that is free here, and the sender may take one without looking what
 * else came back.
 *
 * Broken on purpose, each of which spin must find: -DNO_LAP -DRETURN_EARLY -DFEWER_WORDS; and with -DHOSTILE
 * -DNO_GENERATION -DTAKE_UNSENT.
 */
#ifndef MESSAGES
#define MESSAGES 4
#endif
#ifdef HOSTILE
#define SLOTS 2
#else
#define SLOTS 3
#endif
#ifdef FEWER_WORDS /* than chunks that may be out: SHM_RETURNS is both */
#define WORDS 2
#else
#define WORDS SLOTS
#endif
#ifndef ACTS
#define ACTS 3 /* of the hostile one */
#endif

#ifdef NO_GENERATION
#define TOKEN(slot, use) (slot)
#define SLOT_OF(token)   (token)
#else
#define TOKEN(slot, use) ((slot) + SLOTS * (use))
#define SLOT_OF(token)   ((token) % SLOTS)
#endif

/* Number n, from 0, of what is given back. */
#ifdef NO_LAP /* any token is new */
#define LAP(n) 1
#else
#define LAP(n) ((n) / WORDS + 1)
#endif

/* The receiver's page; one word: both of an entry are stored and loaded at once. */
byte returns[WORDS];
byte laps[WORDS];

byte returned; /* the receiver's own */

chan ring = [SLOTS] of { byte, byte, byte }; /* slot, token and, for the checks, message */
bool killed, receiver_gone, sender_done, broken;

/* The sender's own. */
bool used[SLOTS], sent[SLOTS];
byte use[SLOTS], out, seen;

/* What only the checks look at. */
byte data[SLOTS];    /* the message that stands in the chunk */
byte meant[WORDS];   /* of which use of the chunk a return was meant */
bool writing[SLOTS]; /* the sender has it, and has not sent it */
bool reading[SLOTS]; /* the receiver has it */

/* take_back(), of what was read; free_slot(). */
inline take_back(token, meant_use)
{
    slot = SLOT_OF(token);
    if
#ifdef TAKE_UNSENT
    :: slot < SLOTS && used[slot] && TOKEN(slot, use[slot]) == token ->
#else
    :: slot < SLOTS && sent[slot] && TOKEN(slot, use[slot]) == token ->
#endif
        assert(!writing[slot]);
        assert(meant_use == use[slot]);
#ifndef HOSTILE
        assert(!reading[slot]);
#endif
        sent[slot] = false;
        used[slot] = false;
        use[slot]++;
        out--
    :: else -> broken = true
    fi
}

/* pool_collect() */
inline collect()
{
    most = out;
    looked = 0;
    do
    :: d_step {
           word = returns[seen % WORDS];
           lap = laps[seen % WORDS];
           intended = meant[seen % WORDS]
       };
       if
       :: !broken && lap == LAP(seen) ->
           take_back(word, intended);
           if
           :: broken
           :: else ->
               looked++;
               assert(looked <= most);
               seen++
           fi
       :: !broken && lap != LAP(seen) && lap != LAP(seen) - 1 -> broken = true
       :: else -> break
       fi
    od
}

#if SLOTS > 2
#define has_free_slot() (!used[0] || !used[1] || !used[2])
#else
#define has_free_slot() (!used[0] || !used[1])
#endif

/* pool_send(), and the description's commit. */
inline send(which, what)
{
    sent[which] = true;
    out++;
    d_step {
        writing[which] = false;
        ring ! which, TOKEN(which, use[which]), what
    }
}

proctype Sender()
{
    byte message, slot, word, lap, looked, most, intended, chosen, lent = SLOTS, lent_message;

    do
    :: message < MESSAGES && !broken ->
        if
        :: collect()
        :: has_free_slot() -> skip /* a kept one is taken without a look */
        fi;
        if
        :: broken -> break
        :: else
        fi;
        d_step {
            chosen = 0;
            do
            :: chosen < SLOTS && used[chosen] -> chosen++
            :: else -> break
            od
        }
        if
        :: chosen == SLOTS -> /* no room: it sleeps until something comes back */
            if
            :: laps[seen % WORDS] == LAP(seen)
            :: receiver_gone -> break
            fi
        :: else ->
            used[chosen] = true;
            writing[chosen] = true;
            data[chosen] = message;
            if
            :: writing[chosen] = false; /* shm_cancel(), pool_cancel() */
               used[chosen] = false
            :: nfull(ring) -> send(chosen, message) /* full: a hostile one gives back what it has not taken */
            :: lent == SLOTS -> /* a loan, committed later */
               lent = chosen;
               lent_message = message
            fi;
            message++
        fi
    :: lent < SLOTS && nfull(ring) ->
        send(lent, lent_message);
        lent = SLOTS
    :: message == MESSAGES || broken -> break
    od;
    sender_done = true;
#ifndef HOSTILE
    assert(!broken)
#endif
}

/* One chunk goes back: P3. */
inline give_back(token, of_use)
{
    d_step {
        returns[returned % WORDS] = token;
        laps[returned % WORDS] = LAP(returned);
        meant[returned % WORDS] = of_use;
        returned++
    }
}

/* The receiver is done with it. */
inline release(which)
{
#ifdef RETURN_EARLY
    give_back(token_of[which], use_of[which]);
    assert(data[which] == held[which]);
    reading[which] = false
#else
    assert(data[which] == held[which]);
    reading[which] = false;
    give_back(token_of[which], use_of[which])
#endif
}

proctype Receiver()
{
    byte slot, token, message, held[SLOTS], token_of[SLOTS], use_of[SLOTS];

    {
        do
        :: d_step {
               ring ? slot, token, message;
               reading[slot] = true;
               held[slot] = message;
               token_of[slot] = token;
               use_of[slot] = use[slot] /* for the checks */
           }
        :: reading[0] -> release(0)
        :: reading[1] -> release(1)
#if SLOTS > 2
        :: reading[2] -> release(2)
#endif
        :: sender_done && empty(ring) && !reading[0] && !reading[1] && !reading[SLOTS - 1] -> break
        od
    } unless { killed };
    receiver_gone = true
}

proctype Killer()
{
    if
    :: killed = true
    :: true
    fi
}

/* Writes words that it was given, whenever, and that it guesses, of any time around. */
proctype Attacker()
{
    byte slot, token, message, acts, at, guess;

    do
    :: d_step { ring ? slot, token, message -> at = use[slot] };
       d_step { /* kept there, given back any time */
           returns[acts % WORDS] = token;
           meant[acts % WORDS] = at;
           laps[acts % WORDS] = LAP(acts)
       }
    :: acts < ACTS -> laps[acts % WORDS]++; acts++
    :: acts < ACTS -> laps[acts % WORDS] = laps[acts % WORDS] + 2; acts++
    :: acts < ACTS -> /* the last token of a slot, or the next one */
        if
        :: guess = 0
        :: guess = 1
        fi;
        d_step {
            returns[guess] = TOKEN(guess, use[guess]);
            meant[guess] = use[guess];
            laps[guess] = LAP(seen);
            acts++
        }
    :: acts == ACTS || sender_done -> receiver_gone = true; break
    od
}

init {
    atomic {
        run Sender();
#ifdef HOSTILE
        run Attacker()
#else
        run Receiver();
        run Killer()
#endif
    }
}
