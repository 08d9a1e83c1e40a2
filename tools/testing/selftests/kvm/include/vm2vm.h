/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Calls of the vm2vm ABI for the selftests.  A call named vm2vm_*() asserts that
 * it succeeds; its double-underscored twin returns 0 (or a descriptor) or
 * -errno, for tests of what must fail.
 */
#ifndef SELFTEST_KVM_VM2VM_H
#define SELFTEST_KVM_VM2VM_H

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm_vm2vm.h>

#include "kvm_util.h"

#define VM2VM_RW	(KVM_VM2VM_MAP_READ | KVM_VM2VM_MAP_WRITE)

/* How often a test does what it repeats: VM2VM_TRIALS in the environment, or @standard. */
static inline unsigned int vm2vm_trials(unsigned int standard)
{
	const char *trials = getenv("VM2VM_TRIALS");

	if (!trials)
		return standard;
	return atoi(trials) > 1 ? atoi(trials) : 1;
}

/* Bytes that nobody has, of what the machine has. */
static inline uint64_t vm2vm_free_memory(void)
{
	return (uint64_t)sysconf(_SC_AVPHYS_PAGES) * sysconf(_SC_PAGESIZE);
}

static inline int vm2vm_ioctl(int fd, unsigned long nr, void *arg)
{
	int r = ioctl(fd, nr, arg);

	return r < 0 ? -errno : r;
}

static inline int __vm2vm_create_domain_flags(struct kvm_vm *vm, uint32_t flags)
{
	struct kvm_vm2vm_create_domain args = { .flags = flags };

	return vm2vm_ioctl(vm->fd, KVM_VM2VM_CREATE_DOMAIN, &args);
}

static inline int __vm2vm_create_domain(struct kvm_vm *vm)
{
	return __vm2vm_create_domain_flags(vm, 0);
}

static inline int __vm2vm_map(int domain, uint64_t iova, uint64_t gpa,
			      uint64_t size, uint32_t flags)
{
	struct kvm_vm2vm_map args = {
		.iova = iova, .gpa = gpa, .size = size, .flags = flags,
	};

	return vm2vm_ioctl(domain, KVM_VM2VM_MAP, &args);
}

/* The number of bytes unmapped goes to *unmapped if it is not NULL. */
static inline int __vm2vm_unmap(int domain, uint64_t iova, uint64_t size,
				uint64_t *unmapped)
{
	struct kvm_vm2vm_unmap args = { .iova = iova, .size = size };
	int r = vm2vm_ioctl(domain, KVM_VM2VM_UNMAP, &args);

	if (unmapped)
		*unmapped = args.unmapped;
	return r;
}

/* Entries that are not done yet are *nr, and the last so many, when it returns. */
static inline int vm2vm_batch(int domain, unsigned long call, void *entries,
			      uint32_t *nr)
{
	struct kvm_vm2vm_batch args = {
		.entries = (uintptr_t)entries, .nr = *nr,
	};
	int r = vm2vm_ioctl(domain, call, &args);

	*nr = args.nr;
	return r;
}

static inline int __vm2vm_map_batch(int domain, struct kvm_vm2vm_map *entries,
				    uint32_t *nr)
{
	return vm2vm_batch(domain, KVM_VM2VM_MAP_BATCH, entries, nr);
}

static inline int __vm2vm_unmap_batch(int domain, struct kvm_vm2vm_unmap *entries,
				      uint32_t *nr)
{
	return vm2vm_batch(domain, KVM_VM2VM_UNMAP_BATCH, entries, nr);
}

static inline int __vm2vm_end(int domain)
{
	return vm2vm_ioctl(domain, KVM_VM2VM_END, NULL);
}

/* The mapping at or above @iova. */
static inline int __vm2vm_query(int domain, uint64_t iova,
				struct kvm_vm2vm_query *found)
{
	*found = (struct kvm_vm2vm_query) { .iova = iova };
	return vm2vm_ioctl(domain, KVM_VM2VM_QUERY, found);
}

/* read() of misses: the bytes read, or -errno. */
static inline int64_t __vm2vm_read_misses(int domain, void *buf, size_t size)
{
	ssize_t r = read(domain, buf, size);

	return r < 0 ? -errno : r;
}

/* The number of vCPUs that waited goes to *refused if it is not NULL. */
static inline int __vm2vm_refuse(int domain, uint64_t iova, uint64_t size,
				 uint32_t *refused)
{
	struct kvm_vm2vm_refuse args = { .iova = iova, .size = size };
	int r = vm2vm_ioctl(domain, KVM_VM2VM_REFUSE, &args);

	if (refused)
		*refused = args.refused;
	return r;
}

