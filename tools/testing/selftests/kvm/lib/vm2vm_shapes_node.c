// SPDX-License-Identifier: GPL-2.0
/*
 * What include/vm2vm_shapes_node.h declares: VMs that are cheap to make, and their guest.
 */
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "processor.h"
#include "vm2vm_peer.h"
#include "vm2vm_shapes_node.h"

#define NODE_YIELD	64		/* passes between two offers of the CPU to others */

static void node_guest_bad(struct node_ctl *c, uint64_t *addr, uint64_t val, uint64_t gen)
{
	if (!c->bad) {
		c->bad_addr = (uintptr_t)addr;
		c->bad_val = val;
		c->bad_gen = gen;
	}
	WRITE_ONCE(c->bad, c->bad + 1);
}

/*
 * Read a word that only node @from writes, and only with tags that grow.  It is 0
 * before the first, or if the page may lose its contents.  Returns false if it is a
 * hole.
 */
static bool node_guest_read(struct node_ctl *c, uint64_t *addr, unsigned int from,
			    unsigned int page, uint64_t *last, uint64_t floor)
{
	uint64_t val = READ_ONCE(*addr), gen = NODE_GEN(val);

	if (val == NODE_HOLE)
		return false;
	if (!val && (!*last || c->zero))
		return true;
	if (val != NODE_TAG(from, page, gen) || gen < *last || gen < floor)
		node_guest_bad(c, addr, val, max(*last, floor));
	else
		WRITE_ONCE(*last, gen);
	return true;
}

/* A page of a window.  Whether it must be a hole is known for the first one only. */
static bool node_guest_window_page(struct node_ctl *c, unsigned int w, unsigned int page,
				   uint64_t *addr)
{
	uint64_t floor = READ_ONCE(c->floor[page]), closed[2];
	unsigned int i;

	for (i = 0; i < 2; i++)
		closed[i] = READ_ONCE(c->closed[i][page]);
	if (!node_guest_read(c, addr, c->owners[w], page, &c->seen[w][page], w ? 0 : floor))
		return false;
	for (i = 0; i < 2 && !w; i++)
		if (closed[i] % 2 && READ_ONCE(c->closed[i][page]) == closed[i])
			node_guest_bad(c, addr, NODE_CLOSED + i, closed[i]);
	return true;
}

static void node_guest_window(struct node_ctl *c, unsigned int w)
{
	uint64_t (*pages)[512] = (void *)NODE_WINDOW(w);
	unsigned int i, holes = 0;

	for (i = 0; i < NODE_PAGES; i++) {
		WRITE_ONCE(pages[i][NODE_WORD_FROM(c->id)], NODE_TAG(c->id, i, c->gen));
		if (!node_guest_window_page(c, w, i, &pages[i][NODE_WORD_OWNER]))
			holes++;
	}
	WRITE_ONCE(c->holes[w], c->holes[w] + holes);
	WRITE_ONCE(c->good[w], c->good[w] + NODE_PAGES - holes);
}

/* Write to everything that can be reached, and check all of what others write. */
static void node_guest_pass(struct node_ctl *c)
{
	uint64_t (*own)[512] = (void *)NODE_OWN;
	unsigned int i, j;

	WRITE_ONCE(c->gen, c->gen + 1);
	for (i = 0; i < NODE_PAGES; i++)
		WRITE_ONCE(own[i][NODE_WORD_OWNER], NODE_TAG(c->id, i, c->gen));
	for (i = 0; i < READ_ONCE(c->nr_windows); i++)
		node_guest_window(c, i);
	for (j = 0; j < NODE_MAX; j++) {
		if (!(READ_ONCE(c->writers) & (1ull << j)))
			continue;
		for (i = 0; i < NODE_PAGES; i++)
			node_guest_read(c, &own[i][NODE_WORD_FROM(j)], j, i, &c->arrived[j][i],
					0);
	}
	WRITE_ONCE(c->passes, c->passes + 1);
}

static void node_guest(void)
{
	struct node_ctl *c = (struct node_ctl *)NODE_CTL;

	peer_guest_interruptible();
	for (;;) {
		switch (READ_ONCE(c->op)) {
		case NODE_GO:
			node_guest_pass(c);
			if (!(c->passes % NODE_YIELD))
				node_guest_leave(NODE_PORT_YIELD);
			continue;
		case NODE_READ:
			c->val = READ_ONCE(*(uint64_t *)c->addr);
			break;
		case NODE_WRITE:
			WRITE_ONCE(*(uint64_t *)c->addr, c->val);
			break;
		}
		node_guest_leave(NODE_PORT_DONE);
	}
}

struct node_template node_template;

