/* SPDX-License-Identifier: MIT */
/*
 * Stands in for <stdatomic.h> where relacy checks the library's own sources (weak-memory.cpp): _Atomic is
 * nothing, and every atomic access goes to the model of the word at that address. Words that only one thread
 * touches are not modelled.
 */
#ifndef SPEC_STDATOMIC_H
#define SPEC_STDATOMIC_H

#define _Atomic

#define memory_order_relaxed rl::mo_relaxed
#define memory_order_acquire rl::mo_acquire
#define memory_order_release rl::mo_release
#define memory_order_seq_cst rl::mo_seq_cst

/* Whether this run is to show that the check of that name, or of that tag, can fail. */
bool is_broken(const char *what);

/* In the sources, the order of an access with a tag ("[P1]") has been replaced by this. */
#define tagged(tag, order) (is_broken(tag) ? rl::mo_relaxed : (order))

/* The model of the word at an address; NULL: there is none. */
rl::atomic<uint64_t> *model_of(const void *address);

/* Of the call, for what relacy tells of a failure. */
struct place {
    rl::debug_info info;

    place(const char *function = __builtin_FUNCTION(), const char *file = __builtin_FILE(),
          unsigned line = __builtin_LINE())
        : info(function, file, line)
    {
    }
};

template <typename T> T atomic_load_explicit(const T *address, rl::memory_order order, place where = place())
{
    rl::atomic<uint64_t> *model = model_of(address);

    return model ? (T)model->load(order, where.info) : *address;
}

template <typename T> T atomic_load(const T *address)
{
    return atomic_load_explicit(address, memory_order_seq_cst);
}

template <typename T, typename V>
void atomic_store_explicit(T *address, V value, rl::memory_order order, place where = place())
{
    rl::atomic<uint64_t> *model = model_of(address);

    if (model)
        model->store((uint64_t)value, order, where.info);
    else
        *address = (T)value;
}

template <typename T, typename V>
T atomic_fetch_or_explicit(T *address, V value, rl::memory_order order, place where = place())
{
    rl::atomic<uint64_t> *model = model_of(address);
    T old = *address;

    if (model)
        return (T)model->fetch_or((uint64_t)value, order, where.info);
    *address = (T)(old | (T)value);
    return old;
}

/* On words that only one thread touches. */
template <typename T, typename V> T atomic_fetch_and_explicit(T *address, V value, rl::memory_order)
{
    T old = *address;

    if (model_of(address))
        abort();
    *address = (T)(old & (T)value);
    return old;
}

template <typename T, typename V> T atomic_fetch_add_explicit(T *address, V value, rl::memory_order)
{
    T old = *address;

    if (model_of(address))
        abort();
    *address = (T)(old + (T)value);
    return old;
}

template <typename T, typename V> T atomic_fetch_sub_explicit(T *address, V value, rl::memory_order order)
{
    return (T)(atomic_fetch_add_explicit(address, -(T)value, order));
}

template <typename T, typename V> void atomic_store(T *address, V value)
{
    atomic_store_explicit(address, value, memory_order_seq_cst);
}

/* On words that only one thread touches. */
template <typename T> bool atomic_compare_exchange_weak(T *address, T *expected, T value)
{
    if (model_of(address))
        abort();
    if (*address != *expected) {
        *expected = *address;
        return false;
    }
    *address = value;
    return true;
}

#define atomic_thread_fence(order)                                                                           \
    do {                                                                                                     \
        rl::memory_order order_ = (order);                                                                   \
                                                                                                             \
        if (order_ != rl::mo_relaxed && (order_ != rl::mo_seq_cst || !is_broken("fence")))                   \
            rl::atomic_thread_fence(order_, $);                                                              \
    } while (0)
#define atomic_signal_fence(order) ((void)0) /* relacy compiles nothing away */

#endif
