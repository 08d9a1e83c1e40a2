/*
 * vm2vm: a link's owner
 *
 * It is a vhost-user front-end. Each peer gets a domain of its own, which
 * approves what the device's DMA address space has while the VM runs. With the
 * peer goes all that it was approved.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/pci/pci_device.h"
#include "hw/sysbus.h"
#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio-vm2vm.h"
#include "system/runstate.h"
#include "system/system.h"
#include "vm2vm-link.h"
#include "trace.h"

static void set_answer(Vm2vmLink *link, uint32_t request)
{
    link->owner.awaits = request;
    vm2vm_link_wait_for(link, request ? "answer" : NULL);
}

static void ask(Vm2vmLink *link, uint32_t request, uint32_t flags,
                const Vm2vmPayload *payload, int fd)
{
    if (vm2vm_link_send(link, request, flags, payload, fd)) {
        set_answer(link, request);
    }
}

static void tell(Vm2vmLink *link, uint32_t request, uint64_t u64)
{
    Vm2vmPayload payload = { .u64 = u64 };

    vm2vm_link_send(link, request, 0, &payload, -1);
}

static void tell_queue(Vm2vmLink *link, uint32_t request, uint32_t q,
                       uint32_t num)
{
    Vm2vmPayload payload = { .state = { .index = q, .num = num } };

    vm2vm_link_send(link, request, 0, &payload, -1);
}

/* Does the peer serve the queues of this device, and so has its eventfds? */
static bool passes_eventfds(VirtIODevice *vdev)
{
    return object_dynamic_cast(OBJECT(vdev), TYPE_VIRTIO_VM2VM);
}

static void tell_eventfd(Vm2vmLink *link, uint32_t request, uint32_t q,
                         EventNotifier *n)
{
    bool passes = passes_eventfds(link->owner.vdev);
    int fd = passes ? event_notifier_get_wfd(n) : -1;
    Vm2vmPayload payload = { .u64 = q | (fd < 0 ? VM2VM_VRING_NOFD : 0) };

    vm2vm_link_send(link, request, 0, &payload, fd);
}

static uint32_t nr_queues(VirtIODevice *vdev)
{
    return vdev ? MIN(virtio_get_num_queues(vdev), VM2VM_MAX_QUEUES) : 0;
}

static bool queue_is_set_up(VirtIODevice *vdev, uint32_t q)
{
    return virtio_queue_get_num(vdev, q) && virtio_queue_get_desc_addr(vdev, q);
}

static void send_queue(Vm2vmLink *link, uint32_t q)
{
    VirtIODevice *vdev = link->owner.vdev;
    VirtQueue *vq = virtio_get_queue(vdev, q);
    Vm2vmPayload payload = {
        .addr = {
            .index = q,
            .desc = virtio_queue_get_desc_addr(vdev, q),
            .used = virtio_queue_get_used_addr(vdev, q),
            .avail = virtio_queue_get_avail_addr(vdev, q),
        },
    };

    /* A peer that is gone may have served more of it than QEMU knows */
    if (passes_eventfds(vdev)) {
        virtio_queue_restore_last_avail_idx(vdev, q);
    }
    tell_queue(link, VM2VM_SET_VRING_NUM, q, virtio_queue_get_num(vdev, q));
    tell_queue(link, VM2VM_SET_VRING_BASE, q,
               virtio_queue_get_last_avail_idx(vdev, q));
    vm2vm_link_send(link, VM2VM_SET_VRING_ADDR, 0, &payload, -1);
    tell_eventfd(link, VM2VM_SET_VRING_KICK, q,
                 virtio_queue_get_host_notifier(vq));
    tell_eventfd(link, VM2VM_SET_VRING_CALL, q,
                 virtio_queue_get_guest_notifier(vq));
    tell_queue(link, VM2VM_SET_VRING_ENABLE, q, 1);
}

/* Tell the peer of the device's queues, if it has to be told anything */
static void update_queues(Vm2vmLink *link)
{
    VirtIODevice *vdev = link->owner.vdev;
    uint32_t q;
    bool run;

    if (!link->ready || !vdev) {
        return;
    }
    run = (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) && vdev->vm_running;
    if (run && !link->owner.queues_sent) {
        tell(link, VM2VM_SET_FEATURES, vdev->guest_features);
    }
    if (run != link->owner.queues_sent) {
        for (q = 0; q < nr_queues(vdev); q++) {
            if (!run) {
                tell_queue(link, VM2VM_SET_VRING_ENABLE, q, 0);
            } else if (queue_is_set_up(vdev, q)) {
                send_queue(link, q);
            }
        }
    }
    /* It may have gone meanwhile */
    if (!link->ready) {
        return;
    }
    link->owner.queues_sent = run;
    tell(link, VM2VM_SET_STATUS, run ? vdev->status :
         vdev->status & ~VIRTIO_CONFIG_S_DRIVER_OK);
}

static void status_changed(Notifier *n, void *data)
{
    update_queues(container_of(n, Vm2vmLink, owner.status_changed));
}

