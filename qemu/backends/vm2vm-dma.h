/*
 * vm2vm: a domain follows the DMA address space of a device
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BACKENDS_VM2VM_DMA_H
#define BACKENDS_VM2VM_DMA_H

#include "exec/memory.h"
#include "qapi/qapi-types-vm2vm.h"

typedef struct Vm2vmDma {
    const char *what;           /* for messages: "vm2vm-link", and its ID */
    const char *id;
    const char *property;       /* which would set the next one */
    bool bypass;                /* approve also what is not behind an IOMMU */
    bool bypassed;              /* there is, or was, such memory */
    bool ended;
    int domain;                 /* not ours */
    AddressSpace *as;           /* NULL: nothing is approved */
    MemoryListener listener;
    QLIST_HEAD(, Vm2vmIommu) iommus;
    GPtrArray *added;           /* sections, until the listener commits */
    uint64_t bytes;             /* that are approved */
    uint64_t failures;          /* mappings that KVM did not take */
    QLIST_ENTRY(Vm2vmDma) next; /* of those that are started */
} Vm2vmDma;

/*
 * From now on @domain approves what @as has, at once and until _stop(). That is
 * what an IOMMU maps, and with @bypass also what is there without one.
 */
void vm2vm_dma_start(Vm2vmDma *dma, const char *what, const char *id,
                     int domain, AddressSpace *as, const char *property,
                     bool bypass);
/* Ends the domain: nothing is approved any more, and nothing can be */
void vm2vm_dma_stop(Vm2vmDma *dma);
/* The first, or next, one that is started by @what */
Vm2vmDma *vm2vm_dma_next(Vm2vmDma *dma, const char *what);
/* What KVM has, neighbours joined */
Vm2vmRangeList *vm2vm_dma_approved(Vm2vmDma *dma);
/* What the address space has, asked anew */
Vm2vmRangeList *vm2vm_dma_translated(Vm2vmDma *dma);

#endif
