/*
 * vm2vm: the window of the PCI device, and what else it shows of the peer
 *
 * The window is a BAR that QEMU takes for I/O: what the owner approves KVM
 * shows there by alias memslots. What is not approved KVM fills, also when
 * there is no owner: then a domain that is empty is shown. Or else, if someone
 * wants to know, accesses come here, to read as all-ones or to vanish.
 *
 * A listener has the slots and the doorbells follow their BARs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "exec/address-spaces.h"
#include "system/accel-blocker.h"
#include "system/vm2vm.h"
#include "qemu/vm2vm-fd.h"
#include "vm2vm-pci.h"
#include "trace.h"

/* The window */

static bool fills(Vm2vmPci *s)
{
    return s->link->unapproved == VM2VM_UNAPPROVED_FILL;
}

/* false: there is nothing to be seen of it any more */
static bool part_link(Vm2vmPci *s, Vm2vmPart *p, int domain)
{
    p->slot = kvm_vm2vm_link(domain, p->gpa, s->link->base + p->offset, p->size,
                             fills(s));
    trace_vm2vm_pci_show(s->link->id, p->gpa, p->offset, p->size, p->slot);
    if (p->slot >= 0) {
        return true;
    }
    /* A domain may end at any time, before its owner says so */
    if (p->slot != -ENODEV) {
        error_report("vm2vm-pci: the window at 0x%" PRIx64 " shows nothing: %s",
                     p->gpa, strerror(-p->slot));
        p->failed = true;
    }
    p->slot = -1;
    return false;
}

static void part_show(Vm2vmPci *s, Vm2vmPart *p)
{
    int domain = vm2vm_backend_domain(s->link), nothing;

    if (domain >= 0 && part_link(s, p, domain)) {
        p->real = true;
        vm2vm_pci_backend(s)->shown += p->size;
        return;
    }
    nothing = fills(s) ? kvm_vm2vm_nothing() : -1;
    if (nothing >= 0) {
        part_link(s, p, nothing);
    }
}

