/*
 * vm2vm: the PCI device that shows a backend's guest its peer
 *
 * The window is a BAR that QEMU takes for I/O: what the owner approves KVM
 * shows there by alias memslots, and an access to anything else comes here, to
 * read as all-ones or to vanish. A listener has the slots and the doorbells
 * follow their BARs.
 *
 * standard-headers/vm2vm_pci.h is the guest's view of this.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include "exec/address-spaces.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "hw/pci/pci_device.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "migration/blocker.h"
#include "standard-headers/vm2vm_pci.h"
#include "system/kvm.h"
#include "backends/vm2vm-link.h"
#include "trace.h"

#define TYPE_VM2VM_PCI "vm2vm-pci"
OBJECT_DECLARE_SIMPLE_TYPE(Vm2vmPci, VM2VM_PCI)

#define NR_VECTORS VM2VM_PCI_VECTOR_QUEUE(VM2VM_PCI_MAX_QUEUES)
#define REGISTERS_SIZE (4 * KiB)
#define DOORBELLS_SIZE (4 * KiB)

QEMU_BUILD_BUG_ON(VM2VM_PCI_MAX_QUEUES != VM2VM_MAX_QUEUES);

/* A part of a region that the guest has mapped somewhere */
typedef struct Part {
    uint64_t gpa;
    uint64_t offset;
    uint64_t size;
    int slot;                   /* -1: nothing is shown there ... */
    bool failed;                /* ... and KVM has been asked */
    QLIST_ENTRY(Part) next;
} Part;

/* The interrupt of a queue */
typedef struct Vector {
    EventNotifier n;            /* the kick's eventfd, if has_fd */
    bool has_fd;
    bool irqfd;                 /* KVM has it, too */
    bool used;                  /* the guest has unmasked the vector ... */
    int virq;                   /* ... and so there is a route, or -1 */
    uint32_t kicks;
} Vector;

struct Vm2vmPci {
    PCIDevice parent_obj;

    /* Properties */
    Vm2vmLink *link;

    MemoryRegion bar;
    MemoryRegion registers;
    MemoryRegion doorbells;
    MemoryRegion window;
    MemoryListener listener;
    QLIST_HEAD(, Part) windows;
    QLIST_HEAD(, Part) rings;
    bool rings_set;
    int ring_fds[VM2VM_PCI_MAX_QUEUES];
    EventNotifier nobody;       /* rings of queues that have no eventfd */
    Vector vectors[VM2VM_PCI_MAX_QUEUES];
    uint64_t refused[2];        /* since reset */
    uint32_t generation;
    Error *blocker;
};

static Vm2vmBackend *backend(Vm2vmPci *s)
{
    return &s->link->backend;
}

/* The window */

static void window_show(Vm2vmPci *s, Part *p)
{
    if (p->slot >= 0 || p->failed || backend(s)->domain < 0) {
        return;
    }
    p->slot = kvm_vm2vm_link(backend(s)->domain, p->gpa,
                             s->link->base + p->offset, p->size);
    trace_vm2vm_pci_show(s->link->id, p->gpa, p->offset, p->size, p->slot);
    if (p->slot < 0) {
        error_report("vm2vm-pci: the window at 0x%" PRIx64 " shows nothing: %s",
                     p->gpa, strerror(-p->slot));
        p->slot = -1;
        p->failed = true;
        return;
    }
    backend(s)->shown += p->size;
}

static void window_hide(Vm2vmPci *s, Part *p)
{
    if (p->slot >= 0) {
        trace_vm2vm_pci_hide(s->link->id, p->gpa, p->slot);
        kvm_vm2vm_unlink(p->slot);
        p->slot = -1;
        backend(s)->shown -= p->size;
    }
}

static uint64_t window_read(void *opaque, hwaddr addr, unsigned int size)
{
    Vm2vmPci *s = opaque;

    s->refused[0]++;
    vm2vm_backend_refused(s->link, s->link->base + addr, false);
    return UINT64_MAX;
}

static void window_write(void *opaque, hwaddr addr, uint64_t value,
                         unsigned int size)
{
    Vm2vmPci *s = opaque;

    s->refused[1]++;
    vm2vm_backend_refused(s->link, s->link->base + addr, true);
}

