/*
 * vm2vm: messages between the QEMU of an owner and that of a backend
 *
 * What is here knows the messages, but nothing of what they do. All that a peer
 * sends comes through vm2vm_parser_feed().
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-proto.h"

enum { FD_NONE, FD_ONE, FD_VRING, FD_DOMAIN };

#define STATE   sizeof_field(Vm2vmPayload, state)
#define ADDR    sizeof_field(Vm2vmPayload, addr)
#define DOMAIN  sizeof_field(Vm2vmPayload, domain)
#define CONFIG  offsetof(Vm2vmPayload, config.region)
#define FLIGHT  sizeof_field(Vm2vmPayload, inflight)
#define U64     sizeof(uint64_t)

static const struct {
    uint32_t request;
    const char *name;
    int size;           /* of the payload; CONFIG: and what it says itself */
    int reply;          /* of that of the answer, -1: only an acknowledgement */
    int fd;
} requests[] = {
    { VM2VM_GET_FEATURES, "GET_FEATURES", 0, U64, FD_NONE },
    { VM2VM_SET_FEATURES, "SET_FEATURES", U64, -1, FD_NONE },
    { VM2VM_SET_OWNER, "SET_OWNER", 0, -1, FD_NONE },
    { VM2VM_SET_VRING_NUM, "SET_VRING_NUM", STATE, -1, FD_NONE },
    { VM2VM_SET_VRING_ADDR, "SET_VRING_ADDR", ADDR, -1, FD_NONE },
    { VM2VM_SET_VRING_BASE, "SET_VRING_BASE", STATE, -1, FD_NONE },
    { VM2VM_GET_VRING_BASE, "GET_VRING_BASE", STATE, STATE, FD_NONE },
    { VM2VM_SET_VRING_KICK, "SET_VRING_KICK", U64, -1, FD_VRING },
    { VM2VM_SET_VRING_CALL, "SET_VRING_CALL", U64, -1, FD_VRING },
    { VM2VM_SET_VRING_ERR, "SET_VRING_ERR", U64, -1, FD_VRING },
    { VM2VM_GET_PROTOCOL_FEATURES, "GET_PROTOCOL_FEATURES", 0, U64, FD_NONE },
    { VM2VM_SET_PROTOCOL_FEATURES, "SET_PROTOCOL_FEATURES", U64, -1, FD_NONE },
    { VM2VM_GET_QUEUE_NUM, "GET_QUEUE_NUM", 0, U64, FD_NONE },
    { VM2VM_SET_VRING_ENABLE, "SET_VRING_ENABLE", STATE, -1, FD_NONE },
    { VM2VM_SEND_RARP, "SEND_RARP", U64, -1, FD_NONE },
    { VM2VM_NET_SET_MTU, "NET_SET_MTU", U64, -1, FD_NONE },
    { VM2VM_SET_BACKEND_REQ_FD, "SET_BACKEND_REQ_FD", 0, -1, FD_ONE },
    { VM2VM_GET_CONFIG, "GET_CONFIG", CONFIG, CONFIG, FD_NONE },
    { VM2VM_SET_CONFIG, "SET_CONFIG", CONFIG, -1, FD_NONE },
    { VM2VM_GET_INFLIGHT_FD, "GET_INFLIGHT_FD", FLIGHT, FLIGHT, FD_NONE },
    { VM2VM_SET_INFLIGHT_FD, "SET_INFLIGHT_FD", FLIGHT, -1, FD_ONE },
    { VM2VM_RESET_DEVICE, "RESET_DEVICE", 0, -1, FD_NONE },
    { VM2VM_SET_STATUS, "SET_STATUS", U64, -1, FD_NONE },
    { VM2VM_GET_STATUS, "GET_STATUS", 0, U64, FD_NONE },
    { VM2VM_SET_DOMAIN, "SET_DOMAIN", DOMAIN, -1, FD_DOMAIN },
};

static int find_request(uint32_t request)
{
    int i;

    for (i = 0; i < ARRAY_SIZE(requests); i++) {
        if (requests[i].request == request) {
            return i;
        }
    }
    return -1;
}

const char *vm2vm_request_name(uint32_t request)
{
    int i = find_request(request);

    return i < 0 ? "an unknown request" : requests[i].name;
}

int vm2vm_payload_size(uint32_t request, bool reply)
{
    int i = find_request(request);

    if (i < 0) {
        return -1;
    }
    if (!reply) {
        return requests[i].size;
    }
    /* An acknowledgement is 0 or an error */
    return requests[i].reply < 0 ? U64 : requests[i].reply;
}