void node_template_take(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	struct userspace_mem_region *ram = memslot2region(vm, 0);
	struct node_template *t = &node_template;
	size_t size;

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

void node_template_init(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, node_guest);
	virt_map(vm, NODE_CTL, NODE_CTL, NODE_CTL_SIZE / 4096);
	virt_map(vm, NODE_OWN, NODE_OWN, NODE_PAGES);
	virt_map(vm, NODE_WINDOWS, NODE_WINDOWS, NODE_WINDOW_MAX * NODE_PAGES);
	node_template_take(vm, vcpu);
}

void *node_mmap(size_t size, int flags, int fd)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	TEST_ASSERT(p != MAP_FAILED, "mmap: %s", strerror(errno));
	return p;
}

void node_init(struct node *n, unsigned int id)
{
	memset(n, 0, sizeof(*n));
	n->vm = -1;
	n->vcpu = -1;
	n->domain = -1;
	n->ctl = node_mmap(NODE_CTL_SIZE, MAP_SHARED | MAP_ANONYMOUS, -1);
	n->own = node_mmap(NODE_SIZE, MAP_SHARED | MAP_ANONYMOUS, -1);
	n->ctl->id = id;
}

void node_fini(struct node *n)
{
	munmap(n->ctl, NODE_CTL_SIZE);
	munmap(n->own, NODE_SIZE);
}

int __node_set_memory(int vm, uint32_t slot, uint64_t gpa, size_t size, void *mem, uint32_t flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .guest_phys_addr = gpa, .memory_size = size,
		.userspace_addr = (uintptr_t)mem, .flags = flags,
	};

	return node_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
}

void node_set_memory(int vm, uint32_t slot, uint64_t gpa, size_t size, void *mem)
{
	int r = __node_set_memory(vm, slot, gpa, size, mem, 0);

	TEST_ASSERT(!r, "memslot %u: %s", slot, strerror(-r));
}

void node_create_owner(struct node *n)
{
	n->vm = NODE_IOCTL(node_template.kvm, KVM_CREATE_VM, NULL);
	node_set_memory(n->vm, NODE_SLOT_OWN, NODE_OWN, NODE_SIZE, n->own);
}

void *node_template_memory(int vm)
{
	struct node_template *t = &node_template;
	void *ram = node_mmap(t->size, MAP_PRIVATE, t->memfd);

	/* As VMMs do: a fork is not to make the VM's memory copy-on-write. */
	TEST_ASSERT(!madvise(ram, t->size, MADV_DONTFORK), "MADV_DONTFORK");
	node_set_memory(vm, 0, 0, t->size, ram);
	return ram;
}

int node_template_vcpu(int vm, unsigned long n, const struct kvm_regs *regs, struct kvm_run **run)
{
	struct node_template *t = &node_template;
	int vcpu = NODE_IOCTL(vm, KVM_CREATE_VCPU, (void *)n);

	*run = node_mmap(t->run_size, MAP_SHARED, vcpu);
	NODE_IOCTL(vcpu, KVM_SET_CPUID2, t->cpuid);
	NODE_IOCTL(vcpu, KVM_SET_SREGS, &t->sregs);
	NODE_IOCTL(vcpu, KVM_SET_REGS, regs);
	return vcpu;
}

void node_create(struct node *n)
{
	node_create_owner(n);
	n->ram = node_template_memory(n->vm);
	node_set_memory(n->vm, 1, NODE_CTL, NODE_CTL_SIZE, n->ctl);
	n->vcpu = node_template_vcpu(n->vm, 0, &node_template.regs, &n->run);
}

void node_close(int *fd)
{
	int r;

	if (*fd < 0)
		return;
	r = close(*fd);
	TEST_ASSERT(!r, "close: %s", strerror(errno));
	*fd = -1;
}

void node_close_vcpu(struct node *n)
{
	if (n->run)
		munmap(n->run, node_template.run_size);
	n->run = NULL;
	node_close(&n->vcpu);
}

int __node_create_domain(int vm)
{
	struct kvm_vm2vm_create_domain args = {};

	return node_ioctl(vm, KVM_VM2VM_CREATE_DOMAIN, &args);
}

void node_map_all(struct node *n)
{
	vm2vm_map(n->domain, NODE_IOVA, NODE_OWN, NODE_SIZE, VM2VM_RW);
}

void node_create_domain(struct node *n)
{
	n->domain = __node_create_domain(n->vm);
	TEST_ASSERT(n->domain >= 0, "KVM_VM2VM_CREATE_DOMAIN: %s", strerror(-n->domain));
	node_map_all(n);
}

int __node_link(int vm, int domain, unsigned int w, uint64_t iova)
{
	struct kvm_vm2vm_link args = {
		.domain_fd = domain, .slot = NODE_SLOT + w, .gpa = NODE_WINDOW(w),
		.iova = iova, .size = NODE_SIZE,
	};

	return node_ioctl(vm, KVM_VM2VM_LINK, &args);
}