static const MemoryRegionOps window_ops = {
    .read = window_read,
    .write = window_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/* Doorbells */

/* KVM has all of them wherever the guest has mapped them, or none. */
static void rings_assign(Vm2vmPci *s, bool assign)
{
    Part *p;

    if (s->rings_set == assign) {
        return;
    }
    QLIST_FOREACH(p, &s->rings, next) {
        int ret = kvm_vm2vm_doorbells(p->gpa, s->ring_fds,
                                      VM2VM_PCI_MAX_QUEUES, assign);

        if (ret) {
            /* They still ring, by way of QEMU */
            warn_report("vm2vm-pci: KVM does not take the doorbells at 0x%"
                        PRIx64 ": %s", p->gpa, strerror(-ret));
        }
    }
    s->rings_set = assign;
}

static void rings_update(Vm2vmPci *s)
{
    bool any = false;
    int q;

    rings_assign(s, false);
    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        Vm2vmQueue *queue = &backend(s)->queues[q];

        s->ring_fds[q] = event_notifier_get_fd(&s->nobody);
        if (queue->enabled && queue->call >= 0) {
            s->ring_fds[q] = queue->call;
            any = true;
        }
    }
    rings_assign(s, any);
}

static uint64_t doorbell_read(void *opaque, hwaddr addr, unsigned int size)
{
    return 0;
}

/* What KVM did not take: another width or place, or a queue without eventfd */
static void doorbell_write(void *opaque, hwaddr addr, uint64_t value,
                           unsigned int size)
{
    Vm2vmPci *s = opaque;
    uint64_t one = 1;

    backend(s)->slow_doorbells++;
    if (addr == 0 && value < VM2VM_PCI_MAX_QUEUES) {
        Vm2vmQueue *queue = &backend(s)->queues[value];

        /* The peer may have filled it up, and made it wait for who reads */
        if (queue->enabled && queue->call >= 0) {
            GPollFD fd = { .fd = queue->call, .events = G_IO_OUT };

            if (g_poll(&fd, 1, 0) == 1 &&
                write(queue->call, &one, sizeof(one)) < 0) {
                trace_vm2vm_pci_ring_lost(s->link->id, value, errno);
            }
        }
    }
}

static const MemoryRegionOps doorbell_ops = {
    .read = doorbell_read,
    .write = doorbell_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 4 },
    .impl = { .min_access_size = 4, .max_access_size = 4 },
};

/* Where the guest has the regions */

static Part *find_part(Part *p, const MemoryRegionSection *section)
{
    while (p && (p->gpa != section->offset_within_address_space ||
                 p->offset != section->offset_within_region)) {
        p = QLIST_NEXT(p, next);
    }
    return p;
}

static void region_add(MemoryListener *listener, MemoryRegionSection *section)
{
    Vm2vmPci *s = container_of(listener, Vm2vmPci, listener);
    Part *p;

    if (section->mr != &s->window && section->mr != &s->doorbells) {
        return;
    }
    /* Less than a page cannot be shown, nor does a guest have a reason to */
    if ((section->offset_within_address_space | section->offset_within_region |
         int128_get64(section->size)) & (4 * KiB - 1)) {
        return;
    }
    p = g_new0(Part, 1);
    p->gpa = section->offset_within_address_space;
    p->offset = section->offset_within_region;
    p->size = int128_get64(section->size);
    p->slot = -1;
    if (section->mr == &s->window) {
        QLIST_INSERT_HEAD(&s->windows, p, next);
    } else {
        rings_assign(s, false);
        QLIST_INSERT_HEAD(&s->rings, p, next);
    }
}

/* At once: what comes next to this place may be a memslot of KVM's own */
static void region_del(MemoryListener *listener, MemoryRegionSection *section)
{
    Vm2vmPci *s = container_of(listener, Vm2vmPci, listener);
    Part *p = NULL;

    if (section->mr == &s->window) {
        p = find_part(QLIST_FIRST(&s->windows), section);
    } else if (section->mr == &s->doorbells) {
        p = find_part(QLIST_FIRST(&s->rings), section);
    }
    if (!p) {
        return;
    }
    if (section->mr == &s->window) {
        window_hide(s, p);
    } else {
        rings_assign(s, false);
    }
    QLIST_REMOVE(p, next);
    g_free(p);
}

static void commit(MemoryListener *listener)
{
    Vm2vmPci *s = container_of(listener, Vm2vmPci, listener);
    Part *p;

    QLIST_FOREACH(p, &s->windows, next) {
        window_show(s, p);
    }
    if (!s->rings_set) {
        rings_update(s);
    }
}

/* Interrupts */

static void vector_connect(Vm2vmPci *s, int q)
{
    Vector *v = &s->vectors[q];

    if (v->has_fd && v->virq >= 0 && !v->irqfd) {
        v->irqfd = !kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, &v->n, NULL,
                                                       v->virq);
    }
}

