// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A peer of the benchmark: the floor. It accepts every packet and decides nothing, as cheaply as the kernel lets a
// process do that: many packets a recvmmsg, one verdict for all of them, headers only, GSO packets as they are, large
// buffers. Whatever decides something can at best come near it. The kernel's ruleset does the rewriting meanwhile.
//
// Of its arguments (arguments.txt) it needs queue=STAGE,NUMBER.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { PACKETS = 64, BYTES = 4096, HEADERS = 128, BUFFERS = 16 << 20, QUEUE_LENGTH = 8192 };

static int fd;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static size_t begin(void *at, int type, int flags, uint16_t queue)
{
    struct nlmsghdr *message = at;
    struct nfgenmsg *family = NLMSG_DATA(message);
    memset(at, 0, NLMSG_SPACE(sizeof *family));
    message->nlmsg_len = NLMSG_LENGTH(sizeof *family);
    message->nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    family->version = NFNETLINK_V0;
    family->res_id = htons(queue);
    return message->nlmsg_len;
}

static size_t attribute(void *at, size_t end, int type, const void *value, size_t length)
{
    struct nlattr *attribute = (struct nlattr *)((char *)at + end);
    attribute->nla_type = type;
    attribute->nla_len = NLA_HDRLEN + length;
    memset((char *)attribute + NLA_HDRLEN, 0, NLA_ALIGN(length));
    memcpy((char *)attribute + NLA_HDRLEN, value, length);
    end += NLA_ALIGN(attribute->nla_len);
    ((struct nlmsghdr *)at)->nlmsg_len = end;
    return end;
}

// All in one message: a queue that is bound and not yet configured drops what it gets.
static void take(uint16_t queue)
{
    struct nfqnl_msg_config_cmd bind = {.command = NFQNL_CFG_CMD_BIND};
    struct nfqnl_msg_config_params copy = {htonl(HEADERS), NFQNL_COPY_PACKET};
    uint32_t length = htonl(QUEUE_LENGTH), gso = htonl(NFQA_CFG_F_GSO);
    _Alignas(8) char request[256], answer[512];
    size_t end = begin(request, NFQNL_MSG_CONFIG, NLM_F_ACK, queue);
    end = attribute(request, end, NFQA_CFG_CMD, &bind, sizeof bind);
    end = attribute(request, end, NFQA_CFG_PARAMS, &copy, sizeof copy);
    end = attribute(request, end, NFQA_CFG_QUEUE_MAXLEN, &length, sizeof length);
    end = attribute(request, end, NFQA_CFG_MASK, &gso, sizeof gso);
    end = attribute(request, end, NFQA_CFG_FLAGS, &gso, sizeof gso);
    if (send(fd, request, end, 0) < 0 || recv(fd, answer, sizeof answer, 0) < 0)
        die("cannot ask for a queue");
    errno = -((struct nlmsgerr *)NLMSG_DATA(answer))->error;
    if (errno)
        die("cannot take a queue");
}

int main(int count, char **arguments)
{
    static _Alignas(8) char packets[PACKETS][BYTES];
    static uint32_t newest[1 << 16];
    struct iovec parts[PACKETS];
    struct mmsghdr messages[PACKETS];
    int buffers = BUFFERS, yes = 1, i, received;

    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0)
        die("no netfilter socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffers, sizeof buffers);
    setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &yes, sizeof yes);
    for (i = 1; i < count; i++) {
        unsigned queue;
        if (sscanf(arguments[i], "queue=%*[a-z],%u", &queue) == 1)
            take(queue);
    }
    memset(messages, 0, sizeof messages);
    for (i = 0; i < PACKETS; i++) {
        parts[i] = (struct iovec){packets[i], BYTES};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    puts("serving");
    fflush(stdout);

    while ((received = recvmmsg(fd, messages, PACKETS, MSG_WAITFORONE, NULL)) >= 0 || errno == EINTR) {
        uint16_t queues[PACKETS];
        _Alignas(8) char verdicts[PACKETS * 64];
        size_t length = 0;
        int n_queues = 0, j;
        for (i = 0; i < received; i++) {
            struct nlmsghdr *message = (struct nlmsghdr *)packets[i];
            struct nfgenmsg *family = NLMSG_DATA(message);
            struct nlattr *header = (struct nlattr *)((char *)message + NLMSG_SPACE(sizeof *family));
            uint16_t queue = ntohs(family->res_id);
            if (message->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
                continue;
            // The kernel writes the packet's header first.
            newest[queue] = ((struct nfqnl_msg_packet_hdr *)((char *)header + NLA_HDRLEN))->packet_id;
            for (j = 0; j < n_queues && queues[j] != queue; j++)
                ;
            if (j == n_queues)
                queues[n_queues++] = queue;
        }
        for (j = 0; j < n_queues; j++) {
            struct nfqnl_msg_verdict_hdr accept = {htonl(NF_ACCEPT), newest[queues[j]]};
            size_t end = begin(verdicts + length, NFQNL_MSG_VERDICT_BATCH, 0, queues[j]);
            length += attribute(verdicts + length, end, NFQA_VERDICT_HDR, &accept, sizeof accept);
        }
        if (length && send(fd, verdicts, length, 0) < 0)
            die("send");
    }
    die("recvmmsg");
}
