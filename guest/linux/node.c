// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm2vm: /dev/vm2vm/N
 */
#include <linux/cdev.h>
#include <linux/ctype.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "driver.h"

#define MAX_NODES	256

static dev_t first_node;
static DEFINE_IDA(numbers);

/**
 * struct vm2vm_file - who has opened the node
 * @vm: the device, of which it has a reference
 * @seen: the changes that it has been told of
 */
struct vm2vm_file {
	struct vm2vm *vm;
	atomic64_t seen;
};

static int vm2vm_open(struct inode *inode, struct file *file)
{
	struct vm2vm *vm = container_of(inode->i_cdev, struct vm2vm, cdev);
	struct vm2vm_file *f = kzalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);

	if (!f)
		return -ENOMEM;
	f->vm = vm;
	get_device(&vm->dev);
	/* It has not seen what there is now */
	atomic64_set(&f->seen, atomic64_read(&vm->changes) - 1);
	file->private_data = f;
	return stream_open(inode, file);
}

/*
 * First QEMU hides what there is of the peer, so that nothing that is done by what this
 * program began reaches it; only then may another one begin.
 */
static void let_go(struct vm2vm *vm, struct file *file)
{
	if (vm->holder == file && !vm->gone) {
		iowrite32(0, vm->registers + VM2VM_PCI_CONTROL);
		vm2vm_no_eventfds(vm);
	}
	vm2vm_regions_revoke(vm, file);
	if (vm->holder == file)
		vm->holder = NULL;
}

static int vm2vm_release(struct inode *inode, struct file *file)
{
	struct vm2vm_file *f = file->private_data;
	struct vm2vm *vm = f->vm;

	mutex_lock(&vm->lock);
	let_go(vm, file);
	mutex_unlock(&vm->lock);
	kfree(f);
	put_device(&vm->dev);
	return 0;
}

static bool has_news(struct vm2vm_file *f)
{
	return READ_ONCE(f->vm->gone) || atomic64_read(&f->vm->changes) != atomic64_read(&f->seen);
}

static ssize_t vm2vm_read(struct file *file, char __user *to, size_t len, loff_t *offset)
{
	struct vm2vm_file *f = file->private_data;
	struct vm2vm_state state = {};
	struct vm2vm *vm = f->vm;
	int ret;

	if (len < sizeof(state))
		return -EINVAL;
	if (!has_news(f) && file->f_flags & O_NONBLOCK)
		return -EAGAIN;
	ret = wait_event_interruptible(vm->wait, has_news(f));
	if (ret)
		return ret;

	/* What changes after this is news again */
	state.changes = atomic64_read(&vm->changes);
	mutex_lock(&vm->lock);
	if (!vm->gone) {
		state.epoch = ioread32(vm->registers + VM2VM_PCI_EPOCH);
		state.state = ioread32(vm->registers + VM2VM_PCI_STATE);
	} else {
		ret = -ENODEV;
	}
	mutex_unlock(&vm->lock);
	if (ret)
		return ret;
	if (copy_to_user(to, &state, sizeof(state)))
		return -EFAULT;
	atomic64_set(&f->seen, state.changes);
	return sizeof(state);
}

static __poll_t vm2vm_poll(struct file *file, poll_table *table)
{
	struct vm2vm_file *f = file->private_data;

	poll_wait(file, &f->vm->wait, table);
	if (READ_ONCE(f->vm->gone))
		return EPOLLHUP | EPOLLERR;
	return has_news(f) ? EPOLLIN | EPOLLRDNORM : 0;
}

static void get_info(struct vm2vm *vm, struct vm2vm_info *info)
{
	info->registers = vm2vm_region_size(vm, VM2VM_REGION_REGISTERS);
	info->window = vm2vm_region_size(vm, VM2VM_REGION_WINDOW);
	info->inflight = vm2vm_region_size(vm, VM2VM_REGION_INFLIGHT);
	info->queues = vm->nr_queues;
	strscpy(info->pci, pci_name(vm->pdev), sizeof(info->pci));
}

static int claim(struct vm2vm *vm, struct file *file)
{
	if (!(file->f_mode & FMODE_WRITE))
		return -EACCES;
	if (vm->holder && vm->holder != file)
		return -EBUSY;
	vm->holder = file;
	return 0;
}

static int set_queue_fd(struct vm2vm *vm, struct file *file, unsigned int cmd,
			const struct vm2vm_queue_fd *arg)
{
	if (vm->holder != file)
		return -EACCES;
	if (arg->queue >= vm->nr_queues || arg->fd < -1)
		return -EINVAL;
	if (cmd == VM2VM_SET_KICK)
		return vm2vm_set_kick(vm, arg->queue, arg->fd);
	return vm2vm_set_call(vm, arg->queue, arg->fd);
}

union vm2vm_argument {
	struct vm2vm_info info;
	struct vm2vm_queue_fd fd;
};

static long locked_ioctl(struct vm2vm *vm, struct file *file, unsigned int cmd,
			 unsigned long number, union vm2vm_argument *arg)
{
	lockdep_assert_held(&vm->lock);
	if (vm->gone)
		return -ENODEV;
	switch (cmd) {
	case VM2VM_GET_INFO:
		get_info(vm, &arg->info);
		return 0;
	case VM2VM_GET_REGION:
		return number > UINT_MAX ? -EINVAL : vm2vm_region_get(vm, file, number);
	case VM2VM_REVOKE:
		return number > INT_MAX ? -EBADF : vm2vm_region_revoke(vm, file, number);
	case VM2VM_CLAIM:
		return number ? -EINVAL : claim(vm, file);
	case VM2VM_SET_KICK:
	case VM2VM_SET_CALL:
		return set_queue_fd(vm, file, cmd, &arg->fd);
	}
	return -ENOTTY;
}

