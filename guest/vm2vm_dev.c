// SPDX-License-Identifier: GPL-2.0-only
/*
 * The PCI device that shows another VM's memory, by its driver: /dev/vm2vm/N
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vm2vm_dev.h"
#include "vm2vm_pci.h"
#include "vm2vm_uapi.h"

#define NODES		"/dev/vm2vm"
#define CLASS		"/sys/class/vm2vm"

static __thread uint8_t *window_start;
static __thread uint64_t state_changes;	/* that were taken */

__thread struct vm2vm_dev dev = { .fd = -1 };

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

int64_t deadline_in(uint64_t seconds)
{
	return seconds ? now_ms() + (int64_t)(seconds < INT_MAX ? seconds : INT_MAX) * 1000 : -1;
}

static int ms_left(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - now_ms();
	if (left <= 0)
		return 0;
	return left < INT_MAX ? left : INT_MAX;
}

/* The device */

/* What sysfs says of the node with this name in there: "vm2vm!0" */
static bool is_called(const char *entry, const char *wanted)
{
	char path[PATH_MAX], text[PATH_MAX], full[32];
	const char *pci;
	bool same = false;
	ssize_t n;
	FILE *f;

	snprintf(path, sizeof(path), CLASS "/%s/device", entry);
	n = readlink(path, text, sizeof(text) - 1);
	if (n > 0) {
		text[n] = '\0';
		pci = strrchr(text, '/') ? strrchr(text, '/') + 1 : text;
		/* The domain may be left out */
		snprintf(full, sizeof(full), "0000:%.24s", wanted);
		if (!strcmp(pci, wanted) || !strcmp(pci, full))
			return true;
	}
	snprintf(path, sizeof(path), CLASS "/%s/id", entry);
	f = fopen(path, "re");
	if (f && fgets(text, sizeof(text), f)) {
		text[strcspn(text, "\n")] = '\0';
		same = !strcmp(text, wanted);
	}
	if (f)
		fclose(f);
	return same;
}

static void find_called(const char *wanted)
{
	struct dirent *e;
	DIR *dir = opendir(CLASS);

	if (!dir)
		die(CLASS ": %m (is the module vm2vm loaded?)");
	while (!dev.node[0] && (e = readdir(dir))) {
		if (!strncmp(e->d_name, "vm2vm!", 6) && is_called(e->d_name, wanted))
			snprintf(dev.node, sizeof(dev.node), NODES "/%.16s", e->d_name + 6);
	}
	closedir(dir);
	if (!dev.node[0])
		die("there is no vm2vm device '%s'", wanted);
}

void find_device(const char *wanted, uint64_t index)
{
	if (!wanted)
		snprintf(dev.node, sizeof(dev.node), NODES "/%" PRIu64, index);
	else if (wanted[0] == '/')
		snprintf(dev.node, sizeof(dev.node), "%s", wanted);
	else
		find_called(wanted);
}

void ring_doorbell(uint32_t queue)
{
	set_reg32(dev.doorbells, queue);
}

int open_region(unsigned int which)
{
	int fd = ioctl(dev.fd, VM2VM_GET_REGION, which);

	if (fd < 0)
		die("%s: region %u: %m", dev.node, which);
	return fd;
}

