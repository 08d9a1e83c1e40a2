/*
 * vm2vm: the interrupts of the PCI device
 *
 * Those of queues are the peer's kicks, of which KVM makes interrupts itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "hw/pci/msi.h"
#include "hw/pci/msix.h"
#include "system/kvm.h"
#include "vm2vm-pci.h"

/* Kicks that KVM makes no interrupt of: are there some? */
static bool take_kick(Vm2vmVector *v)
{
    return v->has_fd && !v->irqfd && event_notifier_test_and_clear(&v->n);
}

static void kicked(void *opaque)
{
    Vm2vmVector *v = opaque;

    if (take_kick(v)) {
        msix_notify(v->dev, v->vector);
    }
}

static void vector_connect(Vm2vmVector *v)
{
    if (!v->has_fd || !v->used || v->irqfd || v->watched) {
        return;
    }
    if (v->virq >= 0) {
        v->irqfd = !kvm_irqchip_add_irqfd_notifier_gsi(kvm_state, &v->n, NULL,
                                                       v->virq);
    }
    if (!v->irqfd) {
        v->watched = true;
        qemu_set_fd_handler(event_notifier_get_fd(&v->n), kicked, NULL, v);
    }
}

static void vector_disconnect(Vm2vmVector *v)
{
    if (v->irqfd) {
        kvm_irqchip_remove_irqfd_notifier_gsi(kvm_state, &v->n, v->virq);
        v->irqfd = false;
    }
    if (v->watched) {
        qemu_set_fd_handler(event_notifier_get_fd(&v->n), NULL, NULL, NULL);
        v->watched = false;
    }
}

static int vector_use(PCIDevice *dev, unsigned int vector, MSIMessage msg)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    KVMRouteChange c;
    Vm2vmVector *v;

    if (vector < VM2VM_PCI_VECTOR_QUEUE(0)) {
        return 0;
    }
    v = &s->vectors[vector - VM2VM_PCI_VECTOR_QUEUE(0)];
    c = kvm_irqchip_begin_route_changes(kvm_state);
    v->virq = kvm_irqchip_add_msi_route(&c, vector, dev);
    if (v->virq >= 0) {
        kvm_irqchip_commit_route_changes(&c);
    }
    /* All of a VM's devices share the routes, and the caller takes no no */
    v->used = true;
    vector_connect(v);
    return 0;
}

static void vector_release(PCIDevice *dev, unsigned int vector)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    Vm2vmVector *v;

    if (vector < VM2VM_PCI_VECTOR_QUEUE(0)) {
        return;
    }
    v = &s->vectors[vector - VM2VM_PCI_VECTOR_QUEUE(0)];
    if (!v->used) {
        return;
    }
    vector_disconnect(v);
    if (v->virq >= 0) {
        kvm_irqchip_release_virq(kvm_state, v->virq);
        v->virq = -1;
    }
    v->used = false;
}

/* Kicks of a queue whose interrupt is masked: they are pending. */
static void vector_poll(PCIDevice *dev, unsigned int first, unsigned int end)
{
    Vm2vmPci *s = VM2VM_PCI(dev);
    unsigned int vector;

    for (vector = MAX(first, VM2VM_PCI_VECTOR_QUEUE(0)); vector < end;
         vector++) {
        if (take_kick(&s->vectors[vector - VM2VM_PCI_VECTOR_QUEUE(0)])) {
            msix_set_pending(dev, vector);
        }
    }
}

uint32_t vm2vm_pci_kicks(Vm2vmPci *s, unsigned int q)
{
    Vm2vmVector *v = &s->vectors[q];

    if (v->watched) {
        kicked(v);
    } else if (take_kick(v)) {
        v->kicks++;
    }
    return v->kicks;
}

void vm2vm_pci_kick_changed(Vm2vmPci *s, unsigned int q)
{
    int kick = vm2vm_backend_kick(s->link, q);
    Vm2vmVector *v = &s->vectors[q];

    if (v->has_fd ? event_notifier_get_fd(&v->n) == kick : kick < 0) {
        return;
    }
    vector_disconnect(v);
    v->has_fd = kick >= 0;
    v->kicks = 0;
    if (v->has_fd) {
        event_notifier_init_fd(&v->n, kick);
        vector_connect(v);
    }
}

bool vm2vm_pci_vectors_init(Vm2vmPci *s, Error **errp)
{
    PCIDevice *dev = PCI_DEVICE(s);
    int i, ret;

    for (i = 0; i < VM2VM_PCI_MAX_QUEUES; i++) {
        s->vectors[i].virq = -1;
        s->vectors[i].dev = dev;
        s->vectors[i].vector = VM2VM_PCI_VECTOR_QUEUE(i);
    }
    if (msix_init_exclusive_bar(dev, VM2VM_PCI_NR_VECTORS, VM2VM_PCI_MSIX_BAR,
                                errp)) {
        return false;
    }
    for (i = 0; i < VM2VM_PCI_NR_VECTORS; i++) {
        msix_vector_use(dev, i);
    }
    ret = msix_set_vector_notifiers(dev, vector_use, vector_release,
                                    vector_poll);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "no notifiers of MSI-X vectors");
        msix_uninit_exclusive_bar(dev);
        return false;
    }
    return true;
}

void vm2vm_pci_vectors_exit(Vm2vmPci *s)
{
    int q;

    msix_unset_vector_notifiers(PCI_DEVICE(s));
    for (q = 0; q < VM2VM_PCI_MAX_QUEUES; q++) {
        vector_disconnect(&s->vectors[q]);
    }
    msix_uninit_exclusive_bar(PCI_DEVICE(s));
}
