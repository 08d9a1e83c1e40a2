/*
 * A virtio device whose queues a backend VM serves
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_VIRTIO_VM2VM_H
#define HW_VIRTIO_VM2VM_H

#include "hw/virtio/virtio.h"
#include "qom/object.h"

#define TYPE_VIRTIO_VM2VM "virtio-vm2vm-device"
OBJECT_DECLARE_SIMPLE_TYPE(VirtIOVm2vm, VIRTIO_VM2VM)

#define VIRTIO_VM2VM_CONFIG_MAX 256

struct VirtIOVm2vm {
    VirtIODevice parent_obj;

    /* Properties */
    uint16_t virtio_id;
    uint16_t num_vqs;
    uint64_t features;
    char *config;               /* hexadecimal */

    uint8_t config_data[VIRTIO_VM2VM_CONFIG_MAX];
    uint16_t config_size;
    bool started;
};

/*
 * Interrupt the driver, for each queue: whoever served it has ended, perhaps
 * after it used a buffer, and before it said so.
 */
void virtio_vm2vm_notify(VirtIOVm2vm *v);

#endif
