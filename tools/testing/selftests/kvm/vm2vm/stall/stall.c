// SPDX-License-Identifier: GPL-2.0
/*
 * vm2vm_stall_test: what the processes of the test have in common, as stall.h declares it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stall.h"
#include "test_util.h"

static const char * const stall_cmd_names[] = {
	[OWNER_SHARE] = "share", [OWNER_STALL] = "stall", [OWNER_SERVE] = "serve",
	[OWNER_UNMAP] = "UNMAP", [OWNER_MAP] = "MAP", [OWNER_MEMSLOT] = "owner's memslot",
	[OWNER_CLOSE] = "close", [OWNER_TOUCH] = "touch", [OWNER_DISCARD] = "discard",
	[OWNER_WRITERS] = "writers", [OWNER_HOLD] = "hold", [OWNER_RELEASE] = "release",
	[OWNER_FILE] = "file", [OWNER_DIRTY] = "dirty", [OWNER_ABSENT] = "absent",
	[OWNER_POISON] = "poison", [OWNER_VM] = "VM",
	[BACKEND_LINK] = "LINK", [BACKEND_UNLINK] = "UNLINK", [BACKEND_READ] = "read",
	[BACKEND_START] = "start", [BACKEND_RUNS] = "runs", [BACKEND_INTERRUPT] = "interrupt",
	[BACKEND_CONTINUE] = "continue", [BACKEND_WAIT] = "wait",
	[BACKEND_MEMSLOTS] = "memslots", [BACKEND_SPEED] = "speed",
	[BACKEND_WRITE] = "write", [BACKEND_PREFAULT] = "prefault", [BACKEND_STAT] = "stat",
	[BACKEND_ASKS] = "asks",
};

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool readable(int fd, unsigned int seconds)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int r = poll(&pfd, 1, seconds * 1000);

	TEST_ASSERT(r >= 0, "poll: %s", strerror(errno));
	return r;
}

/* The end of a domain wakes who is of its owner's process; others have to look. */
bool ends_soon(int domain)
{
	struct pollfd pfd = { .fd = domain, .events = POLLIN };
	unsigned int i;

	for (i = 0; i < LIMIT * 100; i++) {
		if (poll(&pfd, 1, 10) == 1 && pfd.revents & POLLHUP)
			return true;
	}
	return false;
}

void stall_send(int sock, const struct stall_msg *msg, int fd)
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

bool stall_receive(int sock, struct stall_msg *msg, int *fd)
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

void actor_start(struct actor *a, void (*run)(int sock))
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

int64_t actor_do_fd(struct actor *a, enum stall_cmd cmd, uint64_t arg, int fd)
{
	struct stall_msg msg = { .cmd = cmd, .arg = arg };

	stall_send(a->sock, &msg, fd);
	TEST_ASSERT(readable(a->sock, LIMIT), "no answer to '%s' in %u s", stall_cmd_names[cmd],
		    LIMIT);
	TEST_ASSERT(stall_receive(a->sock, &msg, &a->fd), "it died of '%s'",
		    stall_cmd_names[cmd]);
	return msg.val;
}

int64_t actor_do(struct actor *a, enum stall_cmd cmd, uint64_t arg)
{
	return actor_do_fd(a, cmd, arg, -1);
}

void actor_kill(struct actor *a)
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

void start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	int r = pthread_create(thread, NULL, run, arg);

	TEST_ASSERT(!r, "pthread_create: %s", strerror(r));
}