void node_link(struct node *n, int domain, unsigned int w)
{
	int r = __node_link(n->vm, domain, w, NODE_IOVA);

	TEST_ASSERT(!r, "KVM_VM2VM_LINK: %s", strerror(-r));
}

int __node_unlink(int vm, unsigned int w)
{
	struct kvm_vm2vm_unlink args = { .slot = NODE_SLOT + w };

	return node_ioctl(vm, KVM_VM2VM_UNLINK, &args);
}

void node_unlink(struct node *n, unsigned int w)
{
	int r = __node_unlink(n->vm, w);

	TEST_ASSERT(!r, "KVM_VM2VM_UNLINK: %s", strerror(-r));
}

/* Answer an exit as a VMM does.  Returns false if the guest is done. */
static bool node_exit(struct node *n)
{
	struct kvm_run *run = n->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		WRITE_ONCE(n->ctl->mmio, n->ctl->mmio + 1);
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, run->mmio.len);
		return true;
	case KVM_EXIT_IO:
		if (run->io.port == NODE_PORT_DONE)
			return false;
		if (n->ctl->nap)
			usleep(n->ctl->nap);
		else
			sched_yield();
		return true;
	default:
		TEST_FAIL("exit reason %u (%s)", run->exit_reason,
			  exit_reason_str(run->exit_reason));
	}
}

void node_run(struct node *n)
{
	int r;

	do {
		r = node_ioctl(n->vcpu, KVM_RUN, NULL);
		TEST_ASSERT(!r || r == -EINTR, "KVM_RUN: %s", strerror(-r));
	} while (r || node_exit(n));
}

uint64_t node_read(struct node *n, uint64_t addr)
{
	n->ctl->op = NODE_READ;
	n->ctl->addr = addr;
	node_run(n);
	return n->ctl->val;
}

void node_write(struct node *n, uint64_t addr, uint64_t val)
{
	n->ctl->op = NODE_WRITE;
	n->ctl->addr = addr;
	n->ctl->val = val;
	node_run(n);
}

/* It has the CPU when nobody else wants it, but for a bit. */
static void *node_thread(void *arg)
{
	setpriority(PRIO_PROCESS, syscall(SYS_gettid), 10);
	node_run(arg);
	return NULL;
}

void node_go(struct node *n)
{
	WRITE_ONCE(n->ctl->op, NODE_GO);
	TEST_ASSERT(!pthread_create(&n->thread, NULL, node_thread, n), "pthread_create");
	n->running = true;
}

void node_stop(struct node *n)
{
	if (!n->running)
		return;
	WRITE_ONCE(n->ctl->op, NODE_STOP);
	pthread_join(n->thread, NULL);
	n->running = false;
}

void node_destroy(struct node *n)
{
	node_stop(n);
	node_close(&n->domain);
	node_close(&n->vm);
	node_close_vcpu(n);
	if (n->ram)
		munmap(n->ram, node_template.size);
	n->ram = NULL;
}

void node_check(struct node *n)
{
	struct node_ctl *c = n->ctl;

	TEST_ASSERT(!READ_ONCE(c->bad),
		    "node %lu: %lu times wrong, first 0x%lx at 0x%lx after 0x%lx", c->id,
		    c->bad, c->bad_val, c->bad_addr, c->bad_gen);
}

void node_wait_passes(struct node *n, unsigned int nr, uint64_t passes)
{
	uint64_t end[NODE_MAX];
	unsigned int i;

	for (i = 0; i < nr; i++)
		end[i] = READ_ONCE(n[i].ctl->passes) + passes + 1;
	for (i = 0; i < nr; i++)
		NODE_WAIT(READ_ONCE(n[i].ctl->passes) >= end[i], "node %lu does not go on",
			  n[i].ctl->id);
}

void node_wait_ended(struct node *n, int domain, unsigned int w)
{
	uint64_t end = now_us() + 60 * 1000000ull;
	int r;

	while (!(r = __node_link(n->vm, domain, w, NODE_IOVA))) {
		node_unlink(n, w);
		TEST_ASSERT(now_us() < end, "the domain of a dead owner does not end");
		usleep(1000);
	}
	TEST_ASSERT(r == -ENODEV, "LINK of a dead owner's domain: %s", strerror(-r));
}

pid_t node_fork(void)
{
	pid_t parent = getpid(), pid;

	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork: %s", strerror(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

void node_kill(pid_t pid)
{
	int status;

	TEST_ASSERT(!kill(pid, SIGKILL), "kill: %s", strerror(errno));
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "process %d ended by itself: status 0x%x", pid, status);
}

int __node_steal_fd(pid_t pid, int fd)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0), r;

	if (pidfd < 0)
		return -errno;
	r = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (r < 0)
		r = -errno;
	close(pidfd);
	return r;
}
