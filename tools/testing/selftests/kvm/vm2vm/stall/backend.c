// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_stall_test: a backend.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include "stall.h"
#include "vm2vm_peer.h"

/*
 * The backend.  Its vCPU has a thread of its own, which may be stalled, while the
 * process does other things.
 */
static struct {
	struct peer p;
	pthread_t thread;
	pid_t tid;
	bool runs;		/* the thread is in KVM_RUN, or about to be */
	int err;		/* of the last KVM_RUN, 0 if the access is done */
} backend;

static void backend_signal(int sig)
{
}

static void *backend_vcpu(void *arg)
{
	struct peer *p = &backend.p;
	struct kvm_run *run = p->vcpu->run;
	int err;

	WRITE_ONCE(backend.tid, gettid());
	do {
		err = __vcpu_run(p->vcpu) ? errno : 0;
		if (err || run->exit_reason != KVM_EXIT_MMIO)
			break;
		p->mmio++;
		memset(run->mmio.data, p->fill, run->mmio.len);
	} while (true);
	if (!err && get_ucall(p->vcpu, NULL) != UCALL_SYNC)
		err = EPROTO;
	backend.err = err;
	WRITE_ONCE(backend.runs, false);
	return NULL;
}

static void backend_continue(void)
{
	backend.runs = true;
	backend.tid = 0;
	start_thread(&backend.thread, backend_vcpu, NULL);
}

/*
 * Whether the thread sleeps until a signal comes, as far as can be seen.  In KVM_RUN by a
 * new thread, before the guest runs, there is a grace period of RCU, in which none does.
 */
static bool backend_sleeps(void)
{
	char path[64], line[256] = "", *p;
	pid_t tid = READ_ONCE(backend.tid);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = tid ? fopen(path, "r") : NULL;
	if (!f)
		return false;
	p = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return p && p[2] == 'S';
}

/* Until the access waits, which it has not begun to when the thread has. */
static void backend_settle(void)
{
	unsigned int i, sleeps = 0;

	for (i = 0; i < LIMIT * 500 && sleeps < 3 && READ_ONCE(backend.runs); i++) {
		usleep(1000);
		sleeps = backend_sleeps() ? sleeps + 1 : 0;
	}
}

static void backend_start(enum peer_op op, unsigned int page)
{
	struct peer_cmd *cmd = addr_gva2hva(backend.p.backend, (uintptr_t)&peer_cmd);

	*cmd = (struct peer_cmd) {
		.op = op, .gva = PEER_WINDOW + page * 4096, .val = VALUE(page),
	};
	backend_continue();
}

/* The thread's KVM_RUN must end in so much time; -ETIMEDOUT if it does not. */
static int backend_join(unsigned int ms)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += ms % 1000 * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	if (pthread_timedjoin_np(backend.thread, NULL, &ts))
		return -ETIMEDOUT;
	return -backend.err;
}

/* A signal that comes before KVM_RUN does not end it, so there may be more. */
static int backend_interrupt(void)
{
	unsigned int i;
	int r;

	for (i = 0; i < LIMIT; i++) {
		pthread_kill(backend.thread, SIGUSR1);
		r = backend_join(500);
		if (r != -ETIMEDOUT)
			break;
	}
	return r;
}

/* What was read, or -errno. */
static int64_t backend_wait(void)
{
	int r = backend_join(LIMIT * 500);

	return r ? r : peer_val(&backend.p);
}

static int backend_link(int domain, uint32_t slot, uint64_t gpa, uint32_t flags)
{
	return __vm2vm_link(backend.p.backend, domain, slot, gpa, PEER_IOVA, PAGES * 4096, flags);
}

static int backend_prefault(unsigned int page)
{
	struct kvm_pre_fault_memory range = { .gpa = PEER_WINDOW + page * 4096, .size = 4096 };

	return __vcpu_ioctl(backend.p.vcpu, KVM_PRE_FAULT_MEMORY, &range) ? -errno : 0;
}

static int64_t backend_stat(enum stall_stat stat)
{
	static const char * const names[] = {
		[STAT_NOPAGE] = "vm2vm_owner_nopage", [STAT_NOMEM] = "vm2vm_owner_nomem",
		[STAT_POISON] = "vm2vm_owner_poison",
	};

	if (stat == STAT_HOLES)
		return peer_vcpu_stat(backend.p.vcpu, "vm2vm_holes");
	return peer_fd_stat(backend.p.backend->fd, names[stat]);
}

