/*
 * vm2vm: messages to a link's backend
 *
 * All that a peer says is checked here. vm2vm-backend.c does what it means.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qapi/error.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-link.h"

/*
 * Features that a QEMU in between cannot carry: VHOST_F_LOG_ALL, SR_IOV,
 * NOTIFICATION_DATA, NOTIF_CONFIG_DATA, RING_RESET, ADMIN_VQ
 */
#define NOT_CARRIED (1ULL << 26 | 1ULL << 37 | 1ULL << 38 | 1ULL << 39 | \
                     1ULL << 40 | 1ULL << 41)
/* Whether there is an IOMMU is for the peer to say */
#define ALWAYS (VM2VM_F_PROTOCOL_FEATURES | 1ULL << VIRTIO_F_IOMMU_PLATFORM)

static uint64_t offered_protocol(Vm2vmBackend *b)
{
    return VM2VM_PROTOCOL_FEATURES |
        (b->offer.protocol & VM2VM_PROTOCOL_CHOICE);
}

static bool has_protocol(Vm2vmLink *link, uint64_t feature, Error **errp)
{
    if (!(link->backend.protocol_features & feature)) {
        error_setg(errp, "%s without the protocol feature",
                   vm2vm_request_name(link->parser.msg.hdr.request));
        return false;
    }
    return true;
}

/*
 * The queue that a message is about. @run: it is of one that runs, so that
 * there has to be a domain, and it must not be enabled.
 */
static Vm2vmQueue *find_queue(Vm2vmLink *link, uint32_t index, bool run,
                              Error **errp)
{
    Vm2vmBackend *b = &link->backend;
    const char *name = vm2vm_request_name(link->parser.msg.hdr.request);
    uint32_t nr = b->domain >= 0 ? b->nr_queues : b->offer.queues;

    if (!link->ready) {
        error_setg(errp, "%s before SET_PROTOCOL_FEATURES", name);
        return NULL;
    }
    if (run && b->domain < 0) {
        error_setg(errp, "%s before SET_DOMAIN", name);
        return NULL;
    }
    if (index >= nr) {
        error_setg(errp, "%s for queue %" PRIu32 " of %" PRIu32, name, index,
                   nr);
        return NULL;
    }
    if (run && b->queues[index].state == VM2VM_QUEUE_ENABLED) {
        error_setg(errp, "%s for queue %" PRIu32 ", which is enabled", name,
                   index);
        return NULL;
    }
    return &b->queues[index];
}

static bool check_domain(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;

    if (payload->domain.version != VM2VM_DOMAIN_VERSION ||
        (payload->domain.flags & ~VM2VM_DOMAIN_NONE)) {
        error_setg(errp, "SET_DOMAIN of version %" PRIu32 ", flags 0x%" PRIx32
                   ": this QEMU has version %d", payload->domain.version,
                   payload->domain.flags, VM2VM_DOMAIN_VERSION);
        return false;
    }
    if (payload->domain.flags & VM2VM_DOMAIN_NONE) {
        return true;
    }
    if (b->domain >= 0) {
        error_setg(errp, "SET_DOMAIN, a second time");
        return false;
    }
    if (payload->domain.nr_queues > b->offer.queues) {
        error_setg(errp, "SET_DOMAIN with %" PRIu32 " queues, and the guest "
                   "serves %" PRIu32, payload->domain.nr_queues,
                   b->offer.queues);
        return false;
    }
    if (b->offer.device_type && payload->domain.device_type &&
        payload->domain.device_type != b->offer.device_type) {
        error_setg(errp, "its device is of type %" PRIu32 ", and the guest "
                   "serves type %" PRIu32, payload->domain.device_type,
                   b->offer.device_type);
        return false;
    }
    return true;
}