void vm2vm_parser_init(Vm2vmParser *p, const void *peer)
{
    p->peer = peer;
    p->got = 0;
    p->fd = -1;
}

void vm2vm_parser_reset(Vm2vmParser *p)
{
    vm2vm_fd_close_of(p->peer, p->fd);
    vm2vm_parser_init(p, p->peer);
}

size_t vm2vm_parser_wants(const Vm2vmParser *p)
{
    if (p->got < sizeof(p->msg.hdr)) {
        return sizeof(p->msg.hdr) - p->got;
    }
    return sizeof(p->msg.hdr) + p->msg.hdr.size - p->got;
}

/*
 * The size counts before there is a payload: it must fit our buffer. Of a
 * configuration space there may be more than the least.
 */
static bool check_header(const Vm2vmHeader *hdr, bool replies, Error **errp)
{
    int size = vm2vm_payload_size(hdr->request, replies);
    uint32_t allowed = VM2VM_FLAGS_VERSION_MASK |
        (replies ? VM2VM_FLAGS_REPLY : VM2VM_FLAGS_NEED_REPLY);

    if (size < 0) {
        error_setg(errp, "request %" PRIu32 " is not known", hdr->request);
        return false;
    }
    if ((hdr->flags & VM2VM_FLAGS_VERSION_MASK) != VM2VM_FLAGS_VERSION ||
        (hdr->flags & ~allowed) ||
        !(hdr->flags & VM2VM_FLAGS_REPLY) != !replies) {
        error_setg(errp, "%s has flags 0x%" PRIx32,
                   vm2vm_request_name(hdr->request), hdr->flags);
        return false;
    }
    if (size == CONFIG && hdr->size > size &&
        hdr->size <= size + VM2VM_MAX_CONFIG) {
        return true;
    }
    if (hdr->size != size) {
        error_setg(errp, "%s has %" PRIu32 " bytes instead of %d",
                   vm2vm_request_name(hdr->request), hdr->size, size);
        return false;
    }
    return true;
}

static bool check_fd(const Vm2vmParser *p, bool replies, Error **errp)
{
    int rule = FD_NONE;
    bool wanted;

    if (!replies) {
        rule = requests[find_request(p->msg.hdr.request)].fd;
    }
    wanted = rule == FD_ONE ||
        (rule == FD_VRING && !(p->msg.payload.u64 & VM2VM_VRING_NOFD)) ||
        (rule == FD_DOMAIN &&
         !(p->msg.payload.domain.flags & VM2VM_DOMAIN_NONE));
    if (wanted != (p->fd >= 0)) {
        error_setg(errp, "%s comes %s a file descriptor",
                   vm2vm_request_name(p->msg.hdr.request),
                   wanted ? "without" : "with");
        return false;
    }
    return true;
}

/* What varies must be what the header says */
static bool check_payload(const Vm2vmMsg *msg, bool replies, Error **errp)
{
    if (vm2vm_payload_size(msg->hdr.request, replies) == CONFIG &&
        msg->hdr.size != CONFIG + (uint64_t)msg->payload.config.size) {
        error_setg(errp, "%s has %" PRIu32 " bytes, and says that there are %"
                   PRIu32, vm2vm_request_name(msg->hdr.request), msg->hdr.size,
                   msg->payload.config.size);
        return false;
    }
    return true;
}

int vm2vm_parser_feed(Vm2vmParser *p, bool replies, const uint8_t *buf,
                      size_t len, const int *fds, size_t nr_fds, Error **errp)
{
    uint8_t *to;
    size_t i;

    /* So it is either part of the header or part of the payload */
    assert(len <= vm2vm_parser_wants(p));
    for (i = 0; i < nr_fds; i++) {
        if (p->fd >= 0) {
            while (i < nr_fds) {
                vm2vm_fd_close_of(p->peer, fds[i++]);
            }
            error_setg(errp, "a message with more than one file descriptor");
            return -1;
        }
        p->fd = fds[i];
    }
    if (p->got < sizeof(p->msg.hdr)) {
        to = (uint8_t *)&p->msg.hdr + p->got;
    } else {
        to = (uint8_t *)&p->msg.payload + p->got - sizeof(p->msg.hdr);
    }
    memcpy(to, buf, len);
    p->got += len;
    if (p->got < sizeof(p->msg.hdr)) {
        return 0;
    }
    if (p->got == sizeof(p->msg.hdr) &&
        !check_header(&p->msg.hdr, replies, errp)) {
        return -1;
    }
    if (vm2vm_parser_wants(p)) {
        return 0;
    }
    return check_payload(&p->msg, replies, errp) &&
        check_fd(p, replies, errp) ? 1 : -1;
}
