/*
 * vm2vm: the PCI device that shows a backend's guest its peer
 *
 * What is here makes and ends it. vm2vm-pci-window.c has what it shows,
 * vm2vm-pci-regs.c its registers, vm2vm-pci-vectors.c its interrupts.
 *
 * standard-headers/vm2vm_pci.h is the guest's view of this.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "chardev/char.h"
#include "hw/pci/msix.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "migration/vmstate.h"
#include "qom/object_interfaces.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "vm2vm-pci.h"

/* What the link tells */

static void tell_guest(void *opaque)
{
    Vm2vmPci *s = opaque;

    if (!runstate_is_running()) {
        s->tell_later = true;
        return;
    }
    s->tell_later = false;
    if (msix_enabled(PCI_DEVICE(s))) {
        msix_notify(PCI_DEVICE(s), VM2VM_PCI_VECTOR_STATE);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    Vm2vmPci *s = opaque;

    if (running && s->tell_later) {
        qemu_bh_schedule(s->tell);
    }
}

static void window_changed(void *opaque)
{
    vm2vm_pci_window_changed(opaque);
}

static void queue_changed(void *opaque, unsigned int q)
{
    vm2vm_pci_kick_changed(opaque, q);
    vm2vm_pci_rings_changed(opaque);
}

/* One interrupt is enough for all that a message does */
static void state_changed(void *opaque)
{
    Vm2vmPci *s = opaque;

    qemu_bh_schedule(s->tell);
}

static const Vm2vmBackendOps backend_ops = {
    .window = window_changed,
    .queue = queue_changed,
    .state = state_changed,
};

/* A link of its own */

static bool check_properties(Vm2vmPci *s, Error **errp)
{
    const char *extra = s->size ? "size" : s->base ? "base" :
        s->unapproved ? "unapproved" : NULL;

    if (s->link && s->path) {
        error_setg(errp, "properties 'link' and 'path' do not go together");
        return false;
    }
    if (!s->link && !s->path) {
        error_setg(errp, "property 'path' is missing");
        error_append_hint(errp, "It is that of a UNIX socket, to which the "
                          "other VM connects. Or name a link of role "
                          "'backend': link=ID.\n");
        return false;
    }
    if (s->link && extra) {
        error_setg(errp, "property '%s' is the link's", extra);
        return false;
    }
    return true;
}

static Chardev *make_chardev(const char *id, const char *path, Error **errp)
{
    SocketAddressLegacy address = {
        .type = SOCKET_ADDRESS_TYPE_UNIX,
        .u.q_unix.data = &(UnixSocketAddress) { .path = (char *)path },
    };
    ChardevSocket socket = {
        .addr = &address,
        .has_server = true, .server = true,
        .has_wait = true, .wait = false,
    };
    ChardevBackend backend = {
        .type = CHARDEV_BACKEND_KIND_SOCKET,
        .u.socket.data = &socket,
    };

    return qemu_chardev_new(id, TYPE_CHARDEV_SOCKET, &backend, NULL, errp);
}

static void drop_own_link(Vm2vmPci *s)
{
    if (s->own_link) {
        object_unparent(OBJECT(s->link));
        object_unref(OBJECT(s->link));
        s->link = NULL;
        s->own_link = false;
    }
    if (s->own_chardev) {
        object_unparent(OBJECT(s->own_chardev));
        s->own_chardev = NULL;
    }
}

static bool make_own_link(Vm2vmPci *s, Error **errp)
{
    static unsigned int number;
    const char *dev_id = DEVICE(s)->id;
    g_autofree char *id = dev_id ? g_strdup(dev_id) :
        g_strdup_printf("vm2vm-pci%u", number++);
    g_autofree char *chardev = g_strdup_printf("%s-socket", id);
    g_autofree char *size = g_strdup_printf("%" PRIu64, s->size ?: 4 * GiB);
    g_autofree char *base = g_strdup_printf("%" PRIu64, s->base);
    Object *link;

    s->own_chardev = make_chardev(chardev, s->path, errp);
    if (!s->own_chardev) {
        return false;
    }
    link = object_new_with_props(TYPE_VM2VM_LINK, object_get_objects_root(),
                                 id, errp, "role", "backend",
                                 "chardev", chardev, "size", size,
                                 "base", base,
                                 "unapproved", s->unapproved ?: "fill", NULL);
    if (!link) {
        drop_own_link(s);
        return false;
    }
    /* The device's, like that of a property */
    s->link = VM2VM_LINK(object_ref(link));
    s->own_link = true;
    return true;
}

/* The device */

static void vm2vm_pci_reset(DeviceState *dev)
{
    Vm2vmPci *s = VM2VM_PCI(dev);

    msix_reset(PCI_DEVICE(s));
    vm2vm_backend_reset(s->link);
    s->refused[0] = s->refused[1] = 0;
}

/* A driver that lets the device go leaves nothing that is served */
static void vm2vm_pci_config_write(PCIDevice *dev, uint32_t addr,
                                   uint32_t value, int len)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    uint16_t before = pci_get_word(dev->config + PCI_COMMAND);
    uint16_t now;

    pci_default_write_config(dev, addr, value, len);
    now = pci_get_word(dev->config + PCI_COMMAND);
    if ((before & ~now) & PCI_COMMAND_MASTER) {
        vm2vm_backend_register(s->link, false);
    }
}