static void do_set_domain(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;

    if (!has_protocol(link, VM2VM_PROTOCOL_F_DOMAIN, errp) ||
        !check_domain(link, errp)) {
        return;
    }
    if (payload->domain.flags & VM2VM_DOMAIN_NONE) {
        vm2vm_backend_end_run(link);
        return;
    }
    if (!vm2vm_fd_is(link->parser.fd, VM2VM_FD_DOMAIN)) {
        error_setg(errp, "what it passed is not a vm2vm domain");
        return;
    }
    if (!kvm_vm2vm_check_domain(link->parser.fd, errp)) {
        return;
    }
    b->device_type = payload->domain.device_type;
    b->nr_queues = payload->domain.nr_queues;
    vm2vm_backend_begin_run(link, link->parser.fd);
    link->parser.fd = -1;
}

static void do_set_vring_addr(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmQueue *q = find_queue(link, payload->addr.index, true, errp);

    if (!q) {
        return;
    }
    /* The only flag is for the log, which KVM keeps */
    if (payload->addr.flags) {
        error_setg(errp, "SET_VRING_ADDR with flags 0x%" PRIx32,
                   payload->addr.flags);
        return;
    }
    q->desc = payload->addr.desc;
    q->avail = payload->addr.avail;
    q->used = payload->addr.used;
    q->has_addr = true;
    vm2vm_backend_update_queue(&link->backend, payload->addr.index);
}

static void do_set_vring_num(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmQueue *q = find_queue(link, payload->state.index, true, errp);

    if (!q) {
        return;
    }
    if (!payload->state.num || payload->state.num > VM2VM_MAX_QUEUE_SIZE) {
        error_setg(errp, "SET_VRING_NUM of %" PRIu32, payload->state.num);
        return;
    }
    q->size = payload->state.num;
    vm2vm_backend_update_queue(&link->backend, payload->state.index);
}

static void do_set_vring_base(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmQueue *q = find_queue(link, payload->state.index, true, errp);

    if (q) {
        q->next = payload->state.num;
    }
}

static bool check_vring_fd(Vm2vmLink *link, Error **errp)
{
    uint64_t u64 = link->parser.msg.payload.u64;
    const char *name = vm2vm_request_name(link->parser.msg.hdr.request);

    if (u64 & ~(uint64_t)(VM2VM_VRING_IDX_MASK | VM2VM_VRING_NOFD)) {
        error_setg(errp, "%s of 0x%" PRIx64, name, u64);
        return false;
    }
    if (link->parser.fd >= 0 &&
        !vm2vm_fd_is(link->parser.fd, VM2VM_FD_EVENTFD)) {
        error_setg(errp, "%s with what is not an eventfd", name);
        return false;
    }
    return true;
}

/* A call may be another one at any time: the driver has masked an interrupt */
static void do_set_vring_fd(Vm2vmLink *link, Error **errp)
{
    unsigned int q = link->parser.msg.payload.u64 & VM2VM_VRING_IDX_MASK;
    uint32_t request = link->parser.msg.hdr.request;
    Vm2vmBackend *b = &link->backend;
    bool kick = request == VM2VM_SET_VRING_KICK;
    Vm2vmQueue *queue;

    if (!check_vring_fd(link, errp)) {
        return;
    }
    queue = find_queue(link, q, kick, errp);
    if (!queue || request == VM2VM_SET_VRING_ERR) {
        return;
    }
    vm2vm_backend_set_fd(b, q, kick ? &queue->kick : &queue->call,
                         link->parser.fd);
    link->parser.fd = -1;
    if (kick) {
        queue->started = true;
        vm2vm_backend_update_queue(b, q);
    }
}

static void do_set_vring_enable(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmQueue *q = find_queue(link, payload->state.index, false, errp);

    if (!q) {
        return;
    }
    if (payload->state.num > 1) {
        error_setg(errp, "SET_VRING_ENABLE of %" PRIu32, payload->state.num);
        return;
    }
    q->enable = payload->state.num;
    vm2vm_backend_update_queue(&link->backend, payload->state.index);
}

