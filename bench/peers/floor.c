// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A peer of the benchmark: the floor. It accepts every packet and decides nothing, as cheaply as the kernel lets a
// process do that: many packets a recvmmsg, one verdict for all of them, headers only, GSO packets as they are, large
// buffers. Whatever decides something can at best come near it. The kernel's ruleset does the rewriting meanwhile.
//
// Of its arguments (arguments.txt) it needs queue=STAGE,NUMBER. With the argument `payloads` it reads packets whole, and gives
// each of them back with a verdict of its own: what a process that rewrites has to do at least. It changes nothing but
// checksums that the kernel has left for later, and no longer computes of what comes from userspace
// (net/netfilter/nfnetlink_queue.c, `nfqnl_mangle()`): of what it will cut it does, but where requests come in conntrack looks
// before that. IPv4 alone.

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

enum { PACKETS = 64, BYTES = 72 << 10, HEADERS = 128, WHOLE = 0xffff, BUFFERS = 16 << 20, QUEUE_LENGTH = 8192, AT_ONCE = 256 << 10 };

static int fd, payloads;
static char is_dnat[1 << 16];

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
    struct nfqnl_msg_config_params copy = {htonl(payloads ? WHOLE : HEADERS), NFQNL_COPY_PACKET};
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

// The packets whose verdicts are not sent yet: two parts each, the verdict and the payload where it was received.
static struct iovec waiting[2 * PACKETS];
static size_t n_waiting, bytes_waiting;

static void give_back(void)
{
    struct msghdr all = {.msg_iov = waiting, .msg_iovlen = n_waiting};
    if (n_waiting && sendmsg(fd, &all, 0) < 0)
        die("sendmsg");
    n_waiting = bytes_waiting = 0;
}

// The field has the sum of the pseudo header by now (RFC 1071, RFC 9293 section 3.1).
__attribute__((optimize("O3"))) static void complete(uint8_t *packet, size_t length)
{
    size_t header = (packet[0] & 15) * 4, at = header + (packet[9] == IPPROTO_TCP ? 16 : 6), i;
    uint64_t sum = 0;
    uint16_t checksum;
    if ((packet[9] != IPPROTO_TCP && packet[9] != IPPROTO_UDP) || at + 2 > length)
        return;
    for (i = header; i + 3 < length; i += 4) {
        uint32_t words;
        memcpy(&words, packet + i, 4);
        sum += words;
    }
    if (i < length) {
        uint32_t words = 0;
        memcpy(&words, packet + i, length - i);
        sum += words;
    }
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    checksum = ~sum;
    if (!checksum && packet[9] == IPPROTO_UDP)
        checksum = 0xffff;
    memcpy(packet + at, &checksum, 2);
}

static void return_payload(struct nlmsghdr *message, uint16_t queue, uint32_t id, void *verdict)
{
    struct nfqnl_msg_verdict_hdr accept = {htonl(NF_ACCEPT), id};
    char *at = (char *)message + NLMSG_SPACE(sizeof(struct nfgenmsg)), *end = (char *)message + message->nlmsg_len;
    struct nlattr *attribute_at = (struct nlattr *)at;
    size_t length = begin(verdict, NFQNL_MSG_VERDICT, 0, queue), payload;
    uint32_t about = 0, cut = 0;
    // The kernel writes the payload last.
    while (at < end && attribute_at->nla_type != NFQA_PAYLOAD) {
        if (attribute_at->nla_type == NFQA_SKB_INFO)
            memcpy(&about, at + NLA_HDRLEN, sizeof about);
        // Longer than an attribute can be, so it came in part: it is left as it is.
        cut |= attribute_at->nla_type == NFQA_CAP_LEN;
        at += NLA_ALIGN(attribute_at->nla_len);
        attribute_at = (struct nlattr *)at;
    }
    if (at < end && !cut && (ntohl(about) & (NFQA_SKB_CSUMNOTREADY | (is_dnat[queue] ? 0 : NFQA_SKB_GSO))) == NFQA_SKB_CSUMNOTREADY)
        complete((uint8_t *)at + NLA_HDRLEN, attribute_at->nla_len - NLA_HDRLEN);
    length = attribute(verdict, length, NFQA_VERDICT_HDR, &accept, sizeof accept);
    payload = at < end && !cut ? NLA_ALIGN(attribute_at->nla_len) : 0;
    ((struct nlmsghdr *)verdict)->nlmsg_len = length + payload;
    waiting[n_waiting++] = (struct iovec){verdict, length};
    if (payload)
        waiting[n_waiting++] = (struct iovec){at, payload};
    bytes_waiting += length + payload;
    if (bytes_waiting >= AT_ONCE)
        give_back();
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
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffers, sizeof buffers);
    setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &yes, sizeof yes);
    for (i = 1; i < count; i++)
        payloads |= !strcmp(arguments[i], "payloads");
    for (i = 1; i < count; i++) {
        unsigned queue;
        if (sscanf(arguments[i], "queue=%*[a-z],%u", &queue) == 1) {
            is_dnat[queue & 0xffff] = !strncmp(arguments[i], "queue=dnat", 10);
            take(queue);
        }
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
            if (payloads) {
                return_payload(message, queue, newest[queue], verdicts + i * 64);
                continue;
            }
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
        give_back();
        if (length && send(fd, verdicts, length, 0) < 0)
            die("send");
    }
    die("recvmmsg");
}
