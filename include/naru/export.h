/* SPDX-License-Identifier: MIT */
/* Attributes of the public declarations. Every public header includes this and nothing else needs it. */
#ifndef NARU_EXPORT_H
#define NARU_EXPORT_H

#define NARU_API        __attribute__((visibility("default")))
#define NARU_MUST_CHECK __attribute__((warn_unused_result))

#ifdef __cplusplus
#define NARU_BEGIN extern "C" {
#define NARU_END   }
#else
#define NARU_BEGIN
#define NARU_END
#endif

/*
 * Every public struct begins with its own size, so that it can grow without breaking programs that were
 * compiled against an older naru. A size smaller than the struct had in the first release is -EINVAL,
 * whatever the call; of a larger one what this naru knows is read, or filled, and what is beyond it not
 * touched. Set it with this: struct naru_options options = NARU_INIT(struct naru_options); in C it is an
 * initialiser and no expression, in C++ (11 or later) it is both. What exists already, also an element of an
 * array, begins (anew) in both languages by
 *   views[i] = (struct naru_view)NARU_INIT(struct naru_view);
 * A struct that is called as a function is (naru_loan) needs the word struct in C++, too.
 */
#ifdef __cplusplus
#define NARU_INIT(type)                                                                                      \
    ([] {                                                                                                    \
        type object_ = {};                                                                                   \
        object_.size = sizeof(type);                                                                         \
        return object_;                                                                                      \
    }())
#else
/* clang-format off */
#define NARU_INIT(type) {.size = sizeof(type)}
/* clang-format on */
#endif

#endif
