/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vm2vm_stall_test: the processes of the test.  Each is a VMM that does what it is
 * told over a socket, and the test sees to it that each answers in time.
 */
#ifndef SELFTEST_KVM_VM2VM_STALL_H
#define SELFTEST_KVM_VM2VM_STALL_H

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "vm2vm_peer.h"

/*
 * What must not take long is given this many seconds.  A slow machine needs a
 * small part of it, what waits for a stalled owner would need for ever.
 */
#define LIMIT		60

#define PAGES		64
#define STALLED		32		/* the first page that the owner does not answer for */
#define VALUE(page)	(0x1122334455667700ull + (page))
#define HOLE		(~0ull)

enum stall_cmd {
	/* To an owner: its memory, a stall, and changes of its mappings. */
	OWNER_SHARE,
	OWNER_STALL,
	OWNER_SERVE,
	OWNER_UNMAP,
	OWNER_MAP,
	OWNER_MEMSLOT,
	OWNER_CLOSE,
	OWNER_TOUCH,
	OWNER_DISCARD,
	OWNER_WRITERS,
	OWNER_HOLD,
	OWNER_RELEASE,
	/* To a backend: its window, and its vCPU. */
	BACKEND_LINK,
	BACKEND_UNLINK,
	BACKEND_READ,
	BACKEND_START,
	BACKEND_RUNS,
	BACKEND_INTERRUPT,
	BACKEND_CONTINUE,
	BACKEND_WAIT,
	BACKEND_MEMSLOTS,
	BACKEND_SPEED,
};

static const char * const stall_cmd_names[] = {
	[OWNER_SHARE] = "share", [OWNER_STALL] = "stall", [OWNER_SERVE] = "serve",
	[OWNER_UNMAP] = "UNMAP", [OWNER_MAP] = "MAP", [OWNER_MEMSLOT] = "owner's memslot",
	[OWNER_CLOSE] = "close", [OWNER_TOUCH] = "touch", [OWNER_DISCARD] = "discard",
	[OWNER_WRITERS] = "writers", [OWNER_HOLD] = "hold", [OWNER_RELEASE] = "release",
	[BACKEND_LINK] = "LINK", [BACKEND_UNLINK] = "UNLINK", [BACKEND_READ] = "read",
	[BACKEND_START] = "start", [BACKEND_RUNS] = "runs", [BACKEND_INTERRUPT] = "interrupt",
	[BACKEND_CONTINUE] = "continue", [BACKEND_WAIT] = "wait",
	[BACKEND_MEMSLOTS] = "memslots", [BACKEND_SPEED] = "speed",
};

/* A request and its answer: @val, and perhaps a descriptor. */
struct stall_msg {
	enum stall_cmd cmd;
	uint64_t arg;
	int64_t val;
};

/* A process of the test, as the test sees it. */
struct actor {
	pid_t pid;
	int pidfd;
	int sock;
	int fd;			/* that came with the last answer, or -1 */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool readable(int fd, unsigned int seconds)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int r = poll(&pfd, 1, seconds * 1000);

	TEST_ASSERT(r >= 0, "poll: %s", strerror(errno));
	return r;
}

/* @fd -1: no descriptor goes along. */
static void stall_send(int sock, const struct stall_msg *msg, int fd)
{
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = sizeof(*msg) };
	char buf[CMSG_SPACE(sizeof(fd))] = {};
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (fd >= 0) {
		hdr.msg_control = buf;
		hdr.msg_controllen = sizeof(buf);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	TEST_ASSERT(sendmsg(sock, &hdr, MSG_NOSIGNAL) == sizeof(*msg), "sendmsg: %s",
		    strerror(errno));
}

/* False if the other end is gone. */
static bool stall_receive(int sock, struct stall_msg *msg, int *fd)
{
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof(*msg) };
	char buf[CMSG_SPACE(sizeof(*fd))];
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = buf, .msg_controllen = sizeof(buf),
	};

	*fd = -1;
	if (recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC) != sizeof(*msg))
		return false;
	if (CMSG_FIRSTHDR(&hdr))
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&hdr)), sizeof(*fd));
	return true;
}