static bool attach(Vm2vmPci *s, Error **errp)
{
    if (!kvm_msi_via_irqfd_enabled()) {
        error_setg(errp, "vm2vm-pci needs interrupts in KVM");
        error_append_hint(errp, "Use kernel-irqchip=on, or =split.\n");
        return false;
    }
    return check_properties(s, errp) &&
        (s->link || make_own_link(s, errp)) &&
        vm2vm_backend_attach(s->link, &backend_ops, s, DEVICE(s)->id, errp);
}

static void vm2vm_pci_realize(PCIDevice *dev, Error **errp)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    int q, ret;

    if (!attach(s, errp)) {
        drop_own_link(s);
        return;
    }
    ret = event_notifier_init(&s->nobody, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "no eventfd");
        goto detach;
    }
    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        s->ring_fds[q] = event_notifier_get_fd(&s->nobody);
    }
    vm2vm_pci_windows_init(s);
    if (!vm2vm_pci_vectors_init(s, errp)) {
        goto windows;
    }
    if (pcie_endpoint_cap_init(dev, 0x80) < 0) {
        error_setg(errp, "no PCI Express capability");
        goto vectors;
    }
    s->tell = qemu_bh_new_guarded(tell_guest, s,
                                  &DEVICE(s)->mem_reentrancy_guard);
    s->vm_state = qemu_add_vm_change_state_handler(vm_state_changed, s);
    vm2vm_pci_windows_listen(s);
    return;

vectors:
    vm2vm_pci_vectors_exit(s);
windows:
    vm2vm_pci_windows_exit(s);
    event_notifier_cleanup(&s->nobody);
detach:
    vm2vm_backend_detach(s->link);
    drop_own_link(s);
}

static void vm2vm_pci_exit(PCIDevice *dev)
{
    Vm2vmPci *s = VM2VM_PCI(dev);

    /* Nothing is shown from here on */
    vm2vm_backend_reset(s->link);
    vm2vm_pci_windows_unlisten(s);
    vm2vm_pci_vectors_exit(s);
    vm2vm_backend_detach(s->link);
    qemu_del_vm_change_state_handler(s->vm_state);
    qemu_bh_delete(s->tell);
    pcie_cap_exit(dev);
    vm2vm_pci_windows_exit(s);
    event_notifier_cleanup(&s->nobody);
    drop_own_link(s);
}

/* Migration */

static int vm2vm_pci_pre_save(void *opaque)
{
    Vm2vmPci *s = opaque;
    Vm2vmBackend *b = vm2vm_pci_backend(s);

    s->saved = (Vm2vmSaved) {
        .registered = b->registered,
        .offer = b->offer,
        .config_generation = b->config_generation,
        .epoch = b->epoch,
        .rarps = b->rarps,
        .peers = s->link->peers,
    };
    memcpy(s->saved.config, b->config, sizeof(b->config));
    return 0;
}

