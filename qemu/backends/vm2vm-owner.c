/*
 * vm2vm: a link's owner
 *
 * It shows the memory of any PCI device, and is a vhost-user front-end without
 * queues: virtio devices have QEMU's own. While the VM runs there is a domain,
 * which approves what the device's DMA address space has. It ends as the VM
 * stops, or the peer goes, and with it all that the peer was approved.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "hw/pci/pci_device.h"
#include "hw/sysbus.h"
#include "hw/virtio/virtio-bus.h"
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

/* Approve, and tell of it */
static void begin(Vm2vmLink *link)
{
    Vm2vmPayload payload = { .domain = { .version = VM2VM_DOMAIN_VERSION } };
    Vm2vmOwner *o = &link->owner;
    Error *err = NULL;

    o->domain = kvm_vm2vm_create_domain();
    if (o->domain < 0) {
        error_setg_errno(&err, -o->domain, "KVM makes no domain for it");
        o->domain = -1;
        vm2vm_link_drop(link, err);
        return;
    }
    vm2vm_dma_start(&o->dma, "vm2vm-link", link->id, o->domain, o->as, "bypass",
                    link->bypass);
    ask(link, VM2VM_SET_DOMAIN, VM2VM_FLAGS_NEED_REPLY, &payload, o->domain);
}

/* Revoke it all, at once and for good */
static void end(Vm2vmLink *link)
{
    Vm2vmPayload payload = { .domain = { .version = VM2VM_DOMAIN_VERSION,
                                         .flags = VM2VM_DOMAIN_NONE } };
    Vm2vmOwner *o = &link->owner;

    vm2vm_dma_stop(&o->dma);
    close(o->domain);
    o->domain = -1;
    vm2vm_link_send(link, VM2VM_SET_DOMAIN, 0, &payload, -1);
}

static void update(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;
    bool run = link->ready && o->dev && o->running;

    /* The answer to the last one comes first */
    if (run && o->domain < 0 && !o->awaits) {
        begin(link);
    } else if (!run && o->domain >= 0) {
        end(link);
    }
}

/*
 * A migration reads what is dirty for the last time when the VM has stopped. By
 * then KVM has revoked everything, and what was written before is in its log.
 */
static void vm_state_prepare(void *opaque, bool running, RunState state)
{
    Vm2vmLink *link = opaque;

    if (!running) {
        link->owner.running = false;
        update(link);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    Vm2vmLink *link = opaque;

    if (running) {
        link->owner.running = true;
        update(link);
        /* The target of a migration has nothing to say until then */
        if (link->open) {
            vm2vm_owner_opened(link);
        }
    }
}

static bool is_virtio(DeviceState *dev)
{
    BusState *bus = QLIST_FIRST(&dev->child_bus);

    return object_dynamic_cast(OBJECT(dev), TYPE_VIRTIO_DEVICE) ||
        (bus && object_dynamic_cast(OBJECT(bus), TYPE_VIRTIO_BUS));
}

static bool attach(Vm2vmLink *link, DeviceState *dev, Error **errp)
{
    Vm2vmOwner *o = &link->owner;

    if (!object_dynamic_cast(OBJECT(dev), TYPE_PCI_DEVICE)) {
        error_setg(errp, "property 'device': '%s' is no PCI device",
                   link->device_id);
        return false;
    }
    if (is_virtio(dev)) {
        warn_report("vm2vm-link '%s': the backend sees the memory of '%s', and "
                    "not its queues: that is for vhost-user devices", link->id,
                    link->device_id);
    }
    o->as = pci_get_address_space(PCI_DEVICE(dev));
    o->dev = dev;
    return true;
}

static void detach(Vm2vmLink *link)
{
    link->owner.dev = NULL;
    update(link);
    link->owner.as = NULL;
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

    /* Without a device there is nothing to say; the peer is patient, or not */
    if (o->dev && !o->awaits && !link->ready &&
        !runstate_check(RUN_STATE_INMIGRATE)) {
        ask(link, VM2VM_GET_FEATURES, 0, NULL, -1);
    }
}

void vm2vm_owner_closed(Vm2vmLink *link)
{
    Vm2vmOwner *o = &link->owner;

    o->awaits = 0;
    update(link);
}

/* All that a back-end needs for this, and what else it has in common with us */
static void check_features(Vm2vmLink *link, uint64_t u64, Error **errp)
{
    Vm2vmPayload payload = { .u64 = u64 & VM2VM_PROTOCOL_FEATURES };

    if (!(u64 & VM2VM_PROTOCOL_F_DOMAIN)) {
        error_setg(errp, "it does not know of vm2vm domains, or is not QEMU's "
                   "vm2vm-link of role 'backend'");
        return;
    }
    if (!(u64 & VM2VM_PROTOCOL_F_REPLY_ACK)) {
        error_setg(errp, "it does not acknowledge");
        return;
    }
    vm2vm_link_send(link, VM2VM_SET_PROTOCOL_FEATURES, 0, &payload, -1);
    if (vm2vm_link_send(link, VM2VM_SET_OWNER, 0, NULL, -1)) {
        vm2vm_link_ready(link);
        update(link);
    }
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
    case VM2VM_SET_DOMAIN:
        if (u64) {
            error_setg(errp, "it does not take the domain");
            return;
        }
        /* The VM may have stopped, and gone on, meanwhile */
        update(link);
        break;
    }
}