static void *map_region(unsigned int which, uint64_t size, int prot)
{
	int fd = open_region(which);
	void *at = mmap(NULL, size, prot, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		die("%s: mapping 0x%" PRIx64 " bytes of region %u: %m", dev.node, size, which);
	close(fd);
	return at;
}

static void open_node(int flags, int prot)
{
	struct vm2vm_info info;

	dev.fd = open(dev.node, flags | O_NONBLOCK | O_CLOEXEC);
	if (dev.fd < 0)
		die("%s: %m%s", dev.node, errno != ENOENT ? "" : access(CLASS, F_OK) ?
		    " (is the module vm2vm loaded?)" : "");
	if (ioctl(dev.fd, VM2VM_GET_INFO, &info))
		die("%s: %m", dev.node);
	snprintf(dev.name, sizeof(dev.name), "%.31s", info.pci);
	dev.nr_queues = info.queues;
	dev.regs_size = info.registers;
	dev.regs = map_region(VM2VM_REGION_REGISTERS, info.registers, prot);
}

void open_device(void)
{
	open_node(O_RDWR, PROT_READ | PROT_WRITE);
	/* The driver has checked what there is of this */
	dev.doorbells = reg32(VM2VM_PCI_DOORBELL_OFFSET);
	dev.size = reg64(VM2VM_PCI_SIZE);
	dev.base = reg64(VM2VM_PCI_BASE);
	window_start = map_region(VM2VM_REGION_WINDOW, dev.size, PROT_READ | PROT_WRITE);
}

void look_at_device(void)
{
	if (dev.fd >= 0) {
		munmap((void *)dev.regs, dev.regs_size);
		close(dev.fd);
	}
	open_node(O_RDONLY, PROT_READ);
}

volatile void *open_inflight(void)
{
	static __thread volatile void *memory;

	if (!memory)
		memory = map_region(VM2VM_REGION_INFLIGHT, VM2VM_PCI_INFLIGHT_BAR_SIZE,
				    PROT_READ | PROT_WRITE);
	return memory;
}

/* The window */

bool in_window(uint64_t iova, uint64_t len)
{
	return iova >= dev.base && iova - dev.base <= dev.size &&
	       len <= dev.size - (iova - dev.base);
}

void need_window(uint64_t iova, uint64_t len)
{
	if (!in_window(iova, len))
		die("0x%" PRIx64 "+0x%" PRIx64 " is not in the window, 0x%" PRIx64 "+0x%" PRIx64,
		    iova, len, dev.base, dev.size);
}

volatile void *window(uint64_t iova)
{
	return window_start + (iova - dev.base);
}

/* How many bytes the next access has */
static unsigned int step(uint64_t iova, uint64_t len)
{
	unsigned int n = 8;

	while (iova % n || n > len)
		n /= 2;
	return n;
}

void window_read(uint64_t iova, void *data, uint64_t len)
{
	volatile uint8_t *from = window(iova);
	uint8_t *to = data;
	unsigned int n;
	uint64_t v;

	for (; len; from += n, to += n, len -= n) {
		n = step((uintptr_t)from, len);
		switch (n) {
		case 8:
			v = *(volatile uint64_t *)from;
			break;
		case 4:
			v = *(volatile uint32_t *)from;
			break;
		case 2:
			v = *(volatile uint16_t *)from;
			break;
		default:
			v = *from;
		}
		memcpy(to, &v, n);
	}
}

void window_write(uint64_t iova, const void *data, uint64_t len)
{
	volatile uint8_t *to = window(iova);
	const uint8_t *from = data;
	unsigned int n;
	uint64_t v = 0;

	for (; len; from += n, to += n, len -= n) {
		n = step((uintptr_t)to, len);
		memcpy(&v, from, n);
		switch (n) {
		case 8:
			*(volatile uint64_t *)to = v;
			break;
		case 4:
			*(volatile uint32_t *)to = v;
			break;
		case 2:
			*(volatile uint16_t *)to = v;
			break;
		default:
			*to = v;
		}
	}
}

/* Interrupts */

void claim_device(void)
{
	if (ioctl(dev.fd, VM2VM_CLAIM, 0))
		die("%s: %m%s", dev.node, errno == EBUSY ? " (another program serves it)" : "");
}

int new_eventfd(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		die("eventfd: %m");
	return fd;
}

bool set_queue_fd(unsigned long call, uint32_t queue, int fd)
{
	struct vm2vm_queue_fd arg = { .queue = queue, .fd = fd };

	if (!ioctl(dev.fd, call, &arg))
		return true;
	if (errno != ENOSPC)
		die("%s: the %s of queue %u: %m", dev.node,
		    call == VM2VM_SET_KICK ? "kick" : "call", queue);
	return false;
}

static uint64_t take_state(void)
{
	struct vm2vm_state state;
	uint64_t count;

	if (read(dev.fd, &state, sizeof(state)) != sizeof(state)) {
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		die("%s: %m%s", dev.node, errno == ENODEV ? " (the device has gone)" : "");
	}
	count = state.changes - state_changes;
	state_changes = state.changes;
	return count;
}

unsigned int open_vectors(unsigned int n, const bool *wanted, struct pollfd *events)
{
	unsigned int i;

	claim_device();
	if (!wanted && n > VM2VM_PCI_VECTOR_QUEUE(dev.nr_queues))
		n = VM2VM_PCI_VECTOR_QUEUE(dev.nr_queues);
	if (n > VM2VM_PCI_VECTOR_QUEUE(dev.nr_queues))
		die("%s has %u vectors", dev.name, VM2VM_PCI_VECTOR_QUEUE(dev.nr_queues));
	for (i = 0; i < n; i++) {
		events[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		if (wanted && !wanted[i])
			continue;
		if (i == VM2VM_PCI_VECTOR_STATE) {
			events[i].fd = dev.fd;
			/* What there is now is no interrupt */
			take_state();
			continue;
		}
		events[i].fd = new_eventfd();
		if (!set_queue_fd(VM2VM_SET_KICK, i - VM2VM_PCI_VECTOR_QUEUE(0), events[i].fd))
			die("%s: the kernel has no interrupt for vector %u", dev.node, i);
	}
	return n;
}

uint64_t take_event(const struct pollfd *event)
{
	uint64_t count;

	if (event->fd == dev.fd)
		return take_state();
	if (event->fd < 0 || read(event->fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	return count;
}

bool wait_events(struct pollfd *events, unsigned int n, int64_t deadline)
{
	int ret;

	do {
		ret = poll(events, n, ms_left(deadline));
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		die("poll: %m");
	return ret > 0;
}

void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}
