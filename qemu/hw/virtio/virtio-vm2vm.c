/*
 * A virtio device whose queues a backend VM serves
 *
 * QEMU does not look at the queues: kicks and interrupts are eventfds, which
 * the vm2vm-link of role owner that names this device passes to the backend.
 * Until there is one, kicks wait in their eventfds.
 *
 * What kind of device it is, the user says: its ID, features and configuration
 * space are properties, and are to be what the backend's guest implements.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qapi/error.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio-vm2vm.h"
#include "migration/vmstate.h"
#include "standard-headers/linux/virtio_ids.h"
#include "system/vm2vm.h"

#define MAX_VQS 32

/* Nobody else has these notifiers' eventfds: KVM does it all, as doorbells */
static int set_host_notifiers(VirtIOVm2vm *v, int nr, bool assign)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    VirtioBusState *bus = VIRTIO_BUS(qdev_get_parent_bus(DEVICE(vdev)));
    int i, ret = 0;

    memory_region_transaction_begin();
    for (i = 0; i < nr; i++) {
        EventNotifier *n;

        ret = virtio_bus_set_host_notifier(bus, i, assign);
        if (ret < 0) {
            break;
        }
        n = virtio_queue_get_host_notifier(virtio_get_queue(vdev, i));
        if (assign) {
            kvm_vm2vm_doorbell_add(n);
        }
    }
    memory_region_transaction_commit();
    if (!assign) {
        for (i = 0; i < nr; i++) {
            kvm_vm2vm_doorbell_del(
                virtio_queue_get_host_notifier(virtio_get_queue(vdev, i)));
            virtio_bus_cleanup_host_notifier(bus, i);
        }
    } else if (ret < 0) {
        set_host_notifiers(v, i, false);
    }
    return ret;
}

void virtio_vm2vm_notify(VirtIOVm2vm *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    int i;

    for (i = 0; i < v->num_vqs; i++) {
        if (virtio_queue_get_desc_addr(vdev, i)) {
            /* QEMU does not know of what the driver was told */
            virtio_queue_invalidate_signalled_used(vdev, i);
            virtio_notify(vdev, virtio_get_queue(vdev, i));
        }
    }
}

static void start(VirtIOVm2vm *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    BusState *bus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    int ret;

    ret = virtio_device_grab_ioeventfd(vdev);
    if (ret < 0) {
        virtio_error(vdev, "the bus has no host notifiers");
        return;
    }
    ret = set_host_notifiers(v, v->num_vqs, true);
    if (ret < 0) {
        virtio_error(vdev, "cannot set host notifiers: %s", strerror(-ret));
        goto release;
    }
    ret = k->set_guest_notifiers(bus->parent, v->num_vqs, true);
    if (ret < 0) {
        virtio_error(vdev, "cannot set guest notifiers: %s", strerror(-ret));
        set_host_notifiers(v, v->num_vqs, false);
        goto release;
    }
    v->started = true;
    /* Nor was anything heard while it did not run, or on its way here */
    virtio_vm2vm_notify(v);
    return;
release:
    virtio_device_release_ioeventfd(vdev);
}

static void stop(VirtIOVm2vm *v)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(v);
    BusState *bus = qdev_get_parent_bus(DEVICE(vdev));
    VirtioBusClass *k = VIRTIO_BUS_GET_CLASS(bus);
    int i;

    k->set_guest_notifiers(bus->parent, v->num_vqs, false);
    set_host_notifiers(v, v->num_vqs, false);
    virtio_device_release_ioeventfd(vdev);
    v->started = false;
    /* Whoever serves the queue next starts with what was not used */
    for (i = 0; i < v->num_vqs; i++) {
        if (virtio_queue_get_desc_addr(vdev, i)) {
            virtio_queue_restore_last_avail_idx(vdev, i);
        }
    }
}

static void set_status(VirtIODevice *vdev, uint8_t status)
{
    VirtIOVm2vm *v = VIRTIO_VM2VM(vdev);
    bool should = virtio_device_should_start(vdev, status);

    if (should && !v->started) {
        start(v);
    } else if (!should && v->started) {
        stop(v);
    }
}

/* Only what was asked for, besides what the transport does by itself */
static uint64_t get_features(VirtIODevice *vdev, uint64_t requested,
                             Error **errp)
{
    const uint64_t transport = (1ULL << VIRTIO_F_VERSION_1) |
                               (1ULL << VIRTIO_F_ORDER_PLATFORM) |
                               (1ULL << VIRTIO_F_IOMMU_PLATFORM);

    return (requested & transport) | VIRTIO_VM2VM(vdev)->features;
}

