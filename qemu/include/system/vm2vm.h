/*
 * vm2vm: memory of another virtual machine
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef SYSTEM_VM2VM_H
#define SYSTEM_VM2VM_H

#include "exec/hwaddr.h"
#include "qemu/event_notifier.h"
#include "qemu/queue.h"
#include "qom/object.h"

/*
 * What KVM does (accel/kvm/kvm-vm2vm.c); linux/kvm_vm2vm.h says what each call
 * means.  Those that return an int return a negative errno if they fail.
 */
bool kvm_vm2vm_available(Error **errp);
int kvm_vm2vm_create_domain(void);
/* Revoke all of it, for good */
int kvm_vm2vm_end(int domain);
int kvm_vm2vm_map(int domain, uint64_t iova, uint64_t gpa, uint64_t size,
                  bool writable);
int kvm_vm2vm_unmap(int domain, uint64_t iova, uint64_t size,
                    uint64_t *unmapped);
/* The mapping at *iova or the next one; -ENOENT if there is none */
int kvm_vm2vm_query(int domain, uint64_t *iova, uint64_t *gpa, uint64_t *size,
                    bool *writable);
/* Is it a domain that we can link?  If not: why */
bool kvm_vm2vm_check_domain(int fd, Error **errp);
/* Returns the slot. @fill: what is not approved makes no exit. */
int kvm_vm2vm_link(int domain, uint64_t gpa, uint64_t iova, uint64_t size,
                   bool fill);
/* A domain without memory, of nobody, to fill windows when there is no other */
int kvm_vm2vm_nothing(void);
void kvm_vm2vm_unlink(int slot);
/* At an address of MMIO: what is written, of 4 bytes, is an index into @fds */
int kvm_vm2vm_doorbells(uint64_t addr, const int *fds, uint32_t nr,
                        bool assign);

/*
 * accel/kvm asks before it makes an ioeventfd: a doorbell does the same, but
 * reaches an irqfd of another VM without a detour.  -ENOSYS: not ours.
 */
void kvm_vm2vm_doorbell_add(EventNotifier *n);
void kvm_vm2vm_doorbell_del(EventNotifier *n);
int kvm_vm2vm_ioeventfd(int fd, uint64_t addr, uint64_t datamatch,
                        uint32_t size, bool pio, bool match, bool assign);

#define TYPE_VM2VM_LINK "vm2vm-link"
OBJECT_DECLARE_SIMPLE_TYPE(Vm2vmLink, VM2VM_LINK)

#endif
