// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Opens TCP connections as fast as it can: connect, ask for a page, read the reply, close. Tells how many a second.
//
//   connections ADDRESS PORT THREADS SECONDS
//
// It closes with a reset, so that no end keeps the connection in TIME-WAIT: the same client port may come back within a
// second through another node, and to the guest that is the same connection.

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
static struct sockaddr_in server = {.sin_family = AF_INET};
static atomic_long replied, failed;
static double deadline;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int ask(void)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct timeval patience = {.tv_sec = 1};
    char reply[2048];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fine;
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    fine = connect(fd, (struct sockaddr *)&server, sizeof server) == 0 &&
           send(fd, REQUEST, sizeof REQUEST - 1, MSG_NOSIGNAL) == sizeof REQUEST - 1 &&
           recv(fd, reply, sizeof reply, 0) > 12 && !memcmp(reply, "HTTP/1.1 200", 12);
    close(fd);
    return fine;
}

static void *work(void *unused)
{
    while (now() < deadline)
        atomic_fetch_add(ask() ? &replied : &failed, 1);
    return unused;
}

int main(int count, char **arguments)
{
    pthread_t threads[64];
    int i, n;
    double start = now();
    if (count != 5 || (n = atoi(arguments[3])) < 1 || n > 64) {
        fputs("usage: connections ADDRESS PORT THREADS SECONDS\n", stderr);
        return 2;
    }
    inet_aton(arguments[1], &server.sin_addr);
    server.sin_port = htons((uint16_t)atoi(arguments[2]));
    deadline = start + atof(arguments[4]);
    for (i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            return 1;
    for (i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    printf("%.0f %ld\n", (double)replied / (now() - start), (long)failed);
    return 0;
}
