/* SPDX-License-Identifier: GPL-2.0 */
/* A guest of ring 3. */
#ifndef SELFTEST_KVM_VM2VM_USER_H
#define SELFTEST_KVM_VM2VM_USER_H

#include "kvm_util.h"

/*
 * Make a vCPU that has not run yet one of ring 3 that may use the ports of ucalls.  What
 * its guest has mapped by now is for ring 3, too.
 */
void guest_user_mode(struct kvm_vm *vm, struct kvm_vcpu *vcpu);

#endif /* SELFTEST_KVM_VM2VM_USER_H */
