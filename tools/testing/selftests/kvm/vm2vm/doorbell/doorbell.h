/* SPDX-License-Identifier: GPL-2.0 */
/* vm2vm_doorbell_test: the fixture of the tests that have three VMs. */
#ifndef SELFTEST_KVM_VM2VM_DOORBELL_FIXTURE_H
#define SELFTEST_KVM_VM2VM_DOORBELL_FIXTURE_H

#include "vm2vm_harness.h"
#include "vms.h"

FIXTURE(bell)
{
	struct bell_vm a, b, c;
	int fd;
	int stranger;
};

FIXTURE_SETUP(bell)
{
	bell_vms_init(&self->a, &self->b, &self->c, &self->fd, &self->stranger);
}

FIXTURE_TEARDOWN(bell)
{
	bell_vms_free(_metadata, &self->a, &self->b, &self->c, self->fd, self->stranger);
}

#endif /* SELFTEST_KVM_VM2VM_DOORBELL_FIXTURE_H */