static void part_hide(Vm2vmPci *s, Vm2vmPart *p)
{
    if (p->slot < 0) {
        return;
    }
    trace_vm2vm_pci_hide(s->link->id, p->gpa, p->slot);
    kvm_vm2vm_unlink(p->slot);
    p->slot = -1;
    if (p->real) {
        vm2vm_pci_backend(s)->shown -= p->size;
        p->real = false;
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

/* In-flight memory */

static uint64_t no_inflight_read(void *opaque, hwaddr addr, unsigned int size)
{
    return 0;
}

static void no_inflight_write(void *opaque, hwaddr addr, uint64_t value,
                              unsigned int size)
{
}

static const MemoryRegionOps no_inflight_ops = {
    .read = no_inflight_read,
    .write = no_inflight_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

/*
 * An object by itself: who still has it in a view of memory has a reference to
 * the owner of its region, and lets go of it whenever that view goes.
 */
static void memory_finalize(Object *obj)
{
    Vm2vmMemory *m = VM2VM_MEMORY(obj);

    if (m->addr) {
        munmap(m->addr, m->size);
    }
}

static const TypeInfo memory_info = {
    .name = TYPE_VM2VM_MEMORY,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(Vm2vmMemory),
    .instance_finalize = memory_finalize,
};

static void register_memory(void)
{
    type_register_static(&memory_info);
}

type_init(register_memory)

static void inflight_hide(Vm2vmPci *s)
{
    Vm2vmMemory *m = s->memory;

    if (m) {
        s->memory = NULL;
        memory_region_del_subregion(&s->inflight, &m->region);
        object_unref(OBJECT(m));
    }
}

static void inflight_show(Vm2vmPci *s)
{
    const Vm2vmInflight *inflight = vm2vm_backend_inflight(s->link);
    Vm2vmMemory *m;
    void *addr;

    if (!inflight) {
        return;
    }
    addr = mmap(NULL, inflight->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                inflight->fd, 0);
    if (addr == MAP_FAILED) {
        warn_report("vm2vm-pci: no in-flight memory: %s", strerror(errno));
        return;
    }
    m = VM2VM_MEMORY(object_new(TYPE_VM2VM_MEMORY));
    m->addr = addr;
    m->size = inflight->size;
    memory_region_init_ram_ptr(&m->region, OBJECT(m), "vm2vm-inflight-memory",
                               m->size, addr);
    memory_region_add_subregion_overlap(&s->inflight, 0, &m->region, 1);
    s->memory = m;
}

/*
 * While it changes no vCPU is in KVM: an access in between would have to be
 * emulated, which not every instruction can be.
 */
void vm2vm_pci_window_changed(Vm2vmPci *s)
{
    Vm2vmPart *p;

    accel_ioctl_inhibit_begin();
    QLIST_FOREACH(p, &s->windows, next) {
        part_hide(s, p);
        p->failed = false;
        part_show(s, p);
    }
    accel_ioctl_inhibit_end();
    inflight_hide(s);
    inflight_show(s);
}

/* Doorbells */

/* KVM has all of them wherever the guest has mapped them, or none. */
static void rings_assign(Vm2vmPci *s, bool assign)
{
    Vm2vmPart *p;

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

void vm2vm_pci_rings_changed(Vm2vmPci *s)
{
    int fds[VM2VM_PCI_MAX_QUEUES];
    bool any = false;
    int q;

    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        int call = vm2vm_backend_call(s->link, q);

        any |= call >= 0;
        fds[q] = call >= 0 ? call : event_notifier_get_fd(&s->nobody);
    }
    /* An ACK tells of all queues, one by one */
    if (any == s->rings_set && !memcmp(fds, s->ring_fds, sizeof(fds))) {
        return;
    }
    rings_assign(s, false);
    memcpy(s->ring_fds, fds, sizeof(fds));
    rings_assign(s, any);
}

static uint64_t doorbell_read(void *opaque, hwaddr addr, unsigned int size)
{
    return 0;
}

/* What KVM did not take: another place, or a queue that had no eventfd then */
static void doorbell_write(void *opaque, hwaddr addr, uint64_t value,
                           unsigned int size)
{
    Vm2vmPci *s = opaque;
    int call = -1;

    vm2vm_pci_backend(s)->slow_doorbells++;
    if (addr == 0 && value < VM2VM_PCI_MAX_QUEUES) {
        call = vm2vm_backend_call(s->link, value);
    }
    if (call >= 0) {
        vm2vm_fd_signal(s->link->chr.chr, call);
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

static Vm2vmPart *find_part(Vm2vmPart *p, const MemoryRegionSection *section)
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
    Vm2vmPart *p;

    if (section->mr != &s->window && section->mr != &s->doorbells) {
        return;
    }
    /* Less than a page cannot be shown, nor does a guest have a reason to */
    if ((section->offset_within_address_space | section->offset_within_region |
         int128_get64(section->size)) & (4 * KiB - 1)) {
        return;
    }
    p = g_new0(Vm2vmPart, 1);
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
    Vm2vmPart *p = NULL;

    if (section->mr == &s->window) {
        p = find_part(QLIST_FIRST(&s->windows), section);
    } else if (section->mr == &s->doorbells) {
        p = find_part(QLIST_FIRST(&s->rings), section);
    }
    if (!p) {
        return;
    }
    if (section->mr == &s->window) {
        part_hide(s, p);
    } else {
        rings_assign(s, false);
    }
    QLIST_REMOVE(p, next);
    g_free(p);
}

static void commit(MemoryListener *listener)
{
    Vm2vmPci *s = container_of(listener, Vm2vmPci, listener);
    Vm2vmPart *p;

    QLIST_FOREACH(p, &s->windows, next) {
        if (p->slot < 0 && !p->failed) {
            part_show(s, p);
        }
    }
    if (!s->rings_set) {
        vm2vm_pci_rings_changed(s);
    }
}

void vm2vm_pci_windows_init(Vm2vmPci *s)
{
    PCIDevice *dev = PCI_DEVICE(s);
    const uint8_t prefetchable = PCI_BASE_ADDRESS_SPACE_MEMORY |
        PCI_BASE_ADDRESS_MEM_PREFETCH | PCI_BASE_ADDRESS_MEM_TYPE_64;

    memory_region_init(&s->bar, OBJECT(s), "vm2vm",
                       VM2VM_PCI_REGISTERS_BAR_SIZE);
    memory_region_init_io(&s->registers, OBJECT(s), &vm2vm_pci_register_ops, s,
                          "vm2vm-registers", VM2VM_REGISTERS_SIZE);
    memory_region_init_io(&s->doorbells, OBJECT(s), &doorbell_ops, s,
                          "vm2vm-doorbells", VM2VM_DOORBELLS_SIZE);
    memory_region_add_subregion(&s->bar, 0, &s->registers);
    memory_region_add_subregion(&s->bar, VM2VM_PCI_DOORBELL_OFFSET_VALUE,
                                &s->doorbells);
    memory_region_init_io(&s->window, OBJECT(s), &window_ops, s,
                          "vm2vm-window", s->link->size);
    memory_region_init(&s->inflight, OBJECT(s), "vm2vm-inflight",
                       VM2VM_PCI_INFLIGHT_BAR_SIZE);
    memory_region_init_io(&s->no_inflight, OBJECT(s), &no_inflight_ops, s,
                          "vm2vm-no-inflight", VM2VM_PCI_INFLIGHT_BAR_SIZE);
    memory_region_add_subregion(&s->inflight, 0, &s->no_inflight);
    pci_register_bar(dev, VM2VM_PCI_REGISTERS_BAR,
                     PCI_BASE_ADDRESS_SPACE_MEMORY, &s->bar);
    pci_register_bar(dev, VM2VM_PCI_WINDOW_BAR, prefetchable, &s->window);
    pci_register_bar(dev, VM2VM_PCI_INFLIGHT_BAR, prefetchable, &s->inflight);
}

void vm2vm_pci_windows_listen(Vm2vmPci *s)
{
    s->listener = (MemoryListener) {
        .name = "vm2vm-pci",
        .region_add = region_add,
        .region_del = region_del,
        .commit = commit,
        /* After KVM's own */
        .priority = MEMORY_LISTENER_PRIORITY_ACCEL + 1,
    };
    memory_listener_register(&s->listener, &address_space_memory);
}

/* Takes the windows and the doorbells away */
void vm2vm_pci_windows_unlisten(Vm2vmPci *s)
{
    memory_listener_unregister(&s->listener);
}

/* A region that is in another one has a reference to its device */
void vm2vm_pci_windows_exit(Vm2vmPci *s)
{
    inflight_hide(s);
    memory_region_del_subregion(&s->inflight, &s->no_inflight);
    memory_region_del_subregion(&s->bar, &s->doorbells);
    memory_region_del_subregion(&s->bar, &s->registers);
}
