/*
 * vm2vm: a link's backend
 *
 * It is a vhost-user back-end: it answers from what its guest has registered,
 * and keeps what it is told for the device that shows it to the guest. What
 * comes from a peer vm2vm-messages.c checks; its addresses are only numbers for
 * the guest.
 *
 * The fence: what a guest began before a domain, a connection or a queue ended
 * must not reach what comes after. Each such end is an epoch, and what comes
 * after is withheld until the guest has acknowledged that epoch.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-events-vm2vm.h"
#include "system/runstate.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-link.h"
#include "trace.h"

#define EVENT_INTERVAL_NS NANOSECONDS_PER_SECOND
/* How long a guest may take to stop a queue */
#define STOP_MS 100

/* The fence */

static void next_epoch(Vm2vmBackend *b)
{
    if (!++b->epoch) {
        b->epoch = 1;
    }
}

static bool acked(Vm2vmBackend *b, uint32_t epoch)
{
    return b->ack && (int32_t)(b->ack - epoch) >= 0;
}

void vm2vm_backend_tell(Vm2vmBackend *b)
{
    if (b->ops) {
        b->ops->state(b->opaque);
    }
}

static void tell_queue(Vm2vmBackend *b, unsigned int q)
{
    if (b->ops) {
        b->ops->queue(b->opaque, q);
    }
}

/* Show the domain, or do not any more, as the fence has it */
static void update_window(Vm2vmBackend *b)
{
    bool window = b->domain >= 0 && acked(b, b->domain_epoch);

    if (window != b->window) {
        b->window = window;
        if (b->ops) {
            b->ops->window(b->opaque);
        }
    }
}

void vm2vm_backend_ack(Vm2vmLink *link, uint32_t epoch)
{
    Vm2vmBackend *b = &link->backend;
    int q;

    /* None of before this peer, of those to come, or that is older */
    if ((int32_t)(epoch - b->first_epoch) < 0 ||
        (int32_t)(b->epoch - epoch) < 0 || acked(b, epoch)) {
        return;
    }
    b->ack = epoch;
    update_window(b);
    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        if (b->queues[q].state != VM2VM_QUEUE_OFF) {
            tell_queue(b, q);
        }
    }
    vm2vm_backend_tell(b);
}

int vm2vm_backend_domain(Vm2vmLink *link)
{
    return link->backend.window ? link->backend.domain : -1;
}

static bool is_active(Vm2vmBackend *b, const Vm2vmQueue *queue)
{
    return b->window && (!queue->gate || acked(b, queue->gate));
}

int vm2vm_backend_kick(Vm2vmLink *link, unsigned int q)
{
    Vm2vmQueue *queue = &link->backend.queues[q];

    return queue->state == VM2VM_QUEUE_ENABLED &&
        is_active(&link->backend, queue) ? queue->kick : -1;
}

/* Also while it stops: it may have to tell of what it has done */
int vm2vm_backend_call(Vm2vmLink *link, unsigned int q)
{
    Vm2vmQueue *queue = &link->backend.queues[q];

    return queue->state != VM2VM_QUEUE_OFF &&
        is_active(&link->backend, queue) ? queue->call : -1;
}

const Vm2vmInflight *vm2vm_backend_inflight(Vm2vmLink *link)
{
    return link->backend.window && link->backend.inflight.fd >= 0 ?
        &link->backend.inflight : NULL;
}

/* Queues */

void vm2vm_backend_set_fd(Vm2vmBackend *b, unsigned int q, int *where, int fd)
{
    int old = *where;

    /* Who uses the old one must leave it before it is closed */
    *where = fd;
    if (b->queues[q].state != VM2VM_QUEUE_OFF) {
        tell_queue(b, q);
    }
    vm2vm_fd_close(old);
}

static bool should_run(Vm2vmBackend *b, const Vm2vmQueue *queue)
{
    /* Without protocol features there is no SET_VRING_ENABLE */
    return b->domain >= 0 && queue->started && queue->size &&
        queue->has_addr &&
        (queue->enable || !(b->features & VM2VM_F_PROTOCOL_FEATURES));
}

