/* SPDX-License-Identifier: GPL-2.0 */
/*
 * VMs that are cheap to make, for vm2vm_shapes_test, vm2vm_race_test and vm2vm_dirty_test.
 *
 * A node is a VM that may be owner and backend at once.  It shares the pages at
 * NODE_OWN, and has windows to what others share from NODE_WINDOWS on.  The KVM
 * selftest library makes one VM as a template, and nodes are made after it with
 * few system calls: the tests make thousands.  A node is nothing but descriptors
 * and memory, so a test can close and lose them in any order.
 *
 * Every value in a shared page tells who wrote it, into which page, and when: so
 * whoever reads it knows whether it is right.
 */
#ifndef SELFTEST_KVM_VM2VM_SHAPES_NODE_H
#define SELFTEST_KVM_VM2VM_SHAPES_NODE_H

#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "kvm_util.h"
#include "vm2vm.h"

#define NODE_PAGES	8	/* of the shared memory, and of a window */
#define NODE_SIZE	(NODE_PAGES * 4096ul)
#define NODE_CTL	0x80000000ul	/* gpa and gva of struct node_ctl */
#define NODE_OWN	0x90000000ul	/* gpa and gva of the shared memory */
#define NODE_WINDOWS	0x100000000ul	/* gpa and gva of the first window */
#define NODE_WINDOW(w)	(NODE_WINDOWS + (w) * NODE_SIZE)
#define NODE_IOVA	0x700000000ul	/* of NODE_OWN */
#define NODE_SLOT	100		/* of the first window */

#define NODE_MAX	34		/* nodes of a test, as their number is in a tag */
#define NODE_TRAFFIC	2		/* windows that carry traffic */
#define NODE_WINDOW_MAX	64

#define NODE_HOLE	(~0ull)
#define NODE_CANARY	0xdeadbeefdeadbeefull
#define NODE_CLOSED	0x0c105ed000000000ull	/* in @bad_val: not a hole */

/* Node @id wrote this into page @page, as its @gen th. */
#define NODE_TAG(id, page, gen)						\
	(0x7ull << 60 | (uint64_t)(id) << 52 | (uint64_t)(page) << 44 | (gen))
#define NODE_GEN(tag)	((tag) & ((1ull << 44) - 1))

/* Words of a shared page: its owner's, and one of every other node. */
#define NODE_WORD_OWNER		0
#define NODE_WORD_FROM(id)	(1 + (id))

enum node_op { NODE_STOP, NODE_READ, NODE_WRITE, NODE_GO };

/* Ports that the guest leaves by: done, or just to let others run. */
#define NODE_PORT_DONE	0x10
#define NODE_PORT_YIELD	0x11

/**
 * struct node_ctl - between a node's guest, its VMM and the test
 * @op: what the guest is to do; it leaves after all of them but NODE_GO
 * @addr: gva for NODE_READ, NODE_WRITE
 * @val: value for them
 * @id: number of the node
 * @owners: with NODE_GO: number of the node that a window shows
 * @nr_windows: with NODE_GO: number of windows
 * @writers: with NODE_GO: mask of the nodes that write to what this one shares
 * @nap: us that the VMM sleeps when the guest offers the CPU to others
 * @gen: generation of what the guest writes
 * @passes: number of passes over everything
 * @zero: pages that a window shows may have lost their contents
 * @floor: by page of the first window, the least generation that may be read
 * @closed: by who revokes, and by page of the first window: it must be a hole, now
 *	    as well as before and after reading it, while this is odd
 * @seen: by window and page, the generation that was read last
 * @good: by window, how often something was read that is right
 * @holes: by window, how often a hole was read
 * @arrived: by writer and page, the generation that was read last
 * @bad: how often something was read that must not be
 * @bad_addr: where that was the first time
 * @bad_val: what it was
 * @bad_gen: the generation that was read there before
 * @mmio: exits for holes
 */
struct node_ctl {
	uint64_t op;
	uint64_t addr;
	uint64_t val;
	uint64_t id;
	uint64_t owners[NODE_TRAFFIC];
	uint64_t nr_windows;
	uint64_t writers;
	uint64_t nap;
	uint64_t zero;
	uint64_t floor[NODE_PAGES];
	uint64_t closed[2][NODE_PAGES];
	uint64_t gen;
	uint64_t passes;
	uint64_t seen[NODE_TRAFFIC][NODE_PAGES];
	uint64_t good[NODE_TRAFFIC];
	uint64_t holes[NODE_TRAFFIC];
	uint64_t arrived[NODE_MAX][NODE_PAGES];
	uint64_t bad;
	uint64_t bad_addr;
	uint64_t bad_val;
	uint64_t bad_gen;
	uint64_t mmio;
};

#define NODE_CTL_SIZE	align_up(sizeof(struct node_ctl), 4096)

/* Not by a ucall, which would need the library's struct kvm_vm. */
static inline void node_guest_leave(uint16_t port)
{
	asm volatile("outb %%al, %%dx" : : "a"(0), "d"(port) : "memory");
}

