/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_dirty_test: VMs that write, as a backend or as the owner, and an owner
 * whose log is harvested.
 *
 * The owner's shared memory is two memslots next to each other.  What a test writes
 * to it with dirty_write() is what the next harvest has to report.
 */
#ifndef SELFTEST_KVM_VM2VM_DIRTY_H
#define SELFTEST_KVM_VM2VM_DIRTY_H

#include "vm2vm_dirty_guest.h"

#define DIRTY_IOVA	0x700000000ul	/* of DIRTY_OWN */
#define DIRTY_SLOT	100		/* of the first window */
#define DIRTY_SLOT_OWN	2		/* of the first half of the owner's memory */
#define DIRTY_RING	4096		/* entries */

/* How the owner's log is harvested. */
enum dirty_style {
	STYLE_GET,		/* KVM_GET_DIRTY_LOG clears it */
	STYLE_CLEAR,		/* KVM_CLEAR_DIRTY_LOG does */
	STYLE_INITIALLY_SET,	/* likewise, and all pages are set in the beginning */
	STYLE_RING,		/* the vCPU's ring, and KVM_GET_DIRTY_LOG for the rest */
};

/**
 * struct dirty_vm - a VM with one vCPU
 * @vm: its descriptor
 * @vcpu: of its vCPU
 * @run: of its vCPU
 * @ram: its own memory
 * @ctl: see there
 * @ring: the vCPU's dirty ring, or NULL
 * @fetch: its next entry
 * @thread: runs the vCPU if @running
 * @running: whether it does
 * @exits: how often KVM_RUN has returned
 * @nap: us that the VMM sleeps when the guest offers the CPU to others
 * @mmio: number of bytes that were accessed in holes
 * @dev_val: what is in the device
 */
struct dirty_vm {
	int vm;
	int vcpu;
	struct kvm_run *run;
	void *ram;
	struct dirty_ctl *ctl;
	struct kvm_dirty_gfn *ring;
	uint32_t fetch;
	pthread_t thread;
	bool running;
	uint64_t exits;
	unsigned int nap;
	unsigned int mmio;
	uint64_t dev_val;
};

/**
 * struct dirty_owner - a VM that shares memory
 * @v: the VM
 * @style: how its log is harvested
 * @domain: a domain of it
 * @mem: the shared memory
 * @pages: its size
 * @split: pages in the first memslot
 * @log: whether the memslots log
 * @harvests: number of harvests
 * @ring: pages that were found in the ring
 * @dirty: pages that the last harvest reported
 * @want: pages that the next one is to report
 */
struct dirty_owner {
	struct dirty_vm v;
	enum dirty_style style;
	int domain;
	void *mem;
	unsigned int pages;
	unsigned int split;
	bool log[2];
	unsigned int harvests;
	bool ring[DIRTY_MAX];
	bool dirty[DIRTY_MAX];
	bool want[DIRTY_MAX];
};

/* Let others run for so long: usleep() takes several ms where there is no better timer. */
static inline void dirty_nap(unsigned int us)
{
	uint64_t end = now_us() + us;

	do
		sched_yield();
	while (now_us() < end);
}

static inline void dirty_on_signal(int sig)
{
}

/* What all VMs of a test begin with; as node_template_init() does it. */
static inline void dirty_template_init(void)
{
	struct sigaction sa = { .sa_handler = dirty_on_signal };
	struct node_template *t = &node_template;
	struct userspace_mem_region *ram;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	size_t size;

	TEST_ASSERT(!sigaction(SIGUSR1, &sa, NULL), "sigaction: %s", strerror(errno));
	vm = vm_create_with_one_vcpu(&vcpu, dirty_guest);
	virt_map(vm, DIRTY_CTL, DIRTY_CTL, 2 * DIRTY_CTL_SIZE / 4096);
	vcpu_args_set(vcpu, 1, DIRTY_CTL);
	virt_map(vm, DIRTY_OWN, DIRTY_OWN, DIRTY_MAX);
	virt_map(vm, DEV_GPA, DEV_GPA, DEV_SIZE / 4096);
	virt_map(vm, DIRTY_WINDOW(0), DIRTY_WINDOW(0), DIRTY_WINDOWS * DIRTY_MAX);

	ram = memslot2region(vm, 0);
	t->size = ram->region.memory_size;
	t->memfd = memfd_create("vm2vm-template", MFD_CLOEXEC);
	TEST_ASSERT(t->memfd >= 0 && write(t->memfd, ram->host_mem, t->size) == t->size,
		    "template: %s", strerror(errno));
	vcpu_sregs_get(vcpu, &t->sregs);
	vcpu_regs_get(vcpu, &t->regs);
	size = kvm_cpuid2_size(vcpu->cpuid->nent);
	t->cpuid = malloc(size);
	memcpy(t->cpuid, vcpu->cpuid, size);
	kvm_vm_free(vm);

	t->kvm = open_kvm_dev_path_or_exit();
	t->run_size = ioctl(t->kvm, KVM_GET_VCPU_MMAP_SIZE, NULL);
}

