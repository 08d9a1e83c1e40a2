/*
 * vm2vm: messages between the QEMU of an owner and that of a backend
 *
 * These are vhost-user's, where the owner is the front-end, with one message of
 * our own: instead of its memory the owner passes a vm2vm domain.
 * docs/interop/vhost-user.rst has the whole.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BACKENDS_VM2VM_PROTO_H
#define BACKENDS_VM2VM_PROTO_H

#include "qapi/error.h"

/* Requests of vhost-user, by its numbers */
typedef enum Vm2vmRequest {
    VM2VM_GET_FEATURES = 1,
    VM2VM_SET_FEATURES = 2,
    VM2VM_SET_OWNER = 3,
    VM2VM_SET_VRING_NUM = 8,
    VM2VM_SET_VRING_ADDR = 9,
    VM2VM_SET_VRING_BASE = 10,
    VM2VM_GET_VRING_BASE = 11,
    VM2VM_SET_VRING_KICK = 12,
    VM2VM_SET_VRING_CALL = 13,
    VM2VM_SET_VRING_ERR = 14,
    VM2VM_GET_PROTOCOL_FEATURES = 15,
    VM2VM_SET_PROTOCOL_FEATURES = 16,
    VM2VM_GET_QUEUE_NUM = 17,
    VM2VM_SET_VRING_ENABLE = 18,
    VM2VM_SEND_RARP = 19,
    VM2VM_NET_SET_MTU = 20,
    VM2VM_SET_BACKEND_REQ_FD = 21,
    VM2VM_GET_CONFIG = 24,
    VM2VM_SET_CONFIG = 25,
    VM2VM_GET_INFLIGHT_FD = 31,
    VM2VM_SET_INFLIGHT_FD = 32,
    VM2VM_RESET_DEVICE = 34,
    VM2VM_SET_STATUS = 39,
    VM2VM_GET_STATUS = 40,
    /* Ours; provisional, above those that vhost-user hands out */
    VM2VM_SET_DOMAIN = 128,
} Vm2vmRequest;

/* The other way, on a channel of its own: the only one */
#define VM2VM_BACKEND_CONFIG_CHANGE_MSG 2

#define VM2VM_FLAGS_VERSION         0x1
#define VM2VM_FLAGS_VERSION_MASK    0x3
#define VM2VM_FLAGS_REPLY           0x4
#define VM2VM_FLAGS_NEED_REPLY      0x8

/* Feature bit and protocol features */
#define VM2VM_F_PROTOCOL_FEATURES   (1ULL << 30)
#define VM2VM_PROTOCOL_F_MQ         (1ULL << 0)
#define VM2VM_PROTOCOL_F_RARP       (1ULL << 2)
#define VM2VM_PROTOCOL_F_REPLY_ACK  (1ULL << 3)
#define VM2VM_PROTOCOL_F_NET_MTU    (1ULL << 4)
#define VM2VM_PROTOCOL_F_BACKEND_REQ (1ULL << 5)
#define VM2VM_PROTOCOL_F_CONFIG     (1ULL << 9)
#define VM2VM_PROTOCOL_F_INFLIGHT_SHMFD (1ULL << 12)
#define VM2VM_PROTOCOL_F_RESET_DEVICE (1ULL << 13)
#define VM2VM_PROTOCOL_F_STATUS     (1ULL << 16)
/* Ours; provisional */
#define VM2VM_PROTOCOL_F_DOMAIN     (1ULL << 48)
/* What a back-end of ours always offers */
#define VM2VM_PROTOCOL_FEATURES     (VM2VM_PROTOCOL_F_MQ | \
                                     VM2VM_PROTOCOL_F_REPLY_ACK | \
                                     VM2VM_PROTOCOL_F_BACKEND_REQ | \
                                     VM2VM_PROTOCOL_F_STATUS | \
                                     VM2VM_PROTOCOL_F_DOMAIN)
/* What it offers if its guest does */
#define VM2VM_PROTOCOL_CHOICE       (VM2VM_PROTOCOL_F_RARP | \
                                     VM2VM_PROTOCOL_F_NET_MTU | \
                                     VM2VM_PROTOCOL_F_CONFIG | \
                                     VM2VM_PROTOCOL_F_INFLIGHT_SHMFD | \
                                     VM2VM_PROTOCOL_F_RESET_DEVICE)

/* In the u64 of SET_VRING_KICK and _CALL: the queue, and that there is no fd */
#define VM2VM_VRING_IDX_MASK        0xff
#define VM2VM_VRING_NOFD            0x100

#define VM2VM_DOMAIN_VERSION        2
/* The run of the device is over, there is no domain */
#define VM2VM_DOMAIN_NONE           0x1

/* In the answer to GET_VRING_BASE: the back-end does not know */
#define VM2VM_BASE_UNKNOWN          UINT32_MAX

#define VM2VM_MAX_QUEUES            128
#define VM2VM_MAX_QUEUE_SIZE        32768
#define VM2VM_MAX_CONFIG            256

typedef struct QEMU_PACKED Vm2vmHeader {
    uint32_t request;
    uint32_t flags;
    uint32_t size;
} Vm2vmHeader;

typedef union Vm2vmPayload {
    uint64_t u64;
    struct {
        uint32_t index;
        uint32_t num;
    } state;
    struct {
        uint32_t index;
        uint32_t flags;
        uint64_t desc;          /* bus addresses of the owner's device */
        uint64_t used;
        uint64_t avail;
        uint64_t log;
    } addr;
    struct {
        uint32_t version;
        uint32_t device_type;   /* virtio device ID, or 0 */
        uint32_t nr_queues;
        uint32_t flags;         /* VM2VM_DOMAIN_NONE */
    } domain;
    struct {
        uint32_t offset;
        uint32_t size;
        uint32_t flags;
        uint8_t region[VM2VM_MAX_CONFIG];   /* @size of it */
    } config;
    struct {
        uint64_t mmap_size;
        uint64_t mmap_offset;
        uint16_t num_queues;
        uint16_t queue_size;
        uint32_t pad;
    } inflight;
} Vm2vmPayload;

/* On the wire the payload comes right after the header, not aligned. */
typedef struct Vm2vmMsg {
    Vm2vmHeader hdr;
    Vm2vmPayload payload;
} Vm2vmMsg;

/* What has come so far of a message, and of its file descriptor */
typedef struct Vm2vmParser {
    const void *peer;           /* for vm2vm_fd_close_of() */
    Vm2vmMsg msg;
    size_t got;
    int fd;
} Vm2vmParser;

void vm2vm_parser_init(Vm2vmParser *p, const void *peer);
/* Drops what it has, also the file descriptor */
void vm2vm_parser_reset(Vm2vmParser *p);
/* How much to read at most */
size_t vm2vm_parser_wants(const Vm2vmParser *p);
/*
 * At most so much, and the file descriptors that came along, which it takes.
 * Returns 1 if p->msg is whole and valid by itself: the caller looks at it, may
 * take p->fd, and resets; 0 if there is more to come; -1 if it is nonsense.
 */
int vm2vm_parser_feed(Vm2vmParser *p, bool replies, const uint8_t *buf,
                      size_t len, const int *fds, size_t nr_fds, Error **errp);
/* Names of requests, for messages to humans */
const char *vm2vm_request_name(uint32_t request);
/*
 * The size of a request's payload, or of its reply's, where it does not vary or
 * else without what varies; -1 if there is no such request
 */
int vm2vm_payload_size(uint32_t request, bool reply);

#endif
