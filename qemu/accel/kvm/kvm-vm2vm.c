/*
 * vm2vm: KVM's calls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/kvm_vm2vm.h>
#include "qapi/error.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "qemu/bitmap.h"
#include "qemu/error-report.h"
#include "system/vm2vm.h"

/*
 * Slots of windows are those at the top, which KVM's memory listener does not
 * get any more: it counts from 0, and is told that there are fewer.
 */
#define KVM_VM2VM_SLOTS 1024
static unsigned long *slots_used;
static unsigned int slots_base;

/* File descriptors of event notifiers whose ioeventfds are to be doorbells */
static GHashTable *doorbells;

bool kvm_vm2vm_available(Error **errp)
{
    const int needed = KVM_VM2VM_FEATURE_LINK | KVM_VM2VM_FEATURE_DOORBELL;

    if (!kvm_enabled()) {
        error_setg(errp, "vm2vm needs KVM");
        error_append_hint(errp, "Use -accel kvm.\n");
        return false;
    }
    if ((kvm_vm_check_extension(kvm_state, KVM_CAP_VM2VM) & needed) != needed) {
        error_setg(errp, "this host's KVM has no vm2vm");
        error_append_hint(errp, "It needs CONFIG_KVM_VM2VM.\n");
        return false;
    }
    if (!slots_used) {
        if (kvm_state->nr_slots_max <= KVM_VM2VM_SLOTS) {
            error_setg(errp, "this host's KVM has too few memory slots");
            return false;
        }
        kvm_state->nr_slots_max -= KVM_VM2VM_SLOTS;
        slots_base = kvm_state->nr_slots_max;
        slots_used = bitmap_new(KVM_VM2VM_SLOTS);
    }
    return true;
}

static int domain_ioctl(int domain, unsigned long request, void *arg)
{
    int ret;

    do {
        ret = ioctl(domain, request, arg);
    } while (ret < 0 && errno == EINTR);
    return ret < 0 ? -errno : ret;
}

int kvm_vm2vm_create_domain(void)
{
    struct kvm_vm2vm_create_domain create = { 0 };

    return kvm_vm_ioctl(kvm_state, KVM_VM2VM_CREATE_DOMAIN, &create);
}

int kvm_vm2vm_end(int domain)
{
    return domain_ioctl(domain, KVM_VM2VM_END, NULL);
}

int kvm_vm2vm_map(int domain, uint64_t iova, uint64_t gpa, uint64_t size,
                  bool writable)
{
    struct kvm_vm2vm_map map = {
        .iova = iova,
        .gpa = gpa,
        .size = size,
        .flags = KVM_VM2VM_MAP_READ | (writable ? KVM_VM2VM_MAP_WRITE : 0),
    };

    return domain_ioctl(domain, KVM_VM2VM_MAP, &map);
}

int kvm_vm2vm_unmap(int domain, uint64_t iova, uint64_t size,
                    uint64_t *unmapped)
{
    struct kvm_vm2vm_unmap unmap = { .iova = iova, .size = size };
    int ret = domain_ioctl(domain, KVM_VM2VM_UNMAP, &unmap);

    *unmapped = ret ? 0 : unmap.unmapped;
    return ret;
}

int kvm_vm2vm_query(int domain, uint64_t *iova, uint64_t *gpa, uint64_t *size,
                    bool *writable)
{
    struct kvm_vm2vm_query query = { .iova = *iova };
    int ret = domain_ioctl(domain, KVM_VM2VM_QUERY, &query);

    if (!ret) {
        *iova = query.iova;
        *gpa = query.gpa;
        *size = query.size;
        *writable = query.flags & KVM_VM2VM_MAP_WRITE;
    }
    return ret;
}

bool kvm_vm2vm_check_domain(int fd, Error **errp)
{
    struct kvm_vm2vm_query query = { 0 };

    /* Only the owner may ask, so this is the answer for everybody else */
    switch (domain_ioctl(fd, KVM_VM2VM_QUERY, &query)) {
    case -EPERM:
        return true;
    case 0:
    case -ENOENT:
    case -ENODEV:
        error_setg(errp, "its domain is one of this very process");
        return false;
    default:
        error_setg(errp, "what it passed is not a vm2vm domain");
        return false;
    }
}

