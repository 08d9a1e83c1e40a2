// SPDX-License-Identifier: GPL-2.0-only
/*
 * driver STEP...: what a program does with the guest's driver, one step after the other
 *
 *	open NODE	for reading and writing; "look NODE" for reading
 *	claim, info, state
 *	serve		registers for a device of 4 queues; "ack" acknowledges the epoch
 *	map REGION	a new one, from its start, 256 MiB at most; later steps are about that,
 *			and so is "revoke"
 *	pass		it is what a child has, too, which writes to its start, and survives us
 *	peek OFFSET	8 bytes; "peek4" as many
 *	poke OFFSET VALUE	4 bytes
 *	touch OFFSET N	the first 4 bytes of N pages
 *	spin OFFSET	reads there, until the end
 *	kick Q, call Q	an eventfd; "no-kick Q", "no-call Q"; "called Q": it is signalled before
 *	take Q		how often it was kicked; waits for the first
 *	ring Q		signals the call
 *	answer Q N	N times: kicked, it signals the call
 *	poll		what poll() says of the node now, or in a second
 *	done FILE, wait FILE	the file comes to be, or is waited for
 *	errors		every call with what it does not take
 *	user UID	with that as its only group, too, and no capability
 *	close		the node
 *
 * A step that fails ends it with its name and the error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../guest/vm2vm_pci.h"
#include "../../guest/vm2vm_uapi.h"

#define PAGE	4096ull
#define MOST	(256ull << 20)

static int node = -1, file = -1, kicks[VM2VM_PCI_MAX_QUEUES], calls[VM2VM_PCI_MAX_QUEUES];
static volatile uint8_t *memory;
static uint64_t size;
static char **next;
static const char *step;

static void fail(void)
{
	printf("%s: %s\n", step, strerror(errno));
	exit(1);
}

static void need(bool good)
{
	if (!good)
		fail();
}

static uint64_t number(void)
{
	need(*next);
	return strtoull(*next++, NULL, 0);
}

static volatile void *at(uint64_t offset)
{
	errno = ERANGE;
	need(memory && offset < size);
	return memory + offset;
}

static void open_node(int flags)
{
	need(*next);
	node = open(*next++, flags | O_CLOEXEC);
	need(node >= 0);
}

static void map_region(void)
{
	bool writable = (fcntl(node, F_GETFL) & O_ACCMODE) == O_RDWR;
	struct stat st;

	file = ioctl(node, VM2VM_GET_REGION, number());
	need(file >= 0 && !fstat(file, &st));
	need(lseek(file, 0, SEEK_END) == st.st_size);
	size = (uint64_t)st.st_size < MOST ? (uint64_t)st.st_size : MOST;
	memory = mmap(NULL, size, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, file, 0);
	need(memory != MAP_FAILED);
}

static void set_fd(unsigned long call, uint32_t q, int fd)
{
	struct vm2vm_queue_fd arg = { .queue = q, .fd = fd };

	need(!ioctl(node, call, &arg));
}

static void new_fd(unsigned long call, int *fds, unsigned int count)
{
	uint32_t q = number();

	fds[q] = eventfd(count, EFD_CLOEXEC);
	need(fds[q] >= 0);
	set_fd(call, q, fds[q]);
}

static uint64_t take(uint32_t q)
{
	struct pollfd p = { .fd = kicks[q], .events = POLLIN };
	uint64_t count;

	errno = ETIME;
	need(poll(&p, 1, 20000) == 1);
	need(read(kicks[q], &count, sizeof(count)) == sizeof(count));
	return count;
}

static void ring(uint32_t q)
{
	uint64_t one = 1;

	need(write(calls[q], &one, sizeof(one)) == sizeof(one));
}

static volatile void *registers(uint32_t offset)
{
	static volatile uint8_t *mapped;

	if (!mapped)
		mapped = mmap(NULL, VM2VM_PCI_REGISTERS_BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			      ioctl(node, VM2VM_GET_REGION, VM2VM_REGION_REGISTERS), 0);
	need(mapped != MAP_FAILED);
	return mapped + offset;
}

static void serve(void)
{
	*(volatile uint32_t *)registers(VM2VM_PCI_CONTROL) = 0;
	*(volatile uint64_t *)registers(VM2VM_PCI_OFFER_FEATURES) = 1ull << 32;
	*(volatile uint32_t *)registers(VM2VM_PCI_OFFER_QUEUES) = 4;
	*(volatile uint32_t *)registers(VM2VM_PCI_CONTROL) = VM2VM_PCI_CONTROL_READY;
}

static void acknowledge(void)
{
	uint32_t epoch = *(volatile uint32_t *)registers(VM2VM_PCI_EPOCH);

	*(volatile uint32_t *)registers(VM2VM_PCI_ACK) = epoch;
}

/* Errors */

