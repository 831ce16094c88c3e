/* SPDX-License-Identifier: MIT */
/*
 * The ring of src/shm/ring.h: one writer, one reader, the commit in band, either of them killed at any step. Cells
 * are of 8 bytes, each written and read by a step of its own; the order in which others see the steps is checked
 * by relacy/. What is checked:
 *
 *   - the reader sees whole committed records only, in order, none twice, none invented (what is read is told from
 *     what was written by its value, and old payloads stay in the ring); of a batch none before all are committed;
 *   - it reads no cell that the writer may be writing (I3), and I1 holds;
 *   - a reader whose writer is gone receives all that was committed, then sees the end; neither side waits for ever.
 *
 * Broken on purpose, each of which spin must find: -DNO_ZERO_NEXT -DHEADER_FIRST -DRELEASE_FIRST
 * -DNO_ROOM_FOR_NEXT -DLOOK_BEFORE_END -DNOTHING_HELD_BACK.
 */
#ifndef RECORDS
#define RECORDS 6
#endif
#define CELLS   8 /* in the ring: twice the longest record, as record_max() has it */
#define LONG    2 /* cells of the longest payload */

#define HEADER(length)    (100 + (length))
#define IS_HEADER(cell)   ((cell) > 100)
#define PAYLOAD(record, i) (10 + 2 * (record) + (i)) /* no header, and not 0 */
#define SIZE(length)      ((length) == 1 -> 2 : 4)   /* record_bytes(): with the header, rounded up */

/* Room is asked for with the next header. */
#ifdef NO_ROOM_FOR_NEXT
#define NEXT 0
#else
#define NEXT 1
#endif

/* P1: of one record, or of a batch, whose first header is stored last. */
#define PUBLISH atomic { cell[first % CELLS] = word; committed = committed + batch; batch = 0 }

byte cell[CELLS];        /* the writer's memory */
byte taken;              /* the reader's */
bool writer_killed, reader_killed;

/* What only the checks look at. */
byte length_of[RECORDS];
byte committed;
byte writing = 255;      /* the position of the cell that the writer writes */

proctype Writer()
{
    byte position, seen_taken, length, i, record;
    byte batch, first, word; /* records that are written and not published; where the first is, and its header */

    {
        do
        :: record < RECORDS ->
            if
            :: length = 1
            :: length = LONG
            fi;
            /* ring_reserve(), ring_find_room(); full: until the reader has taken more */
            do
            :: position + SIZE(length) + NEXT - seen_taken <= CELLS -> break
            :: else ->
                if
                :: atomic { taken != seen_taken ->
                    assert(taken - seen_taken <= position - seen_taken);
                    seen_taken = taken
                }
                :: batch > 0 -> PUBLISH /* what does not fit goes by another batch */
                :: atomic { reader_killed && taken == seen_taken && batch == 0 -> goto ends }
                fi
            od;
            length_of[record] = length;
#ifdef HEADER_FIRST
            cell[(position + SIZE(length)) % CELLS] = 0;
            atomic { cell[position % CELLS] = HEADER(length); committed++ };
#endif
            i = 0;
            do
            :: i < length ->
                writing = position + 1 + i;
                atomic {
                    cell[(position + 1 + i) % CELLS] = PAYLOAD(record, i);
                    writing = 255;
                    i++
                }
            :: else -> break
            od;
#ifndef HEADER_FIRST
#ifndef NO_ZERO_NEXT
            cell[(position + SIZE(length)) % CELLS] = 0;
#endif
            if
            :: batch == 0 ->
                first = position;
                word = HEADER(length)
#ifdef NOTHING_HELD_BACK
                ; cell[position % CELLS] = word
#endif
            :: else -> cell[position % CELLS] = HEADER(length)
            fi;
            batch++;
#endif
            position = position + SIZE(length);
            record++;
#ifndef HEADER_FIRST
            if
            :: PUBLISH
            :: batch < 3 /* one more goes with it */
            fi
#endif
        :: else -> break
        :: break /* it may stop sending at any time */
        od
    } unless { writer_killed };
ends:
    writer_killed = true /* closed or killed: all the same to the ring */
}

proctype Reader()
{
    byte position, word, length, i, record;
    bool ended;

    {
        do
        :: true ->
            /* shm_recv(): the end first */
#ifdef LOOK_BEFORE_END
            word = cell[position % CELLS];
            ended = writer_killed;
#else
            ended = writer_killed;
            word = cell[position % CELLS]; /* C1 */
#endif
            if
            :: word != 0 ->
                assert(IS_HEADER(word));
                length = word - 100;
                assert(record < committed && length == length_of[record]);
#ifdef RELEASE_FIRST
                taken = position + SIZE(length);
#endif
                i = 0;
                do
                :: i < length ->
                    atomic {
                        assert(writing == 255 || writing % CELLS != (position + 1 + i) % CELLS);
                        assert(cell[(position + 1 + i) % CELLS] == PAYLOAD(record, i));
                        i++
                    }
                :: else -> break
                od;
                position = position + SIZE(length);
                record++;
#ifndef RELEASE_FIRST
                taken = position; /* P2 */
#endif
            :: word == 0 && ended ->
                assert(record == committed);
                break
            :: word == 0 && !ended ->
                cell[position % CELLS] != 0 || writer_killed /* how it waits: wakeup.pml */
            fi
        :: break /* it may stop receiving at any time */
        od
    } unless { reader_killed };
    reader_killed = true
}

proctype Killer()
{
    if
    :: writer_killed = true
    :: reader_killed = true
    :: true
    fi
}

init {
    atomic {
        run Writer();
        run Reader();
        run Killer()
    }
}
