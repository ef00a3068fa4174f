// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Sends small UDP packets from one network namespace to another and tells how many arrived.
//
//   udp_rate SENDER-NS RECEIVER-NS PUBLIC GUEST PORT fixed RATE SECONDS        → sent received seconds
//   udp_rate SENDER-NS RECEIVER-NS PUBLIC GUEST PORT highest HINT SECONDS      → the highest rate without loss
//
// A packet is 64 bytes long, IP header included. The sender sends to PUBLIC:PORT; what comes to GUEST:PORT is counted. The
// sender sleeps between its bursts, which are 200 us apart, and does not spin: it shares the cores with what is measured.
//
// Without loss means that 99.9 % have arrived when 20 ms have passed since the last one was sent; so a long queue, which
// only hides for a while that somebody cannot keep up, does not count as keeping up.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAYLOAD = 64 - 20 - 8, BURST = 64, TICK = 200000, GRACE_MS = 20, RECEIVE_BUFFER = 64 << 20, TRIES = 12 };
static const double LATE = 0.002;

static atomic_long received;
static int sender, receiver;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

// A socket belongs for ever to the namespace it was made in.
static int socket_in(const char *name)
{
    char path[256];
    int namespace, fd;
    snprintf(path, sizeof path, "/run/netns/%s", name);
    namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0)
        die(path);
    close(namespace);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    return fd;
}

static void *receive(void *unused)
{
    static char bytes[BURST][128];
    struct iovec parts[BURST];
    struct mmsghdr messages[BURST];
    int i, count;
    memset(messages, 0, sizeof messages);
    for (i = 0; i < BURST; i++) {
        parts[i] = (struct iovec){bytes[i], sizeof bytes[i]};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    while ((count = recvmmsg(receiver, messages, BURST, MSG_WAITFORONE, NULL)) > 0 || errno == EINTR)
        if (count > 0)
            atomic_fetch_add(&received, count);
    return unused;
}

// Sends at a rate for some seconds; returns how many, and in `took` how long that was. If it was late by more than
// LATE, somebody else had the processor: it does not make up for it, as the burst would then be what is measured.
static long transmit(double rate, double seconds, double *took)
{
    static char payload[PAYLOAD];
    struct iovec part = {payload, PAYLOAD};
    struct mmsghdr messages[BURST];
    long sent = 0;
    double start = now(), last = start, due = 0;
    struct timespec next;
    int i;
    memset(messages, 0, sizeof messages);
    for (i = 0; i < BURST; i++) {
        messages[i].msg_hdr.msg_iov = &part;
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &next);
    for (;;) {
        double time = now();
        due += rate * (time - last < LATE ? time - last : LATE);
        last = time;
        if (time - start >= seconds)
            break;
        while (due >= 1) {
            unsigned burst = due < BURST ? (unsigned)due : BURST;
            int count = sendmmsg(sender, messages, burst, 0);
            if (count < 0 && errno != ENOBUFS && errno != ECONNREFUSED)
                die("send");
            if (count > 0)
                sent += count;
            due -= burst;
        }
        next.tv_nsec += TICK;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    }
    *took = now() - start;
    return sent;
}

// Waits until nothing comes any more, so that one try does not burden the next.
static void settle(void)
{
    long before;
    int tries = 0;
    do {
        before = atomic_load(&received);
        sleep_ms(30);
    } while (atomic_load(&received) != before && ++tries < 100);
}

struct outcome {
    int holds;
    double sent, received; // a second
};

// A rate holds if the sender could send nearly so fast and nothing was lost. A narrow failure gets a second try.
// `best` is the highest that was really sent without loss, whatever was meant.
static struct outcome attempt(double rate, double seconds, double *best)
{
    struct outcome outcome = {0, 0, 0};
    int tries;
    for (tries = 0; tries < 2 && !outcome.holds; tries++) {
        double took;
        long before, sent, got;
        settle();
        before = atomic_load(&received);
        sent = transmit(rate, seconds, &took);
        sleep_ms(GRACE_MS);
        got = atomic_load(&received) - before;
        outcome.sent = (double)sent / took;
        outcome.received = (double)got / took;
        if ((double)got >= 0.999 * (double)sent) {
            outcome.holds = outcome.sent >= 0.95 * rate;
            if (outcome.sent > *best)
                *best = outcome.sent;
        }
        if (getenv("UDP_RATE_TRACE"))
            fprintf(stderr, "%.0f/s: sent %.0f/s, received %.0f/s%s\n", rate, outcome.sent, outcome.received,
                    outcome.holds ? "" : ", does not hold");
        if ((double)got < 0.9 * (double)sent)
            break;
    }
    return outcome;
}

// From the hint up or down until there are a rate that holds and one that does not, then between them.
static double highest(double rate, double seconds)
{
    double good = 0, bad = 0, best = 0, step = 1.07;
    int tries;
    for (tries = 0; tries < TRIES && rate >= 100 && !(good && bad && bad < 1.03 * good); tries++) {
        struct outcome outcome = attempt(rate, seconds, &best);
        if (outcome.holds)
            good = rate;
        else
            bad = rate;
        if (good && bad)
            rate = (good + bad) / 2;
        else if (good)
            rate = good * (step *= step);
        else // what it did let through is the best guess
            rate = outcome.received < bad / 1.05 ? outcome.received * 0.95 : bad / 1.1;
    }
    return best;
}

int main(int count, char **arguments)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    pthread_t thread;
    double rate, seconds;
    int buffer = RECEIVE_BUFFER;
    if (count != 9) {
        fputs("usage: udp_rate SENDER-NS RECEIVER-NS PUBLIC GUEST PORT fixed|highest RATE SECONDS\n", stderr);
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    sender = socket_in(arguments[1]);
    receiver = socket_in(arguments[2]);
    to.sin_port = htons((uint16_t)atoi(arguments[5]));
    inet_aton(arguments[4], &to.sin_addr);
    setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    if (bind(receiver, (struct sockaddr *)&to, sizeof to) < 0)
        die("bind");
    inet_aton(arguments[3], &to.sin_addr);
    if (connect(sender, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect");
    if (pthread_create(&thread, NULL, receive, NULL))
        die("thread");
    rate = atof(arguments[7]);
    seconds = atof(arguments[8]);

    // The first packets make ARP entries and conntrack entries; they are not measured.
    double took;
    transmit(100, 0.1, &took);
    settle();
    if (!atomic_load(&received)) {
        fputs("udp_rate: not a single packet arrives\n", stderr);
        return 1;
    }
    if (!strcmp(arguments[6], "highest")) {
        printf("%.0f\n", highest(rate, seconds));
    } else {
        long before = atomic_load(&received), sent = transmit(rate, seconds, &took);
        settle();
        printf("%ld %ld %.3f\n", sent, atomic_load(&received) - before, took);
    }
    return 0;
}
