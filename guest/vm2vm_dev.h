/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The PCI device that shows another VM's memory, for the parts of the program vm2vm
 *
 * A thread has one, which find_device() chooses and open_device() maps.  What cannot be done
 * ends the program, with a message.
 */
#ifndef VM2VM_DEV_H
#define VM2VM_DEV_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vm2vm_pci.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "registers and rings are little-endian, and are read as they are"
#endif

#define NR_VECTORS	VM2VM_PCI_NR_VECTORS

struct vm2vm_dev {
	char node[64], name[32];	/* path, and address in PCI */
	int fd;
	uint32_t nr_queues;	/* that can be kicked */
	volatile uint8_t *regs;
	size_t regs_size;
	uint32_t doorbells;	/* where in them */
	uint64_t size, base;	/* of the window */
};

extern __thread struct vm2vm_dev dev;

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/*
 * By its node's path, by what the host calls the link, or by address in PCI; or NULL: the one
 * with this number
 */
void find_device(const char *wanted, uint64_t index);
void open_device(void);
/* Just its registers, for reading; in place of one that was looked at before */
void look_at_device(void);

/* Registers */

static inline uint32_t reg32(uint32_t offset)
{
	return *(volatile uint32_t *)(dev.regs + offset);
}

static inline uint64_t reg64(uint32_t offset)
{
	return *(volatile uint64_t *)(dev.regs + offset);
}

static inline void set_reg32(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(dev.regs + offset) = value;
}

static inline void set_reg64(uint32_t offset, uint64_t value)
{
	*(volatile uint64_t *)(dev.regs + offset) = value;
}

void ring_doorbell(uint32_t queue);

/* A file of one of VM2VM_REGION_*, to be mapped or passed on */
int open_region(unsigned int which);
/* The in-flight memory, VM2VM_PCI_INFLIGHT_BAR_SIZE bytes, whether something is there or not */
volatile void *open_inflight(void);

/*
 * The window
 *
 * It is reached only by plain loads and stores of at most 8 bytes, naturally aligned:
 * what is not approved is emulated by KVM, which does not know every instruction that
 * memcpy() may use, and what is counted is accesses.
 */

bool in_window(uint64_t iova, uint64_t len);
/* Or else it ends the program */
void need_window(uint64_t iova, uint64_t len);
/* The caller knows that it is in the window, and aligned. */
volatile void *window(uint64_t iova);
/* Of any length, and wherever it is */
void window_read(uint64_t iova, void *to, uint64_t len);
void window_write(uint64_t iova, const void *from, uint64_t len);

static inline uint16_t window16(uint64_t iova)
{
	return *(volatile uint16_t *)window(iova);
}

static inline uint32_t window32(uint64_t iova)
{
	return *(volatile uint32_t *)window(iova);
}

static inline uint64_t window64(uint64_t iova)
{
	return *(volatile uint64_t *)window(iova);
}

/* Full: also of a store before a load, which is the one order that x86 does not keep */
static inline void fence(void)
{
	__builtin_ia32_mfence();
}

/* Interrupts */

int64_t now_ms(void);
/* Seconds from now, 0 is never: for wait_events() */
int64_t deadline_in(uint64_t seconds);
/* The device is ours to serve, as long as the program runs, or else it ends the program. */
void claim_device(void);
int new_eventfd(void);
/* By VM2VM_SET_KICK or VM2VM_SET_CALL.  false: the kernel has no interrupt for it. */
bool set_queue_fd(unsigned long call, uint32_t queue, int fd);
/*
 * Claims the device, and an event for each of the first n vectors of which wanted[] says so,
 * or NULL: for all that there are.  Returns n.
 */
unsigned int open_vectors(unsigned int n, const bool *wanted, struct pollfd *events);
/* How many interrupts there have been since the last time */
uint64_t take_event(const struct pollfd *event);
/* false: it is over */
bool wait_events(struct pollfd *events, unsigned int n, int64_t deadline);
/* From here on no interrupt is missed: who starts us can wait for this line. */
void say_ready(void);

#endif /* VM2VM_DEV_H */