/* Start a process that does what @run does; it does not outlive the test. */
static void actor_start(struct actor *a, void (*run)(int sock))
{
	int socks[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks),
		    "socketpair: %s", strerror(errno));
	fflush(stdout);
	a->fd = -1;
	a->pid = fork();
	TEST_ASSERT(a->pid >= 0, "fork: %s", strerror(errno));
	if (!a->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(socks[0]);
		run(socks[1]);
		_exit(0);
	}
	close(socks[1]);
	a->sock = socks[0];
	a->pidfd = syscall(__NR_pidfd_open, a->pid, 0);
	TEST_ASSERT(a->pidfd >= 0, "pidfd_open: %s", strerror(errno));
}

/* Have @a do something, and give it @fd, unless that is -1.  It has to be quick. */
static int64_t actor_do_fd(struct actor *a, enum stall_cmd cmd, uint64_t arg, int fd)
{
	struct stall_msg msg = { .cmd = cmd, .arg = arg };

	stall_send(a->sock, &msg, fd);
	TEST_ASSERT(readable(a->sock, LIMIT), "no answer to '%s' in %u s", stall_cmd_names[cmd],
		    LIMIT);
	TEST_ASSERT(stall_receive(a->sock, &msg, &a->fd), "it died of '%s'",
		    stall_cmd_names[cmd]);
	return msg.val;
}

static int64_t actor_do(struct actor *a, enum stall_cmd cmd, uint64_t arg)
{
	return actor_do_fd(a, cmd, arg, -1);
}

/* Kill @a, unless that was done: it has to be gone soon. */
static void actor_kill(struct actor *a)
{
	if (!a->pid)
		return;
	kill(a->pid, SIGKILL);
	TEST_ASSERT(readable(a->pidfd, LIMIT), "killed, and not dead after %u s", LIMIT);
	TEST_ASSERT(waitpid(a->pid, NULL, 0) == a->pid, "waitpid: %s", strerror(errno));
	close(a->pidfd);
	close(a->sock);
	a->pid = 0;
}

static void pin_to(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "CPU %u: %s", cpu, strerror(errno));
}

static void stay_off(unsigned int cpu)
{
	cpu_set_t set;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity");
	CPU_CLR(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set), "not CPU %u: %s", cpu,
		    strerror(errno));
}

static void start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	int r = pthread_create(thread, NULL, run, arg);

	TEST_ASSERT(!r, "pthread_create: %s", strerror(r));
}

/*
 * The backend.  Its vCPU has a thread of its own, which may be stalled, while the
 * process does other things.
 */
static struct {
	struct peer p;
	pthread_t thread;
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
	start_thread(&backend.thread, backend_vcpu, NULL);
}

static void backend_start(unsigned int page)
{
	struct peer_cmd *cmd = addr_gva2hva(backend.p.backend, (uintptr_t)&peer_cmd);

	*cmd = (struct peer_cmd) { .op = PEER_READ, .gva = PEER_WINDOW + page * 4096 };
	backend_continue();
}

/* The thread's KVM_RUN must be about to end; -ETIMEDOUT if it does not. */
static int backend_join(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += LIMIT / 2;
	if (pthread_timedjoin_np(backend.thread, NULL, &ts))
		return -ETIMEDOUT;
	return -backend.err;
}

/* What was read, or -errno. */
static int64_t backend_wait(void)
{
	int r = backend_join();

	return r ? r : peer_val(&backend.p);
}

static int backend_link(int domain, uint32_t slot, uint64_t gpa)
{
	return __vm2vm_link(backend.p.backend, domain, slot, gpa, PEER_IOVA, PAGES * 4096, 0);
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
	r = backend_link(domain, PEER_SLOT + 1, 2 * PEER_WINDOW);
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
		return backend_link(fd, PEER_SLOT, PEER_WINDOW);
	case BACKEND_UNLINK:
		return __vm2vm_unlink(p->backend, PEER_SLOT);
	case BACKEND_READ:
		return peer_read(p, msg->arg * 4096);
	case BACKEND_START:
		backend_start(msg->arg);
		return 0;
	case BACKEND_RUNS:
		return READ_ONCE(backend.runs);
	case BACKEND_INTERRUPT:
		pthread_kill(backend.thread, SIGUSR1);
		return backend_join();
	case BACKEND_CONTINUE:
		backend_continue();
		return 0;
	case BACKEND_WAIT:
		return backend_wait();
	case BACKEND_MEMSLOTS:
		return backend_memslots(fd);
	case BACKEND_SPEED:
		return backend_speed(msg->arg);
	default:
		TEST_FAIL("command %u", msg->cmd);
	}
	return 0;
}

static void backend_process(int sock)
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

#endif /* SELFTEST_KVM_VM2VM_STALL_H */
