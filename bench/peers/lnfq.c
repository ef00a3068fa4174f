// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A peer of the benchmark: the same rewriting as dunnat's, by a loop as the documentation of libnetfilter_queue shows it.
// One recv, one callback, one verdict per packet; no flag, no buffer size, nothing that the documentation's example
// does not do. See arguments.txt for what it is told.
//
// libnetfilter_queue is GPL-2.0-or-later. This file is linked with it only for measuring, on the machine that measures.

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

enum stage { DNAT, TAG, SAVE, SPOOF };

static struct service { uint8_t proto; uint16_t port; uint32_t guest; } services[16];
static struct node { uint32_t tag; uint8_t mac[3]; uint32_t public; } nodes[16];
static uint32_t pipes[16];
static int n_services, n_nodes, n_pipes;
static uint32_t own_tag, own_public; // addresses are kept as they are in the packet

static void die(const char *what)
{
    perror(what);
    exit(1);
}

// --- changing an address -------------------------------------------------------------------------------------------

// RFC 1624: the checksum of a text in which the 32 bits `from` became `to`. All in network byte order, as ever is.
static uint16_t updated(uint16_t sum, uint32_t from, uint32_t to)
{
    uint32_t n = (uint16_t)~sum;
    n += (uint16_t)~from + (uint32_t)(uint16_t)~(from >> 16);
    n += (uint16_t)to + (uint32_t)(to >> 16);
    n = (n & 0xffff) + (n >> 16);
    n = (n & 0xffff) + (n >> 16);
    return (uint16_t)~n;
}

static void update(unsigned char *at, uint32_t from, uint32_t to)
{
    uint16_t sum;
    memcpy(&sum, at, 2);
    sum = updated(sum, from, to);
    memcpy(at, &sum, 2);
}

static void rewrite(unsigned char *ip, int len, int offset, uint32_t to)
{
    uint32_t from;
    int header = (ip[0] & 15) * 4;
    int fragment = (ip[6] & 0x1f) | ip[7];
    memcpy(&from, ip + offset, 4);
    memcpy(ip + offset, &to, 4);
    update(ip + 10, from, to);
    if (fragment)
        return;
    if (ip[9] == IPPROTO_TCP && len >= header + 20)
        update(ip + header + 16, from, to);
    if (ip[9] == IPPROTO_UDP && len >= header + 8 && (ip[header + 6] | ip[header + 7])) {
        update(ip + header + 6, from, to);
        if (!(ip[header + 6] | ip[header + 7]))
            ip[header + 6] = ip[header + 7] = 0xff;
    }
}

// --- the four decisions ----------------------------------------------------------------------------------------------

static int callback(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *packet, void *data)
{
    enum stage stage = (enum stage)(intptr_t)data;
    struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(packet);
    struct nfqnl_msg_packet_hw *hw;
    unsigned char *ip;
    uint32_t mark = nfq_get_nfmark(packet), id = header ? ntohl(header->packet_id) : 0, address;
    int len = nfq_get_payload(packet, &ip), i, j;
    (void)message;

    if (len < 20 || ip[0] >> 4 != 4 || len < (ip[0] & 15) * 4)
        return nfq_set_verdict(queue, id, stage == SPOOF ? NF_DROP : NF_ACCEPT, 0, NULL);
    switch (stage) {
    case DNAT: {
        int start = (ip[0] & 15) * 4;
        memcpy(&address, ip + 16, 4);
        if (address != own_public || ((ip[6] & 0x1f) | ip[7]) || len < start + 4)
            break;
        for (i = 0; i < n_services; i++)
            if (services[i].proto == ip[9] && services[i].port == (ip[start + 2] << 8 | ip[start + 3])) {
                rewrite(ip, len, 16, services[i].guest);
                return nfq_set_verdict2(queue, id, NF_ACCEPT, own_tag, len, ip);
            }
        break;
    }
    case TAG:
        hw = nfq_get_packet_hw(packet);
        for (i = 0; i < n_pipes && hw; i++)
            if (pipes[i] == nfq_get_physindev(packet))
                for (j = 0; j < n_nodes; j++)
                    if (!memcmp(hw->hw_addr, nodes[j].mac, 3))
                        return nfq_set_verdict2(queue, id, NF_ACCEPT, nodes[j].tag, 0, NULL);
        break;
    case SAVE: // the rule that follows copies the mark
        break;
    case SPOOF:
        for (i = 0; i < n_nodes; i++)
            if (nodes[i].tag == mark) {
                rewrite(ip, len, 12, nodes[i].public);
                return nfq_set_verdict(queue, id, NF_ACCEPT, len, ip);
            }
        break;
    }
    return nfq_set_verdict(queue, id, NF_ACCEPT, 0, NULL);
}

// --- being told what to do --------------------------------------------------------------------------------------------

static const char *const STAGES[] = {"dnat", "tag", "save", "spoof"};

static uint32_t address(const char *text)
{
    struct in_addr parsed;
    if (!inet_aton(text, &parsed)) {
        fprintf(stderr, "not an address: %s\n", text);
        exit(2);
    }
    return parsed.s_addr;
}

static void argument(struct nfq_handle *handle, const char *text)
{
    char word[16], rest[32];
    unsigned number, mac[3];
    if (sscanf(text, "own=%u,%31s", &number, rest) == 2) {
        own_tag = number;
        own_public = address(rest);
    } else if (sscanf(text, "service=%15[a-z],%u,%31s", word, &number, rest) == 3 && n_services < 16) {
        uint8_t proto = strcmp(word, "udp") ? IPPROTO_TCP : IPPROTO_UDP;
        services[n_services++] = (struct service){proto, number, address(rest)};
    } else if (sscanf(text, "node=%u,%x:%x:%x,%31s", &number, mac, mac + 1, mac + 2, rest) == 5 && n_nodes < 16) {
        nodes[n_nodes++] = (struct node){number, {mac[0], mac[1], mac[2]}, address(rest)};
    } else if (sscanf(text, "pipe=%31s", rest) == 1 && n_pipes < 16) {
        pipes[n_pipes++] = if_nametoindex(rest);
    } else if (sscanf(text, "queue=%15[a-z],%u", word, &number) == 2) {
        struct nfq_q_handle *queue;
        intptr_t stage = 0;
        while (stage < 3 && strcmp(word, STAGES[stage]))
            stage++;
        queue = nfq_create_queue(handle, number, callback, (void *)stage);
        if (!queue || nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0)
            die("cannot take a queue");
    } else {
        fprintf(stderr, "what is '%s'?\n", text);
        exit(2);
    }
}

int main(int count, char **arguments)
{
    static char buffer[0x10000 + 4096] __attribute__((aligned));
    struct nfq_handle *handle = nfq_open();
    int i;
    if (!handle)
        die("nfq_open");
    for (i = 1; i < count; i++)
        argument(handle, arguments[i]);
    puts("serving");
    fflush(stdout);
    for (;;) {
        ssize_t length = recv(nfq_fd(handle), buffer, sizeof buffer, 0);
        if (length >= 0)
            nfq_handle_packet(handle, buffer, (int)length);
        else if (errno != ENOBUFS && errno != EINTR) // ENOBUFS: the kernel has lost packets, and the example goes on
            die("recv");
    }
}