static void vector_disconnect(Vm2vmPci *s, int q)
{
    Vector *v = &s->vectors[q];

    if (v->irqfd) {
        kvm_irqchip_remove_irqfd_notifier_gsi(kvm_state, &v->n, v->virq);
        v->irqfd = false;
    }
}

static int vector_use(PCIDevice *dev, unsigned int vector, MSIMessage msg)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    KVMRouteChange c;
    Vector *v;

    if (vector < VM2VM_PCI_VECTOR_QUEUE(0)) {
        return 0;
    }
    v = &s->vectors[vector - VM2VM_PCI_VECTOR_QUEUE(0)];
    c = kvm_irqchip_begin_route_changes(kvm_state);
    v->virq = kvm_irqchip_add_msi_route(&c, vector, dev);
    if (v->virq < 0) {
        return v->virq;
    }
    kvm_irqchip_commit_route_changes(&c);
    v->used = true;
    vector_connect(s, vector - VM2VM_PCI_VECTOR_QUEUE(0));
    return 0;
}

static void vector_release(PCIDevice *dev, unsigned int vector)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    Vector *v;

    if (vector < VM2VM_PCI_VECTOR_QUEUE(0)) {
        return;
    }
    v = &s->vectors[vector - VM2VM_PCI_VECTOR_QUEUE(0)];
    if (!v->used) {
        return;
    }
    vector_disconnect(s, vector - VM2VM_PCI_VECTOR_QUEUE(0));
    kvm_irqchip_release_virq(kvm_state, v->virq);
    v->virq = -1;
    v->used = false;
}

/* Kicks of a queue whose interrupt is masked: they are pending. */
static void vector_poll(PCIDevice *dev, unsigned int first, unsigned int end)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    unsigned int vector;

    for (vector = MAX(first, VM2VM_PCI_VECTOR_QUEUE(0)); vector < end;
         vector++) {
        Vector *v = &s->vectors[vector - VM2VM_PCI_VECTOR_QUEUE(0)];

        if (v->has_fd && !v->irqfd && event_notifier_test_and_clear(&v->n)) {
            msix_set_pending(dev, vector);
        }
    }
}

static uint32_t read_kicks(Vm2vmPci *s, int q)
{
    Vector *v = &s->vectors[q];

    if (v->has_fd && !v->irqfd && event_notifier_test_and_clear(&v->n)) {
        v->kicks++;
    }
    return v->kicks;
}

/* What the link tells */

static void tell_guest(Vm2vmPci *s)
{
    if (msix_enabled(PCI_DEVICE(s))) {
        msix_notify(PCI_DEVICE(s), VM2VM_PCI_VECTOR_STATE);
    }
}

static void domain_changed(void *opaque)
{
    Vm2vmPci *s = opaque;
    Part *p;

    QLIST_FOREACH(p, &s->windows, next) {
        window_hide(s, p);
        p->failed = false;
        window_show(s, p);
    }
    if (backend(s)->domain >= 0) {
        s->generation++;
    }
}

static void queue_changed(void *opaque, unsigned int q)
{
    Vm2vmPci *s = opaque;
    Vm2vmQueue *queue = &backend(s)->queues[q];
    Vector *v = &s->vectors[q];

    if (v->has_fd) {
        vector_disconnect(s, q);
        v->has_fd = false;
    }
    v->kicks = 0;
    if (queue->enabled && queue->kick >= 0) {
        event_notifier_init_fd(&v->n, queue->kick);
        v->has_fd = true;
        vector_connect(s, q);
    }
    rings_update(s);
}

static void state_changed(void *opaque)
{
    tell_guest(opaque);
}

static const Vm2vmBackendOps backend_ops = {
    .domain = domain_changed,
    .queue = queue_changed,
    .state = state_changed,
};

/* Registers */

static uint32_t state(Vm2vmPci *s)
{
    Vm2vmBackend *b = backend(s);
    uint32_t state = 0;

    if (s->link->ready) {
        state |= VM2VM_PCI_STATE_CONNECTED;
    }
    if (b->shown) {
        state |= VM2VM_PCI_STATE_WINDOW;
    }
    if (b->status & VIRTIO_CONFIG_S_DRIVER_OK) {
        state |= VM2VM_PCI_STATE_DRIVER_OK;
    }
    return state;
}