/* Approve, or do not: memory does not change while a VM is stopped. */
static void update_dma(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;
    bool run = link->ready && o->dev && o->running;

    if (run && !o->dma.as) {
        vm2vm_dma_start(&o->dma, "vm2vm-link", link->id, o->domain, o->as,
                        "bypass", true);
    } else if (!run) {
        vm2vm_dma_stop(&o->dma);
    }
}

/*
 * A migration reads what is dirty for the last time when the VM has stopped. By
 * then KVM has revoked everything, and what was written before is in its log.
 * Devices look at their queues before that, but after this.
 */
static void vm_state_prepare(void *opaque, bool running, RunState state)
{
    Vm2vmLink *link = opaque;

    if (!running) {
        link->owner.running = false;
        update_dma(link);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    Vm2vmLink *link = opaque;

    if (running) {
        link->owner.running = true;
        update_dma(link);
        /* The target of a migration has nothing to say until then */
        if (link->open) {
            vm2vm_owner_opened(link);
        }
    }
}

static bool attach(Vm2vmLink *link, DeviceState *dev, Error **errp)
{
    Vm2vmOwner *o = &link->owner;
    BusState *bus = QLIST_FIRST(&dev->child_bus);

    o->vdev = (VirtIODevice *)object_dynamic_cast(OBJECT(dev),
                                                  TYPE_VIRTIO_DEVICE);
    if (!o->vdev && bus && object_dynamic_cast(OBJECT(bus), TYPE_VIRTIO_BUS)) {
        o->vdev = virtio_bus_get_device(VIRTIO_BUS(bus));
    }
    if (o->vdev) {
        o->as = o->vdev->dma_as;
        o->status_changed.notify = status_changed;
        notifier_list_add(&o->vdev->status_notifiers, &o->status_changed);
    } else if (object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        o->as = pci_get_address_space(PCI_DEVICE(dev));
    } else {
        error_setg(errp, "property 'device': '%s' is neither a virtio nor a "
                   "PCI device", link->device_id);
        return false;
    }
    if (o->vdev && virtio_get_num_queues(o->vdev) > VM2VM_MAX_QUEUES) {
        warn_report("vm2vm-link '%s': of the queues of '%s' the backend sees "
                    "the first %d", link->id, link->device_id,
                    VM2VM_MAX_QUEUES);
    }
    o->dev = dev;
    return true;
}

static void detach(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;

    if (!o->dev) {
        return;
    }
    vm2vm_dma_stop(&o->dma);
    if (o->vdev) {
        notifier_remove(&o->status_changed);
    }
    o->vdev = NULL;
    o->dev = NULL;
    o->as = NULL;
}

static bool is_ours(Vm2vmLink *link, DeviceState *dev)
{
    return dev->id && !strcmp(dev->id, link->device_id);
}

/* Hot-plugged: a peer may have been waiting for it */
static void device_realized(DeviceListener *listener, DeviceState *dev)
{
    Vm2vmLink *link = container_of(listener, Vm2vmLink, owner.listener);
    Error *err = NULL;

    if (!is_ours(link, dev) || link->owner.dev) {
        return;
    }
    if (!attach(link, dev, &err)) {
        error_reportf_err(err, "vm2vm-link '%s': ", link->id);
    } else if (link->open) {
        vm2vm_owner_opened(link);
    }
}

static void device_unrealized(DeviceListener *listener, DeviceState *dev)
{
    Vm2vmLink *link = container_of(listener, Vm2vmLink, owner.listener);
    Error *err = NULL;

    if (dev == link->owner.dev) {
        detach(link);
        if (link->open) {
            error_setg(&err, "device '%s' was removed", link->device_id);
            vm2vm_link_drop(link, err);
        }
    }
}

static void machine_done(Notifier *n, void *data)
{
    Vm2vmLink *link = container_of(n, Vm2vmLink, owner.machine_done);

    if (link->owner.dev) {
        return;
    }
    /* Else it has been said why it will not do */
    if (!qdev_find_recursive(sysbus_get_default(), link->device_id)) {
        error_report("vm2vm-link '%s': property 'device': there is no device "
                     "'%s'", link->id, link->device_id);
    }
    exit(1);
}

bool vm2vm_owner_setup(Vm2vmLink *link, Error **errp)
{
    Vm2vmOwner *o = &link->owner;
    DeviceState *dev = qdev_find_recursive(sysbus_get_default(),
                                           link->device_id);

    if (dev) {
        if (!attach(link, dev, errp)) {
            return false;
        }
    } else if (phase_check(PHASE_MACHINE_READY)) {
        error_setg(errp, "property 'device': there is no device '%s'",
                   link->device_id);
        return false;
    } else {
        /* Objects come before devices on the command line */
        o->machine_done.notify = machine_done;
        qemu_add_machine_init_done_notifier(&o->machine_done);
    }
    o->listener.realize = device_realized;
    o->listener.unrealize = device_unrealized;
    device_listener_register(&o->listener);
    o->running = runstate_is_running();
    o->vm_state = qemu_add_vm_change_state_handler_prio_full(vm_state_changed,
                                                    vm_state_prepare, link, 0);
    return true;
}

void vm2vm_owner_cleanup(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;

    detach(link);
    device_listener_unregister(&o->listener);
    qemu_del_vm_change_state_handler(o->vm_state);
    if (o->machine_done.notify) {
        qemu_remove_machine_init_done_notifier(&o->machine_done);
    }
}

void vm2vm_owner_opened(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;
    Error *err = NULL;

    /* Without a device there is nothing to say; the peer is patient, or not */
    if (!o->dev || o->awaits || link->ready ||
        runstate_check(RUN_STATE_INMIGRATE)) {
        return;
    }
    o->domain = kvm_vm2vm_create_domain();
    if (o->domain < 0) {
        error_setg_errno(&err, -o->domain, "KVM makes no domain for it");
        vm2vm_link_drop(link, err);
        return;
    }
    ask(link, VM2VM_GET_FEATURES, 0, NULL, -1);
}

void vm2vm_owner_closed(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;

    vm2vm_dma_stop(&o->dma);
    if (o->queues_sent && o->vdev && passes_eventfds(o->vdev)) {
        virtio_vm2vm_notify(VIRTIO_VM2VM(o->vdev));
    }
    if (o->domain >= 0) {
        close(o->domain);
    }
    o->domain = -1;
    o->awaits = 0;
    o->queues_sent = false;
}

/* All that a back-end needs for this, and what else it has in common with us */
static void check_features(Vm2vmLink *link, uint64_t u64, Error **errp)
{
    if (!(u64 & VM2VM_PROTOCOL_F_DOMAIN)) {
        error_setg(errp, "it does not know of vm2vm domains, or is not QEMU's "
                   "vm2vm-link of role 'backend'");
        return;
    }
    if (!(u64 & VM2VM_PROTOCOL_F_REPLY_ACK)) {
        error_setg(errp, "it does not acknowledge");
        return;
    }
    tell(link, VM2VM_SET_PROTOCOL_FEATURES, u64 & VM2VM_PROTOCOL_FEATURES);
    vm2vm_link_send(link, VM2VM_SET_OWNER, 0, NULL, -1);
    ask(link, VM2VM_GET_QUEUE_NUM, 0, NULL, -1);
}

static void send_domain(Vm2vmLink *link)
{
    VirtIODevice *vdev = link->owner.vdev;
    Vm2vmPayload payload = {
        .domain = {
            .version = VM2VM_DOMAIN_VERSION,
            .device_type = vdev ? vdev->device_id : 0,
            .nr_queues = MIN(nr_queues(vdev), link->owner.peer_queues),
        },
    };

    ask(link, VM2VM_SET_DOMAIN, VM2VM_FLAGS_NEED_REPLY, &payload,
        link->owner.domain);
}

void vm2vm_owner_message(Vm2vmLink *link, Error **errp)
{
    uint32_t request = link->parser.msg.hdr.request;
    uint64_t u64 = link->parser.msg.payload.u64;
    Vm2vmOwner *o = &link->owner;

    if (request != o->awaits) {
        error_setg(errp, "it answers %s, which was not asked",
                   vm2vm_request_name(request));
        return;
    }
    set_answer(link, 0);
    switch (request) {
    case VM2VM_GET_FEATURES:
        if (!(u64 & VM2VM_F_PROTOCOL_FEATURES)) {
            error_setg(errp, "it has no protocol features");
            return;
        }
        ask(link, VM2VM_GET_PROTOCOL_FEATURES, 0, NULL, -1);
        break;
    case VM2VM_GET_PROTOCOL_FEATURES:
        check_features(link, u64, errp);
        break;
    case VM2VM_GET_QUEUE_NUM:
        if (u64 < nr_queues(o->vdev)) {
            error_setg(errp, "it takes %" PRIu64 " queues, and '%s' has %"
                       PRIu32, u64, link->device_id, nr_queues(o->vdev));
            return;
        }
        o->peer_queues = MIN(u64, VM2VM_MAX_QUEUES);
        send_domain(link);
        break;
    case VM2VM_SET_DOMAIN:
        if (u64) {
            error_setg(errp, "it does not take the domain");
            return;
        }
        vm2vm_link_ready(link);
        update_dma(link);
        update_queues(link);
        break;
    }
}

Vm2vmQueueInfoList *vm2vm_owner_queues(Vm2vmLink *link)
{
    Vm2vmQueueInfoList *list = NULL, **tail = &list;
    VirtIODevice *vdev = link->owner.vdev;
    uint32_t q;

    if (!link->owner.queues_sent) {
        return NULL;
    }
    for (q = 0; q < nr_queues(vdev); q++) {
        Vm2vmQueueInfo *info;

        if (!queue_is_set_up(vdev, q)) {
            continue;
        }
        info = g_new0(Vm2vmQueueInfo, 1);
        info->index = q;
        info->size = virtio_queue_get_num(vdev, q);
        info->desc = virtio_queue_get_desc_addr(vdev, q);
        info->avail = virtio_queue_get_avail_addr(vdev, q);
        info->used = virtio_queue_get_used_addr(vdev, q);
        info->kick = info->call = passes_eventfds(vdev);
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}
