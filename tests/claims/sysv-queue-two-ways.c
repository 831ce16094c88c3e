/* SPDX-License-Identifier: MIT */
/* One message queue can carry a dialogue: message types are its directions (msgop(2), msgtyp), and a negative
 * type takes the lowest first. */
#include <sys/msg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"

struct message {
    long type;
    char text[16];
};

enum { TO_SERVER = 1, TO_CLIENT = 2 };

int main(void)
{
    struct message m = {.type = TO_SERVER, .text = "3+5"};
    int queue = MUST(msgget(IPC_PRIVATE, 0600)), status;
    bool answered, lowest_first;

    if (MUST(fork()) == 0) { /* the server */
        MUST(msgrcv(queue, &m, sizeof m.text, TO_SERVER, 0));
        m = (struct message){.type = TO_CLIENT, .text = "8"};
        _exit(MUST(msgsnd(queue, &m, sizeof m.text, 0)));
    }
    MUST(msgsnd(queue, &m, sizeof m.text, 0));
    MUST(msgrcv(queue, &m, sizeof m.text, TO_CLIENT, 0)); /* does not take our own question back */
    MUST(wait(&status));
    answered = strcmp(m.text, "8") == 0;

    for (long type = 9; type >= 7; type--)
        MUST(msgsnd(queue, &(struct message){.type = type}, sizeof m.text, 0));
    MUST(msgrcv(queue, &m, sizeof m.text, -9, 0));
    lowest_first = m.type == 7;
    MUST(msgctl(queue, IPC_RMID, NULL));
    return seen(answered && lowest_first,
                "3+5 went one way, 8 the other, through one queue; of types 9, 8, 7 "
                "type 7 was taken first");
}
