/*
 * A virtio device whose queues a backend VM serves: PCI
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/virtio-pci.h"
#include "hw/virtio/virtio-vm2vm.h"

typedef struct VirtIOVm2vmPCI {
    VirtIOPCIProxy parent_obj;
    VirtIOVm2vm vdev;
} VirtIOVm2vmPCI;

#define TYPE_VIRTIO_VM2VM_PCI "virtio-vm2vm-pci-base"
DECLARE_INSTANCE_CHECKER(VirtIOVm2vmPCI, VIRTIO_VM2VM_PCI,
                         TYPE_VIRTIO_VM2VM_PCI)

static const Property properties[] = {
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors,
                       DEV_NVECTORS_UNSPECIFIED),
};

static void realize(VirtIOPCIProxy *proxy, Error **errp)
{
    VirtIOVm2vmPCI *dev = VIRTIO_VM2VM_PCI(proxy);

    if (proxy->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        proxy->nvectors = dev->vdev.num_vqs + 1;
    }
    qdev_realize(DEVICE(&dev->vdev), BUS(&proxy->bus), errp);
}

static void class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    VirtioPCIClass *k = VIRTIO_PCI_CLASS(klass);
    PCIDeviceClass *pcidev_k = PCI_DEVICE_CLASS(klass);

    k->realize = realize;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    device_class_set_props(dc, properties);
    pcidev_k->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pcidev_k->device_id = 0; /* virtio-pci sets it, by the virtio ID */
    pcidev_k->class_id = PCI_CLASS_OTHERS;
}

static void instance_init(Object *obj)
{
    VirtIOVm2vmPCI *dev = VIRTIO_VM2VM_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev),
                                TYPE_VIRTIO_VM2VM);
}

static const VirtioPCIDeviceTypeInfo info = {
    .base_name = TYPE_VIRTIO_VM2VM_PCI,
    .non_transitional_name = "virtio-vm2vm-pci",
    .instance_size = sizeof(VirtIOVm2vmPCI),
    .instance_init = instance_init,
    .class_init = class_init,
};

static void register_types(void)
{
    virtio_pci_types_register(&info);
}

type_init(register_types)