static uint64_t queue_read(Vm2vmPci *s, unsigned int q, hwaddr addr)
{
    Vm2vmQueue *queue = &backend(s)->queues[q];

    if (!queue->enabled) {
        return 0;
    }
    switch (addr) {
    case VM2VM_PCI_QUEUE_ENABLED:
        return 1;
    case VM2VM_PCI_QUEUE_SIZE:
        return queue->size;
    case VM2VM_PCI_QUEUE_NEXT:
        return queue->next;
    case VM2VM_PCI_QUEUE_DESC:
        return queue->desc;
    case VM2VM_PCI_QUEUE_AVAIL:
        return queue->avail;
    case VM2VM_PCI_QUEUE_USED:
        return queue->used;
    case VM2VM_PCI_QUEUE_KICKS:
        return read_kicks(s, q);
    }
    return 0;
}

/* The register at a multiple of 8, or one of 4 bytes */
static uint64_t register_value(Vm2vmPci *s, hwaddr addr)
{
    Vm2vmBackend *b = backend(s);

    if (addr >= VM2VM_PCI_QUEUE(0) &&
        addr < VM2VM_PCI_QUEUE(VM2VM_PCI_MAX_QUEUES)) {
        addr -= VM2VM_PCI_QUEUE(0);
        return queue_read(s, addr / 0x40, addr % 0x40);
    }
    switch (addr) {
    case VM2VM_PCI_MAGIC:
        return VM2VM_PCI_MAGIC_VALUE;
    case VM2VM_PCI_VERSION:
        return VM2VM_PCI_VERSION_VALUE;
    case VM2VM_PCI_STATE:
        return state(s);
    case VM2VM_PCI_GENERATION:
        return s->generation;
    case VM2VM_PCI_SIZE:
        return s->link->size;
    case VM2VM_PCI_BASE:
        return s->link->base;
    case VM2VM_PCI_DEVICE_TYPE:
        return b->device_type;
    case VM2VM_PCI_NR_QUEUES:
        return b->nr_queues;
    case VM2VM_PCI_DEVICE_STATUS:
        return b->status;
    case VM2VM_PCI_DOORBELL_OFFSET:
        return REGISTERS_SIZE;
    case VM2VM_PCI_FEATURES:
        return b->features;
    case VM2VM_PCI_REFUSED_READS:
        return s->refused[0];
    case VM2VM_PCI_REFUSED_WRITES:
        return s->refused[1];
    }
    return 0;
}

static bool is_64_bit(hwaddr addr)
{
    if (addr >= VM2VM_PCI_QUEUE(0)) {
        addr = (addr - VM2VM_PCI_QUEUE(0)) % 0x40;
        return addr == VM2VM_PCI_QUEUE_DESC || addr == VM2VM_PCI_QUEUE_AVAIL ||
            addr == VM2VM_PCI_QUEUE_USED;
    }
    return addr == VM2VM_PCI_SIZE || addr == VM2VM_PCI_BASE ||
        addr == VM2VM_PCI_FEATURES || addr == VM2VM_PCI_REFUSED_READS ||
        addr == VM2VM_PCI_REFUSED_WRITES;
}

static uint64_t registers_read(void *opaque, hwaddr addr, unsigned int size)
{
    Vm2vmPci *s = opaque;
    hwaddr whole = addr & ~7ULL;

    if (is_64_bit(whole)) {
        return register_value(s, whole) >> (8 * (addr - whole));
    }
    if (size == 8) {
        return (register_value(s, addr) & UINT32_MAX) |
            register_value(s, addr + 4) << 32;
    }
    return register_value(s, addr);
}

static void registers_write(void *opaque, hwaddr addr, uint64_t value,
                           unsigned int size)
{
}

static const MemoryRegionOps register_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 4, .max_access_size = 8 },
    .impl = { .min_access_size = 4, .max_access_size = 8 },
};

static void vm2vm_pci_reset(DeviceState *dev)
{
    Vm2vmPci *s = VM2VM_PCI(dev);

    msix_reset(PCI_DEVICE(s));
    s->refused[0] = s->refused[1] = 0;
}

/* A region that is in another one has a reference to its device */
static void remove_regions(Vm2vmPci *s)
{
    memory_region_del_subregion(&s->bar, &s->doorbells);
    memory_region_del_subregion(&s->bar, &s->registers);
}