static inline int __dirty_enable_cap(int vm, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap args = { .cap = cap, .args = { arg } };

	return node_ioctl(vm, KVM_ENABLE_CAP, &args);
}

static inline void dirty_enable_cap(int vm, uint32_t cap, uint64_t arg)
{
	int r = __dirty_enable_cap(vm, cap, arg);

	TEST_ASSERT(!r, "KVM_ENABLE_CAP %u: %s", cap, strerror(-r));
}

static inline void dirty_enable_ring(int vm)
{
	uint32_t cap = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING_ACQ_REL) > 0 ?
		       KVM_CAP_DIRTY_LOG_RING_ACQ_REL : KVM_CAP_DIRTY_LOG_RING;

	dirty_enable_cap(vm, cap, DIRTY_RING * sizeof(struct kvm_dirty_gfn));
}

static inline void dirty_init_ctl(struct dirty_vm *v, unsigned int id)
{
	v->ctl = node_mmap(DIRTY_CTL_SIZE, MAP_SHARED | MAP_ANONYMOUS, -1);
	v->ctl->id = id;
	v->ctl->seed = (id + 1) * 0x9e3779b97f4a7c15ull;
}

/* The VM without anything in it; its kind of log has to be set before the rest. */
static inline void dirty_vm_begin(struct dirty_vm *v, unsigned int id)
{
	memset(v, 0, sizeof(*v));
	v->vm = NODE_IOCTL(node_template.kvm, KVM_CREATE_VM, NULL);
	dirty_init_ctl(v, id);
}

/* Its first or second vCPU, which has a control structure and a stack of its own. */
static inline void dirty_add_vcpu(struct dirty_vm *v, unsigned long n)
{
	struct node_template *t = &node_template;
	struct kvm_regs regs = t->regs;

	node_set_memory(v->vm, n ? 50 : 1, DIRTY_CTL + n * DIRTY_CTL_SIZE, DIRTY_CTL_SIZE,
			v->ctl);
	regs.rdi += n * DIRTY_CTL_SIZE;
	regs.rsp -= n * 2 * 4096;
	v->vcpu = NODE_IOCTL(v->vm, KVM_CREATE_VCPU, (void *)n);
	v->run = node_mmap(t->run_size, MAP_SHARED, v->vcpu);
	NODE_IOCTL(v->vcpu, KVM_SET_CPUID2, t->cpuid);
	NODE_IOCTL(v->vcpu, KVM_SET_SREGS, &t->sregs);
	NODE_IOCTL(v->vcpu, KVM_SET_REGS, &regs);
}

static inline void dirty_vm_complete(struct dirty_vm *v, bool ring)
{
	struct node_template *t = &node_template;

	v->ram = node_mmap(t->size, MAP_PRIVATE, t->memfd);
	TEST_ASSERT(!madvise(v->ram, t->size, MADV_DONTFORK), "MADV_DONTFORK");
	node_set_memory(v->vm, 0, 0, t->size, v->ram);
	dirty_add_vcpu(v, 0);
	if (ring) {
		v->ring = mmap(NULL, DIRTY_RING * sizeof(*v->ring), PROT_READ | PROT_WRITE,
			       MAP_SHARED, v->vcpu, KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
		TEST_ASSERT(v->ring != MAP_FAILED, "mmap of the ring: %s", strerror(errno));
	}
}

static inline void dirty_vm_create(struct dirty_vm *v, unsigned int id)
{
	dirty_vm_begin(v, id);
	dirty_vm_complete(v, false);
}

/* A second vCPU of @v, with a number of its own; it ends before @v does. */
static inline void dirty_second_vcpu(struct dirty_vm *second, struct dirty_vm *v, unsigned int id)
{
	memset(second, 0, sizeof(*second));
	second->vm = v->vm;
	dirty_init_ctl(second, id);
	dirty_add_vcpu(second, 1);
}

/* A hole of a window, or the device. */
static inline void dirty_mmio(struct dirty_vm *v)
{
	struct kvm_run *run = v->run;
	bool dev = run->mmio.phys_addr >= DEV_GPA && run->mmio.phys_addr < DEV_GPA + DEV_SIZE;

	if (!dev)
		WRITE_ONCE(v->mmio, v->mmio + run->mmio.len);
	if (dev && run->mmio.is_write)
		memcpy(&v->dev_val, run->mmio.data, run->mmio.len);
	else if (dev)
		memcpy(run->mmio.data, &v->dev_val, run->mmio.len);
	else if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, run->mmio.len);
}