/* What was written by iova: a bit for each page of the range goes to @bitmap. */
static inline int __vm2vm_get_dirty(int domain, uint64_t iova, uint64_t size,
				    uint64_t *bitmap)
{
	struct kvm_vm2vm_get_dirty args = {
		.iova = iova, .size = size, .bitmap = (uintptr_t)bitmap,
	};

	return vm2vm_ioctl(domain, KVM_VM2VM_GET_DIRTY, &args);
}

static inline int __vm2vm_link(struct kvm_vm *vm, int domain, uint32_t slot,
			       uint64_t gpa, uint64_t iova, uint64_t size,
			       uint32_t flags)
{
	struct kvm_vm2vm_link args = {
		.domain_fd = domain, .slot = slot, .gpa = gpa, .iova = iova,
		.size = size, .flags = flags,
	};

	return vm2vm_ioctl(vm->fd, KVM_VM2VM_LINK, &args);
}

static inline int __vm2vm_unlink(struct kvm_vm *vm, uint32_t slot)
{
	struct kvm_vm2vm_unlink args = { .slot = slot };

	return vm2vm_ioctl(vm->fd, KVM_VM2VM_UNLINK, &args);
}

static inline int __vm2vm_doorbell(struct kvm_vm *vm, uint64_t addr, uint32_t len,
				   uint64_t datamatch, int fd, uint32_t flags)
{
	struct kvm_vm2vm_doorbell args = {
		.addr = addr, .len = len, .datamatch = datamatch, .fd = fd,
		.flags = flags,
	};

	return vm2vm_ioctl(vm->fd, KVM_VM2VM_DOORBELL, &args);
}

static inline int __vm2vm_doorbell_array(struct kvm_vm *vm, uint64_t addr, uint32_t len,
					 const int32_t *fds, uint32_t nr, uint32_t flags)
{
	struct kvm_vm2vm_doorbell args = {
		.addr = addr, .len = len, .fds = (uintptr_t)fds, .nr_fds = nr,
		.flags = flags | KVM_VM2VM_DOORBELL_ARRAY,
	};

	return vm2vm_ioctl(vm->fd, KVM_VM2VM_DOORBELL, &args);
}

static inline int vm2vm_create_domain_flags(struct kvm_vm *vm, uint32_t flags)
{
	int fd = __vm2vm_create_domain_flags(vm, flags);

	TEST_ASSERT(fd >= 0, "KVM_VM2VM_CREATE_DOMAIN: %s", strerror(-fd));
	return fd;
}

static inline int vm2vm_create_domain(struct kvm_vm *vm)
{
	return vm2vm_create_domain_flags(vm, 0);
}

static inline void vm2vm_map(int domain, uint64_t iova, uint64_t gpa,
			     uint64_t size, uint32_t flags)
{
	int r = __vm2vm_map(domain, iova, gpa, size, flags);

	TEST_ASSERT(!r, "KVM_VM2VM_MAP iova 0x%lx: %s", iova, strerror(-r));
}

static inline uint64_t vm2vm_unmap(int domain, uint64_t iova, uint64_t size)
{
	uint64_t unmapped;
	int r = __vm2vm_unmap(domain, iova, size, &unmapped);

	TEST_ASSERT(!r, "KVM_VM2VM_UNMAP iova 0x%lx: %s", iova, strerror(-r));
	return unmapped;
}

static inline void vm2vm_end(int domain)
{
	int r = __vm2vm_end(domain);

	TEST_ASSERT(!r, "KVM_VM2VM_END: %s", strerror(-r));
}

static inline uint32_t vm2vm_refuse(int domain, uint64_t iova, uint64_t size)
{
	uint32_t refused;
	int r = __vm2vm_refuse(domain, iova, size, &refused);

	TEST_ASSERT(!r, "KVM_VM2VM_REFUSE iova 0x%lx: %s", iova, strerror(-r));
	return refused;
}

static inline void vm2vm_link(struct kvm_vm *vm, int domain, uint32_t slot,
			      uint64_t gpa, uint64_t iova, uint64_t size,
			      uint32_t flags)
{
	int r = __vm2vm_link(vm, domain, slot, gpa, iova, size, flags);

	TEST_ASSERT(!r, "KVM_VM2VM_LINK slot %u: %s", slot, strerror(-r));
}

static inline void vm2vm_unlink(struct kvm_vm *vm, uint32_t slot)
{
	int r = __vm2vm_unlink(vm, slot);

	TEST_ASSERT(!r, "KVM_VM2VM_UNLINK slot %u: %s", slot, strerror(-r));
}

#endif /* SELFTEST_KVM_VM2VM_H */