static void refused(const char *what, long ret, int want)
{
	int is = ret < 0 ? errno : 0;

	if (ret >= 0 || is != want) {
		printf("errors: %s: %s, not %s\n", what, ret < 0 ? strerror(is) : "no error",
		       strerror(want));
		exit(1);
	}
}

static void refused_map(const char *what, int fd, size_t len, int prot, int flags, off_t offset,
			int want)
{
	void *p = mmap(NULL, len, prot, flags, fd, offset);

	refused(what, p == MAP_FAILED ? -1 : 0, want);
}

static void errors_of_fds(int fd, unsigned long call, uint32_t queues)
{
	struct vm2vm_queue_fd arg = { .queue = queues, .fd = eventfd(0, 0) };

	refused("no such queue", ioctl(fd, call, &arg), EINVAL);
	arg.queue = UINT32_MAX;
	refused("the last number of a queue", ioctl(fd, call, &arg), EINVAL);
	close(arg.fd);
	arg.queue = 0;
	refused("a closed descriptor", ioctl(fd, call, &arg), EBADF);
	arg.fd = -2;
	refused("a descriptor of -2", ioctl(fd, call, &arg), EINVAL);
	arg.fd = fd;
	refused("no eventfd", ioctl(fd, call, &arg), EINVAL);
	refused("a bad address", ioctl(fd, call, (void *)8), EFAULT);
}

static void errors_of_regions(int fd, int look)
{
	int r = ioctl(fd, VM2VM_GET_REGION, VM2VM_REGION_REGISTERS), ro;
	char byte;

	need(r >= 0);
	refused("to revoke another one's", ioctl(look, VM2VM_REVOKE, r), EINVAL);
	refused("region 3", ioctl(fd, VM2VM_GET_REGION, 3), EINVAL);
	refused("region 1 << 32", ioctl(fd, VM2VM_GET_REGION, 1ul << 32), EINVAL);
	refused_map("a private mapping", r, PAGE, PROT_READ, MAP_PRIVATE, 0, EINVAL);
	refused_map("executable", r, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, 0, EPERM);
	refused_map("one page too many", r, 9 * PAGE, PROT_READ, MAP_SHARED, 0, EINVAL);
	refused_map("behind the end", r, PAGE, PROT_READ, MAP_SHARED, 8 * PAGE, EINVAL);
	refused_map("far behind", r, PAGE, PROT_READ, MAP_SHARED, 1ul << 62, EINVAL);
	refused("read() of a region", read(r, &byte, 1), EINVAL);
	refused("write() to a region", write(r, &byte, 1), EINVAL);
	refused("ftruncate() of a region", ftruncate(r, 0), EINVAL);
	refused_map("the node itself", fd, PAGE, PROT_READ, MAP_SHARED, 0, ENODEV);
	close(r);
	ro = ioctl(look, VM2VM_GET_REGION, VM2VM_REGION_WINDOW);
	need(ro >= 0);
	refused_map("writable by one who looks", ro, PAGE, PROT_WRITE, MAP_SHARED, 0, EACCES);
	close(ro);
}

static void errors(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK), second = open(path, O_RDWR), look = open(path, O_RDONLY);
	struct vm2vm_queue_fd none = { .fd = -1 };
	struct vm2vm_state state;
	struct vm2vm_info info;
	void *nowhere;

	need(fd >= 0 && second >= 0 && look >= 0);
	need(!ioctl(fd, VM2VM_GET_INFO, &info));
	refused("no such call", ioctl(fd, _IO(VM2VM_IOC, 6), 0), ENOTTY);
	refused("info of another size", ioctl(fd, _IOR(VM2VM_IOC, 0, int), &info), ENOTTY);
	refused("info to nowhere", ioctl(fd, VM2VM_GET_INFO, (void *)8), EFAULT);
	refused("a claim with an argument", ioctl(fd, VM2VM_CLAIM, 1), EINVAL);
	refused("to revoke what is no region", ioctl(fd, VM2VM_REVOKE, fd), EINVAL);
	refused("to revoke what is not there", ioctl(fd, VM2VM_REVOKE, 999), EBADF);
	refused("to revoke nothing", ioctl(fd, VM2VM_REVOKE, -1l), EBADF);
	refused("a claim by one who looks", ioctl(look, VM2VM_CLAIM, 0), EACCES);
	refused("a kick before a claim", ioctl(fd, VM2VM_SET_KICK, &none), EACCES);
	need(!ioctl(fd, VM2VM_CLAIM, 0) && !ioctl(fd, VM2VM_CLAIM, 0));
	refused("a second claim", ioctl(second, VM2VM_CLAIM, 0), EBUSY);
	refused("a call without a claim", ioctl(second, VM2VM_SET_CALL, &none), EACCES);
	errors_of_fds(fd, VM2VM_SET_KICK, info.queues);
	errors_of_fds(fd, VM2VM_SET_CALL, info.queues);
	errors_of_regions(fd, look);
	refused("read() of too little", read(fd, &state, sizeof(state) - 1), EINVAL);
	/* Something may have changed meanwhile; and then not again */
	while (read(fd, &state, sizeof(state)) == sizeof(state))
		;
	refused("read() of nothing new", -1, EAGAIN);
	nowhere = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(nowhere != MAP_FAILED);
	refused("read() to nowhere", read(look, nowhere, sizeof(state)), EFAULT);
	close(fd);
	need(!ioctl(second, VM2VM_CLAIM, 0));
	close(second);
	close(look);
}