/* The guest's back-end goes on, and has lost its peer */
static int vm2vm_pci_post_load(void *opaque, int version_id)
{
    Vm2vmPci *s = opaque;
    Vm2vmBackend *b = vm2vm_pci_backend(s);
    Vm2vmSaved *saved = &s->saved;

    if (!saved->offer.queues || saved->offer.queues > VM2VM_PCI_MAX_QUEUES ||
        saved->offer.config_size > VM2VM_PCI_CONFIG_MAX_SIZE) {
        return -EINVAL;
    }
    vm2vm_backend_loaded(s->link, saved->epoch);
    b->offer = saved->offer;
    memcpy(b->config, saved->config, sizeof(b->config));
    b->config_generation = saved->config_generation;
    b->rarps = saved->rarps;
    s->link->peers = saved->peers;
    vm2vm_backend_register(s->link, saved->registered);
    return 0;
}

static const VMStateDescription vmstate_vm2vm_pci = {
    .name = "vm2vm-pci",
    .version_id = 1,
    .minimum_version_id = 1,
    .pre_save = vm2vm_pci_pre_save,
    .post_load = vm2vm_pci_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_PCI_DEVICE(parent_obj, Vm2vmPci),
        VMSTATE_MSIX(parent_obj, Vm2vmPci),
        VMSTATE_UINT64_ARRAY(refused, Vm2vmPci, 2),
        VMSTATE_BOOL(saved.registered, Vm2vmPci),
        VMSTATE_UINT64(saved.offer.features, Vm2vmPci),
        VMSTATE_UINT64(saved.offer.protocol, Vm2vmPci),
        VMSTATE_UINT32(saved.offer.device_type, Vm2vmPci),
        VMSTATE_UINT32(saved.offer.queues, Vm2vmPci),
        VMSTATE_UINT32(saved.offer.config_size, Vm2vmPci),
        VMSTATE_UINT8_ARRAY(saved.config, Vm2vmPci, VM2VM_MAX_CONFIG),
        VMSTATE_UINT32(saved.config_generation, Vm2vmPci),
        VMSTATE_UINT32(saved.epoch, Vm2vmPci),
        VMSTATE_UINT32(saved.rarps, Vm2vmPci),
        VMSTATE_UINT32(saved.peers, Vm2vmPci),
        VMSTATE_END_OF_LIST()
    }
};

static const Property vm2vm_pci_properties[] = {
    DEFINE_PROP_LINK("link", Vm2vmPci, link, TYPE_VM2VM_LINK, Vm2vmLink *),
    DEFINE_PROP_STRING("path", Vm2vmPci, path),
    DEFINE_PROP_SIZE("size", Vm2vmPci, size, 0),
    DEFINE_PROP_UINT64("base", Vm2vmPci, base, 0),
    DEFINE_PROP_STRING("unapproved", Vm2vmPci, unapproved),
};

static void vm2vm_pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);

    k->realize = vm2vm_pci_realize;
    k->exit = vm2vm_pci_exit;
    k->config_write = vm2vm_pci_config_write;
    k->vendor_id = VM2VM_PCI_VENDOR_ID;
    k->device_id = VM2VM_PCI_DEVICE_ID;
    k->class_id = PCI_CLASS_MEMORY_RAM;
    k->revision = VM2VM_PCI_VERSION_VALUE;
    device_class_set_legacy_reset(dc, vm2vm_pci_reset);
    device_class_set_props(dc, vm2vm_pci_properties);
    dc->vmsd = &vmstate_vm2vm_pci;
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
    dc->desc = "Memory of another virtual machine";
}

static const TypeInfo types[] = {
    {
        .name = TYPE_VM2VM_PCI,
        .parent = TYPE_PCI_DEVICE,
        .instance_size = sizeof(Vm2vmPci),
        .class_init = vm2vm_pci_class_init,
        .interfaces = (InterfaceInfo[]) {
            { INTERFACE_PCIE_DEVICE },
            { }
        },
    }
};

DEFINE_TYPES(types)