static void do_get_vring_base(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;

    if (find_queue(link, payload->state.index, false, errp)) {
        vm2vm_backend_get_base(link, payload->state.index);
    }
}

static void do_set_features(Vm2vmLink *link, Error **errp)
{
    uint64_t u64 = link->parser.msg.payload.u64;
    Vm2vmBackend *b = &link->backend;
    int q;

    if (u64 & NOT_CARRIED) {
        error_setg(errp, "SET_FEATURES of 0x%" PRIx64 ", which has some that "
                   "cannot be carried: 0x%" PRIx64, u64,
                   (uint64_t)(u64 & NOT_CARRIED));
        return;
    }
    b->features = u64;
    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        vm2vm_backend_update_queue(b, q);
    }
}

static void do_set_protocol_features(Vm2vmLink *link, Error **errp)
{
    uint64_t u64 = link->parser.msg.payload.u64;

    if (u64 & ~offered_protocol(&link->backend)) {
        error_setg(errp, "SET_PROTOCOL_FEATURES of 0x%" PRIx64
                   ", which has some that were not offered", u64);
        return;
    }
    if (!(u64 & VM2VM_PROTOCOL_F_DOMAIN)) {
        error_setg(errp, "it does not know of vm2vm domains, or is no QEMU "
                   "that can have them");
        return;
    }
    if (link->ready && u64 != link->backend.protocol_features) {
        error_setg(errp, "SET_PROTOCOL_FEATURES, and others than before");
        return;
    }
    link->backend.protocol_features = u64;
    vm2vm_link_wait_for(link, NULL);
    if (!link->ready) {
        vm2vm_link_ready(link);
        vm2vm_backend_tell(&link->backend);
    }
}

static void set_status(Vm2vmLink *link, uint32_t status)
{
    link->backend.status = status;
    vm2vm_backend_tell(&link->backend);
}

/* The rings stop; the domain stays until it is told that it has ended */
static void do_reset_device(Vm2vmLink *link, Error **errp)
{
    Vm2vmBackend *b = &link->backend;
    int q;

    if (!has_protocol(link, VM2VM_PROTOCOL_F_RESET_DEVICE, errp)) {
        return;
    }
    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        b->queues[q].enable = b->queues[q].started = false;
        vm2vm_backend_update_queue(b, q);
    }
    set_status(link, 0);
}

static void do_set_mtu(Vm2vmLink *link, Error **errp)
{
    uint64_t u64 = link->parser.msg.payload.u64;

    if (!has_protocol(link, VM2VM_PROTOCOL_F_NET_MTU, errp)) {
        return;
    }
    if (u64 > UINT16_MAX) {
        error_setg(errp, "NET_SET_MTU of %" PRIu64, u64);
        return;
    }
    link->backend.mtu = u64;
    vm2vm_backend_tell(&link->backend);
}

static void do_send_rarp(Vm2vmLink *link, Error **errp)
{
    if (has_protocol(link, VM2VM_PROTOCOL_F_RARP, errp)) {
        link->backend.rarp_mac = link->parser.msg.payload.u64 &
            MAKE_64BIT_MASK(0, 48);
        link->backend.rarps++;
        vm2vm_backend_tell(&link->backend);
    }
}

/* Those that are about queues, and about all; false: it is none of them */
static bool do_set(Vm2vmLink *link, Error **errp)
{
    switch (link->parser.msg.hdr.request) {
    case VM2VM_SET_FEATURES:
        do_set_features(link, errp);
        return true;
    case VM2VM_SET_PROTOCOL_FEATURES:
        do_set_protocol_features(link, errp);
        return true;
    case VM2VM_SET_OWNER:
        return true;
    case VM2VM_SET_DOMAIN:
        do_set_domain(link, errp);
        return true;
    case VM2VM_SET_VRING_NUM:
        do_set_vring_num(link, errp);
        return true;
    case VM2VM_SET_VRING_BASE:
        do_set_vring_base(link, errp);
        return true;
    case VM2VM_SET_VRING_ADDR:
        do_set_vring_addr(link, errp);
        return true;
    case VM2VM_SET_VRING_KICK:
    case VM2VM_SET_VRING_CALL:
    case VM2VM_SET_VRING_ERR:
        do_set_vring_fd(link, errp);
        return true;
    case VM2VM_SET_VRING_ENABLE:
        do_set_vring_enable(link, errp);
        return true;
    case VM2VM_SET_STATUS:
        set_status(link, link->parser.msg.payload.u64 & UINT8_MAX);
        return true;
    }
    return false;
}