/*
 * A queue that the guest may be serving has to be stopped by it. One that waits
 * for that does not start again before.
 */
void vm2vm_backend_update_queue(Vm2vmBackend *b, unsigned int q)
{
    Vm2vmQueue *queue = &b->queues[q];
    bool run = should_run(b, queue);

    if (queue->state == VM2VM_QUEUE_STOPPING ||
        run == (queue->state == VM2VM_QUEUE_ENABLED)) {
        return;
    }
    if (run) {
        queue->state = VM2VM_QUEUE_ENABLED;
    } else if (is_active(b, queue)) {
        next_epoch(b);
        queue->state = VM2VM_QUEUE_STOPPING;
        queue->stop_epoch = b->epoch;
    } else {
        queue->state = VM2VM_QUEUE_OFF;
    }
    tell_queue(b, q);
    vm2vm_backend_tell(b);
}

/* The queue has stopped; or else nobody waits for it any more */
static void end_queue(Vm2vmBackend *b, unsigned int q)
{
    Vm2vmQueue *queue = &b->queues[q];

    if (queue->state == VM2VM_QUEUE_STOPPING) {
        queue->gate = queue->stop_epoch;
    }
    if (queue->state != VM2VM_QUEUE_OFF) {
        queue->state = VM2VM_QUEUE_OFF;
        tell_queue(b, q);
        vm2vm_backend_tell(b);
    }
}

/*
 * All of its run is over. In the next one it is enabled when all has been told,
 * and not as soon as it can be: the eventfd of its calls may come last.
 */
static void clear_queue(Vm2vmBackend *b, unsigned int q)
{
    Vm2vmQueue *queue = &b->queues[q];

    end_queue(b, q);
    vm2vm_backend_set_fd(b, q, &queue->kick, -1);
    vm2vm_backend_set_fd(b, q, &queue->call, -1);
    *queue = (Vm2vmQueue) {
        .kick = -1,
        .call = -1,
    };
}

static void answer_base(Vm2vmLink *link, unsigned int q)
{
    Vm2vmQueue *queue = &link->backend.queues[q];
    Vm2vmPayload reply = { .state = { .index = q, .num = queue->next } };

    if (queue->unknown) {
        reply.state.num = VM2VM_BASE_UNKNOWN;
        queue->unknown = false;
    }
    vm2vm_link_send(link, VM2VM_GET_VRING_BASE, VM2VM_FLAGS_REPLY, &reply, -1);
}

/* The guest has stopped the queue that the peer waits for, or has not */
static void finish_base(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;
    int q = b->base_of;

    if (q >= 0) {
        timer_del(b->base_timer);
        b->base_of = -1;
        end_queue(b, q);
        answer_base(link, q);
        vm2vm_link_resume(link);
    }
}

static void base_timeout(void *opaque)
{
    Vm2vmLink *link = opaque;
    Vm2vmBackend *b = &link->backend;

    /* Nor for the others: a run's end takes so long once */
    b->deaf = true;
    b->queues[b->base_of].unknown = true;
    finish_base(link);
}

void vm2vm_backend_stopped(Vm2vmLink *link, unsigned int q, uint32_t next)
{
    Vm2vmBackend *b = &link->backend;
    Vm2vmQueue *queue = &b->queues[q];

    if (queue->state != VM2VM_QUEUE_STOPPING) {
        return;
    }
    queue->next = next;
    end_queue(b, q);
    if (b->base_of == q) {
        finish_base(link);
    }
    vm2vm_backend_update_queue(b, q);
}

void vm2vm_backend_get_base(Vm2vmLink *link, unsigned int q)
{
    Vm2vmBackend *b = &link->backend;
    Vm2vmQueue *queue = &b->queues[q];

    queue->started = false;
    vm2vm_backend_update_queue(b, q);
    b->base_of = q;
    if (queue->state != VM2VM_QUEUE_STOPPING) {
        finish_base(link);
    } else if (b->deaf) {
        queue->unknown = true;
        finish_base(link);
    } else {
        timer_mod(b->base_timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + STOP_MS);
    }
}

