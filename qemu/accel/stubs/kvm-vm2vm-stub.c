/*
 * vm2vm: without KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/vm2vm.h"

bool kvm_vm2vm_available(Error **errp)
{
    error_setg(errp, "vm2vm needs KVM");
    return false;
}

/* Nobody gets here without vm2vm being available */
int kvm_vm2vm_create_domain(void)
{
    return -ENOSYS;
}

int kvm_vm2vm_end(int domain)
{
    return -ENOSYS;
}

int kvm_vm2vm_map(int domain, uint64_t iova, uint64_t gpa, uint64_t size,
                  bool writable)
{
    return -ENOSYS;
}

int kvm_vm2vm_unmap(int domain, uint64_t iova, uint64_t size,
                    uint64_t *unmapped)
{
    return -ENOSYS;
}

int kvm_vm2vm_query(int domain, uint64_t *iova, uint64_t *gpa, uint64_t *size,
                    bool *writable)
{
    return -ENOSYS;
}

bool kvm_vm2vm_check_domain(int fd, Error **errp)
{
    return kvm_vm2vm_available(errp);
}

int kvm_vm2vm_link(int domain, uint64_t gpa, uint64_t iova, uint64_t size,
                   bool fill)
{
    return -ENOSYS;
}

int kvm_vm2vm_nothing(void)
{
    return -ENOSYS;
}

void kvm_vm2vm_unlink(int slot)
{
}

int kvm_vm2vm_doorbells(uint64_t addr, const int *fds, uint32_t nr,
                        bool assign)
{
    return -ENOSYS;
}

void kvm_vm2vm_doorbell_add(EventNotifier *n)
{
}

void kvm_vm2vm_doorbell_del(EventNotifier *n)
{
}