int kvm_vm2vm_link(int domain, uint64_t gpa, uint64_t iova, uint64_t size,
                   bool fill)
{
    struct kvm_vm2vm_link link = {
        .domain_fd = domain,
        .gpa = gpa,
        .iova = iova,
        .size = size,
        .flags = fill ? KVM_VM2VM_LINK_FILL : 0,
    };
    unsigned int n = find_first_zero_bit(slots_used, KVM_VM2VM_SLOTS);
    int ret;

    if (n == KVM_VM2VM_SLOTS) {
        return -ENOSPC;
    }
    link.slot = slots_base + n;
    ret = kvm_vm_ioctl(kvm_state, KVM_VM2VM_LINK, &link);
    if (ret < 0) {
        return ret;
    }
    set_bit(n, slots_used);
    return link.slot;
}

int kvm_vm2vm_nothing(void)
{
    struct kvm_vm2vm_create_domain create = { 0 };
    static int domain = -1;
    int vm;

    if (domain < 0) {
        vm = kvm_ioctl(kvm_state, KVM_CREATE_VM, 0);
        if (vm < 0) {
            return vm;
        }
        domain = ioctl(vm, KVM_VM2VM_CREATE_DOMAIN, &create);
        if (domain < 0) {
            domain = -errno;
            close(vm);
        }
        /* Or else the VM stays: the domain ends with it */
    }
    return domain;
}

void kvm_vm2vm_unlink(int slot)
{
    struct kvm_vm2vm_unlink unlink = { .slot = slot };
    int ret;

    do {
        ret = kvm_vm_ioctl(kvm_state, KVM_VM2VM_UNLINK, &unlink);
    } while (ret == -EINTR);
    /* The slot is there, so there is no more that could go wrong but memory */
    if (ret < 0) {
        error_report("vm2vm: cannot remove the window in slot %d: %s", slot,
                     strerror(-ret));
        abort();
    }
    clear_bit(slot - slots_base, slots_used);
}

int kvm_vm2vm_doorbells(uint64_t addr, const int *fds, uint32_t nr,
                        bool assign)
{
    struct kvm_vm2vm_doorbell doorbell = {
        .addr = addr,
        .fds = (uintptr_t)fds,
        .nr_fds = nr,
        .len = sizeof(uint32_t),
        .flags = KVM_VM2VM_DOORBELL_ARRAY |
                 (assign ? 0 : KVM_VM2VM_DOORBELL_DEASSIGN),
    };

    return kvm_vm_ioctl(kvm_state, KVM_VM2VM_DOORBELL, &doorbell);
}

void kvm_vm2vm_doorbell_add(EventNotifier *n)
{
    if (!doorbells) {
        doorbells = g_hash_table_new(NULL, NULL);
    }
    g_hash_table_add(doorbells, GINT_TO_POINTER(event_notifier_get_fd(n)));
}

void kvm_vm2vm_doorbell_del(EventNotifier *n)
{
    if (doorbells) {
        g_hash_table_remove(doorbells,
                            GINT_TO_POINTER(event_notifier_get_fd(n)));
    }
}

int kvm_vm2vm_ioeventfd(int fd, uint64_t addr, uint64_t datamatch,
                        uint32_t size, bool pio, bool match, bool assign)
{
    struct kvm_vm2vm_doorbell doorbell = {
        .addr = addr,
        .datamatch = match ? datamatch : 0,
        .fd = fd,
        .len = size,
        .flags = (pio ? KVM_VM2VM_DOORBELL_PIO : 0) |
                 (match ? KVM_VM2VM_DOORBELL_DATAMATCH : 0) |
                 (assign ? 0 : KVM_VM2VM_DOORBELL_DEASSIGN),
    };

    if (!doorbells || !g_hash_table_contains(doorbells, GINT_TO_POINTER(fd))) {
        return -ENOSYS;
    }
    return kvm_vm_ioctl(kvm_state, KVM_VM2VM_DOORBELL, &doorbell);
}
