/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_abi_test: what the cases run on: two VMs with a domain each, and
 * the state that a call that fails must leave as it was.
 *
 * The VMs never run.  They look alike, and each links a domain of the other:
 *
 *	MEM	16 pages, memslot SLOT_MEM
 *	MEM2	8 pages, right behind
 *	RO	4 pages, right behind, KVM_MEM_READONLY; then nothing
 *	BELOW	1 page, right below the window
 *	WIN	8 pages, the window, onto iova M1 of the other's domain
 *
 * and in the owner's domain iova M1 (8 pages) and M2 (2 pages) are mapped.  That
 * domain has KVM_VM2VM_DOMAIN_MISSES and _LOG, the backend's has no flags.
 */
#ifndef SELFTEST_KVM_VM2VM_ABI_ENV_H
#define SELFTEST_KVM_VM2VM_ABI_ENV_H

#include "test_util.h"
#include "kvm_util.h"
#include "vm2vm.h"

#define PG		4096ull
#define MEM		0x10000000ull
#define MEM2		(MEM + 16 * PG)
#define RO		(MEM2 + 8 * PG)
#define ALL_PAGES	28
#define WIN		0x20000000ull
#define BELOW		(WIN - PG)
#define NEW		0x40000000ull	/* a window could go here */
#define M1		0x100000ull
#define M2		(M1 + 10 * PG)
#define FREE		0x300000ull	/* an iova that is not mapped */
#define TOP		(-2 * PG)	/* the highest iova there is */
#define RD		KVM_VM2VM_MAP_READ
#define EXIT		KVM_VM2VM_LINK_EXIT
#define WAIT		KVM_VM2VM_LINK_WAIT
#define FILL		KVM_VM2VM_LINK_FILL
#define READONLY	KVM_VM2VM_LINK_READONLY

enum { SLOT_MEM = 1, SLOT_MEM2, SLOT_RO, SLOT_BELOW, SLOT_WIN, SLOT_NEW, SLOT_MANY = 100 };
#define NR_SLOTS	32764

/* Kinds of descriptors; numbers that are none of these stand for themselves. */
enum { FD_DOMAIN = -100, FD_PEER, FD_KVM, FD_VM, FD_VCPU, FD_PIPE, FD_PATH, FD_CLOSED };

/* What is looked at to see whether anything has changed. */
#define NR_PROBED_IOVAS	10
#define NR_PROBED_SLOTS	6
#define NR_STATS	3

/* All mappings of a domain: how many, and every bit of them in one number. */
struct list {
	unsigned int nr;
	uint64_t size, hash;
	int err;		/* how it ends */
};

/* What user space can see of what the calls may change. */
struct state {
	uint64_t stats[2][NR_STATS];
	struct list lists[2];
	int fds;
	int iovas[NR_PROBED_IOVAS];
	int slots[2][NR_PROBED_SLOTS];
};

struct __test_metadata;

/* What the cases run on. */
struct env {
	struct __test_metadata *metadata;
	struct kvm_vm *owner, *backend;
	void *mem;
	int domain;		/* the owner's */
	int peer;		/* a domain of the backend */
	int vcpu, pipe, path;
	struct state before;
};

union args {
	struct kvm_vm2vm_create_domain create;
	struct kvm_vm2vm_map map;
	struct kvm_vm2vm_unmap unmap;
	struct kvm_vm2vm_link link;
	struct kvm_vm2vm_unlink unlink;
	struct kvm_vm2vm_batch batch;
	struct kvm_vm2vm_query query;
	struct kvm_vm2vm_refuse refuse;
	struct kvm_vm2vm_get_dirty get_dirty;
};

/* A case that fails, of those that are tables. */
struct row {
	const char *name;
	int err;
	union args args;
};

/* Arguments of each call */
#define MAP(...)		{ .map = { __VA_ARGS__ } }
#define UNMAP(...)		{ .unmap = { __VA_ARGS__ } }
#define BATCH(entries, ...)	{ .batch = { (uintptr_t)(entries), __VA_ARGS__ } }
#define QUERY(...)		{ .query = { __VA_ARGS__ } }
#define REFUSE(...)		{ .refuse = { __VA_ARGS__ } }
#define LINK(...)		{ .link = { __VA_ARGS__ } }
#define LINK_FD(fd)		LINK(fd, SLOT_NEW, NEW, FREE, PG)
#define UNLINK(...)		{ .unlink = { __VA_ARGS__ } }

/* What MAP and UNMAP, alone or in a batch, do not take; in map.c */
extern const struct row map_rows[], unmap_rows[];
extern const unsigned int nr_map_rows, nr_unmap_rows;

/* An entry for a batch of one; a test may change it. */
extern struct kvm_vm2vm_map map_entry;
extern struct kvm_vm2vm_unmap unmap_entry;

/* The descriptor that is meant. */
int resolve(struct env *e, int fd);

static inline int set_region(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
			     uint64_t size, void *hva)
{
	return __vm_set_user_memory_region(vm, slot, flags, gpa, size, hva) ? -errno : 0;
}

/*
 * No memslot can be changed to this, nor be made where another is: -EINVAL if
 * the slot is in use, -EEXIST if it is not.
 */
static inline int probe_slot(struct env *e, struct kvm_vm *vm, uint32_t slot)
{
	return vm ? set_region(vm, slot, 0, MEM, PG, e->mem + 31 * PG) : -ENODEV;
}

/* See what there is now. */
void take_state(struct env *e, struct state *s);

/* The call has given @r: the error @err, and nothing changed. */
void fails(struct env *e, const char *name, int err, int r);

/* The call has given @r, which is right if it is @want. */
void works(struct env *e, const char *name, int64_t want, int64_t r);

/* Make a call, with descriptors that are meant. */
int do_call(struct env *e, int fd, unsigned long nr, union args *args);

/* All of a table. */
void run_rows(struct env *e, int fd, unsigned long nr, const struct row *rows, int n);

/* What a call gives in another process. */
int in_child(struct env *e, int fd, unsigned long nr, union args args);

/* What read() gives in another process: 0, or -errno. */
int read_in_child(int fd, size_t size);

/* What poll() shows now. */
int poll_events(int fd);

/* A VM with memslots, which are at @mem. */
struct kvm_vm *make_vm(void *mem);

/* The fixture: the VMs, and the state to compare with. */
void env_init(struct env *e, struct __test_metadata *_metadata);

/* Prints how many cases there were. */
void env_free(struct env *e);

/* Have the cases of all tests counted, each of which is a process of its own. */
void count_cases(void);

#endif /* SELFTEST_KVM_VM2VM_ABI_ENV_H */