/* Whether it is the thread itself that waits for the owner's user space. */
static bool backend_asks(void)
{
	char path[64], where[64] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", READ_ONCE(backend.tid));
	f = fopen(path, "r");
	TEST_ASSERT(f && fgets(where, sizeof(where), f), "%s: %s", path, strerror(errno));
	fclose(f);
	return strstr(where, "userfault");
}

/* All kinds of changes of the VM's memslots, while the vCPU does what it does. */
static int backend_memslots(int domain)
{
	struct kvm_vm *vm = backend.p.backend;
	void *mem = peer_mmap(4096, 0);
	int r;

	vm_set_user_memory_region(vm, 50, 0, 4 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(vm, 50, 0, 5 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(vm, 50, KVM_MEM_LOG_DIRTY_PAGES, 5 * PEER_WINDOW, 4096, mem);
	vm_set_user_memory_region(vm, 50, 0, 5 * PEER_WINDOW, 0, mem);
	munmap(mem, 4096);
	r = backend_link(domain, PEER_SLOT + 1, 2 * PEER_WINDOW, 0);
	return r ? r : __vm2vm_unlink(vm, PEER_SLOT + 1);
}

/*
 * Read @count times all over the pages that are there.  Returns how often the vCPU
 * left its guest for another reason than the host's interrupts.
 */
static int64_t backend_speed(uint64_t count)
{
	uint64_t exits = peer_vcpu_stat(backend.p.vcpu, "exits") -
			 peer_vcpu_stat(backend.p.vcpu, "irq_exits");
	uint64_t i, sum, want = 0;

	for (i = 0; i < STALLED; i++)
		want += VALUE(i);
	for (i = 0; i < count; i++) {
		sum = peer_sum(&backend.p, PEER_WINDOW, STALLED, 4096);
		TEST_ASSERT(sum == want, "the sum is 0x%lx, not 0x%lx", sum, want);
	}
	return peer_vcpu_stat(backend.p.vcpu, "exits") -
	       peer_vcpu_stat(backend.p.vcpu, "irq_exits") - exits;
}

static int64_t backend_do(const struct stall_msg *msg, int fd)
{
	struct peer *p = &backend.p;

	switch (msg->cmd) {
	case BACKEND_LINK:
		return backend_link(fd, PEER_SLOT, PEER_WINDOW, msg->arg);
	case BACKEND_UNLINK:
		return __vm2vm_unlink(p->backend, PEER_SLOT);
	case BACKEND_READ:
		return peer_read(p, msg->arg * 4096);
	case BACKEND_START:
		backend_start(PEER_READ, msg->arg);
		return 0;
	case BACKEND_RUNS:
		return READ_ONCE(backend.runs);
	case BACKEND_INTERRUPT:
		return backend_interrupt();
	case BACKEND_CONTINUE:
		backend_continue();
		backend_settle();
		return 0;
	case BACKEND_WAIT:
		return backend_wait();
	case BACKEND_MEMSLOTS:
		return backend_memslots(fd);
	case BACKEND_SPEED:
		return backend_speed(msg->arg);
	case BACKEND_WRITE:
		backend_start(PEER_WRITE, msg->arg);
		return 0;
	case BACKEND_PREFAULT:
		return backend_prefault(msg->arg);
	case BACKEND_ASKS:
		backend_settle();
		return backend_asks();
	case BACKEND_STAT:
		return backend_stat(msg->arg);
	default:
		TEST_FAIL("command %u", msg->cmd);
	}
	return 0;
}

void backend_process(int sock)
{
	struct sigaction sa = { .sa_handler = backend_signal };
	struct peer *p = &backend.p;
	struct stall_msg msg;
	int fd;

	sigaction(SIGUSR1, &sa, NULL);
	p->backend = vm_create_with_one_vcpu(&p->vcpu, peer_guest);
	p->fill = 0xff;
	peer_map_window(p, PEER_WINDOW, PAGES * 4096);
	while (stall_receive(sock, &msg, &fd)) {
		msg.val = backend_do(&msg, fd);
		if (fd >= 0)
			close(fd);
		stall_send(sock, &msg, -1);
	}
}
