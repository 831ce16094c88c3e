/* SPDX-License-Identifier: MIT */
/*
 * The shared variable of src/shm/cell.h, and sleeping until there is a newer value (doze.h): a writer, which may be
 * killed at any step and is followed by another then, and readers. Words are each written and read by a step of
 * their own; the order in which others see the steps is checked by relacy/. What is checked:
 *
 *   - a reader gets whole values only, never an older one than before, and once the last one is there, the last one;
 *   - who sleeps is woken by the next value; only where a writer was killed between the two is it the nap that ends
 *     the sleep.
 *
 * Broken on purpose, each of which spin must find: -DNO_BEGIN -DBEGIN_LATE -DCHECK_EARLY -DCOMMIT_FIRST -DIN_PLACE
 * -DLOOK_BEFORE_ASLEEP -DWAKE_FIRST, and with -DREADERS=2 -DFLAG.
 */
#ifndef VALUES
#define VALUES 4
#endif
#ifndef READERS
#define READERS 1
#endif
#define SLOTS 2
#define WORDS 2

#ifdef IN_PLACE
#define SLOT(v) 0
#else
#define SLOT(v) ((v) % SLOTS)
#endif
#define WORD(v, i) word[SLOT(v) * WORDS + (i)]

byte begun[SLOTS];
byte word[SLOTS * WORDS];
byte version;
byte asleep;              /* odd: somebody sleeps, or is about to */
bool sleeping[READERS]; /* in the kernel */
bool killed, gone;      /* the first writer */

inline wake_all()
{
    atomic {
        i = 0;
        do
        :: i < READERS -> sleeping[i] = false; i++
        :: else -> break
        od
    }
}

inline wake()
{
    w = asleep;
    if
    :: w % 2 == 1 ->
#ifdef FLAG
        asleep = 0;
#else
        asleep = w + 1;
#endif
        wake_all()
    :: else
    fi
}

inline arm()
{
    atomic {
        if
        :: asleep % 2 == 0 -> asleep++
        :: else
        fi;
        armed = asleep
    }
}

/* mark: tells values of the same version apart, of the writer that was killed and of the next one. */
inline write_values(mark)
{
    do
    :: version < VALUES ->
        v = version + 1;
#ifdef COMMIT_FIRST
        version = v;
#endif
#ifdef WAKE_FIRST
        wake();
#endif
#if !defined(NO_BEGIN) && !defined(BEGIN_LATE)
        begun[SLOT(v)] = v;
#endif
        WORD(v, 0) = v + mark;
#ifdef BEGIN_LATE
        begun[SLOT(v)] = v;
#endif
        WORD(v, 1) = v + mark;
#ifdef NO_BEGIN
        begun[SLOT(v)] = v;
#endif
#ifndef COMMIT_FIRST
        version = v;
#endif
#ifndef WAKE_FIRST
        wake()
#endif
    :: else -> break
    od
}

proctype Writer()
{
    byte v, w, i;

    {
        write_values(0)
    } unless { killed };
    gone = true
}

/* Comes when the first is dead, and goes on from what is there. */
proctype NextWriter()
{
    byte v, w, i;

    gone && killed -> write_values(100)
}

proctype Killer()
{
    if
    :: !gone -> killed = true; run NextWriter()
    :: true
    fi
}

proctype Reader(byte me)
{
    byte v, first, second, last, began, armed;

    do
    :: last == VALUES -> break
    :: last < VALUES ->
        v = version;
        if
        :: v == 0
        :: v > 0 ->
#ifdef CHECK_EARLY
            began = begun[SLOT(v)];
#endif
            first = WORD(v, 0);
            second = WORD(v, 1);
#ifndef CHECK_EARLY
            began = begun[SLOT(v)];
#endif
            if
            :: began == v ->
                assert(first == second && first % 100 == v && v >= last);
                last = v
            :: began != v ->
                assert(began > v && began % SLOTS == v % SLOTS && version + 1 >= began)
            fi
        fi;
        if
        :: true /* reads again */
        :: last < VALUES && v == last -> /* waits for a newer one */
#ifdef LOOK_BEFORE_ASLEEP
            if
            :: version == last -> arm()
            :: else -> goto again
            fi;
#else
            arm();
            if
            :: version == last
            :: else -> goto again
            fi;
#endif
            atomic {
                if
                :: asleep == armed -> sleeping[me] = true /* futex(2) compares */
                :: else
                fi
            };
            if
            :: !sleeping[me]
            :: killed -> sleeping[me] = false /* the nap is over */
            :: timeout -> assert(false)
            fi
        fi;
again:
        skip
    od
}

init {
    atomic {
        byte r;

        run Writer();
        run Killer();
        do
        :: r < READERS -> run Reader(r); r++
        :: else -> break
        od
    }
}