static void get_config(VirtIODevice *vdev, uint8_t *config)
{
    VirtIOVm2vm *v = VIRTIO_VM2VM(vdev);

    memcpy(config, v->config_data, v->config_size);
}

/* QEMU does not handle a kick; virtio calls this when it cleans up */
static void handle_output(VirtIODevice *vdev, VirtQueue *vq)
{
}

static bool parse_config(VirtIOVm2vm *v, Error **errp)
{
    size_t len = v->config ? strlen(v->config) : 0;
    size_t i;

    if (len % 2 || len / 2 > VIRTIO_VM2VM_CONFIG_MAX ||
        (len && strspn(v->config, "0123456789abcdefABCDEF") != len)) {
        error_setg(errp, "property 'config' is not the hexadecimal digits of "
                   "up to %d bytes", VIRTIO_VM2VM_CONFIG_MAX);
        return false;
    }
    for (i = 0; i < len / 2; i++) {
        v->config_data[i] = g_ascii_xdigit_value(v->config[2 * i]) * 16 +
            g_ascii_xdigit_value(v->config[2 * i + 1]);
    }
    v->config_size = len / 2;
    return true;
}

static void realize(DeviceState *dev, Error **errp)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOVm2vm *v = VIRTIO_VM2VM(dev);
    BusState *bus = qdev_get_parent_bus(dev);
    int i;

    if (!kvm_vm2vm_available(errp)) {
        return;
    }
    if (v->virtio_id > VIRTIO_ID_GPIO || !virtio_device_names[v->virtio_id]) {
        error_setg(errp, "property 'virtio-id' is %u, which is no kind of "
                   "device", v->virtio_id);
        error_append_hint(errp, "1 is a network card, 2 a disk, 4 a source of "
                          "entropy.\n");
        return;
    }
    if (!v->num_vqs || v->num_vqs > MAX_VQS) {
        error_setg(errp, "property 'num-vqs' is %u, which is not 1 to %d",
                   v->num_vqs, MAX_VQS);
        return;
    }
    if (v->features & (1ULL << VIRTIO_F_RING_PACKED)) {
        error_setg(errp, "property 'features' has packed rings, whose state "
                   "nobody keeps");
        return;
    }
    if (!VIRTIO_BUS_GET_CLASS(bus)->set_guest_notifiers) {
        error_setg(errp, "this bus has no guest notifiers");
        return;
    }
    if (!parse_config(v, errp)) {
        return;
    }
    virtio_init(vdev, v->virtio_id, v->config_size);
    vdev->use_guest_notifier_mask = false;
    for (i = 0; i < v->num_vqs; i++) {
        virtio_add_queue(vdev, VIRTQUEUE_MAX_SIZE, handle_output);
    }
}

static void unrealize(DeviceState *dev)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(dev);
    VirtIOVm2vm *v = VIRTIO_VM2VM(dev);
    int i;

    virtio_set_status(vdev, 0);
    for (i = 0; i < v->num_vqs; i++) {
        virtio_del_queue(vdev, i);
    }
    virtio_cleanup(vdev);
}

static const VMStateDescription vmstate = {
    .name = "virtio-vm2vm",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_VIRTIO_DEVICE,
        VMSTATE_END_OF_LIST()
    },
};

static const Property properties[] = {
    DEFINE_PROP_UINT16("virtio-id", VirtIOVm2vm, virtio_id, 0),
    DEFINE_PROP_UINT16("num-vqs", VirtIOVm2vm, num_vqs, 1),
    DEFINE_PROP_UINT64("features", VirtIOVm2vm, features, 0),
    DEFINE_PROP_STRING("config", VirtIOVm2vm, config),
};

static void class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);

    device_class_set_props(dc, properties);
    dc->vmsd = &vmstate;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    vdc->realize = realize;
    vdc->unrealize = unrealize;
    vdc->get_features = get_features;
    vdc->get_config = get_config;
    vdc->set_status = set_status;
}

static const TypeInfo types[] = {
    {
        .name = TYPE_VIRTIO_VM2VM,
        .parent = TYPE_VIRTIO_DEVICE,
        .instance_size = sizeof(VirtIOVm2vm),
        .class_init = class_init,
    }
};

DEFINE_TYPES(types)