/* Steps */

static bool memory_step(void)
{
	uint64_t offset, i, n;

	if (!strcmp(step, "peek")) {
		printf("%" PRIx64 "\n", *(volatile uint64_t *)at(number()));
	} else if (!strcmp(step, "peek4")) {
		printf("%" PRIx32 "\n", *(volatile uint32_t *)at(number()));
	} else if (!strcmp(step, "poke")) {
		offset = number();
		*(volatile uint32_t *)at(offset) = number();
	} else if (!strcmp(step, "touch")) {
		offset = number();
		n = number();
		for (i = 0; i < n; i++)
			(void)*(volatile uint32_t *)at(offset + i * PAGE);
	} else if (!strcmp(step, "spin")) {
		offset = number();
		for (;;)
			(void)*(volatile uint32_t *)at(offset);
	} else if (!strcmp(step, "pass")) {
		if (fork())
			return true;
		close(node);
		alarm(100);
		for (;; (*(volatile uint32_t *)at(0))++)
			;
	} else {
		return false;
	}
	return true;
}

static bool event_step(void)
{
	uint64_t i, n;
	uint32_t q;

	if (!strcmp(step, "kick")) {
		new_fd(VM2VM_SET_KICK, kicks, 0);
	} else if (!strcmp(step, "call")) {
		new_fd(VM2VM_SET_CALL, calls, 0);
	} else if (!strcmp(step, "called")) {
		new_fd(VM2VM_SET_CALL, calls, 1);
	} else if (!strcmp(step, "no-kick")) {
		set_fd(VM2VM_SET_KICK, number(), -1);
	} else if (!strcmp(step, "no-call")) {
		set_fd(VM2VM_SET_CALL, number(), -1);
	} else if (!strcmp(step, "take")) {
		printf("%" PRIu64 "\n", take(number()));
	} else if (!strcmp(step, "ring")) {
		ring(number());
	} else if (!strcmp(step, "answer")) {
		q = number();
		n = number();
		for (i = 0; i < n; i++) {
			take(q);
			ring(q);
		}
	} else {
		return false;
	}
	return true;
}

static bool node_step(void)
{
	struct pollfd p = { .fd = node, .events = POLLIN };
	struct vm2vm_state state;
	struct vm2vm_info info;

	if (!strcmp(step, "open")) {
		open_node(O_RDWR);
	} else if (!strcmp(step, "look")) {
		open_node(O_RDONLY);
	} else if (!strcmp(step, "close")) {
		close(node);
	} else if (!strcmp(step, "claim")) {
		need(!ioctl(node, VM2VM_CLAIM, 0));
	} else if (!strcmp(step, "revoke")) {
		need(!ioctl(node, VM2VM_REVOKE, file));
	} else if (!strcmp(step, "serve")) {
		serve();
	} else if (!strcmp(step, "ack")) {
		acknowledge();
	} else if (!strcmp(step, "map")) {
		map_region();
	} else if (!strcmp(step, "poll")) {
		poll(&p, 1, 1000);
		printf("%s%s%s\n", p.revents & POLLIN ? "in" : "", p.revents & POLLHUP ? "hup" : "",
		       p.revents & POLLERR ? "err" : "");
	} else if (!strcmp(step, "state")) {
		need(read(node, &state, sizeof(state)) == sizeof(state));
		printf("%" PRIu64 " %u %u\n", (uint64_t)state.changes, state.epoch, state.state);
	} else if (!strcmp(step, "info")) {
		need(!ioctl(node, VM2VM_GET_INFO, &info));
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %u %u %.32s\n", (uint64_t)info.registers,
		       (uint64_t)info.window, (uint64_t)info.inflight, info.queues, info.flags,
		       info.pci);
	} else {
		return false;
	}
	return true;
}

static void become(uint32_t id)
{
	gid_t group = id;

	need(!setgroups(1, &group) && !setgid(id) && !setuid(id));
}

static bool other_step(void)
{
	int fd;

	if (!strcmp(step, "done")) {
		fd = open(*next++, O_CREAT | O_WRONLY, 0666);
		need(fd >= 0);
		close(fd);
	} else if (!strcmp(step, "wait")) {
		while (access(*next, F_OK))
			usleep(1000);
		next++;
	} else if (!strcmp(step, "errors")) {
		errors(*next++);
	} else if (!strcmp(step, "user")) {
		become(number());
	} else {
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (next = argv + 1; *next;) {
		step = *next++;
		errno = EINVAL;
		need(node_step() || memory_step() || event_step() || other_step());
	}
	return 0;
}