/* Runs of the device, and connections */

/* Takes @fd */
void vm2vm_backend_begin_run(Vm2vmLink *link, int fd)
{
    Vm2vmBackend *b = &link->backend;

    b->domain = fd;
    next_epoch(b);
    b->domain_epoch = b->epoch;
    update_window(b);
    vm2vm_backend_tell(b);
}

void vm2vm_backend_init(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;
    int q;

    b->domain = -1;
    b->base_of = -1;
    b->inflight.fd = -1;
    b->epoch = b->first_epoch = 1;
    b->offer.queues = 1;
    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        b->queues[q].kick = b->queues[q].call = -1;
    }
    b->base_timer = timer_new_ms(QEMU_CLOCK_REALTIME, base_timeout, link);
    vm2vm_channel_init(link);
}

void vm2vm_backend_cleanup(Vm2vmLink *link)
{
    timer_free(link->backend.base_timer);
    vm2vm_channel_cleanup(link);
}

void vm2vm_backend_end_run(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;
    int old = b->domain, q;

    timer_del(b->base_timer);
    b->base_of = -1;
    b->deaf = false;
    next_epoch(b);
    b->domain = -1;
    update_window(b);
    for (q = 0; q < VM2VM_MAX_QUEUES; q++) {
        clear_queue(b, q);
    }
    vm2vm_fd_close_of(link->chr.chr, old);
    b->device_type = b->nr_queues = 0;
    vm2vm_backend_tell(b);
}

void vm2vm_backend_opened(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;
    Error *err = NULL;

    if (!b->registered) {
        error_setg(&err, "no back-end is registered by the guest");
        /* It will try again, and again, so to say it once will do */
        link->drop_quietly = b->turned_away;
        b->turned_away = true;
        vm2vm_link_drop(link, err);
        return;
    }
    b->turned_away = false;
    next_epoch(b);
    b->first_epoch = b->epoch;
    b->ack = 0;
    vm2vm_link_wait_for(link, "negotiation");
}

/* All that it had goes, also while the connection is still about to */
static void forget_peer(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;

    vm2vm_backend_end_run(link);
    vm2vm_inflight_drop(link);
    vm2vm_channel_close(link);
    b->protocol_features = b->features = b->rarp_mac = 0;
    b->status = b->mtu = 0;
    b->ack = 0;
    vm2vm_backend_tell(b);
}

void vm2vm_backend_closed(Vm2vmLink *link)
{
    forget_peer(link);
}

void vm2vm_backend_register(Vm2vmLink *link, bool ready)
{
    Vm2vmBackend *b = &link->backend;
    Error *err = NULL;

    if (b->registered == ready) {
        return;
    }
    b->registered = ready;
    b->turned_away = false;
    if (!ready && link->open) {
        link->ready = false;
        forget_peer(link);
        error_setg(&err, "the guest's back-end has gone");
        vm2vm_link_drop(link, err);
    }
}

void vm2vm_backend_reset(Vm2vmLink *link)
{
    Vm2vmBackend *b = &link->backend;

    vm2vm_backend_register(link, false);
    b->offer = (Vm2vmOffer) { .queues = 1 };
    memset(b->config, 0, sizeof(b->config));
    b->config_generation = b->rarps = 0;
    b->ack = 0;
}

void vm2vm_backend_loaded(Vm2vmLink *link, uint32_t epoch)
{
    Vm2vmBackend *b = &link->backend;

    b->epoch = epoch;
    next_epoch(b);
    vm2vm_backend_tell(b);
}

/* The device */

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
    vm2vm_backend_reset(link);
    return true;
}

void vm2vm_backend_detach(Vm2vmLink *link)
{
    vm2vm_backend_reset(link);
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
    if (link->unapproved == VM2VM_UNAPPROVED_FILL) {
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

        if (b->queues[i].state != VM2VM_QUEUE_ENABLED) {
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