/* Those of devices of some kinds, and what only the guest may have offered */
static void do_set_more(Vm2vmLink *link, Error **errp)
{
    switch (link->parser.msg.hdr.request) {
    case VM2VM_SEND_RARP:
        do_send_rarp(link, errp);
        break;
    case VM2VM_NET_SET_MTU:
        do_set_mtu(link, errp);
        break;
    case VM2VM_RESET_DEVICE:
        do_reset_device(link, errp);
        break;
    case VM2VM_SET_BACKEND_REQ_FD:
        if (has_protocol(link, VM2VM_PROTOCOL_F_BACKEND_REQ, errp)) {
            vm2vm_channel_set(link, errp);
        }
        break;
    case VM2VM_SET_CONFIG:
        if (has_protocol(link, VM2VM_PROTOCOL_F_CONFIG, errp)) {
            vm2vm_config_set(link, errp);
        }
        break;
    case VM2VM_SET_INFLIGHT_FD:
        if (has_protocol(link, VM2VM_PROTOCOL_F_INFLIGHT_SHMFD, errp)) {
            vm2vm_inflight_set(link, errp);
        }
        break;
    }
}

/* Fill in @reply; false: it is no question */
static bool do_get(Vm2vmLink *link, Vm2vmPayload *reply, int *fd, Error **errp)
{
    Vm2vmBackend *b = &link->backend;

    switch (link->parser.msg.hdr.request) {
    case VM2VM_GET_FEATURES:
        reply->u64 = (b->offer.features & ~NOT_CARRIED) | ALWAYS;
        return true;
    case VM2VM_GET_PROTOCOL_FEATURES:
        reply->u64 = offered_protocol(b);
        return true;
    case VM2VM_GET_QUEUE_NUM:
        reply->u64 = b->offer.queues;
        return true;
    case VM2VM_GET_STATUS:
        reply->u64 = b->status;
        return true;
    case VM2VM_GET_CONFIG:
        if (has_protocol(link, VM2VM_PROTOCOL_F_CONFIG, errp)) {
            vm2vm_config_get(link, reply);
        }
        return true;
    case VM2VM_GET_INFLIGHT_FD:
        if (has_protocol(link, VM2VM_PROTOCOL_F_INFLIGHT_SHMFD, errp)) {
            *fd = vm2vm_inflight_make(link, reply);
        }
        return true;
    }
    return false;
}

void vm2vm_backend_message(Vm2vmLink *link, Error **errp)
{
    ERRP_GUARD();
    Vm2vmHeader hdr = link->parser.msg.hdr;
    Vm2vmPayload reply = { 0 };
    bool answers = hdr.flags & VM2VM_FLAGS_NEED_REPLY;
    int fd = -1;

    if (hdr.request == VM2VM_GET_VRING_BASE) {
        /* It is answered when there is an answer */
        do_get_vring_base(link, errp);
        return;
    }
    if (do_get(link, &reply, &fd, errp)) {
        answers = true;
    } else if (!do_set(link, errp)) {
        do_set_more(link, errp);
    }
    if (!*errp && answers) {
        vm2vm_link_send(link, hdr.request, VM2VM_FLAGS_REPLY, &reply, fd);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (!link->ready && link->waits_for) {
        link->waits_for = "end of the negotiation";
    }
}