static void vm2vm_pci_realize(PCIDevice *dev, Error **errp)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    int q, ret;

    if (!s->link) {
        error_setg(errp, "property 'link' is missing");
        error_append_hint(errp, "Name a link of role 'backend': -object "
                          "vm2vm-link,id=ID,role=backend,...\n");
        return;
    }
    if (!kvm_msi_via_irqfd_enabled()) {
        error_setg(errp, "vm2vm-pci needs interrupts in KVM");
        error_append_hint(errp, "Use kernel-irqchip=on, or =split.\n");
        return;
    }
    if (!vm2vm_backend_attach(s->link, &backend_ops, s, DEVICE(dev)->id,
                              errp)) {
        return;
    }
    error_setg(&s->blocker, "a vm2vm window cannot migrate: unplug device '%s' "
               "first", DEVICE(dev)->id ?: "vm2vm-pci");
    if (migrate_add_blocker(&s->blocker, errp)) {
        goto detach;
    }
    ret = event_notifier_init(&s->nobody, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "no eventfd");
        goto unblock;
    }
    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        s->vectors[q].virq = -1;
        s->ring_fds[q] = event_notifier_get_fd(&s->nobody);
    }

    memory_region_init(&s->bar, OBJECT(s), "vm2vm", REGISTERS_SIZE +
                       DOORBELLS_SIZE);
    memory_region_init_io(&s->registers, OBJECT(s), &register_ops, s,
                          "vm2vm-registers", REGISTERS_SIZE);
    memory_region_init_io(&s->doorbells, OBJECT(s), &doorbell_ops, s,
                          "vm2vm-doorbells", DOORBELLS_SIZE);
    memory_region_add_subregion(&s->bar, 0, &s->registers);
    memory_region_add_subregion(&s->bar, REGISTERS_SIZE, &s->doorbells);
    memory_region_init_io(&s->window, OBJECT(s), &window_ops, s,
                          "vm2vm-window", s->link->size);
    pci_register_bar(dev, VM2VM_PCI_REGISTERS_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY, &s->bar);
    pci_register_bar(dev, VM2VM_PCI_WINDOW_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY |
                     PCI_BASE_ADDRESS_MEM_PREFETCH |
                     PCI_BASE_ADDRESS_MEM_TYPE_64, &s->window);
    if (msix_init_exclusive_bar(dev, NR_VECTORS, VM2VM_PCI_MSIX_BAR, errp)) {
        goto regions;
    }
    for (q = 0; q < NR_VECTORS; q++) {
        msix_vector_use(dev, q);
    }
    ret = msix_set_vector_notifiers(dev, vector_use, vector_release,
                                    vector_poll);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "no notifiers of MSI-X vectors");
        goto msix;
    }
    if (pcie_endpoint_cap_init(dev, 0x80) < 0) {
        error_setg(errp, "no PCI Express capability");
        goto notifiers;
    }

    /* A link that already has a peer shows it from the start */
    if (backend(s)->domain >= 0) {
        s->generation++;
    }
    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        if (backend(s)->queues[q].enabled) {
            queue_changed(s, q);
        }
    }
    s->listener = (MemoryListener) {
        .name = "vm2vm-pci",
        .region_add = region_add,
        .region_del = region_del,
        .commit = commit,
        /* After KVM's own */
        .priority = MEMORY_LISTENER_PRIORITY_ACCEL + 1,
    };
    memory_listener_register(&s->listener, &address_space_memory);
    return;

notifiers:
    msix_unset_vector_notifiers(dev);
msix:
    msix_uninit_exclusive_bar(dev);
regions:
    remove_regions(s);
    event_notifier_cleanup(&s->nobody);
unblock:
    migrate_del_blocker(&s->blocker);
detach:
    vm2vm_backend_detach(s->link);
}

static void vm2vm_pci_exit(PCIDevice *dev)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    int q;

    /* Takes the windows and the doorbells away */
    memory_listener_unregister(&s->listener);
    msix_unset_vector_notifiers(dev);
    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        vector_disconnect(s, q);
    }
    vm2vm_backend_detach(s->link);
    pcie_cap_exit(dev);
    msix_uninit_exclusive_bar(dev);
    remove_regions(s);
    event_notifier_cleanup(&s->nobody);
    migrate_del_blocker(&s->blocker);
}

static const Property vm2vm_pci_properties[] = {
    DEFINE_PROP_LINK("link", Vm2vmPci, link, TYPE_VM2VM_LINK, Vm2vmLink *),
};

static void vm2vm_pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *k = PCI_DEVICE_CLASS(klass);

    k->realize = vm2vm_pci_realize;
    k->exit = vm2vm_pci_exit;
    k->vendor_id = VM2VM_PCI_VENDOR_ID;
    k->device_id = VM2VM_PCI_DEVICE_ID;
    k->class_id = PCI_CLASS_MEMORY_RAM;
    k->revision = VM2VM_PCI_VERSION_VALUE;
    device_class_set_legacy_reset(dc, vm2vm_pci_reset);
    device_class_set_props(dc, vm2vm_pci_properties);
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
