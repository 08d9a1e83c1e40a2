/*
 * vm2vm: what the parts of the PCI device share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_MISC_VM2VM_PCI_H
#define HW_MISC_VM2VM_PCI_H

#include "hw/pci/pci_device.h"
#include "qemu/rcu.h"
#include "standard-headers/vm2vm_pci.h"
#include "backends/vm2vm-link.h"

#define TYPE_VM2VM_PCI "vm2vm-pci"
OBJECT_DECLARE_SIMPLE_TYPE(Vm2vmPci, VM2VM_PCI)

#define VM2VM_REGISTERS_SIZE VM2VM_PCI_DOORBELL_OFFSET_VALUE
#define VM2VM_DOORBELLS_SIZE 0x1000

/* A part of a region that the guest has mapped somewhere */
typedef struct Vm2vmPart {
    uint64_t gpa;
    uint64_t offset;
    uint64_t size;
    int slot;                   /* -1: nothing is shown there ... */
    bool failed;                /* ... and KVM has been asked */
    bool real;                  /* it is of the peer's domain */
    QLIST_ENTRY(Vm2vmPart) next;
} Vm2vmPart;

/* The interrupt of a queue */
typedef struct Vm2vmVector {
    PCIDevice *dev;
    unsigned int vector;
    EventNotifier n;            /* the kick's eventfd, if has_fd */
    bool has_fd;
    bool irqfd;                 /* KVM has it, too */
    bool used;                  /* the guest has unmasked the vector ... */
    int virq;                   /* ... so there is a route, or -1 if not */
    bool watched;               /* without one QEMU looks at the eventfd */
    uint32_t kicks;
} Vm2vmVector;

/* In-flight memory that BAR 4 shows */
#define TYPE_VM2VM_MEMORY "vm2vm-inflight-memory"
OBJECT_DECLARE_SIMPLE_TYPE(Vm2vmMemory, VM2VM_MEMORY)

struct Vm2vmMemory {
    Object parent_obj;
    MemoryRegion region;
    void *addr;
    uint64_t size;
};

/* Of the link's, what goes with the guest */
typedef struct Vm2vmSaved {
    bool registered;
    Vm2vmOffer offer;
    uint8_t config[VM2VM_MAX_CONFIG];
    uint32_t config_generation;
    uint32_t epoch;
    uint32_t rarps;
    uint32_t peers;
} Vm2vmSaved;

struct Vm2vmPci {
    PCIDevice parent_obj;

    /* Properties; and if there is a path, what the device has made of them */
    Vm2vmLink *link;
    char *path;
    uint64_t size;
    uint64_t base;
    char *unapproved;
    bool own_link;
    Chardev *own_chardev;

    MemoryRegion bar;
    MemoryRegion registers;
    MemoryRegion doorbells;
    MemoryRegion window;
    MemoryRegion inflight;
    MemoryRegion no_inflight;
    Vm2vmMemory *memory;
    MemoryListener listener;
    QLIST_HEAD(, Vm2vmPart) windows;
    QLIST_HEAD(, Vm2vmPart) rings;
    bool rings_set;
    int ring_fds[VM2VM_PCI_MAX_QUEUES];
    EventNotifier nobody;       /* rings of queues that have no eventfd */
    Vm2vmVector vectors[VM2VM_PCI_MAX_QUEUES];
    uint64_t refused[2];        /* since reset */
    QEMUBH *tell;               /* the guest */
    bool tell_later;            /* when the VM runs */
    VMChangeStateEntry *vm_state;
    Vm2vmSaved saved;
};

static inline Vm2vmBackend *vm2vm_pci_backend(Vm2vmPci *s)
{
    return &s->link->backend;
}

/* vm2vm-pci-window.c: the window, the doorbells and the in-flight memory */
void vm2vm_pci_windows_init(Vm2vmPci *s);
void vm2vm_pci_windows_listen(Vm2vmPci *s);
void vm2vm_pci_windows_unlisten(Vm2vmPci *s);
void vm2vm_pci_windows_exit(Vm2vmPci *s);
void vm2vm_pci_window_changed(Vm2vmPci *s);
void vm2vm_pci_rings_changed(Vm2vmPci *s);

/* vm2vm-pci-vectors.c: interrupts */
bool vm2vm_pci_vectors_init(Vm2vmPci *s, Error **errp);
void vm2vm_pci_vectors_exit(Vm2vmPci *s);
void vm2vm_pci_kick_changed(Vm2vmPci *s, unsigned int q);
uint32_t vm2vm_pci_kicks(Vm2vmPci *s, unsigned int q);

/* vm2vm-pci-regs.c */
extern const MemoryRegionOps vm2vm_pci_register_ops;

#endif