static long vm2vm_ioctl(struct file *file, unsigned int cmd, unsigned long number)
{
	struct vm2vm_file *f = file->private_data;
	void __user *user = (void __user *)number;
	union vm2vm_argument arg = {};
	long ret;

	if ((cmd == VM2VM_SET_KICK || cmd == VM2VM_SET_CALL) &&
	    copy_from_user(&arg.fd, user, sizeof(arg.fd)))
		return -EFAULT;
	mutex_lock(&f->vm->lock);
	ret = locked_ioctl(f->vm, file, cmd, number, &arg);
	mutex_unlock(&f->vm->lock);
	if (!ret && cmd == VM2VM_GET_INFO && copy_to_user(user, &arg.info, sizeof(arg.info)))
		return -EFAULT;
	return ret;
}

static const struct file_operations vm2vm_fops = {
	.owner = THIS_MODULE,
	.open = vm2vm_open,
	.release = vm2vm_release,
	.read = vm2vm_read,
	.poll = vm2vm_poll,
	.unlocked_ioctl = vm2vm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* What the host calls the link, for names of links in /dev: only what is harmless in those */
static ssize_t id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct vm2vm *vm = container_of(dev, struct vm2vm, dev);
	char id[VM2VM_PCI_ID_SIZE + 1] = "";
	unsigned int i;
	__le32 word;

	mutex_lock(&vm->lock);
	for (i = 0; i < VM2VM_PCI_ID_SIZE && !vm->gone; i += sizeof(word)) {
		word = cpu_to_le32(ioread32(vm->registers + VM2VM_PCI_ID + i));
		memcpy(id + i, &word, sizeof(word));
	}
	mutex_unlock(&vm->lock);
	for (i = 0; id[i]; i++) {
		if (!isascii(id[i]) || (!isalnum(id[i]) && !strchr("-_.:", id[i])))
			id[i] = '_';
	}
	return sysfs_emit(buf, "%s\n", id);
}
static DEVICE_ATTR_RO(id);

static struct attribute *vm2vm_attrs[] = {
	&dev_attr_id.attr,
	NULL
};
ATTRIBUTE_GROUPS(vm2vm);

static struct class vm2vm_class = {
	.name = "vm2vm",
	.dev_groups = vm2vm_groups,
};

static void free_number(struct vm2vm *vm)
{
	if (vm->number >= 0)
		ida_free(&numbers, vm->number);
	vm->number = -1;
}

static void vm2vm_free(struct device *dev)
{
	struct vm2vm *vm = container_of(dev, struct vm2vm, dev);

	free_number(vm);
	mutex_destroy(&vm->lock);
	kfree(vm);
}

struct vm2vm *vm2vm_node_alloc(struct pci_dev *pdev)
{
	struct vm2vm *vm = kzalloc(sizeof(*vm), GFP_KERNEL);
	int ret;

	if (!vm)
		return ERR_PTR(-ENOMEM);
	ret = ida_alloc_max(&numbers, MAX_NODES - 1, GFP_KERNEL);
	if (ret < 0) {
		kfree(vm);
		return ERR_PTR(ret);
	}
	vm->number = ret;
	vm->pdev = pdev;
	mutex_init(&vm->lock);
	INIT_LIST_HEAD(&vm->regions);
	init_waitqueue_head(&vm->wait);
	device_initialize(&vm->dev);
	vm->dev.class = &vm2vm_class;
	vm->dev.parent = &pdev->dev;
	vm->dev.release = vm2vm_free;
	vm->dev.devt = MKDEV(MAJOR(first_node), MINOR(first_node) + vm->number);
	cdev_init(&vm->cdev, &vm2vm_fops);
	vm->cdev.owner = THIS_MODULE;
	/* The node is vm2vm/N */
	ret = dev_set_name(&vm->dev, "vm2vm!%d", vm->number);
	if (ret) {
		put_device(&vm->dev);
		return ERR_PTR(ret);
	}
	return vm;
}

int vm2vm_node_add(struct vm2vm *vm)
{
	return cdev_device_add(&vm->cdev, &vm->dev);
}

/* Nobody opens it from now on, and who has, has nothing of the device. */
void vm2vm_node_remove(struct vm2vm *vm)
{
	cdev_device_del(&vm->cdev, &vm->dev);
	/* Should it come back while somebody still has it open, it has the same name */
	free_number(vm);
	mutex_lock(&vm->lock);
	WRITE_ONCE(vm->gone, true);
	vm2vm_no_eventfds(vm);
	vm2vm_regions_revoke(vm, NULL);
	mutex_unlock(&vm->lock);
	wake_up_all(&vm->wait);
}

int vm2vm_nodes_init(void)
{
	int ret = alloc_chrdev_region(&first_node, 0, MAX_NODES, "vm2vm");

	if (ret)
		return ret;
	ret = class_register(&vm2vm_class);
	if (ret)
		unregister_chrdev_region(first_node, MAX_NODES);
	return ret;
}

void vm2vm_nodes_exit(void)
{
	class_unregister(&vm2vm_class);
	unregister_chrdev_region(first_node, MAX_NODES);
}
