// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: kicks become eventfds, and eventfds doorbells, without a thread of anybody's
 */
#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "compat.h"
#include "driver.h"

/* Kicks */

static irqreturn_t kick_handler(int irq, void *data)
{
	struct vm2vm_queue *q = data;

	vm2vm_eventfd_signal(READ_ONCE(q->kick));
	return IRQ_HANDLED;
}

static int replace_kick(struct vm2vm *vm, unsigned int index, struct eventfd_ctx *kick)
{
	int irq = pci_irq_vector(vm->pdev, VM2VM_PCI_VECTOR_QUEUE(index)), ret = 0;
	struct vm2vm_queue *q = &vm->queues[index];
	struct eventfd_ctx *old = q->kick;

	/* Free'd or not, the handler is not running with the old one afterwards */
	if (!kick && old)
		free_irq(irq, q);
	WRITE_ONCE(q->kick, kick);
	if (kick && old)
		synchronize_irq(irq);
	if (kick && !old)
		ret = request_irq(irq, kick_handler, 0, q->name, q);
	if (ret) {
		q->kick = NULL;
		return ret;
	}
	if (old)
		eventfd_ctx_put(old);
	return 0;
}

int vm2vm_set_kick(struct vm2vm *vm, unsigned int queue, int fd)
{
	struct eventfd_ctx *kick = NULL;
	int ret;

	lockdep_assert_held(&vm->lock);
	if (fd >= 0) {
		kick = eventfd_ctx_fdget(fd);
		if (IS_ERR(kick))
			return PTR_ERR(kick);
	}
	ret = replace_kick(vm, queue, kick);
	if (ret)
		eventfd_ctx_put(kick);
	return ret;
}

/* Calls */

/**
 * struct vm2vm_call - an eventfd that rings a doorbell
 * @ctx: its context, which stays as long as this does, whoever closes it
 * @wait: in its queue
 * @table: to get there
 * @doorbells: where to write
 * @queue: what
 */
struct vm2vm_call {
	struct eventfd_ctx *ctx;
	wait_queue_entry_t wait;
	poll_table table;
	void __iomem *doorbells;
	u32 queue;
};

static void call_now(struct vm2vm_call *c)
{
	iowrite32(c->queue, c->doorbells);
}

/* With the eventfd's lock held and interrupts off */
static int call_wakeup(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct vm2vm_call *c = container_of(wait, struct vm2vm_call, wait);
	u64 count;

	if (key_to_poll(key) & EPOLLIN) {
		eventfd_ctx_do_read(c->ctx, &count);
		call_now(c);
	}
	return 0;
}

static void call_queue(struct file *file, wait_queue_head_t *queue, poll_table *table)
{
	struct vm2vm_call *c = container_of(table, struct vm2vm_call, table);

	add_wait_queue(queue, &c->wait);
}

static void call_free(struct vm2vm_call *c)
{
	u64 count;

	/* It is not being woken up any more when this returns */
	eventfd_ctx_remove_wait_queue(c->ctx, &c->wait, &count);
	eventfd_ctx_put(c->ctx);
	kfree(c);
}

static struct vm2vm_call *call_alloc(struct vm2vm *vm, unsigned int queue, struct file *file)
{
	struct vm2vm_call *c = kzalloc(sizeof(*c), GFP_KERNEL_ACCOUNT);
	struct eventfd_ctx *ctx;

	if (!c)
		return ERR_PTR(-ENOMEM);
	ctx = eventfd_ctx_fileget(file);
	if (IS_ERR(ctx)) {
		kfree(c);
		return ERR_CAST(ctx);
	}
	c->ctx = ctx;
	c->doorbells = vm->doorbells;
	c->queue = queue;
	init_waitqueue_func_entry(&c->wait, call_wakeup);
	init_poll_funcptr(&c->table, call_queue);
	/* Written to before we were there to be woken up */
	if (vfs_poll(file, &c->table) & EPOLLIN)
		call_now(c);
	return c;
}

int vm2vm_set_call(struct vm2vm *vm, unsigned int queue, int fd)
{
	struct vm2vm_queue *q = &vm->queues[queue];
	struct vm2vm_call *call = NULL;
	struct file *file;

	lockdep_assert_held(&vm->lock);
	if (fd >= 0) {
		file = fget(fd);
		if (!file)
			return -EBADF;
		call = call_alloc(vm, queue, file);
		fput(file);
		if (IS_ERR(call))
			return PTR_ERR(call);
	}
	if (q->call)
		call_free(q->call);
	q->call = call;
	return 0;
}

void vm2vm_no_eventfds(struct vm2vm *vm)
{
	unsigned int i;

	for (i = 0; i < vm->nr_queues; i++) {
		vm2vm_set_call(vm, i, -1);
		vm2vm_set_kick(vm, i, -1);
	}
}
