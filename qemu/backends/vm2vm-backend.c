/*
 * vm2vm: a link's backend
 *
 * It is a vhost-user back-end: it answers, and keeps what it is told for the
 * device that shows it to the guest. All that comes from a peer is checked
 * here; its addresses are only numbers for the guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-events-vm2vm.h"
#include "system/runstate.h"
#include "vm2vm-link.h"
#include "trace.h"

#define EVENT_INTERVAL_NS NANOSECONDS_PER_SECOND

void vm2vm_backend_init(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;
    int q;

    b->domain = -1;
    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        b->queues[q].kick = b->queues[q].call = -1;
    }
}

static void tell_state(Vm2vmBackend *b)
{
    if (b->ops) {
        b->ops->state(b->opaque);
    }
}

static void set_fd(int *where, int fd)
{
    if (*where >= 0) {
        close(*where);
    }
    *where = fd;
}

static void set_enabled(Vm2vmBackend *b, unsigned int q, bool enabled)
{
    if (b->queues[q].enabled == enabled) {
        return;
    }
    b->queues[q].enabled = enabled;
    if (b->ops) {
        b->ops->queue(b->opaque, q);
    }
}

static void set_domain(Vm2vmBackend *b, int fd)
{
    int old = b->domain;

    b->domain = fd;
    if (b->ops) {
        b->ops->domain(b->opaque);
    }
    if (old >= 0) {
        close(old);
    }
}

void vm2vm_backend_opened(Vm2vmLink *link)
{
    vm2vm_link_wait_for(link, "negotiation");
}

void vm2vm_backend_closed(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;
    int q;

    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        set_enabled(b, q, false);
        set_fd(&b->queues[q].kick, -1);
        set_fd(&b->queues[q].call, -1);
        b->queues[q] = (Vm2vmQueue) { .kick = -1, .call = -1 };
    }
    set_domain(b, -1);
    b->protocol_features = b->features = 0;
    b->device_type = b->nr_queues = b->status = 0;
    tell_state(b);
}

/* Queues come after the domain that their addresses are of */
static Vm2vmQueue *find_queue(Vm2vmLink *link, uint32_t index, bool change,
                              Error **errp)
{
    Vm2vmBackend *b = &link->backend;
    const char *name = vm2vm_request_name(link->parser.msg.hdr.request);

    if (b->domain < 0) {
        error_setg(errp, "%s before SET_DOMAIN", name);
        return NULL;
    }
    if (index >= b->nr_queues) {
        error_setg(errp, "%s for queue %" PRIu32 " of %" PRIu32, name, index,
                   b->nr_queues);
        return NULL;
    }
    if (change && b->queues[index].enabled) {
        error_setg(errp, "%s for queue %" PRIu32 ", which is enabled", name,
                   index);
        return NULL;
    }
    return &b->queues[index];
}

static void do_set_domain(Vm2vmLink *link, Error **errp)
{
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;

    if (!(b->protocol_features & VM2VM_PROTOCOL_F_DOMAIN)) {
        error_setg(errp, "SET_DOMAIN, but it has not taken the protocol "
                   "feature");
        return;
    }
    if (b->domain >= 0) {
        error_setg(errp, "SET_DOMAIN, a second time");
        return;
    }
    if (payload->domain.version != VM2VM_DOMAIN_VERSION ||
        payload->domain.flags) {
        error_setg(errp, "SET_DOMAIN of version %" PRIu32 ", flags 0x%" PRIx32
                   ": this QEMU has version %d", payload->domain.version,
                   payload->domain.flags, VM2VM_DOMAIN_VERSION);
        return;
    }
    if (payload->domain.nr_queues > VM2VM_MAX_QUEUES) {
        error_setg(errp, "SET_DOMAIN with %" PRIu32 " queues, and %d is the "
                   "most", payload->domain.nr_queues, VM2VM_MAX_QUEUES);
        return;
    }
    if (!kvm_vm2vm_check_domain(link->parser.fd, errp)) {
        return;
    }
    b->device_type = payload->domain.device_type;
    b->nr_queues = payload->domain.nr_queues;
    set_domain(b, link->parser.fd);
    link->parser.fd = -1;
    vm2vm_link_wait_for(link, NULL);
    vm2vm_link_ready(link);
    tell_state(b);
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
}

/*
 * QEMU reads from these, and writes to them: they must be nothing else, that
 * makes it wait.
 */
static bool is_eventfd(int fd)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *target = g_file_read_link(path, NULL);

    return target && !strcmp(target, "anon_inode:[eventfd]") &&
        g_unix_set_fd_nonblocking(fd, true, NULL);
}