/* Answer an exit as a VMM does.  Returns false if the guest is done. */
static inline bool dirty_exit(struct dirty_vm *v)
{
	struct kvm_run *run = v->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		dirty_mmio(v);
		return true;
	case KVM_EXIT_DIRTY_RING_FULL:
		/* Somebody is about to harvest. */
		dirty_nap(100);
		return true;
	case KVM_EXIT_IO:
		if (run->io.port == NODE_PORT_DONE)
			return false;
		dirty_nap(v->nap);
		return true;
	default:
		TEST_FAIL("VM %lu: exit reason %u (%s)", v->ctl->id, run->exit_reason,
			  exit_reason_str(run->exit_reason));
	}
}

/* Run the guest until it is done. */
static inline void dirty_run(struct dirty_vm *v)
{
	int r;

	do {
		r = node_ioctl(v->vcpu, KVM_RUN, NULL);
		WRITE_ONCE(v->exits, v->exits + 1);
		TEST_ASSERT(!r || r == -EINTR, "VM %lu: KVM_RUN: %s", v->ctl->id, strerror(-r));
	} while (r || dirty_exit(v));
}

static inline void dirty_low_priority(void)
{
	setpriority(PRIO_PROCESS, syscall(SYS_gettid), 10);
}

/* A thread that is not to be in the way of those that harvest. */
static inline void *dirty_thread(void *arg)
{
	dirty_low_priority();
	dirty_run(arg);
	return NULL;
}

/* Let the guest do this to @count pages from @addr on, until dirty_stop(). */
static inline void dirty_go(struct dirty_vm *v, enum dirty_op op, uint64_t addr, uint64_t count)
{
	v->ctl->addr[0] = addr;
	v->ctl->count[0] = count;
	WRITE_ONCE(v->ctl->op, op);
	TEST_ASSERT(!pthread_create(&v->thread, NULL, dirty_thread, v), "pthread_create");
	v->running = true;
}

/* Returns at once; dirty_stop() waits. */
static inline void dirty_ask_stop(struct dirty_vm *v)
{
	WRITE_ONCE(v->ctl->op, DIRTY_STOP);
}

static inline void dirty_stop(struct dirty_vm *v)
{
	if (!v->running)
		return;
	dirty_ask_stop(v);
	pthread_join(v->thread, NULL);
	v->running = false;
}

/*
 * The vCPU has left its guest once: what the CPU itself keeps of a log is out.  One
 * signal may come just before KVM_RUN, which then knows nothing of it.
 */
static inline void dirty_kick(struct dirty_vm *v)
{
	uint64_t exits = READ_ONCE(v->exits), end = now_us() + 60 * 1000000ull;

	while (v->running && READ_ONCE(v->exits) == exits &&
	       READ_ONCE(v->ctl->op) != DIRTY_STOP) {
		TEST_ASSERT(now_us() < end, "VM %lu does not leave its guest for 60 s",
			    v->ctl->id);
		pthread_kill(v->thread, SIGUSR1);
		dirty_nap(50);
	}
}

/* Wait until the guest has begun and ended @n passes from now on. */
static inline void dirty_wait_passes(struct dirty_vm *v, uint64_t n)
{
	uint64_t end = READ_ONCE(v->ctl->passes) + n + 1;
	uint64_t limit = now_us() + 60 * 1000000ull;
	unsigned int i;

	for (i = 1; READ_ONCE(v->ctl->passes) < end; i++) {
		if (i % 1024)
			continue;
		TEST_ASSERT(now_us() < limit, "VM %lu does not go on", v->ctl->id);
		sched_yield();
	}
}

static inline void dirty_do(struct dirty_vm *v, enum dirty_op op, uint64_t addr, uint64_t count,
			    uint64_t val)
{
	v->ctl->op = op;
	v->ctl->addr[0] = addr;
	v->ctl->count[0] = count;
	v->ctl->val = val;
	dirty_run(v);
}

/* One of the statistics of a VM or vCPU. */
static inline uint64_t dirty_stat(int fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc;
	int stats = NODE_IOCTL(fd, KVM_GET_STATS_FD, NULL);
	uint64_t val = 0;
	bool found = false;
	uint32_t i;

	read_stats_header(stats, &header);
	descs = read_stats_descriptors(stats, &header);
	for (i = 0; i < header.num_desc && !found; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		found = !strcmp(desc->name, name);
		if (found)
			read_stat_data(stats, &header, desc, &val, 1);
	}
	TEST_ASSERT(found, "no statistic '%s'", name);
	free(descs);
	close(stats);
	return val;
}

static inline void dirty_vcpu_destroy(struct dirty_vm *v)
{
	dirty_stop(v);
	if (v->ring)
		munmap(v->ring, DIRTY_RING * sizeof(*v->ring));
	munmap(v->run, node_template.run_size);
	node_close(&v->vcpu);
	munmap(v->ctl, DIRTY_CTL_SIZE);
}

static inline void dirty_vm_destroy(struct dirty_vm *v)
{
	dirty_stop(v);
	node_close(&v->vm);
	dirty_vcpu_destroy(v);
	munmap(v->ram, node_template.size);
}

#endif /* SELFTEST_KVM_VM2VM_DIRTY_H */
