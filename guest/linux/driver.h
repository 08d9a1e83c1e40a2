/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vm2vm: what the parts of the driver have in common
 */
#ifndef VM2VM_DRIVER_H
#define VM2VM_DRIVER_H

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/types.h>
#include <linux/wait.h>

#include "../vm2vm_pci.h"
#include "../vm2vm_uapi.h"

struct eventfd_ctx;
struct vm2vm_call;

/**
 * struct vm2vm_queue - a queue's eventfds
 * @kick: signalled by the interrupt's handler, which is there if this is not NULL
 * @call: the queue's doorbell is rung when its eventfd is signalled; or NULL
 * @name: of the interrupt
 */
struct vm2vm_queue {
	struct eventfd_ctx *kick;
	struct vm2vm_call *call;
	char name[32];
};

/**
 * struct vm2vm - a device
 * @pdev: as long as it is not @gone
 * @dev: counts who has this
 * @cdev: the node
 * @number: its, or -1 when another one may have it
 * @lock: for all that is below but @changes and @wait.  It is taken before a region's lock
 *	and before an eventfd's.  User memory is not touched under it, as the page may be one of
 *	ours.
 * @gone: nothing reaches the device any more
 * @registers: mapped, BAR 0
 * @doorbells: where in it
 * @holder: the open file that has claimed it, or NULL
 * @regions: those that somebody has
 * @nr_queues: that have a vector
 * @queues: their eventfds
 * @wait: for @changes, and for @gone
 * @changes: counts interrupts VM2VM_PCI_VECTOR_STATE
 */
struct vm2vm {
	struct pci_dev *pdev;
	struct device dev;
	struct cdev cdev;
	int number;

	struct mutex lock;	/* see above */
	bool gone;
	void __iomem *registers;
	void __iomem *doorbells;
	struct file *holder;
	struct list_head regions;
	unsigned int nr_queues;
	struct vm2vm_queue queues[VM2VM_PCI_MAX_QUEUES];

	wait_queue_head_t wait;
	atomic64_t changes;
};

/* Regions */
int vm2vm_region_get(struct vm2vm *vm, struct file *giver, unsigned int which);
int vm2vm_region_revoke(struct vm2vm *vm, struct file *giver, unsigned long fd);
/* Those that @giver has given, or NULL: all */
void vm2vm_regions_revoke(struct vm2vm *vm, struct file *giver);
u64 vm2vm_region_size(struct vm2vm *vm, unsigned int which);

/* Eventfds.  @fd may be -1 */
int vm2vm_set_kick(struct vm2vm *vm, unsigned int queue, int fd);
int vm2vm_set_call(struct vm2vm *vm, unsigned int queue, int fd);
void vm2vm_no_eventfds(struct vm2vm *vm);

/* The node */
int vm2vm_nodes_init(void);
void vm2vm_nodes_exit(void);
/* With its number, and the first reference to what is returned */
struct vm2vm *vm2vm_node_alloc(struct pci_dev *pdev);
int vm2vm_node_add(struct vm2vm *vm);
void vm2vm_node_remove(struct vm2vm *vm);

#endif /* VM2VM_DRIVER_H */
