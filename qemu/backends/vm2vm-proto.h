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
    VM2VM_SET_VRING_KICK = 12,
    VM2VM_SET_VRING_CALL = 13,
    VM2VM_GET_PROTOCOL_FEATURES = 15,
    VM2VM_SET_PROTOCOL_FEATURES = 16,
    VM2VM_GET_QUEUE_NUM = 17,
    VM2VM_SET_VRING_ENABLE = 18,
    VM2VM_SET_STATUS = 39,
    /* Ours; provisional, above those that vhost-user hands out */
    VM2VM_SET_DOMAIN = 128,
} Vm2vmRequest;

#define VM2VM_FLAGS_VERSION         0x1
#define VM2VM_FLAGS_VERSION_MASK    0x3
#define VM2VM_FLAGS_REPLY           0x4
#define VM2VM_FLAGS_NEED_REPLY      0x8

/* Feature bit and protocol features */
#define VM2VM_F_PROTOCOL_FEATURES   (1ULL << 30)
#define VM2VM_PROTOCOL_F_MQ         (1ULL << 0)
#define VM2VM_PROTOCOL_F_REPLY_ACK  (1ULL << 3)
#define VM2VM_PROTOCOL_F_STATUS     (1ULL << 16)
/* Ours; provisional */
#define VM2VM_PROTOCOL_F_DOMAIN     (1ULL << 48)
#define VM2VM_PROTOCOL_FEATURES     (VM2VM_PROTOCOL_F_MQ | \
                                     VM2VM_PROTOCOL_F_REPLY_ACK | \
                                     VM2VM_PROTOCOL_F_STATUS | \
                                     VM2VM_PROTOCOL_F_DOMAIN)

/* In the u64 of SET_VRING_KICK and _CALL: the queue, and that there is no fd */
#define VM2VM_VRING_IDX_MASK        0xff
#define VM2VM_VRING_NOFD            0x100

#define VM2VM_DOMAIN_VERSION        1

#define VM2VM_MAX_QUEUES            32
#define VM2VM_MAX_QUEUE_SIZE        32768

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
        uint32_t flags;         /* 0 */
    } domain;
} Vm2vmPayload;

/* On the wire the payload comes right after the header, not aligned. */
typedef struct Vm2vmMsg {
    Vm2vmHeader hdr;
    Vm2vmPayload payload;
} Vm2vmMsg;

/* What has come so far of a message, and of its file descriptor */
typedef struct Vm2vmParser {
    Vm2vmMsg msg;
    size_t got;
    int fd;
} Vm2vmParser;

void vm2vm_parser_init(Vm2vmParser *p);
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
/* The size of a request's payload, or of its reply's; -1 if there is none */
int vm2vm_payload_size(uint32_t request, bool reply);

#endif