/* What every node begins with. */
struct node_template {
	int kvm;
	int memfd;		/* its memory */
	size_t size;
	size_t run_size;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	struct kvm_cpuid2 *cpuid;
};

extern struct node_template node_template;

/* Make the template of @vm, which ends by that. */
void node_template_take(struct kvm_vm *vm, struct kvm_vcpu *vcpu);

/* The template of a test's nodes, with the guest that enum node_op is for. */
void node_template_init(void);

/**
 * struct node - a VM; the descriptors are -1 if they are closed
 * @vm: its descriptor
 * @vcpu: of its vCPU
 * @domain: of its domain
 * @run: of its vCPU
 * @ram: its own memory
 * @ctl: see there; of the test, and shared with other processes
 * @own: what it shares; likewise
 * @thread: runs the vCPU if @running
 * @running: whether it does
 */
struct node {
	int vm;
	int vcpu;
	int domain;
	struct kvm_run *run;
	void *ram;
	struct node_ctl *ctl;
	uint64_t (*own)[512];
	pthread_t thread;
	bool running;
};

/* Fresh memory, or of @fd. */
void *node_mmap(size_t size, int flags, int fd);

/* What is between a node, the test and other processes.  Nothing of KVM yet. */
void node_init(struct node *n, unsigned int id);

/* Give that back. */
void node_fini(struct node *n);

static inline int node_ioctl(int fd, unsigned long nr, const void *arg)
{
	return vm2vm_ioctl(fd, nr, (void *)arg);
}

#define NODE_IOCTL(fd, nr, arg)						\
({									\
	int __r = node_ioctl(fd, nr, arg);				\
									\
	TEST_ASSERT(__r >= 0, #nr ": %s", strerror(-__r));		\
	__r;								\
})

/* A memslot; what begins with underscores returns 0 or -errno, here and below. */
int __node_set_memory(int vm, uint32_t slot, uint64_t gpa, size_t size, void *mem, uint32_t flags);
void node_set_memory(int vm, uint32_t slot, uint64_t gpa, size_t size, void *mem);

#define NODE_SLOT_OWN	2

/* A VM that shares memory and has no vCPU. */
void node_create_owner(struct node *n);

/* The template's memory, for @vm. */
void *node_template_memory(int vm);

/* The @n th vCPU of @vm, which is as the template's but for @regs. */
int node_template_vcpu(int vm, unsigned long n, const struct kvm_regs *regs, struct kvm_run **run);

/* A VM that shares memory and has a vCPU. */
void node_create(struct node *n);

/* Close a descriptor, if it is open. */
void node_close(int *fd);

/* The mapping of its struct kvm_run is a reference to the vCPU, too. */
void node_close_vcpu(struct node *n);

/* The descriptor, or -errno. */
int __node_create_domain(int vm);

/* Approve all of what the node shares. */
void node_map_all(struct node *n);

/* A domain in which all of what the node shares is approved. */
void node_create_domain(struct node *n);

/* A domain from @iova on, or what a node shares, in window @w. */
int __node_link(int vm, int domain, unsigned int w, uint64_t iova);
void node_link(struct node *n, int domain, unsigned int w);

/* Window @w goes. */
int __node_unlink(int vm, unsigned int w);
void node_unlink(struct node *n, unsigned int w);

/* Run the guest until it is done. */
void node_run(struct node *n);

/* The guest reads or writes a word. */
uint64_t node_read(struct node *n, uint64_t addr);
void node_write(struct node *n, uint64_t addr, uint64_t val);

/* Let the guest go around on its own, until node_stop(). */
void node_go(struct node *n);

/* Wait until the guest is done. */
void node_stop(struct node *n);

/* End the VM: the last descriptor is the vCPU's. */
void node_destroy(struct node *n);

/* Nothing was read that must not be. */
void node_check(struct node *n);

static inline uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

/* Without a CPU: the guests need them.  The limit is for what never comes. */
#define NODE_WAIT(cond, fmt, ...)					\
do {									\
	uint64_t __end = now_us() + 60 * 1000000ull;			\
									\
	while (!(cond)) {						\
		TEST_ASSERT(now_us() < __end, "for 60 s: " fmt, ##__VA_ARGS__); \
		usleep(50);						\
	}								\
} while (0)

/* Each of the @nr guests has begun and ended @passes passes from now on. */
void node_wait_passes(struct node *n, unsigned int nr, uint64_t passes);

/*
 * The owner of @domain is dead, and its domain ends with its address space: a fault of
 * a backend that was bringing in a page of it may have kept that for a moment.
 */
void node_wait_ended(struct node *n, int domain, unsigned int w);

/* A child that does not outlive the test. */
pid_t node_fork(void);

/* Kill a child that lives. */
void node_kill(pid_t pid);

/* Another process's descriptor @fd. */
int __node_steal_fd(pid_t pid, int fd);

#endif /* SELFTEST_KVM_VM2VM_SHAPES_NODE_H */