static void do_set_vring_fd(Vm2vmLink *link, bool call, Error **errp)
{
    uint64_t u64 = link->parser.msg.payload.u64;
    Vm2vmQueue *q;

    if (u64 & ~(uint64_t)(VM2VM_VRING_IDX_MASK | VM2VM_VRING_NOFD)) {
        error_setg(errp, "%s of 0x%" PRIx64,
                   vm2vm_request_name(link->parser.msg.hdr.request), u64);
        return;
    }
    if (link->parser.fd >= 0 && !is_eventfd(link->parser.fd)) {
        error_setg(errp, "%s with what is not an eventfd",
                   vm2vm_request_name(link->parser.msg.hdr.request));
        return;
    }
    q = find_queue(link, u64 & VM2VM_VRING_IDX_MASK, true, errp);
    if (q) {
        set_fd(call ? &q->call : &q->kick, link->parser.fd);
        link->parser.fd = -1;
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
    if (payload->state.num && (!q->size || !q->has_addr)) {
        error_setg(errp, "SET_VRING_ENABLE without size and addresses");
        return;
    }
    set_enabled(&link->backend, payload->state.index, payload->state.num);
    tell_state(&link->backend);
}

static void do_set_protocol_features(Vm2vmLink *link, Error **errp)
{
    uint64_t u64 = link->parser.msg.payload.u64;

    if (u64 & ~VM2VM_PROTOCOL_FEATURES) {
        error_setg(errp, "SET_PROTOCOL_FEATURES of 0x%" PRIx64
                   ", which has some that were not offered", u64);
        return;
    }
    if (!(u64 & VM2VM_PROTOCOL_F_DOMAIN)) {
        error_setg(errp, "it does not know of vm2vm domains, or is not QEMU's "
                   "vm2vm-link of role 'owner'");
        return;
    }
    link->backend.protocol_features = u64;
}

void vm2vm_backend_message(Vm2vmLink *link, Error **errp)
{
    ERRP_GUARD();
    Vm2vmHeader *hdr = &link->parser.msg.hdr;
    Vm2vmPayload *payload = &link->parser.msg.payload;
    Vm2vmBackend *b = &link->backend;
    Vm2vmPayload reply = { .u64 = 0 };
    bool answers = hdr->flags & VM2VM_FLAGS_NEED_REPLY;
    Vm2vmQueue *q;

    switch (hdr->request) {
    case VM2VM_GET_FEATURES:
        /* All of them: what the guest makes of them is for the guest */
        reply.u64 = UINT64_MAX;
        answers = true;
        break;
    case VM2VM_GET_PROTOCOL_FEATURES:
        reply.u64 = VM2VM_PROTOCOL_FEATURES;
        answers = true;
        break;
    case VM2VM_GET_QUEUE_NUM:
        reply.u64 = VM2VM_MAX_QUEUES;
        answers = true;
        break;
    case VM2VM_SET_FEATURES:
        b->features = payload->u64;
        break;
    case VM2VM_SET_PROTOCOL_FEATURES:
        do_set_protocol_features(link, errp);
        break;
    case VM2VM_SET_OWNER:
        break;
    case VM2VM_SET_DOMAIN:
        do_set_domain(link, errp);
        break;
    case VM2VM_SET_VRING_NUM:
        do_set_vring_num(link, errp);
        break;
    case VM2VM_SET_VRING_BASE:
        q = find_queue(link, payload->state.index, true, errp);
        if (q) {
            q->next = payload->state.num & UINT16_MAX;
        }
        break;
    case VM2VM_SET_VRING_ADDR:
        do_set_vring_addr(link, errp);
        break;
    case VM2VM_SET_VRING_KICK:
    case VM2VM_SET_VRING_CALL:
        do_set_vring_fd(link, hdr->request == VM2VM_SET_VRING_CALL, errp);
        break;
    case VM2VM_SET_VRING_ENABLE:
        do_set_vring_enable(link, errp);
        break;
    case VM2VM_SET_STATUS:
        b->status = payload->u64 & UINT8_MAX;
        tell_state(b);
        break;
    }
    if (*errp) {
        return;
    }
    if (answers) {
        vm2vm_link_send(link, hdr->request, VM2VM_FLAGS_REPLY, &reply, -1);
    }
    if (b->domain < 0 && link->waits_for) {
        link->waits_for = "end of the negotiation";
    }
}

bool vm2vm_backend_attach(Vm2vmLink *link, const Vm2vmBackendOps *ops,
                          void *opaque, const char *device_id, Error **errp)
{
    if (link->role != VM2VM_ROLE_BACKEND) {
        error_setg(errp, "vm2vm-link '%s' has the role 'owner'", link->id);
        error_append_hint(errp, "A device shows what a link of role 'backend' "
                          "sees.\n");
        return false;
    }
    if (link->backend.ops) {
        error_setg(errp, "vm2vm-link '%s' already has a device", link->id);
        return false;
    }
    link->backend.ops = ops;
    link->backend.opaque = opaque;
    link->backend.device_id = device_id;
    return true;
}

void vm2vm_backend_detach(Vm2vmLink *link)
{
    link->backend.ops = NULL;
    link->backend.device_id = NULL;
    link->backend.shown = 0;
}

void vm2vm_backend_refused(Vm2vmLink *link, uint64_t iova, bool write)
{
    Vm2vmBackend *b = &link->backend;
    int64_t now;

    trace_vm2vm_refused(link->id, iova, write);
    b->refused[write]++;
    if (link->unapproved == VM2VM_UNAPPROVED_IGNORE) {
        return;
    }
    if (!b->unreported++) {
        b->refused_iova = iova;
        b->refused_write = write;
    }
    now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    if (!b->reported || now - b->reported >= EVENT_INTERVAL_NS) {
        qapi_event_send_vm2vm_access_refused(link->id, b->refused_iova,
                                             b->refused_write, b->unreported);
        b->reported = now;
        b->unreported = 0;
    }
    if (link->unapproved == VM2VM_UNAPPROVED_STOP) {
        qemu_system_vmstop_request_prepare();
        qemu_system_vmstop_request(RUN_STATE_IO_ERROR);
    }
}

Vm2vmQueueInfoList *vm2vm_backend_queues(Vm2vmLink *link)
{
    Vm2vmQueueInfoList *list = NULL, **tail = &list;
    Vm2vmBackend *b = &link->backend;
    uint32_t i;

    for (i = 0; i < b->nr_queues; i++) {
        Vm2vmQueueInfo *info;

        if (!b->queues[i].enabled) {
            continue;
        }
        info = g_new0(Vm2vmQueueInfo, 1);
        info->index = i;
        info->size = b->queues[i].size;
        info->desc = b->queues[i].desc;
        info->avail = b->queues[i].avail;
        info->used = b->queues[i].used;
        info->kick = b->queues[i].kick >= 0;
        info->call = b->queues[i].call >= 0;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
